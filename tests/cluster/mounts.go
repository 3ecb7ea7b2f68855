package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// mountEntry is one line of mountinfo.
type mountEntry struct {
	device string // major:minor
	root   string // the part of the file system that is mounted
	point  string
	kind   string // of file system
	source string
}

// parseMounts reads the text of /proc/PID/mountinfo.
func parseMounts(text string) ([]mountEntry, error) {
	var list []mountEntry
	for _, line := range strings.Split(strings.TrimSpace(text), "\n") {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 2 {
			return nil, fmt.Errorf("mountinfo: %q", line)
		}
		list = append(list, mountEntry{device: left[2], root: unescape(left[3]), point: unescape(left[4]),
			kind: right[0], source: unescape(right[1])})
	}
	return list, nil
}

// unescape undoes the kernel's octal escapes of blanks in paths.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

// readMounts returns the mounts that a process sees; pid may be "self".
func readMounts(pid string) ([]mountEntry, error) {
	text, err := os.ReadFile(filepath.Join("/proc", pid, "mountinfo"))
	if err != nil {
		return nil, err
	}
	return parseMounts(string(text))
}

// within tells whether path is dir or below it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// mountedAt returns what is mounted on a path, the uppermost first; nil if nothing is.
func mountedAt(path string) *mountEntry {
	mounts, err := readMounts("self")
	if err != nil {
		return nil
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if mounts[i].point == path {
			return &mounts[i]
		}
	}
	return nil
}

// shareState makes the state folder a mount that passes on what is mounted and
// unmounted below it. The nodes' mount namespaces receive that, so a disk that
// is unmounted here is unmounted in all of them, and its power cut is complete.
func shareState(cfg Config) error {
	if err := os.MkdirAll(cfg.State, 0o755); err != nil {
		return err
	}
	if mountedAt(cfg.State) != nil {
		return nil // doing it again would part it from the nodes
	}
	if err := unix.Mount(cfg.State, cfg.State, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s: %w", cfg.State, err)
	}
	// Private first: were the file system below shared, the two would be one group.
	if err := unix.Mount("", cfg.State, "", unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	return unix.Mount("", cfg.State, "", unix.MS_SHARED, "")
}

// unmount takes away all that is mounted on a path. A file that someone holds
// open there delays it; after a second the path is detached all the same.
func unmount(path string) error {
	deadline := time.Now().Add(time.Second)
	for mountedAt(path) != nil {
		flags := 0
		if time.Now().After(deadline) {
			flags = unix.MNT_DETACH
		}
		if err := unix.Unmount(path, flags); err != nil && flags != 0 {
			return fmt.Errorf("unmount %s: %w", path, err)
		} else if err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	return nil
}

// unmountBelow takes away every mount at or below dir, the deepest first.
func unmountBelow(dir string) error {
	mounts, err := readMounts("self")
	if err != nil {
		return err
	}
	for i := len(mounts) - 1; i >= 0; i-- {
		if within(mounts[i].point, dir) {
			if err := unmount(mounts[i].point); err != nil {
				return err
			}
		}
	}
	return nil
}

// unmountElsewhere takes a device out of other programs' mount namespaces.
// Those that were made while it was mounted hold a copy, for example a build of
// container images that happened to start then.
func unmountElsewhere(device string) {
	self, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{self: true}
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		pid := filepath.Base(dir)
		ns, err := os.Readlink(filepath.Join(dir, "ns", "mnt"))
		if err != nil || seen[ns] {
			continue
		}
		seen[ns] = true
		mounts, err := readMounts(pid)
		if err != nil {
			continue
		}
		var points []string
		for _, m := range mounts {
			if m.device == device {
				points = append(points, m.point)
			}
		}
		if len(points) > 0 {
			detachIn(filepath.Join(dir, "ns", "mnt"), points) // best effort: the process may have ended
		}
	}
}

// detachIn detaches mounts in another mount namespace.
func detachIn(namespace string, points []string) error {
	result := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		ns, err := os.Open(namespace)
		if err != nil {
			result <- err
			return
		}
		defer ns.Close()
		err = errors.Join(unix.Unshare(unix.CLONE_FS), unix.Setns(int(ns.Fd()), unix.CLONE_NEWNS))
		for i := len(points) - 1; i >= 0 && err == nil; i-- {
			err = unix.Unmount(points[i], unix.MNT_DETACH)
		}
		result <- err
	}()
	return <-result
}
