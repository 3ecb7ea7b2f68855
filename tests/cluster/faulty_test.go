package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestFaultsAreChecked(t *testing.T) {
	for _, c := range []struct {
		name string
		f    faults
		ok   bool
	}{
		{"nothing", faults{Share: 1}, true},
		{"several", faults{Share: 0.5, Fail: []class{classReads, classSyncs}, Stall: time.Second}, true},
		{"all", faults{Share: 1, Fail: []class{classAll}}, true},
		{"unknown kind", faults{Share: 1, Fail: []class{"seeks"}}, false},
		{"no share", faults{}, false},
		{"more than all", faults{Share: 1.1}, false},
		{"negative", faults{Share: 1, Count: -1}, false},
		{"for ever", faults{Share: 1, Stall: time.Hour}, false},
	} {
		if err := c.f.check(); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSentences(t *testing.T) {
	start := time.Now()
	eio, late := verdict{fail: true}, verdict{stall: time.Second}
	type step struct {
		op     uint32
		after  time.Duration
		chance float64
		want   verdict
	}
	for _, c := range []struct {
		name  string
		f     faults
		steps []step
	}{
		{"one kind", faults{Share: 1, Fail: []class{classWrites}},
			[]step{{opWrite, 0, 0, eio}, {opRename2, 0, 0, eio}, {opSyncfs, 0, 0, verdict{}}, {opRead, 0, 0, verdict{}}}},
		{"all but what frees", faults{Share: 1, Fail: []class{classAll}},
			[]step{{opLookup, 0, 0, eio}, {opStatfs, 0, 0, eio}, {opFsyncdir, 0, 0, eio}, {opRelease, 0, 0, verdict{}}, {opInit, 0, 0, verdict{}}}},
		{"only syncs are late", faults{Share: 1, Stall: time.Second},
			[]step{{opSyncfs, 0, 0, late}, {opFsync, 0, 0, late}, {opWrite, 0, 0, verdict{}}}},
		{"once", faults{Share: 1, Fail: []class{classSyncs}, Count: 1},
			[]step{{opWrite, 0, 0, verdict{}}, {opSyncfs, 0, 0, eio}, {opSyncfs, 0, 0, verdict{}}}},
		{"for a time", faults{Share: 1, Fail: []class{classReads}, For: time.Second},
			[]step{{opRead, 999 * time.Millisecond, 0, eio}, {opRead, time.Second, 0, verdict{}}}},
		{"some", faults{Share: 0.3, Fail: []class{classReads}},
			[]step{{opRead, 0, 0.29, eio}, {opRead, 0, 0.3, verdict{}}}},
	} {
		s := newSentence(c.f, start)
		for i, step := range c.steps {
			if got := s.judge(step.op, start.Add(step.after), step.chance); got != step.want {
				t.Errorf("%s, step %d: %+v, not %+v", c.name, i, got, step.want)
			}
		}
	}
}

// onFaulty mounts a folder for one test.
func onFaulty(t *testing.T) (m *faultyMount, backing, at string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := t.TempDir()
	backing, at = filepath.Join(dir, "backing"), filepath.Join(dir, "at")
	for _, d := range []string{backing, at} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	m, err := mountFaulty(backing, at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.close(); err != nil || mountedAt(at) != nil {
			t.Errorf("not unmounted: %v", err)
		}
	})
	return m, backing, at
}

func (m *faultyMount) syncfs(t *testing.T) error {
	t.Helper()
	root, err := os.Open(m.at)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	return unix.Syncfs(int(root.Fd()))
}

func TestWhatVolumesNeedPassesThrough(t *testing.T) {
	m, backing, at := onFaulty(t)
	path, other := filepath.Join(at, "a"), filepath.Join(at, "b")
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := errors.Join(unix.Fallocate(int(f.Fd()), 0, 0, 8192), f.Truncate(4096), f.Sync()); err != nil {
		t.Error("fallocate, truncate, fsync:", err)
	}
	if _, err := f.WriteAt([]byte("hello"), 4096); err != nil {
		t.Error(err)
	}
	if err := m.syncfs(t); err != nil {
		t.Error("syncfs:", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Error("flock:", err)
	}
	mapped, err := unix.Mmap(int(f.Fd()), 4096, 5, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil || string(mapped) != "hello" {
		t.Errorf("mmap: %q %v", mapped, err)
	} else {
		unix.Munmap(mapped)
	}
	if err := os.WriteFile(other, nil, 0o644); err != nil {
		t.Error(err)
	}
	rename := func() error {
		return unix.Renameat2(unix.AT_FDCWD, path, unix.AT_FDCWD, other, unix.RENAME_NOREPLACE)
	}
	if err := rename(); !errors.Is(err, unix.EEXIST) {
		t.Error("a rename replaced:", err)
	}
	if err := errors.Join(os.Remove(other), rename()); err != nil {
		t.Error("rename:", err)
	}
	var st unix.Statfs_t
	dir, err := os.Open(at)
	if err == nil {
		err = errors.Join(dir.Sync(), unix.Fstatfs(int(dir.Fd()), &st), dir.Close())
	}
	if err != nil || st.Bavail == 0 {
		t.Error("folder sync, statfs:", err, st.Bavail)
	}
	content, err := os.ReadFile(filepath.Join(backing, "b"))
	if err != nil || len(content) != 4101 {
		t.Errorf("%d bytes behind it: %v", len(content), err)
	}
}

func TestEachKindFailsAlone(t *testing.T) {
	m, _, at := onFaulty(t)
	path := filepath.Join(at, "f")
	if err := os.WriteFile(path, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	calls := map[class]func() error{
		classReads:  func() error { _, err := os.ReadFile(path); return err },
		classWrites: func() error { _, err := f.WriteAt([]byte("y"), 0); return err },
		classSyncs:  func() error { return m.syncfs(t) },
	}
	for failing := range calls {
		m.gate.set(faults{Fail: []class{failing}, Share: 1})
		for kind, call := range calls {
			if err := call(); errors.Is(err, unix.EIO) != (kind == failing) {
				t.Errorf("%s fail, %s: %v", failing, kind, err)
			}
		}
	}
	m.gate.set(faults{Fail: []class{classAll}, Share: 1})
	if _, err := os.Stat(filepath.Join(at, "other")); !errors.Is(err, unix.EIO) {
		t.Error("all fail, stat:", err)
	}
	m.gate.set(faults{Share: 1})
	for kind, call := range calls {
		if err := call(); err != nil {
			t.Errorf("%s, healthy again: %v", kind, err)
		}
	}
}

func TestASyncStallsAsLongAsItIsTold(t *testing.T) {
	m, _, _ := onFaulty(t)
	m.gate.set(faults{Stall: 100 * time.Millisecond, Share: 1})
	start := time.Now()
	err := m.syncfs(t)
	if took := time.Since(start); err != nil || took < 100*time.Millisecond {
		t.Errorf("%v after %s", err, took)
	}
}

func TestAFailedSyncLosesWhatWasNotSynced(t *testing.T) {
	runtime.LockOSThread() // a sync that fails loses what its own thread wrote
	defer runtime.UnlockOSThread()
	m, backing, at := onFaulty(t)
	open, err := os.Create(filepath.Join(at, "open"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	write := func(text string, at int64) {
		if _, err := open.WriteAt([]byte(text), at); err != nil {
			t.Fatal(err)
		}
	}
	write("old", 0)
	if err := m.syncfs(t); err != nil {
		t.Fatal(err)
	}
	write("new", 3)
	if err := os.WriteFile(filepath.Join(at, "closed"), []byte("new"), 0o644); err != nil {
		t.Fatal(err)
	}
	m.gate.set(faults{Fail: []class{classSyncs}, Count: 1, Share: 1})
	if err := m.syncfs(t); !errors.Is(err, unix.EIO) {
		t.Error("the sync:", err)
	}
	if err := m.syncfs(t); err != nil {
		t.Error("the next sync lies:", err)
	}
	for name, want := range map[string]string{"open": "old\x00\x00\x00", "closed": "\x00\x00\x00"} {
		content, err := os.ReadFile(filepath.Join(backing, name))
		if err != nil || !bytes.Equal(content, []byte(want)) {
			t.Errorf("%s has %q: %v", name, content, err)
		}
	}
	write("new", 3)
	if err := m.syncfs(t); err != nil {
		t.Fatal(err)
	}
	content, _ := os.ReadFile(filepath.Join(backing, "open"))
	if string(content) != "oldnew" {
		t.Errorf("written again: %q", content)
	}
}

func TestFaultsAreSetFromOutside(t *testing.T) {
	m, _, at := onFaulty(t)
	if err := waitFaulty(at, time.Second); err != nil {
		t.Fatal(err)
	}
	if _, err := askFaulty(controlName(at), faults{Fail: []class{classSyncs}, Share: 1}); err != nil {
		t.Fatal(err)
	}
	if err := m.syncfs(t); !errors.Is(err, unix.EIO) {
		t.Error("the sync:", err)
	}
	if _, err := askFaulty(controlName(at), faults{}); err == nil {
		t.Error("faults that mean nothing were taken")
	}
	before, err := askFaulty(controlName(at), faults{Share: 1})
	if err != nil || !bytes.Contains(before, []byte(`"failed":{"syncs":1}`)) {
		t.Errorf("%s %v", before, err)
	}
}

// TestMain is also the process behind a mount that a test kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("TESTBED_FAULTY"); dir != "" {
		if err := run([]string{"faulty", "mount", "--backing", dir, "--at", dir}); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestAKilledMountIsReplaced(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := t.TempDir()
	killed := exec.Command(os.Args[0])
	killed.Env = append(os.Environ(), "TESTBED_FAULTY="+dir)
	killed.Stderr = os.Stderr
	if err := killed.Start(); err != nil {
		t.Fatal(err)
	}
	if err := waitFaulty(dir, 10*time.Second); err != nil {
		t.Error(err)
	}
	if _, err := mountFaulty(dir, dir); err == nil {
		t.Error("mounted twice")
	}
	if err := killed.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	killed.Wait()
	m, err := mountFaulty(dir, dir)
	if err != nil {
		t.Fatal("the dead mount is in the way:", err)
	}
	if err := m.syncfs(t); err != nil {
		t.Error(err)
	}
	if err := m.close(); err != nil || mountedAt(dir) != nil {
		t.Error("the mount is left:", err)
	}
}

func TestAMountMayHideItsOwnFolder(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root mounts")
	}
	dir := filepath.Join(t.TempDir(), "volume")
	if err := errors.Join(os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "f"), []byte("x"), 0o644)); err != nil {
		t.Fatal(err)
	}
	m, err := mountFaulty(dir, dir)
	if err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(dir, "f"))
	if err != nil || string(content) != "x" {
		t.Errorf("%q %v", content, err)
	}
	if err := os.WriteFile(filepath.Join(dir, "g"), []byte("y"), 0o644); err != nil {
		t.Error(err)
	}
	if err := m.close(); err != nil || mountedAt(dir) != nil {
		t.Error("the mount is left:", err)
	}
	if content, _ := os.ReadFile(filepath.Join(dir, "g")); string(content) != "y" {
		t.Errorf("behind it: %q", content)
	}
}

func TestClassesAreDisjoint(t *testing.T) {
	var all []uint32
	for _, ops := range classes {
		all = append(all, ops...)
	}
	slices.Sort(all)
	if len(slices.Compact(slices.Clone(all))) != len(all) {
		t.Error("a call is in two classes")
	}
}
