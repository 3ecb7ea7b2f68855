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
	if err := parallel(nodes, func(n Node) error { return n.waitReady(60 * time.Second) }); err != nil {
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

// revive turns a node on, thaws its containers, mends its links and frees its disks.
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
	} else {
		// It may have ended without a power cut, and left its mounts behind.
		if err := n.halt(); err != nil {
			return err
		}
		if err := n.unmountDisks(); err != nil {
			return err
		}
		if err := os.RemoveAll(n.path("links.json")); err != nil {
			return err
		}
		if err := n.boot(); err != nil {
			return err
		}
	}
	for _, v := range n.volumes() {
		if err := v.disk().free(); err != nil {
			return err
		}
	}
	return nil
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

// waitDNS waits until CoreDNS is Ready on every node and the host can ask it
// at its service address.
func waitDNS(cfg Config, count int) error {
	a, err := newAPI(cfg)
	if err != nil {
		return err
	}
	var deployment struct {
		Metadata struct{ Generation int }
		Status   struct{ ObservedGeneration, ReadyReplicas, UpdatedReplicas int }
	}
	err = poll(60*time.Second, 50*time.Millisecond, func() error {
		if err := a.get("/apis/apps/v1/namespaces/kube-system/deployments/coredns", &deployment); err != nil {
			return err
		}
		st := deployment.Status
		if st.ObservedGeneration < deployment.Metadata.Generation || st.ReadyReplicas < count || st.UpdatedReplicas < count {
			return fmt.Errorf("CoreDNS: %d of %d are Ready", st.ReadyReplicas, count)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return poll(20*time.Second, 50*time.Millisecond, func() error {
		_, err := lookup("kubernetes.default.svc.cluster.local")
		return err
	})
}

// lookup asks the cluster's DNS for the addresses of a name.
func lookup(name string) ([]string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	r := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, net.JoinHostPort(dnsIP, "53"))
	}}
	return r.LookupHost(ctx, name)
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
