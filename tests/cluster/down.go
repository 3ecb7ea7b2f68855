package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// How long a loop device may take to let go of its file.
const (
	detachLimit = 5 * time.Second
	detachEvery = 20 * time.Millisecond
)

// cmdDown stops the cluster and removes everything but the cached programs.
func cmdDown(cfg Config, args []string) error {
	if err := noArgs("down", args); err != nil {
		return err
	}
	unlock, err := lock("cluster")
	if err != nil {
		return err
	}
	defer unlock()
	return down(cfg)
}

// down removes whatever is there. It trusts no list of its own: nodes are found
// by their cgroups, namespaces, mounts and devices, so that it works after any crash.
func down(cfg Config) error {
	var all []Node
	for i := 1; i <= maxNodes; i++ {
		all = append(all, cfg.node(i))
	}
	err := parallel(all, func(n Node) error {
		if !n.hasTraces() {
			return nil
		}
		unlock, err := lock(n.Name())
		if err != nil {
			return err
		}
		defer unlock()
		return n.halt()
	})
	errs := []error{err}
	for _, name := range cfg.daemons() {
		errs = append(errs, stopDaemon(cfg, name))
	}
	errs = append(errs, killCgroup("gapless"), removeCgroup("gapless"),
		killNetns(camsNetns), unplug(camsNetns, "gl-cams"), removeBridge(), unmountNetns(),
		removeState(cfg))
	return errors.Join(errs...)
}

// hasTraces tells whether anything of the node exists.
func (n Node) hasTraces() bool {
	_, err := os.Stat(n.path())
	_, cgroupErr := os.Stat(filepath.Join(cgroupRoot, "freezer", n.Cgroup()))
	return err == nil || cgroupErr == nil || linkExists(n.Link()) || netnsExists(n.Netns())
}

func removeBridge() error {
	if !linkExists(bridgeName) {
		return nil
	}
	return ip("link del %s", bridgeName)
}

// unmountNetns removes the mount that the first `ip netns add` leaves, once no
// namespace needs it.
func unmountNetns() error {
	entries, err := os.ReadDir("/run/netns")
	if err != nil || len(entries) > 0 || mountedAt("/run/netns") == nil {
		return nil
	}
	return errors.Join(unmount("/run/netns"), unix.Rmdir("/run/netns"))
}

// removeState unmounts the disks, waits for their loop devices and deletes the state folder.
func removeState(cfg Config) error {
	if err := unmountBelow(cfg.State); err != nil {
		return err
	}
	if err := detachLoops(cfg); err != nil {
		return err
	}
	if err := restoreHost(cfg); err != nil {
		return err
	}
	return os.RemoveAll(cfg.State)
}

// detachLoops waits until no loop device holds a file of the state folder.
func detachLoops(cfg Config) error {
	ours := func(file string) bool { return within(file, cfg.State) }
	held, err := loopsOf(ours)
	if err != nil || len(held) == 0 {
		return err
	}
	for _, device := range held {
		number, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(device), "dev"))
		if err == nil {
			unmountElsewhere(strings.TrimSpace(string(number)))
		}
		sh("losetup", "--detach", device) // it may have detached itself
	}
	return poll(detachLimit, detachEvery, func() error {
		held, err := loopsOf(ours)
		if err == nil && len(held) > 0 {
			err = fmt.Errorf("still attached: %v", held)
		}
		return err
	})
}

// cmdCheckClean lists what is left of a cluster, and fails if anything is.
func cmdCheckClean(cfg Config, args []string) error {
	if err := noArgs("check-clean", args); err != nil {
		return err
	}
	left := leftovers(cfg)
	for _, item := range left {
		fmt.Println(item)
	}
	if len(left) > 0 {
		return fmt.Errorf("%d things are left", len(left))
	}
	return nil
}

// leftovers describes everything that a cluster makes and that exists now.
func leftovers(cfg Config) []string {
	var left []string
	add := func(format string, args ...any) { left = append(left, fmt.Sprintf(format, args...)) }
	for _, pid := range cgroupPids("gapless") {
		add("process %d", pid)
	}
	for _, name := range cfg.daemons() {
		if id := readPid(cfg, name); id.alive() {
			add("process %d (%s)", id.PID, name)
		}
	}
	roots, _ := controllers()
	for _, root := range roots {
		if dirs := subtree(filepath.Join(root, "gapless")); len(dirs) > 0 {
			add("cgroup %s", dirs[0])
		}
	}
	links := []string{bridgeName, "gl-cams"}
	spaces := []string{camsNetns}
	for i := 1; i <= maxNodes; i++ {
		links = append(links, cfg.node(i).Link())
		spaces = append(spaces, cfg.node(i).Netns())
	}
	for _, link := range links {
		if linkExists(link) {
			add("network interface %s", link)
		}
	}
	for _, space := range spaces {
		if netnsExists(space) {
			add("network namespace %s", space)
		}
	}
	return append(left, stateLeftovers(cfg)...)
}

// stateLeftovers describes mounts, loop devices, firewall rules, folders and
// settings that exist now.
func stateLeftovers(cfg Config) []string {
	var left []string
	mounts, _ := readMounts("self")
	for _, m := range mounts {
		if within(m.point, cfg.State) {
			left = append(left, "mount "+m.point)
		}
	}
	loops, _ := loopsOf(func(file string) bool { return within(file, cfg.State) })
	for _, device := range loops {
		left = append(left, "loop device "+device)
	}
	for _, program := range []string{"iptables-save", "ip6tables-save"} {
		rules, _ := output(program)
		for _, rule := range strings.Split(rules, "\n") {
			if strings.Contains(rule, "KUBE-") || strings.Contains(rule, cutChain) || strings.Contains(rule, "198.18.") {
				left = append(left, "firewall rule "+rule)
			}
		}
	}
	if routes, _ := output("ip", "-4", "route"); strings.Contains(routes, "198.18.") {
		left = append(left, "routes to 198.18.0.0/15")
	}
	for _, dir := range append([]string{cfg.State}, hostDirs...) {
		if _, err := os.Stat(dir); err == nil {
			left = append(left, "folder "+dir)
		}
	}
	return left
}
