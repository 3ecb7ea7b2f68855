package main

import (
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// nodeInitCommand is the hidden command that is a node's first process.
const nodeInitCommand = "node-init"

// imagesReady is the file that tells a node that its images are there.
const imagesReady = "/run/testbed-images-ready"

// hostDirs are the folders that programs insist on; each node has its own
// mounted over them, so on the host they stay empty.
var hostDirs = []string{"/var/lib/kubelet", "/var/lib/cni"}

// nodeInit is a node's first process, in mount, process, network and host name
// namespaces of its own. It makes the folders of the node, starts containerd,
// kube-proxy and the kubelet, starts them again when they end, and reaps
// orphans. When it is killed the kernel kills everything in the node with it.
func nodeInit(cfg Config, args []string) error {
	if len(args) != 2 || os.Getpid() != 1 {
		return fmt.Errorf("%s is started by testbed itself", nodeInitCommand)
	}
	n, err := cfg.nodeNamed(args[0])
	if err != nil {
		return err
	}
	if err := joinCgroup(n.Cgroup()+"/system", 0); err != nil {
		return err
	}
	if err := n.makeRoot(args[1]); err != nil {
		return err
	}
	log.Printf("%s starts", n)
	s := &supervisor{node: n, running: map[int]*service{}}
	if err := s.start(n.containerd()); err != nil {
		return err
	}
	go s.startWhenReady(n.kubeProxy(), n.kubelet())
	s.reap()
	return nil
}

// makeRoot arranges what the node's programs see. Mounts of the host arrive
// here, those of the node stay here.
func (n Node) makeRoot(bootID string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SLAVE, ""); err != nil {
		return err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte(n.Name())); err != nil {
		return err
	}
	kubelet := filepath.Join(n.rootDisk().point, "kubelet")
	for _, dir := range append([]string{kubelet, n.podLogs()}, hostDirs...) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	mounts := []struct{ source, target, kind, data string }{
		{"proc", "/proc", "proc", ""},
		{"tmpfs", "/run", "tmpfs", "mode=755"},
		{"tmpfs", "/var/log", "tmpfs", "mode=755"},
		{"tmpfs", "/var/lib/cni", "tmpfs", "mode=755"},
		{kubelet, "/var/lib/kubelet", "", ""},
	}
	for _, m := range mounts {
		var flags uintptr
		if m.kind == "" {
			flags = unix.MS_BIND
		}
		if err := unix.Mount(m.source, m.target, m.kind, flags, m.data); err != nil {
			return fmt.Errorf("mount %s: %w", m.target, err)
		}
	}
	// The kubelet mounts below this folder, and pods may share that with it.
	if err := unix.Mount("", "/var/lib/kubelet", "", unix.MS_SHARED, ""); err != nil {
		return err
	}
	if err := os.Mkdir("/run/lock", 0o755); err != nil {
		return err
	}
	if err := os.WriteFile("/run/boot_id", []byte(bootID+"\n"), 0o444); err != nil {
		return err
	}
	return unix.Mount("/run/boot_id", "/proc/sys/kernel/random/boot_id", "", unix.MS_BIND, "")
}

// podLogs is where the kubelet writes the logs of pods: outside the node's
// disks, so that a power cut does not take the last lines before it.
func (n Node) podLogs() string { return n.cfg.path("log", "pods", n.Name()) }

// service is a program that a node keeps running.
type service struct {
	name string
	argv []string
}

func (n Node) containerd() *service {
	return &service{"containerd", []string{"containerd", "--config", n.path("config", "containerd.toml")}}
}

func (n Node) kubeProxy() *service {
	return &service{"kube-proxy", []string{n.cfg.bin("kube-proxy"), "--config", n.path("config", "proxy.yaml")}}
}

func (n Node) kubelet() *service {
	return &service{"kubelet", []string{n.cfg.bin("kubelet"),
		"--config=" + n.path("config", "kubelet.yaml"),
		"--kubeconfig=" + n.cfg.component(n.Name()),
		"--hostname-override=" + n.Name(), "--node-ip=" + n.IP(),
		"--node-labels=topology.kubernetes.io/zone=" + n.Zone() + ",topology.kubernetes.io/region=testbed",
	}}
}

// supervisor starts services and reaps every process that ends in the node.
type supervisor struct {
	node    Node
	mu      sync.Mutex
	running map[int]*service
}

// start starts a service. The lock is held over the start and its entry, so
// that an early end is not taken for an orphan's.
func (s *supervisor) start(svc *service) error {
	path, err := exec.LookPath(svc.argv[0])
	if err != nil {
		return err
	}
	out, err := openLog(s.node.cfg, s.node.Name()+"-"+svc.name)
	if err != nil {
		return err
	}
	defer out.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	process, err := os.StartProcess(path, svc.argv, &os.ProcAttr{
		Dir:   "/",
		Env:   []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"},
		Files: []*os.File{nil, out, out},
	})
	if err != nil {
		return fmt.Errorf("start %s: %w", svc.name, err)
	}
	s.running[process.Pid] = svc
	return process.Release()
}

// startWhenReady starts services once the images are there.
func (s *supervisor) startWhenReady(services ...*service) {
	for {
		if _, err := os.Stat(imagesReady); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, svc := range services {
		if err := s.start(svc); err != nil {
			log.Printf("%v", err)
		}
	}
}

// reap waits for children for ever and starts services that ended again, a second later.
func (s *supervisor) reap() {
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.ECHILD) {
			time.Sleep(50 * time.Millisecond)
		}
		if pid <= 0 {
			continue
		}
		s.mu.Lock()
		svc := s.running[pid]
		delete(s.running, pid)
		s.mu.Unlock()
		if svc == nil {
			continue
		}
		log.Printf("%s ended (%s), starting it again", svc.name, describe(status))
		time.AfterFunc(time.Second, func() {
			if err := s.start(svc); err != nil {
				log.Printf("%v", err)
			}
		})
	}
}

func describe(status unix.WaitStatus) string {
	if status.Signaled() {
		return "signal " + strings.ToLower(status.Signal().String())
	}
	return fmt.Sprintf("status %d", status.ExitStatus())
}
