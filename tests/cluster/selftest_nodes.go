package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// testVolumeAccess: a program that is not root uses a volume without fsGroup,
// through a claim of mode ReadWriteOncePod, and resolves names.
func testVolumeAccess(b *bench) error {
	for i := 1; i <= 3; i++ {
		n := b.cfg.node(i)
		if _, err := b.ask(n, "/write", "/media/access"); err != nil {
			return err
		}
		if _, err := b.ask(n, "/lookup", "probe-n1.selftest.svc.cluster.local"); err != nil {
			return err
		}
		v, err := n.volume("small")
		if err != nil {
			return err
		}
		if err := os.Remove(filepath.Join(v.disk().point, "access")); err != nil {
			return err
		}
	}
	return nil
}

// testPowerCut: what was synced is there after a power cut, what was not is gone.
func testPowerCut(b *bench) error {
	n := b.cfg.node(1)
	dir := n.volumes()[0].disk().point
	content := bytes.Repeat([]byte("durable?"), 1<<16)
	for _, round := range []string{"first", "second"} {
		synced, unsynced := filepath.Join(dir, round+"-synced"), filepath.Join(dir, round+"-unsynced")
		if err := writeSynced(synced, content); err != nil {
			return err
		}
		if err := os.WriteFile(unsynced, content, 0o644); err != nil {
			return err
		}
		if err := b.powerOff(n); err != nil {
			return err
		}
		if mountedAt(dir) != nil {
			return errors.New("the volume is still mounted")
		}
		if err := b.do("node power-on n1"); err != nil {
			return err
		}
		got, err := os.ReadFile(synced)
		if err != nil || !bytes.Equal(got, content) {
			return fmt.Errorf("synced bytes were lost: %d of %d, %v", len(got), len(content), err)
		}
		if got, err := os.ReadFile(unsynced); err == nil && bytes.Equal(got, content) {
			return errors.New("bytes that were never synced survived: this was no power cut")
		}
	}
	return nil
}

// writeSynced writes a file and syncs it and its folder.
func writeSynced(path string, content []byte) error {
	if err := os.WriteFile(path, content, 0o644); err != nil {
		return err
	}
	for _, p := range []string{path, filepath.Dir(path)} {
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		err = errors.Join(unix.Fsync(int(f.Fd())), f.Close())
		if err != nil {
			return err
		}
	}
	return nil
}

// testReturn: a node that was off is Ready soon, and its pods run again as new containers.
func testReturn(b *bench) error {
	n := b.cfg.node(2)
	before, err := b.probe(n)
	if err != nil {
		return err
	}
	if err := b.powerOff(n); err != nil {
		return err
	}
	if _, err := b.ask(n, "/", ""); err == nil {
		return errors.New("a pod of a node without power answers")
	}
	if err := b.otherNodeStaysUp(n); err != nil {
		return err
	}
	start := time.Now()
	if err := b.do("node power-on n2"); err != nil {
		return err
	}
	ready := time.Since(start)
	err = poll(60*time.Second, 100*time.Millisecond, func() error {
		after, err := b.probe(n)
		if err == nil && after.Metadata.UID != before.Metadata.UID {
			return errors.New("the pod is another one")
		}
		if err == nil && after.containerIDs() == before.containerIDs() {
			err = errors.New("the containers are still the old ones")
		}
		return err
	})
	if err != nil {
		return err
	}
	if err := b.waitProbe(n, 30*time.Second); err != nil {
		return err
	}
	fmt.Printf("    Ready %.1f s after power-on, its pod %.1f s\n", ready.Seconds(), time.Since(start).Seconds())
	return nil
}

// otherNodeStaysUp checks that the pods of other nodes see and resolve each other.
func (b *bench) otherNodeStaysUp(off Node) error {
	for i := 1; i <= 3; i++ {
		n := b.cfg.node(i)
		if n.Name() == off.Name() {
			continue
		}
		if _, err := b.ask(n, "/lookup", "probe-n1.selftest.svc.cluster.local"); err != nil {
			return fmt.Errorf("while %s is off, on %s: %w", off, n, err)
		}
	}
	return nil
}

// testSequence: faults on top of faults, each repeated, all mended by power-on and up.
func testSequence(b *bench) error {
	const frozen = "container freeze --pod selftest/probe-n1 --container probe"
	err := b.do(
		frozen, frozen,
		"link cut n1 api", "link cut n1 api --direction in",
		"disk fill n1 d1", "disk fill n1 d1",
		"node power-off n1", // with a frozen container in it
		"node power-off n3",
		"link cut n1 cameras",
		"node power-on n3",
		"node power-on n1 --wait=false",
		"link mend n1",
		"node power-off n1", // in the middle of its start
		"node power-on n1",
		"node power-off n1", "node power-on n1",
		"disk free n1 d1", "disk free n1 d1",
	)
	if err != nil {
		return err
	}
	for i := 1; i <= 3; i++ {
		if err := b.waitProbe(b.cfg.node(i), 60*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// testDestroy: a destroyed node takes its volumes along; a new one has empty disks.
func testDestroy(b *bench) error {
	n := b.cfg.node(3)
	v := n.volumes()[0]
	mark := filepath.Join(v.disk().point, "mark")
	if err := writeSynced(mark, []byte("x")); err != nil {
		return err
	}
	if err := b.do("node destroy n3"); err != nil {
		return err
	}
	for _, path := range []string{"/api/v1/nodes/n3", v.apiPath()} {
		if err := b.api.get(path, nil); !isNotFound(err) {
			return fmt.Errorf("%s is still there: %v", path, err)
		}
	}
	err := poll(20*time.Second, 100*time.Millisecond, func() error {
		return b.phase("/api/v1/namespaces/selftest/persistentvolumeclaims/probe-n3", "Lost")
	})
	if err != nil {
		return err
	}
	if err := b.do("node create n3"); err != nil {
		return err
	}
	if _, err := os.Stat(mark); err == nil {
		return errors.New("the new node has the old one's files")
	}
	if err := poll(20*time.Second, 100*time.Millisecond, func() error { return b.phase(v.apiPath(), "Available") }); err != nil {
		return err
	}
	// The lost claim and the pod that waits for it are the user's to remove.
	return b.clear()
}

func (b *bench) phase(path, want string) error {
	var object struct{ Status struct{ Phase string } }
	if err := b.api.get(path, &object); err != nil {
		return err
	}
	if object.Status.Phase != want {
		return fmt.Errorf("%s is %s, not %s", path, object.Status.Phase, want)
	}
	return nil
}

// testVolumesReset: the volume of a deleted claim is empty and Available again,
// and no other is touched.
func testVolumesReset(b *bench) error {
	n := b.cfg.node(1)
	used, other := n.volumes()[2], n.volumes()[1]
	if _, err := b.ask(n, "/write", "/media/old"); err != nil {
		return err
	}
	keep := filepath.Join(other.disk().point, "keep")
	if err := os.WriteFile(keep, nil, 0o644); err != nil {
		return err
	}
	if _, err := kubectl(b.cfg, "", "delete", "-n", "selftest", "pod/probe-n1", "pvc/probe-n1", "--timeout=60s"); err != nil {
		return err
	}
	if err := poll(20*time.Second, 100*time.Millisecond, func() error { return b.phase(used.apiPath(), "Released") }); err != nil {
		return err
	}
	if err := b.do("volumes reset"); err != nil {
		return err
	}
	if err := poll(20*time.Second, 100*time.Millisecond, func() error { return b.phase(used.apiPath(), "Available") }); err != nil {
		return err
	}
	if _, err := os.Stat(filepath.Join(used.disk().point, "old")); err == nil {
		return errors.New("the volume is not empty")
	}
	if err := os.Remove(keep); err != nil {
		return fmt.Errorf("a volume that was not released was reset: %w", err)
	}
	if err := b.addProbe(n); err != nil {
		return err
	}
	return b.waitProbe(n, 30*time.Second)
}

// testCrash: whatever is killed, `up` makes the cluster whole again.
func testCrash(b *bench) error {
	for _, name := range []string{"kube-apiserver", "etcd", "kube-controller-manager", b.cfg.node(2).daemonName()} {
		if err := readPid(b.cfg, name).signal(unix.SIGKILL); err != nil {
			return err
		}
	}
	if err := killServices(b.cfg.node(1)); err != nil {
		return err
	}
	if err := b.do("up"); err != nil {
		return err
	}
	for i := 1; i <= 3; i++ {
		if err := b.waitProbe(b.cfg.node(i), 60*time.Second); err != nil {
			return err
		}
	}
	// Everything at once, and the records of what ran are lost too.
	for _, name := range b.cfg.daemons() {
		if err := readPid(b.cfg, name).signal(unix.SIGKILL); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(b.cfg.path("run")); err != nil {
		return err
	}
	return b.fresh()
}

// killServices kills containerd, kubelet and kube-proxy of a node. Its first
// process starts them again.
func killServices(n Node) error {
	for _, pid := range cgroupPids(n.Cgroup() + "/system") {
		name, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil || pid == n.init().PID || strings.Contains(string(name), "shim") {
			continue
		}
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// testDown: nothing is left after down, also when nodes are in trouble.
func testDown(b *bench) error {
	err := b.do("container freeze --pod selftest/probe-n1 --container probe", "node power-off n2",
		"control freeze apiserver", "down", "check-clean", "down", "up", "down", "check-clean")
	return err
}
