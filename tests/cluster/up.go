package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// cmdUp makes the cluster be there and whole. What runs already is kept; what
// is missing, off or cut is mended; and what cannot be mended makes it start
// again from nothing.
func cmdUp(cfg Config, args []string) error {
	fs := flag.NewFlagSet("up", flag.ContinueOnError)
	count := fs.Int("nodes", 3, "least number of nodes; more that exist are kept")
	keep := fs.Bool("keep", false, "when the cluster cannot be mended, fail and leave it as it is")
	if _, err := parseArgs(fs, args, 0, 0); err != nil {
		return err
	}
	if *count < 1 || *count > maxNodes {
		return fmt.Errorf("1 to %d nodes, not %d", maxNodes, *count)
	}
	if err := errors.Join(checkHost(cfg), checkBuilt(cfg)); err != nil {
		return err
	}
	unlock, err := lock("cluster")
	if err != nil {
		return err
	}
	defer unlock()
	start := time.Now()
	if err := up(cfg, *count, *keep); err != nil {
		return err
	}
	fmt.Printf("up: %d nodes Ready in %.1f s; eval \"$(testbed env)\"\n", len(cfg.nodes()), time.Since(start).Seconds())
	return nil
}

func up(cfg Config, count int, keep bool) error {
	if isStale(cfg) {
		if err := down(cfg); err != nil {
			return err
		}
	} else {
		err := converge(cfg, count)
		if err == nil || keep {
			return err
		}
		fmt.Fprintf(os.Stderr, "testbed: cannot mend the cluster, starting anew: %v\n", err)
		if err := down(cfg); err != nil {
			return err
		}
	}
	return converge(cfg, count)
}

// isStale tells whether what is left of an earlier cluster cannot be continued:
// it was never complete, the machine has booted since, or nothing of it is left but litter.
func isStale(cfg Config) bool {
	content, err := os.ReadFile(cfg.path("boot-id"))
	if err != nil {
		return true
	}
	return string(content) != hostBootID()
}

func hostBootID() string {
	id, _ := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return string(id)
}

// converge starts and mends whatever is missing. Every step may find its work done.
func converge(cfg Config, count int) error {
	start := time.Now()
	step := func(what string) { fmt.Printf("up: %s (%.1f s)\n", what, time.Since(start).Seconds()) }
	if err := prepareHost(cfg); err != nil {
		return err
	}
	nodes := cfg.wanted(count)
	step("host prepared")
	// The nodes come up beside the control plane: containerd and the images take as long.
	booted := make(chan error, 1)
	go func() { booted <- parallel(nodes, revive) }()
	err := startControlPlane(cfg)
	step("control plane runs")
	if err == nil {
		err = waitBootstrapObjects(cfg)
	}
	if err = errors.Join(err, <-booted); err != nil {
		return err
	}
	step("nodes started")
	if err := serviceRoute(nodes[0]); err != nil {
		return err
	}
	if err := applyCluster(cfg); err != nil {
		return err
	}
	if err := parallel(nodes, Node.waitReady); err != nil {
		return err
	}
	step("nodes Ready")
	if err := waitDNS(cfg, len(nodes)); err != nil {
		return err
	}
	return os.WriteFile(cfg.path("boot-id"), []byte(hostBootID()), 0o644)
}

// wanted returns the first nodes, and those beyond them that exist.
func (c Config) wanted(count int) []Node {
	var list []Node
	for i := 1; i <= count; i++ {
		list = append(list, c.node(i))
	}
	for _, n := range c.nodes() {
		if n.Index > count {
			list = append(list, n)
		}
	}
	return list
}

// prepareHost makes the shared folder, the network and the keys.
func prepareHost(cfg Config) error {
	if err := shareState(cfg); err != nil {
		return err
	}
	if err := saveHost(cfg); err != nil {
		return err
	}
	if err := makeBridge(); err != nil {
		return err
	}
	if err := makeCams(); err != nil {
		return err
	}
	for _, p := range programs {
		if p.image == "" {
			continue
		}
		if err := keepImage(cfg, cfg.bin(p.name+".tar")); err != nil {
			return err
		}
	}
	if _, err := os.Stat(cfg.pki("complete")); err == nil {
		return nil
	}
	if err := writePKI(cfg); err != nil {
		return err
	}
	return os.WriteFile(cfg.pki("complete"), nil, 0o644)
}

// revive turns a node on, thaws its containers, mends its links, frees its disks and lifts their faults.
func revive(n Node) error {
	unlock, err := lock(n.Name())
	if err != nil {
		return err
	}
	defer unlock()
	if n.isOn() {
		if err := n.writeCuts(cuts{}); err != nil {
			return err
		}
		thawAll(n.Cgroup())
	}
	if !n.isOn() || n.responds(10*time.Second) != nil {
		if err := n.reboot(); err != nil {
			return err
		}
	}
	for _, v := range n.volumes() {
		if err := errors.Join(v.lift(), v.disk().free()); err != nil {
			return err
		}
	}
	return nil
}

// reboot starts the node from whatever state it is in. If it ended without a
// power cut it has left its mounts behind.
func (n Node) reboot() error {
	if err := errors.Join(n.halt(), n.unmountDisks(), os.RemoveAll(n.path("links.json"))); err != nil {
		return err
	}
	return n.boot()
}

// waitBootstrapObjects waits for what the API server itself creates a moment
// after it is ready, and which the kubelets and kube-proxies need.
func waitBootstrapObjects(cfg Config) error {
	a, err := newAPI(cfg)
	if err != nil {
		return err
	}
	return poll(30*time.Second, 50*time.Millisecond, func() error {
		return errors.Join(
			a.get("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:node-proxier", nil),
			a.get("/apis/scheduling.k8s.io/v1/priorityclasses/system-cluster-critical", nil),
			a.get("/api/v1/namespaces/kube-system", nil))
	})
}

// applyCluster makes the cluster hold DNS, storage classes and the nodes' volumes.
func applyCluster(cfg Config) error {
	nodes := cfg.nodes()
	text, err := render("cluster.yaml", map[string]any{
		"Nodes": len(nodes), "CoreDNSImage": coreDNSImage, "DNS": dnsIP,
	})
	if err != nil {
		return err
	}
	volumes, err := volumeManifests(nodes)
	if err != nil {
		return err
	}
	return apply(cfg, text+volumes)
}

// waitDNS waits until a CoreDNS answers on every node, and the host can ask at
// their service's address. It asks them: what the API says of the pods of a node
// that has just been turned on may be old.
func waitDNS(cfg Config, count int) error {
	a, err := newAPI(cfg)
	if err != nil {
		return err
	}
	return poll(readyLimit, 50*time.Millisecond, func() error {
		var pods struct {
			Items []struct {
				Status struct {
					Phase string
					PodIP string
				}
			}
		}
		if err := a.get("/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-dns", &pods); err != nil {
			return err
		}
		answered, last := 0, errors.New("no pod")
		for _, pod := range pods.Items {
			if pod.Status.Phase != "Running" || pod.Status.PodIP == "" {
				continue
			}
			if err := lookup(pod.Status.PodIP, "kubernetes.default.svc.cluster.local"); err != nil {
				last = err // of a node that is no more, perhaps
				continue
			}
			answered++
		}
		if answered < count {
			return fmt.Errorf("CoreDNS: %d of %d answer: %w", answered, count, last)
		}
		return lookup(dnsIP, "kubernetes.default.svc.cluster.local")
	})
}

// lookup asks a server for the addresses of a name.
func lookup(server, name string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(server, "53"))
	}}
	_, err := r.LookupHost(ctx, name)
	return err
}

// cmdRoute chooses the node through which the host reaches services.
func cmdRoute(cfg Config, args []string) error {
	args, err := parseArgs(flag.NewFlagSet("route", flag.ContinueOnError), args, 1, 1)
	if err != nil {
		return err
	}
	n, err := cfg.nodeNamed(args[0])
	if err != nil {
		return err
	}
	return serviceRoute(n)
}

func cmdKubeconfig(cfg Config, args []string) error {
	if err := noArgs("kubeconfig", args); err != nil {
		return err
	}
	fmt.Println(cfg.kubeconfig())
	return nil
}

func cmdEnv(cfg Config, args []string) error {
	if err := noArgs("env", args); err != nil {
		return err
	}
	fmt.Printf("export KUBECONFIG='%s'\n", cfg.kubeconfig())
	if !strings.Contains(string(filepath.ListSeparator)+os.Getenv("PATH"), string(filepath.ListSeparator)+cfg.Bin) {
		fmt.Printf("export PATH='%s':\"$PATH\"\n", cfg.Bin)
	}
	return nil
}
