package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	mib = 1 << 20
	gib = 1 << 30
)

// disk is one ext4 file system in a sparse file, mounted through a loop device.
type disk struct {
	image string // the file
	point string // where it is mounted
	size  int64
	owner int // of its root folder
}

// format makes the disk new and empty.
func (d disk) format() error {
	if err := os.MkdirAll(filepath.Dir(d.image), 0o755); err != nil {
		return err
	}
	if err := os.Remove(d.image); err != nil && !os.IsNotExist(err) {
		return err
	}
	f, err := os.Create(d.image)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(d.size); err != nil {
		return err
	}
	// No reserve for root (-m 0): "full" is the same moment for every user.
	return sh("mkfs.ext4", "-q", "-F", "-m", "0",
		"-E", fmt.Sprintf("assume_storage_prezeroed=1,root_owner=%d:%d", d.owner, d.owner), d.image)
}

// mount attaches and mounts the disk, and formats it first if it does not exist.
func (d disk) mount() error {
	if m := mountedAt(d.point); m != nil {
		return nil
	}
	if _, err := os.Stat(d.image); errors.Is(err, os.ErrNotExist) {
		if err := d.format(); err != nil {
			return err
		}
	}
	if err := d.renewIfHeld(); err != nil {
		return err
	}
	if err := os.MkdirAll(d.point, 0o755); err != nil {
		return err
	}
	loop, err := attachLoop(d.image)
	if err != nil {
		return err
	}
	defer loop.Close() // the mount holds the device from now on, and its end detaches it
	if err := unix.Mount(loop.Name(), d.point, "ext4", 0, ""); err != nil {
		return fmt.Errorf("mount %s on %s: %w", loop.Name(), d.point, err)
	}
	return nil
}

// renewIfHeld gives the disk a new file of equal content if an earlier loop
// device still holds the old one: two mounts of one file would destroy it.
func (d disk) renewIfHeld() error {
	held, err := loopsOf(func(file string) bool { return file == d.image })
	if err != nil || len(held) == 0 {
		return err
	}
	tmp := d.image + ".tmp"
	if err := sh("cp", "--sparse=always", d.image, tmp); err != nil {
		return err
	}
	return os.Rename(tmp, d.image)
}

// unmount unmounts the disk and waits until its loop device is free.
func (d disk) unmount() error {
	m := mountedAt(d.point)
	if m == nil {
		return nil
	}
	if err := unmount(d.point); err != nil {
		return err
	}
	return waitDetached(d.image, m.device)
}

// errHeld says that a program of the host keeps a file of a disk open.
var errHeld = errors.New("a program holds it: is a file on it open?")

// waitDetached waits until no loop device holds the file, and takes its mounts
// out of foreign namespaces if need be.
func waitDetached(image, device string) error {
	gone := func() error {
		held, err := loopsOf(func(file string) bool { return file == image })
		if err == nil && len(held) > 0 {
			err = fmt.Errorf("%s on %v: %w", image, held, errHeld)
		}
		return err
	}
	if err := poll(500*time.Millisecond, 5*time.Millisecond, gone); err == nil {
		return nil
	}
	unmountElsewhere(device)
	return poll(time.Second, 20*time.Millisecond, gone)
}

// attachLoop gives a file to a free loop device that detaches itself at its last use.
func attachLoop(image string) (*os.File, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer control.Close()
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer backing.Close()
	for range 100 {
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			return nil, err
		}
		loop, err := os.OpenFile(fmt.Sprintf("/dev/loop%d", n), os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		config := unix.LoopConfig{Fd: uint32(backing.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		copy(config.Info.File_name[:], image)
		err = unix.IoctlLoopConfigure(int(loop.Fd()), &config)
		if err == nil {
			return loop, nil
		}
		loop.Close()
		if !errors.Is(err, unix.EBUSY) { // someone else was quicker: take the next
			return nil, fmt.Errorf("%s: %w", loop.Name(), err)
		}
	}
	return nil, errors.New("no free loop device")
}

// loopsOf lists the loop devices whose backing file is wanted.
func loopsOf(wanted func(file string) bool) ([]string, error) {
	files, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	var list []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // detached meanwhile
		}
		backing := strings.TrimSuffix(strings.TrimSpace(string(content)), " (deleted)")
		if wanted(backing) {
			list = append(list, "/dev/"+strings.Split(file, "/")[3])
		}
	}
	return list, nil
}

// powerCut stops a mounted file system as a power cut would: what it had not
// yet written to the disk is lost, its journal stays as it is. It must be open
// before, so that the cut itself takes one call.
func powerCut(root *os.File) error {
	// EXT4_IOC_SHUTDOWN with EXT4_GOING_FLAGS_NOLOGFLUSH
	const request, noLogFlush = 0x8004587d, 2
	return unix.IoctlSetPointerInt(int(root.Fd()), request, noLogFlush)
}

// fillerName is inside lost+found: any program that uses an ext4 volume must
// live with that folder.
const fillerName = "lost+found/.testbed-filler"

// fill takes all free space of a mounted disk, except leave bytes, down to its
// last block. It syncs nothing: what others wrote stays as durable as it was.
func (d disk) fill(leave int64) error {
	f, err := os.OpenFile(filepath.Join(d.point, fillerName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	end, err := f.Seek(0, 2)
	if err != nil {
		return err
	}
	for chunk := int64(gib); chunk >= 4096; {
		err := unix.Fallocate(int(f.Fd()), 0, end, chunk)
		if errors.Is(err, unix.ENOSPC) {
			chunk /= 2
			continue
		}
		if err != nil {
			return fmt.Errorf("fill %s: %w", d.point, err)
		}
		end += chunk
	}
	if leave > 0 {
		end = max(0, end-leave)
	}
	return f.Truncate(end)
}

// free gives back what fill took.
func (d disk) free() error {
	err := os.Remove(filepath.Join(d.point, fillerName))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// usage returns the bytes in use and in total of a mounted disk.
func (d disk) usage() (used, total uint64, err error) {
	var st unix.Statfs_t
	if err := unix.Statfs(d.point, &st); err != nil {
		return 0, 0, err
	}
	size := uint64(st.Bsize)
	return (st.Blocks - st.Bfree) * size, st.Blocks * size, nil
}

// humanBytes writes a size for people.
func humanBytes(n uint64) string {
	if n >= gib {
		return strconv.FormatFloat(float64(n)/gib, 'f', 1, 64) + "Gi"
	}
	return strconv.FormatUint(n/mib, 10) + "Mi"
}
