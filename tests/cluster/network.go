package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// ip runs the ip program with a line of arguments.
func ip(format string, args ...any) error {
	return sh("ip", strings.Fields(fmt.Sprintf(format, args...))...)
}

func linkExists(name string) bool {
	_, err := os.Stat("/sys/class/net/" + name)
	return err == nil
}

func netnsPath(name string) string { return "/run/netns/" + name }

func netnsExists(name string) bool {
	return unix.Access(netnsPath(name), unix.F_OK) == nil
}

// makeBridge creates the bridge that joins the host, the nodes and the cameras.
// No other interface is on it and the host does not forward, so it has no way out.
func makeBridge() error {
	if linkExists(bridgeName) {
		return nil
	}
	// A bridge without an address of its own takes one of its ports', another
	// whenever a node comes or goes.
	if err := ip("link add %s address %s type bridge", bridgeName, hardwareAddress(hostIP)); err != nil {
		return err
	}
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/"+bridgeName+"/disable_ipv6", []byte("1"), 0o644); err != nil && !os.IsNotExist(err) {
		return err
	}
	if err := ip("addr add %s/24 dev %s", hostIP, bridgeName); err != nil {
		return err
	}
	return ip("link set %s up", bridgeName)
}

// makeCams creates the network namespace of the cameras.
func makeCams() error {
	if netnsExists(camsNetns) && linkExists("gl-cams") {
		return camsRoute()
	}
	if err := plug(camsNetns, "gl-cams", camsIP); err != nil {
		return err
	}
	for i := 1; i <= maxNodes; i++ {
		if err := podRoute(camsNetns, i); err != nil {
			return err
		}
	}
	return camsRoute()
}

// camsRoute lets the cameras answer at the addresses of each of them.
func camsRoute() error {
	return ip("-n %s route replace local %s dev lo", camsNetns, camsNet)
}

// makeNetwork creates a node's network namespace, with routes to the pods of
// all other nodes and to services. There is no default route.
func (n Node) makeNetwork() error {
	if err := n.removeNetwork(); err != nil {
		return err
	}
	if err := plug(n.Netns(), n.Link(), n.IP()); err != nil {
		return err
	}
	for i := 1; i <= maxNodes; i++ {
		if i == n.Index {
			continue
		}
		if err := podRoute(n.Netns(), i); err != nil {
			return err
		}
	}
	// kube-proxy replaces the destination, but only of packets that have a route.
	if err := ip("-n %s route replace %s via %s", n.Netns(), serviceCIDR, hostIP); err != nil {
		return err
	}
	if err := n.rejectUntranslated(); err != nil {
		return err
	}
	return ip("route replace %s via %s", n.PodCIDR(), n.IP())
}

// rejectUntranslated refuses packets to services that kube-proxy has not
// translated. When a node starts, pods run a moment before kube-proxy has made
// its rules; a connection that began then would hang until it times out.
func (n Node) rejectUntranslated() error {
	for _, chain := range []string{"FORWARD", "OUTPUT"} {
		if err := n.iptables("-A", chain, "-d", serviceCIDR, "-j", "REJECT"); err != nil {
			return err
		}
	}
	return nil
}

// plug creates a network namespace and joins it to the bridge with a cable whose host end is link.
func plug(netns, link, address string) error {
	steps := []string{
		fmt.Sprintf("netns add %s", netns),
		fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %s", link, hardwareAddress(address), netns),
		fmt.Sprintf("link set %s master %s up", link, bridgeName),
		fmt.Sprintf("-n %s link set lo up", netns),
		fmt.Sprintf("-n %s addr add %s/24 dev eth0", netns, address),
		fmt.Sprintf("-n %s link set eth0 up", netns),
	}
	if netnsExists(netns) {
		steps = steps[1:]
	}
	for _, step := range steps {
		if err := ip("%s", step); err != nil {
			return err
		}
	}
	// Set from outside the namespace's mounts: /proc/sys/net shows the caller's network.
	return inNetns(netns, func() error {
		for name, value := range map[string]string{
			"ipv4/ip_forward": "1", "ipv6/conf/all/disable_ipv6": "1", "bridge/bridge-nf-call-iptables": "1",
		} {
			err := os.WriteFile("/proc/sys/net/"+name, []byte(value), 0o644)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return err
			}
		}
		return nil
	})
}

// hardwareAddress derives an Ethernet address from an IP address. As with a real
// machine it stays the same when the node is started again, so that no neighbour
// sends to an old one.
func hardwareAddress(ip string) string {
	b := net.ParseIP(ip).To4()
	return fmt.Sprintf("02:67:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// podRoute makes a network namespace send packets for a node's pods to that node.
func podRoute(netns string, index int) error {
	n := Node{Index: index}
	return ip("-n %s route replace %s via %s", netns, n.PodCIDR(), n.IP())
}

// removeNetwork takes a node's cable and network namespace away.
func (n Node) removeNetwork() error { return unplug(n.Netns(), n.Link()) }

func unplug(netns, link string) error {
	if linkExists(link) {
		if err := ip("link del %s", link); err != nil && linkExists(link) {
			return err
		}
	}
	if netnsExists(netns) {
		return ip("netns del %s", netns)
	}
	return nil
}

// killNetns kills every process whose network is the given namespace.
func killNetns(name string) error {
	if !netnsExists(name) {
		return nil
	}
	return poll(10*time.Second, 10*time.Millisecond, func() error {
		out, err := output("ip", "netns", "pids", name)
		if err != nil {
			return nil // no namespace, no process
		}
		pids := strings.Fields(out)
		for _, pid := range pids {
			sh("kill", "-9", pid) // may have ended
		}
		if len(pids) > 0 {
			return fmt.Errorf("network namespace %s: processes %v do not end", name, pids)
		}
		return nil
	})
}

// The main thread belongs to the main goroutine. It could not end after inNetns
// and would stay in the namespace, as would the process in the eyes of others.
func init() { runtime.LockOSThread() }

// inNetns runs f with the thread in a named network namespace.
func inNetns(name string, f func() error) error { return inNetnsAt(netnsPath(name), f) }

// inNetnsAt runs f with the thread in the network namespace that a file stands
// for. Sockets that f opens belong to it for good.
func inNetnsAt(path string, f func() error) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(path)
		if err != nil {
			result <- err
			return
		}
		defer ns.Close()
		if err := unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET); err != nil {
			result <- fmt.Errorf("enter network namespace %s: %w", path, err)
			return
		}
		result <- f()
	}()
	return <-result
}

// linkDown takes a network interface down with a single system call.
func linkDown(name string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	request, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	request.SetUint16(0) // no flag set, above all not IFF_UP
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, request)
}

// serviceRoute lets the host reach service addresses through a node, whose
// kube-proxy translates them.
func serviceRoute(n Node) error {
	return ip("route replace %s via %s", serviceCIDR, n.IP())
}

// serviceGateway returns the address of the node that the host sends packets for services to.
func serviceGateway() string {
	out, _ := output("ip", "-4", "route", "show", serviceCIDR)
	fields := strings.Fields(out)
	for i, f := range fields {
		if f == "via" && i+1 < len(fields) {
			return fields[i+1]
		}
	}
	return ""
}

// repairServiceRoute sends packets for services through a node that is on, if
// the one that did it so far is not.
func repairServiceRoute(cfg Config) error {
	now := serviceGateway()
	var first *Node
	for _, n := range cfg.nodes() {
		if !n.isOn() {
			continue
		}
		if n.IP() == now {
			return nil
		}
		if first == nil {
			first = &n
		}
	}
	if first == nil {
		return nil
	}
	return serviceRoute(*first)
}

// iptables runs iptables in the node's network namespace.
func (n Node) iptables(args ...string) error {
	return sh("nsenter", append([]string{"--net=" + netnsPath(n.Netns()), "iptables", "--wait"}, args...)...)
}

// restore feeds iptables-restore, which replaces the chains that it names and no others.
func (n Node) restore(input string) error {
	cmd := exec.Command("nsenter", "--net="+netnsPath(n.Netns()), "iptables-restore", "--noflush", "--wait")
	cmd.Stdin = strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("iptables-restore: %w: %s", err, out)
	}
	return nil
}
