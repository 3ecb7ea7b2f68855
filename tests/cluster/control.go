package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const controlCgroup = "gapless/control"

// controlPrograms lists the parts of the control plane in the order in which they start.
var controlPrograms = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}

// controlDaemon returns how to start one part of the control plane.
func controlDaemon(cfg Config, name string) daemon {
	args := map[string][]string{
		"etcd":                    etcdArgs(cfg),
		"kube-apiserver":          apiserverArgs(cfg),
		"kube-controller-manager": controllerManagerArgs(cfg),
		"kube-scheduler":          schedulerArgs(cfg),
	}[name]
	return daemon{name: name, argv: append([]string{cfg.bin(name)}, args...), cgroup: controlCgroup + "/" + name}
}

// etcdArgs: the host's power is not cut, so etcd need not sync; that spares the disk for the nodes.
func etcdArgs(cfg Config) []string {
	const client, peer = "http://127.0.0.1:12379", "http://127.0.0.1:12380"
	return []string{
		"--name=testbed", "--data-dir=" + cfg.path("etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=testbed=" + peer,
	}
}

// apiserverArgs: the server listens on the bridge's address alone. The bridge
// leads nowhere, and the host reaches that address over its own loopback.
func apiserverArgs(cfg Config) []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:12379",
		"--bind-address=" + hostIP, "--advertise-address=" + hostIP, fmt.Sprintf("--secure-port=%d", apiPort),
		"--service-cluster-ip-range=" + serviceCIDR,
		"--tls-cert-file=" + cfg.pki("apiserver.crt"), "--tls-private-key-file=" + cfg.pki("apiserver.key"),
		"--client-ca-file=" + cfg.pki("ca.crt"),
		"--kubelet-certificate-authority=" + cfg.pki("ca.crt"),
		"--kubelet-client-certificate=" + cfg.pki("apiserver-kubelet.crt"),
		"--kubelet-client-key=" + cfg.pki("apiserver-kubelet.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-signing-key-file=" + cfg.pki("sa.key"), "--service-account-key-file=" + cfg.pki("sa.pub"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--event-ttl=3h", "--shutdown-delay-duration=0s",
	}
}

// controllerManagerArgs leaves the times after which a node counts as lost at their defaults.
func controllerManagerArgs(cfg Config) []string {
	return []string{
		"--kubeconfig=" + cfg.component("kube-controller-manager"),
		"--authentication-kubeconfig=" + cfg.component("kube-controller-manager"),
		"--authorization-kubeconfig=" + cfg.component("kube-controller-manager"),
		"--bind-address=127.0.0.1", "--leader-elect=false", "--controllers=*", "--use-service-account-credentials",
		"--service-account-private-key-file=" + cfg.pki("sa.key"), "--root-ca-file=" + cfg.pki("ca.crt"),
		"--cluster-signing-cert-file=" + cfg.pki("ca.crt"), "--cluster-signing-key-file=" + cfg.pki("ca.key"),
		"--kube-api-qps=100", "--kube-api-burst=200",
	}
}

func schedulerArgs(cfg Config) []string {
	return []string{
		"--kubeconfig=" + cfg.component("kube-scheduler"),
		"--authentication-kubeconfig=" + cfg.component("kube-scheduler"),
		"--authorization-kubeconfig=" + cfg.component("kube-scheduler"),
		"--bind-address=127.0.0.1", "--leader-elect=false",
	}
}

// startControlPlane starts what does not run and waits until the API answers.
func startControlPlane(cfg Config) error {
	for _, name := range controlPrograms {
		if err := makeCgroup(controlCgroup + "/" + name); err != nil {
			return err
		}
		thawAll(controlCgroup + "/" + name)
		if _, err := controlDaemon(cfg, name).start(cfg); err != nil {
			return err
		}
		if name == "kube-apiserver" {
			if err := waitAPI(cfg, 60*time.Second); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitAPI waits until the API server says that it is ready.
func waitAPI(cfg Config, limit time.Duration) error {
	err := poll(limit, 50*time.Millisecond, func() error {
		if !readPid(cfg, "kube-apiserver").alive() {
			return fmt.Errorf("the API server has ended")
		}
		api, err := newAPI(cfg)
		if err != nil {
			return err
		}
		return api.get("/readyz", nil)
	})
	if err != nil {
		return fmt.Errorf("no API, see %s: %w", cfg.log("kube-apiserver.log"), err)
	}
	return nil
}

// cmdControl returns the command that does one thing to one part of the control plane.
func cmdControl(verb string) func(Config, []string) error {
	return func(cfg Config, args []string) error {
		args, err := parseArgs(flag.NewFlagSet("control "+verb, flag.ContinueOnError), args, 1, 1)
		if err != nil {
			return err
		}
		name, err := controlProgram(args[0])
		if err != nil {
			return err
		}
		freezer := filepath.Join(cgroupRoot, "freezer", controlCgroup, name)
		switch verb {
		case "freeze":
			return setFreezer(freezer, "FROZEN")
		case "thaw":
			return setFreezer(freezer, "THAWED")
		case "stop":
			return stopDaemon(cfg, name)
		}
		return startControlPart(cfg, name)
	}
}

// controlProgram completes a name: apiserver is kube-apiserver.
func controlProgram(name string) (string, error) {
	for _, full := range controlPrograms {
		if name == full || "kube-"+name == full {
			return full, nil
		}
	}
	return "", fmt.Errorf("no program %q: one of %s", name, strings.Join(controlPrograms, ", "))
}

func startControlPart(cfg Config, name string) error {
	if _, err := os.Stat(cfg.pki("ca.crt")); err != nil {
		return fmt.Errorf("no cluster: %w", err)
	}
	if _, err := controlDaemon(cfg, name).start(cfg); err != nil {
		return err
	}
	if name != "kube-apiserver" {
		return nil
	}
	if err := waitAPI(cfg, 60*time.Second); err != nil {
		return err
	}
	return restartClients(cfg)
}

// restartClients starts those anew that follow the API server. Where they elect leaders, as in other clusters, they end by themselves
// when it is gone for 10 s, and are started again; here they would go on, look again up to two minutes later, and meanwhile act on what
// was. The scheduler may even give up for good ("cache is corrupted").
func restartClients(cfg Config) error {
	for _, name := range []string{"kube-controller-manager", "kube-scheduler"} {
		if err := stopDaemon(cfg, name); err != nil {
			return err
		}
		if _, err := controlDaemon(cfg, name).start(cfg); err != nil {
			return err
		}
	}
	return nil
}
