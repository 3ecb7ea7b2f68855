package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Addresses of the test bed. All lie in 198.18.0.0/15, which is set aside for
// tests of networks (RFC 2544) and is routed nowhere.
const (
	bridgeName   = "gl0"
	bridgeSubnet = "198.18.0.0/24"
	hostIP       = "198.18.0.1"     // the control plane, and the host
	camsIP       = "198.18.0.2"     // the network namespace of the cameras
	camsNet      = "198.18.0.64/26" // it answers here too: camera N at .64+N
	firstCamera  = 64
	maxCameras   = 64
	camsNetns    = "cams"
	serviceCIDR  = "198.19.0.0/16"
	kubernetesIP = "198.19.0.1"
	dnsIP        = "198.19.0.10"
	podsCIDR     = "198.18.96.0/20" // every node's pods
	apiPort      = 6443
	kubeletPort  = 10250
	controlPort  = 7444 // of a member, for the operator
	maxNodes     = 9
)

// recorderUID is the user that owns the root of every media volume, so that a
// pod that does not run as root can use it without fsGroup.
const recorderUID = 65532

// Config says where things are. It is made once, from the environment.
type Config struct {
	// State holds everything that belongs to the running cluster.
	State string
	// Bin holds the cached programs. It outlives the cluster.
	Bin string
}

// newConfig reads GAPLESS_STATE and GAPLESS_CACHE.
func newConfig() (Config, error) {
	state := envOr("GAPLESS_STATE", "/var/lib/gapless-testbed")
	cache := os.Getenv("GAPLESS_CACHE")
	if cache == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			return Config{}, fmt.Errorf("neither GAPLESS_CACHE nor a home: %w", err)
		}
		cache = filepath.Join(home, ".cache", "gapless")
	}
	c := Config{State: filepath.Clean(state), Bin: filepath.Join(cache, "bin")}
	if !filepath.IsAbs(c.State) || !filepath.IsAbs(c.Bin) {
		return Config{}, fmt.Errorf("GAPLESS_STATE and GAPLESS_CACHE must be absolute paths")
	}
	return c, nil
}

func envOr(name, fallback string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return fallback
}

// path joins elements to the state folder.
func (c Config) path(elem ...string) string {
	return filepath.Join(append([]string{c.State}, elem...)...)
}

func (c Config) pki(name string) string    { return c.path("pki", name) }
func (c Config) log(name string) string    { return c.path("log", name) }
func (c Config) bin(name string) string    { return filepath.Join(c.Bin, name) }
func (c Config) kubeconfig() string        { return c.path("kubeconfig") }
func (c Config) images() string            { return c.path("images") }
func (c Config) component(n string) string { return c.pki(n + ".kubeconfig") }

// Node is one machine of the cluster. Everything about it follows from its number.
type Node struct {
	cfg   Config
	Index int
}

// node returns node number i, counted from 1.
func (c Config) node(i int) Node { return Node{cfg: c, Index: i} }

// nodeNamed returns the node called name: n1, n2 and so on.
func (c Config) nodeNamed(name string) (Node, error) {
	i, err := strconv.Atoi(strings.TrimPrefix(name, "n"))
	if err != nil || !strings.HasPrefix(name, "n") || i < 1 || i > maxNodes {
		return Node{}, fmt.Errorf("no node %q: nodes are called n1 to n%d", name, maxNodes)
	}
	return c.node(i), nil
}

// nodes returns every node that has a folder, powered on or not.
func (c Config) nodes() []Node {
	var list []Node
	for i := 1; i <= maxNodes; i++ {
		if _, err := os.Stat(c.node(i).path()); err == nil {
			list = append(list, c.node(i))
		}
	}
	return list
}

func (n Node) String() string  { return n.Name() }
func (n Node) Name() string    { return fmt.Sprintf("n%d", n.Index) }
func (n Node) IP() string      { return fmt.Sprintf("198.18.0.1%d", n.Index) }
func (n Node) PodCIDR() string { return fmt.Sprintf("198.18.10%d.0/24", n.Index) }
func (n Node) Zone() string    { return fmt.Sprintf("z%d", n.Index) }

// Link is the name of the host's end of the node's network cable.
func (n Node) Link() string { return fmt.Sprintf("gl-n%d", n.Index) }

// Netns is the name of the node's network namespace.
func (n Node) Netns() string { return n.Name() }

// Cgroup is the node's cgroup, in every controller.
func (n Node) Cgroup() string { return "gapless/" + n.Name() }

func (n Node) path(elem ...string) string {
	return n.cfg.path(append([]string{"nodes", n.Name()}, elem...)...)
}
