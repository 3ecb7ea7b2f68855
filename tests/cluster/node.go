package main

import (
	"bytes"
	"crypto/rand"
	"embed"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"text/template"
	"time"

	"golang.org/x/sys/unix"
)

//go:embed assets
var assets embed.FS

// render fills in one of the embedded files.
func render(name string, data any) (string, error) {
	t, err := template.ParseFS(assets, "assets/"+name)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = t.Option("missingkey=error").Execute(&out, data)
	return out.String(), err
}

// rootDisk holds what containerd and the kubelet keep.
func (n Node) rootDisk() disk {
	return disk{image: n.path("root.img"), point: n.path("root"), size: 8 * gib}
}

// disks lists all of the node's disks, the root first.
func (n Node) disks() []disk {
	list := []disk{n.rootDisk()}
	for _, v := range n.volumes() {
		list = append(list, v.disk())
	}
	return list
}

func (n Node) daemonName() string { return n.Name() + "-init" }

// init returns the node's first process.
func (n Node) init() procID { return readPid(n.cfg, n.daemonName()) }

// isOn tells whether the node is running.
func (n Node) isOn() bool { return n.init().alive() }

// inside returns the host's path of a path that the node's processes see.
func (n Node) inside(path string) string {
	return filepath.Join("/proc", strconv.Itoa(n.init().PID), "root", path)
}

// ctr runs containerd's command line in the node.
func (n Node) ctr(args ...string) (string, error) {
	enter := []string{"--target", strconv.Itoa(n.init().PID), "--mount", "ctr", "--namespace", "k8s.io"}
	return output("nsenter", append(enter, args...)...)
}

// writeConfig writes the configuration of the node's programs.
func (n Node) writeConfig() error {
	data := map[string]any{
		"Name": n.Name(), "Root": n.path("root"), "Config": n.path("config"), "PKI": n.cfg.path("pki"),
		"Cgroup": n.Cgroup(), "PodCIDR": n.PodCIDR(), "PodsCIDR": podsCIDR, "DNS": dnsIP,
		"PauseImage": pauseImage, "PodLogs": n.podLogs(),
	}
	for from, to := range map[string]string{
		"containerd.toml": "containerd.toml", "cni.conflist": "cni/10-gapless.conflist",
		"kubelet.yaml": "kubelet.yaml", "proxy.yaml": "proxy.yaml",
	} {
		text, err := render(from, data)
		if err != nil {
			return err
		}
		if err := writeFileAtomic(n.path("config", to), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// boot starts the node up to the point where its kubelet runs. It does nothing
// if the node is on. A containerd that does not survive what the power cut left
// of its state starts anew, with its images imported again.
func (n Node) boot() error {
	if n.isOn() {
		return nil
	}
	err := n.tryBoot()
	if err == nil {
		return nil
	}
	fmt.Fprintf(os.Stderr, "testbed: %s: %v; starting it with an empty containerd\n", n, err)
	if err := n.halt(); err != nil {
		return err
	}
	if err := n.rootDisk().mount(); err != nil {
		return err
	}
	if err := os.RemoveAll(filepath.Join(n.rootDisk().point, "containerd")); err != nil {
		return err
	}
	return n.tryBoot()
}

func (n Node) tryBoot() error {
	if err := n.prepare(); err != nil {
		return err
	}
	bootID := newBootID()
	if err := writeFileAtomic(n.path("boot-id"), []byte(bootID), 0o644); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = daemon{
		name: n.daemonName(),
		argv: []string{"nsenter", "--net=" + netnsPath(n.Netns()), "--", self, nodeInitCommand, n.Name(), bootID},
		attr: syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWUTS},
	}.start(n.cfg)
	if err != nil {
		return err
	}
	if err := n.waitContainerd(); err != nil {
		return err
	}
	if err := n.checkImages(); err != nil {
		return err
	}
	if err := n.importImages(); err != nil {
		return err
	}
	return os.WriteFile(n.inside(imagesReady), nil, 0o644)
}

// prepare makes all that a node needs before its first process.
func (n Node) prepare() error {
	if err := os.MkdirAll(n.path(), 0o755); err != nil {
		return err
	}
	if err := n.makeNetwork(); err != nil {
		return err
	}
	if err := n.applyLinks(); err != nil {
		return err
	}
	if err := makeCgroup(n.Cgroup() + "/system"); err != nil {
		return err
	}
	for _, d := range n.disks() {
		if err := d.mount(); err != nil {
			return err
		}
	}
	if err := n.dropBrokenCheckpoints(); err != nil {
		return err
	}
	return n.writeConfig()
}

// dropBrokenCheckpoints removes the small state files of the kubelet that a
// power cut has emptied: it would refuse to start with them.
func (n Node) dropBrokenCheckpoints() error {
	files, err := filepath.Glob(filepath.Join(n.rootDisk().point, "kubelet", "*_state"))
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(bytes.TrimSpace(content), []byte("{")) {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	return nil
}

// waitContainerd waits until containerd accepts a connection.
func (n Node) waitContainerd() error {
	return poll(20*time.Second, 20*time.Millisecond, func() error {
		if !n.isOn() {
			return fmt.Errorf("%s has ended, see %s", n, n.cfg.log(n.daemonName()+".log"))
		}
		conn, err := net.Dial("unix", n.inside("/run/containerd/containerd.sock"))
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// responds waits until containerd and the kubelet accept connections.
func (n Node) responds(limit time.Duration) error {
	if err := n.waitContainerd(); err != nil {
		return err
	}
	return poll(limit, 50*time.Millisecond, func() error {
		conn, err := net.DialTimeout("tcp", net.JoinHostPort(n.IP(), strconv.Itoa(kubeletPort)), time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// halt ends all processes of the node, whatever state they are in, and takes
// its network away. Nothing of it runs when halt returns. Its disks stay mounted.
func (n Node) halt() error {
	if err := n.init().signal(unix.SIGKILL); err != nil {
		return err
	}
	// The end of its first process is the end of the node's process namespace.
	// What is frozen dies only when it thaws.
	err := poll(20*time.Second, 2*time.Millisecond, func() error {
		thawAll(n.Cgroup())
		if n.init().exists() {
			return fmt.Errorf("%s does not end", n)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := errors.Join(killCgroup(n.Cgroup()), killNetns(n.Netns())); err != nil {
		return err
	}
	if err := stopDaemon(n.cfg, n.daemonName()); err != nil {
		return err
	}
	if err := n.removeNetwork(); err != nil {
		return err
	}
	return removeCgroup(n.Cgroup())
}

// unmountDisks unmounts all disks of a node that does not run. A file that is
// open on one of them is no failure: the next mount works on a copy.
func (n Node) unmountDisks() error {
	errs := []error{n.makeSound()}
	for _, d := range n.disks() {
		err := d.unmount()
		if errors.Is(err, errHeld) {
			fmt.Fprintf(os.Stderr, "testbed: %v\n", err)
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// nodeStatus is what is read of a Node object.
type nodeStatus struct {
	Status struct {
		NodeInfo   struct{ BootID string }
		Conditions []condition
	}
}

type condition struct{ Type, Status, Reason, Message string }

// ready tells whether the cluster calls the node Ready since its present start.
func (n Node) ready(a *api) error {
	var status nodeStatus
	if err := a.get("/api/v1/nodes/"+n.Name(), &status); err != nil {
		return err
	}
	bootID, err := os.ReadFile(n.path("boot-id"))
	if err != nil {
		return err
	}
	if status.Status.NodeInfo.BootID != string(bootID) {
		return fmt.Errorf("%s has not reported since its start", n)
	}
	for _, c := range status.Status.Conditions {
		if c.Type == "Ready" && c.Status != "True" {
			return fmt.Errorf("%s is not Ready: %s", n, c.Message)
		}
	}
	return nil
}

// readyLimit is how long a cluster may take to be ready again: a kubelet whose API server was gone waits up to a minute before it watches
// its node again (client-go: 30 s, and as much again by jitter), and learns only then that it is said to be lost.
const readyLimit = 2 * time.Minute

// waitReady waits until the node is Ready.
func (n Node) waitReady() error {
	a, err := newAPI(n.cfg)
	if err != nil {
		return err
	}
	return poll(readyLimit, 50*time.Millisecond, func() error { return n.ready(a) })
}

// newBootID returns a random UUID: a node that was off has booted anew, though the kernel has not.
func newBootID() string {
	var b [16]byte
	rand.Read(b[:])
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return strings.ToLower(fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:]))
}

// parallel calls f for all nodes at once and returns all errors.
func parallel(nodes []Node, f func(Node) error) error {
	errs := make([]error, len(nodes))
	var group sync.WaitGroup
	for i, n := range nodes {
		group.Go(func() {
			if err := f(n); err != nil {
				errs[i] = fmt.Errorf("%s: %w", n, err)
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}
