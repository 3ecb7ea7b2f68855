package main

import (
	"flag"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

var testConfig = Config{State: "/state", Bin: "/bin"}

func TestNodesHaveDistinctAddressesInTheTestNetwork(t *testing.T) {
	network, pods := netip.MustParsePrefix(bridgeSubnet), netip.MustParsePrefix(podsCIDR)
	seen := map[string]bool{hostIP: true, camsIP: true}
	for i := 1; i <= maxNodes; i++ {
		n := testConfig.node(i)
		if !network.Contains(netip.MustParseAddr(n.IP())) {
			t.Errorf("%s: %s is not in %s", n, n.IP(), network)
		}
		if !pods.Contains(netip.MustParsePrefix(n.PodCIDR()).Addr()) {
			t.Errorf("%s: %s is not in %s", n, n.PodCIDR(), pods)
		}
		for _, s := range []string{n.IP(), n.PodCIDR(), n.Link(), hardwareAddress(n.IP())} {
			if seen[s] {
				t.Errorf("%s: %s is used twice", n, s)
			}
			seen[s] = true
		}
	}
}

func TestNodeNamed(t *testing.T) {
	if n, err := testConfig.nodeNamed("n2"); err != nil || n.Index != 2 {
		t.Errorf("n2: %v, %v", n, err)
	}
	for _, name := range []string{"", "n", "2", "n0", "n10", "m1", "n-1"} {
		if _, err := testConfig.nodeNamed(name); err == nil {
			t.Errorf("%q was accepted", name)
		}
	}
}

func TestParseArgsTakesFlagsAnywhere(t *testing.T) {
	for _, line := range []string{"--x=1 a b", "a --x=1 b", "a b --x=1", "a b --x 1"} {
		fs := flag.NewFlagSet("test", flag.ContinueOnError)
		x := fs.Int("x", 0, "")
		args, err := parseArgs(fs, strings.Fields(line), 2, 2)
		if err != nil || *x != 1 || !slices.Equal(args, []string{"a", "b"}) {
			t.Errorf("%q: x=%d args=%q err=%v", line, *x, args, err)
		}
	}
	if _, err := parseArgs(flag.NewFlagSet("test", flag.ContinueOnError), []string{"a"}, 2, 2); err == nil {
		t.Error("too few arguments were accepted")
	}
}

func TestEveryFileRenders(t *testing.T) {
	n := testConfig.node(1)
	data := map[string]any{
		"Name": n.Name(), "Root": "r", "Config": "c", "PKI": "p", "Cgroup": n.Cgroup(), "PodCIDR": n.PodCIDR(),
		"PodsCIDR": podsCIDR, "DNS": dnsIP, "PauseImage": pauseImage, "PodLogs": n.podLogs(), "Nodes": 3,
		"CoreDNSImage": coreDNSImage, "Node": "n1", "Image": probeImage, "Class": "local", "Volume": "n1-d1",
	}
	files, err := assets.ReadDir("assets")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := render(file.Name(), data)
		if err != nil || strings.Contains(text, "{{") {
			t.Errorf("%s: %v", file.Name(), err)
		}
	}
	if _, err := render("kubelet.yaml", map[string]any{}); err == nil {
		t.Error("a value is missing and nobody noticed")
	}
}

func TestVolumesOfANode(t *testing.T) {
	n := testConfig.node(3)
	for _, name := range []string{"n3-small", "small"} {
		if v, err := n.volume(name); err != nil || v.name != "n3-small" || v.size != 96*mib {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
	if _, err := n.volume("n2-small"); err == nil {
		t.Error("n3 has a volume of n2")
	}
	text, err := volumeManifests([]Node{n})
	if err != nil || strings.Count(text, "PersistentVolume\"") != 3 || !strings.Contains(text, filepath.Join("/state/nodes/n3/volumes/n3-d1")) {
		t.Errorf("%v: %s", err, text)
	}
}

func TestControlProgramNames(t *testing.T) {
	for short, full := range map[string]string{"apiserver": "kube-apiserver", "kube-scheduler": "kube-scheduler", "etcd": "etcd"} {
		if got, err := controlProgram(short); err != nil || got != full {
			t.Errorf("%s: %s, %v", short, got, err)
		}
	}
	if _, err := controlProgram("kubelet"); err == nil {
		t.Error("the kubelet is no part of the control plane")
	}
}
