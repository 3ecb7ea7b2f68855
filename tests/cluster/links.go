package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// A cut is kept in the node's folder, because the cable is not part of the
// machine: it stays cut while the node is off and when it is on again.

// cut is the direction in which a link drops packets.
type cut string

const (
	cutIn   cut = "in"   // packets to the node
	cutOut  cut = "out"  // packets from the node
	cutBoth cut = "both" // all
)

// drops says which packets of a link are dropped.
type drops struct {
	Direction cut `json:"direction"`
	// Share is how many of them, above 0 to 1; which, is a matter of chance.
	Share float64 `json:"share"`
}

// every drops every packet in a direction.
func every(direction cut) drops { return drops{direction, 1} }

// rule is the end of the rules that drop them.
func (d drops) rule() string {
	if d.Share < 1 {
		return fmt.Sprintf("-m statistic --mode random --probability %g -j DROP\n", d.Share)
	}
	return "-j DROP\n"
}

// cuts maps the name of a link to what is dropped there.
type cuts map[string]drops

// linkMatches returns the iptables matches of the packets on a link that leave
// the node. Packets that arrive match the same with source and destination exchanged.
//
// What is on the wire has its real addresses: kube-proxy has translated those of
// services before, and pods are not hidden behind their node.
func linkMatches(cfg Config, link string) ([][]string, error) {
	tcp := func(side string, port int) []string {
		return []string{"-p", "tcp", "-d", hostIP, side, strconv.Itoa(port)}
	}
	switch {
	case link == "all":
		return [][]string{nil}, nil
	case link == "cameras":
		return [][]string{{"-d", camsIP}, {"-d", camsNet}}, nil
	case link == "operator":
		// Whichever side the operator is on.
		port := strconv.Itoa(controlPort)
		return [][]string{{"-p", "tcp", "--sport", port}, {"-p", "tcp", "--dport", port}}, nil
	case link == "api":
		// Both ways of the control plane: clients of the API, and the API's
		// calls to the kubelet. The host is not cut off otherwise.
		return [][]string{tcp("--dport", apiPort), tcp("--sport", kubeletPort)}, nil
	}
	if number, ok := strings.CutPrefix(link, "camera:"); ok {
		camera, err := strconv.Atoi(number)
		if err != nil || camera < 0 || camera >= maxCameras {
			return nil, fmt.Errorf("no camera %q: 0 to %d", number, maxCameras-1)
		}
		return [][]string{{"-d", fmt.Sprintf("198.18.0.%d", firstCamera+camera)}}, nil
	}
	name, ok := strings.CutPrefix(link, "peer:")
	if !ok {
		return nil, fmt.Errorf("no link %q: api, operator, peer:NODE, cameras, camera:N or all", link)
	}
	peer, err := cfg.nodeNamed(name)
	if err != nil {
		return nil, err
	}
	return [][]string{{"-d", peer.IP()}, {"-d", peer.PodCIDR()}}, nil
}

// mirrored exchanges source and destination.
func mirrored(match []string) []string {
	other := map[string]string{"-d": "-s", "-s": "-d", "--dport": "--sport", "--sport": "--dport"}
	out := make([]string, len(match))
	for i, word := range match {
		out[i] = word
		if o, ok := other[word]; ok {
			out[i] = o
		}
	}
	return out
}

// cutChain is the name of the test bed's own chain, in both tables.
const cutChain = "TESTBED-CUT"

// restoreInput returns the input of iptables-restore that makes the given cuts
// and no others. The chains are flushed and filled in one step per table.
//
// Arriving packets are dropped before anything else sees them, leaving ones
// after everything else: in the tables raw and mangle, which know no
// connections, so what is open already is cut as well.
func restoreInput(cfg Config, made cuts) (string, error) {
	links := make([]string, 0, len(made))
	for link := range made {
		links = append(links, link)
	}
	sort.Strings(links)
	in, out := "*raw\n:"+cutChain+" - [0:0]\n", "*mangle\n:"+cutChain+" - [0:0]\n"
	for _, link := range links {
		matches, err := linkMatches(cfg, link)
		if err != nil {
			return "", err
		}
		for _, match := range matches {
			if made[link].Direction != cutIn {
				out += strings.Join(append([]string{"-A", cutChain, "-o", "eth0"}, append(match, made[link].rule())...), " ")
			}
			if made[link].Direction != cutOut {
				in += strings.Join(append([]string{"-A", cutChain, "-i", "eth0"}, append(mirrored(match), made[link].rule())...), " ")
			}
		}
	}
	return in + "COMMIT\n" + out + "COMMIT\n", nil
}

func (n Node) readCuts() (cuts, error) {
	all := cuts{}
	content, err := os.ReadFile(n.path("links.json"))
	if errors.Is(err, os.ErrNotExist) {
		return all, nil
	}
	if err != nil {
		return nil, err
	}
	return all, json.Unmarshal(content, &all)
}

// applyLinks makes the node's network drop what its cuts say.
func (n Node) applyLinks() error {
	all, err := n.readCuts()
	if err != nil {
		return err
	}
	input, err := restoreInput(n.cfg, all)
	if err != nil {
		return err
	}
	if err := n.restore(input); err != nil {
		return err
	}
	for table, hook := range map[string]string{"raw": "PREROUTING", "mangle": "POSTROUTING"} {
		if n.iptables("-t", table, "-C", hook, "-j", cutChain) == nil {
			continue
		}
		if err := n.iptables("-t", table, "-I", hook, "-j", cutChain); err != nil {
			return err
		}
	}
	return nil
}

// cmdLink returns the command that cuts or mends a link.
func cmdLink(verb string) func(Config, []string) error {
	return func(cfg Config, args []string) error {
		fs := flag.NewFlagSet("link "+verb, flag.ContinueOnError)
		direction := fs.String("direction", string(cutBoth), "of the packets that are dropped, as the node sees it: in, out or both")
		share := fs.Float64("share", 1, "how many of them are dropped, above 0 to 1, at random")
		least := 2
		if verb == "mend" {
			least = 1
		}
		args, err := parseArgs(fs, args, least, 2)
		if err != nil {
			return err
		}
		n, err := cfg.nodeNamed(args[0])
		if err != nil {
			return err
		}
		if len(args) == 1 {
			return n.mendAll()
		}
		if _, err := linkMatches(cfg, args[1]); err != nil {
			return err
		}
		unlock, err := lock(n.Name())
		if err != nil {
			return err
		}
		defer unlock()
		if verb == "mend" {
			return n.mendLink(args[1])
		}
		switch d := cut(*direction); d {
		case cutIn, cutOut, cutBoth:
			if *share <= 0 || *share > 1 {
				return fmt.Errorf("no share %g: above 0 to 1", *share)
			}
			return n.cutLink(args[1], drops{d, *share})
		}
		return fmt.Errorf("no direction %q: in, out or both", *direction)
	}
}

// cutReport is what `link cut` prints.
type cutReport struct {
	Node string `json:"node"`
	Link string `json:"link"`
	// T0 is the moment just after the cut, in Unix nanoseconds.
	T0 int64 `json:"t0_unix_ns"`
}

// cutLink cuts a link, and prints when.
func (n Node) cutLink(link string, made drops) error {
	if err := n.setCut(link, made); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(cutReport{n.Name(), link, time.Now().UnixNano()})
}

// setCut cuts a link, or mends it if nothing is to be dropped.
func (n Node) setCut(link string, made drops) error {
	if _, err := os.Stat(n.path()); err != nil {
		return fmt.Errorf("%s does not exist", n)
	}
	all, err := n.readCuts()
	if err != nil {
		return err
	}
	if made == (drops{}) {
		delete(all, link)
	} else {
		all[link] = made
	}
	return n.writeCuts(all)
}

// mendLink mends a link, and prints how many packets the node's links dropped since they were last changed.
func (n Node) mendLink(link string) error {
	dropped, err := n.dropped()
	if err != nil {
		return err
	}
	if err := n.setCut(link, drops{}); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]uint64{"dropped": dropped})
}

// dropped counts the packets that the rules of now have dropped.
func (n Node) dropped() (uint64, error) {
	if !n.isOn() {
		return 0, nil
	}
	var sum uint64
	for _, table := range []string{"raw", "mangle"} {
		out, err := output("nsenter", "--net="+netnsPath(n.Netns()), "iptables", "--wait", "-t", table, "-nvxL", cutChain)
		if err != nil {
			return 0, err
		}
		count, err := packets(out)
		if err != nil {
			return 0, err
		}
		sum += count
	}
	return sum, nil
}

// packets adds up the first column of what `iptables -nvxL` prints of a chain, below its two lines of head.
func packets(table string) (uint64, error) {
	var sum uint64
	for i, line := range strings.Split(strings.TrimSpace(table), "\n") {
		fields := strings.Fields(line)
		if i < 2 || len(fields) == 0 {
			continue
		}
		count, err := strconv.ParseUint(fields[0], 10, 64)
		if err != nil {
			return 0, fmt.Errorf("a rule without a count of packets: %q", line)
		}
		sum += count
	}
	return sum, nil
}

// mendAll mends every link of the node.
func (n Node) mendAll() error {
	unlock, err := lock(n.Name())
	if err != nil {
		return err
	}
	defer unlock()
	return n.writeCuts(cuts{})
}

func (n Node) writeCuts(all cuts) error {
	content, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := writeFileAtomic(n.path("links.json"), content, 0o644); err != nil {
		return err
	}
	if !n.isOn() {
		return nil
	}
	return n.applyLinks()
}
