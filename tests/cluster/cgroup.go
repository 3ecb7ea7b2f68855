package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

// controllers returns the mount points of the cgroup v1 hierarchies.
func controllers() ([]string, error) {
	mounts, err := readMounts("self")
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	var list []string
	for _, m := range mounts {
		// Some systems mount cpu,cpuacct once and link to it.
		if m.kind == "cgroup" && m.root == "/" && filepath.Dir(m.point) == cgroupRoot && !seen[m.point] {
			seen[m.point] = true
			list = append(list, m.point)
		}
	}
	if !seen[filepath.Join(cgroupRoot, "freezer")] {
		return nil, errors.New("no freezer in cgroup v1: boot with systemd.unified_cgroup_hierarchy=0")
	}
	sort.Strings(list)
	return list, nil
}

// makeCgroup creates a cgroup in every controller, together with its parents.
func makeCgroup(name string) error {
	roots, err := controllers()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := root
		for _, part := range strings.Split(name, "/") {
			parent := dir
			dir = filepath.Join(dir, part)
			if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
				return err
			}
			if err := inheritCPUs(parent, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// inheritCPUs fills in what a new cgroup of the cpuset controller lacks;
// nothing can run in it before.
func inheritCPUs(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		now, err := os.ReadFile(filepath.Join(child, file))
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || len(strings.TrimSpace(string(now))) > 0 {
			return err
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(child, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// joinCgroup moves a process into a cgroup of every controller; 0 is the caller.
func joinCgroup(name string, pid int) error {
	roots, err := controllers()
	if err != nil {
		return err
	}
	for _, root := range roots {
		file := filepath.Join(root, name, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// subtree lists a folder of a controller and all below it, parents first. What
// disappears while it looks is left out.
func subtree(dir string) []string {
	var list []string
	filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() {
			list = append(list, path)
		}
		return nil
	})
	return list
}

// pidsIn returns the processes in the given cgroup folders.
func pidsIn(dirs []string) []int {
	var pids []int
	for _, dir := range dirs {
		content, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(content)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 {
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// cgroupPids returns every process in a cgroup or below it, in any controller.
func cgroupPids(name string) []int {
	roots, err := controllers()
	if err != nil {
		return nil
	}
	seen := map[int]bool{}
	var pids []int
	for _, root := range roots {
		for _, pid := range pidsIn(subtree(filepath.Join(root, name))) {
			if !seen[pid] {
				seen[pid] = true
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// setFreezer freezes or thaws one folder of the freezer, and waits until that is done. A container that failed its probe while it was
// frozen dies as soon as it is thawed: a folder that is gone is not frozen.
func setFreezer(dir, state string) error {
	file := filepath.Join(dir, "freezer.state")
	return poll(5*time.Second, 2*time.Millisecond, func() error {
		err := os.WriteFile(file, []byte(state), 0o644)
		if state == "THAWED" && errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		now, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if strings.TrimSpace(string(now)) != state {
			return fmt.Errorf("%s is %s", dir, strings.TrimSpace(string(now)))
		}
		return nil
	})
}

// thawAll lets every process below a cgroup run, so that it can die.
func thawAll(name string) {
	for _, dir := range subtree(filepath.Join(cgroupRoot, "freezer", name)) {
		os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0o644) // may be gone
	}
}

// killFolders kills all processes in folders of the freezer below top at once:
// none of them runs between the first death and the last.
func killFolders(top string, dirs []string) (int, error) {
	if err := setFreezer(top, "FROZEN"); err != nil {
		return 0, errors.Join(err, setFreezer(top, "THAWED"))
	}
	pids := pidsIn(dirs)
	for _, pid := range pids {
		if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return 0, errors.Join(err, setFreezer(top, "THAWED"))
		}
	}
	// A folder below that is frozen by itself keeps its dead.
	for _, dir := range dirs {
		os.WriteFile(filepath.Join(dir, "freezer.state"), []byte("THAWED"), 0o644)
	}
	return len(pids), setFreezer(top, "THAWED")
}

// killCgroup kills all that is in a cgroup, in every controller, until nothing is.
func killCgroup(name string) error {
	return poll(20*time.Second, 10*time.Millisecond, func() error {
		pids := cgroupPids(name)
		if len(pids) == 0 {
			return nil
		}
		for _, pid := range pids {
			if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
				return err
			}
		}
		thawAll(name)
		return fmt.Errorf("cgroup %s: processes %v do not end", name, pids)
	})
}

// removeCgroup removes an empty cgroup from every controller.
func removeCgroup(name string) error {
	roots, err := controllers()
	if err != nil {
		return err
	}
	for _, root := range roots {
		err := poll(5*time.Second, 20*time.Millisecond, func() error {
			dirs := subtree(filepath.Join(root, name))
			for i := len(dirs) - 1; i >= 0; i-- {
				if err := unix.Rmdir(dirs[i]); err != nil && !errors.Is(err, unix.ENOENT) {
					return fmt.Errorf("remove %s: %w", dirs[i], err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}
