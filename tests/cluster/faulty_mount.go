package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/hanwen/go-fuse/v2/fs"
	"github.com/hanwen/go-fuse/v2/fuse"
	"golang.org/x/sys/unix"
)

// faultyMount is a file system that passes everything through to a folder, or fails.
//
// What syncfs(2) does on FUSE, tried on Linux 6.18: on a mount of type "fuse" it
// never reaches the server. Without the writeback cache it succeeds at once,
// whatever the server thinks of it; with that cache it sends the writes first
// and tells if one failed, but no sync that fails or stalls can be felt. A mount
// of type "fuseblk", which is made on a block device, gets FUSE_SYNCFS and waits
// for the answer. So this is one, on a small loop device of which nothing is
// ever read; without the writeback cache, so that a write that fails is felt by
// the one who wrote.
type faultyMount struct {
	at       string
	gate     *gate
	listener net.Listener
	device   *os.File
	mounted  bool
	ended    chan error
}

// mountFaulty mounts, and returns when the mount can be used.
func mountFaulty(backing, at string) (*faultyMount, error) {
	backing, err := filepath.Abs(backing)
	if err != nil {
		return nil, err
	}
	if at, err = filepath.Abs(at); err != nil {
		return nil, err
	}
	if err := clearDead(at); err != nil {
		return nil, err
	}
	folder, err := os.Open(backing)
	if err != nil {
		return nil, err
	}
	device, err := emptyDevice(at)
	if err != nil {
		return nil, err
	}
	kernel, err := mountBlock(device.Name(), at)
	if err != nil {
		device.Close()
		return nil, err
	}
	m := &faultyMount{at: at, device: device, mounted: true, ended: make(chan error, 2)}
	if err := m.serve(kernel, folder); err != nil {
		return nil, errors.Join(err, m.close())
	}
	if err := errors.Join(m.declinesPolls(), m.feelsSyncs()); err != nil {
		return nil, errors.Join(err, m.close())
	}
	return m, nil
}

// declinesPolls asks the mount once whether a file of it is ready. The file
// system does not know, and the kernel does not ask it again.
//
// A process that opens a file on a mount of its own would else hang now and
// then: Go's poller asks within a call that Go does not know to wait, the answer
// waits for a garbage collection, and that for the call to end. The library
// does this by itself where it makes the mount; the name is its own.
func (m *faultyMount) declinesPolls() error {
	fd, err := unix.Open(filepath.Join(m.at, ".go-fuse-epoll-hack"), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("the file that is polled: %w", err)
	}
	_, err = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
	return errors.Join(err, unix.Close(fd))
}

// emptyDevice is a block device without content.
func emptyDevice(at string) (*os.File, error) {
	image, err := os.CreateTemp(filepath.Dir(at), ".faulty-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(image.Name())
	defer image.Close()
	if err := image.Truncate(mib); err != nil {
		return nil, err
	}
	return attachLoop(image.Name())
}

// mountBlock mounts a device with a file system of ours, and returns its end.
func mountBlock(device, at string) (*os.File, error) {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	// The kernel checks permissions by what getattr says: members are not root.
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,blksize=4096,max_read=%d",
		fd, maxWrite)
	if err := unix.Mount(device, at, "fuseblk", unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("mount %s on %s: %w", device, at, err)
	}
	return os.NewFile(uintptr(fd), "/dev/fuse"), nil
}

// serve connects the kernel, the gate and the pass-through file system.
func (m *faultyMount) serve(kernel, folder *os.File) error {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	for _, fd := range pair {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 16*maxMessage); err != nil {
			return err
		}
	}
	m.gate = newGate(kernel, os.NewFile(uintptr(pair[0]), "gate"), folder)
	go func() { m.ended <- m.gate.fromKernel() }()
	go func() { m.ended <- m.gate.fromInner() }()
	// By its descriptor: the mount may hide the folder's own path.
	root, err := fs.NewLoopbackRoot(fmt.Sprintf("/proc/self/fd/%d", folder.Fd()))
	if err != nil {
		return err
	}
	options := fuse.MountOptions{Name: "faulty", MaxWrite: maxWrite, DisableSplice: true,
		// Else the kernel would read and write the folder itself, and nothing could fail.
		DisabledCapabilities: fuse.CAP_PASSTHROUGH}
	server, err := fuse.NewServer(fs.NewNodeFS(root, &fs.Options{}), fmt.Sprintf("/dev/fd/%d", pair[1]), &options)
	if err != nil {
		return err
	}
	go server.Serve()
	os.Remove(controlName(m.at))
	if m.listener, err = net.Listen("unix", controlName(m.at)); err != nil {
		return err
	}
	go serveControl(m.listener, m.gate)
	return nil
}

// feelsSyncs fails where this kernel does not pass syncfs(2) on: then no fault of a sync would be one.
func (m *faultyMount) feelsSyncs() error {
	root, err := os.Open(m.at)
	if err != nil {
		return err
	}
	defer root.Close()
	m.gate.set(faults{Fail: []class{classSyncs}, Share: 1})
	err = unix.Syncfs(int(root.Fd()))
	m.gate.set(faults{Share: 1})
	if !errors.Is(err, unix.EIO) {
		return fmt.Errorf("syncfs on FUSE is not passed on by this kernel (%v): Linux 6.18 or newer does", err)
	}
	return nil
}

// close unmounts, whoever still uses it, and leaves nothing behind.
func (m *faultyMount) close() error {
	if m.gate != nil {
		m.gate.set(faults{Share: 1})
	}
	if m.listener != nil {
		m.listener.Close()
	}
	m.device.Close()
	if !m.mounted {
		return nil
	}
	if err := unix.Unmount(m.at, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount %s: %w", m.at, err)
	}
	return removeControl(m.at)
}

// clearDead takes away faulty mounts whose process was killed.
func clearDead(at string) error {
	for {
		m := mountedAt(at)
		if m == nil || m.kind != fuseKind {
			return removeControl(at)
		}
		if _, err := os.Stat(at); !errors.Is(err, unix.ENOTCONN) {
			return fmt.Errorf("%s is a faulty mount already", at)
		}
		if err := unix.Unmount(at, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", at, err)
		}
	}
}

func removeControl(at string) error {
	if err := os.Remove(controlName(at)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// waitFaulty waits until a mount answers.
func waitFaulty(at string, limit time.Duration) error {
	return poll(limit, 10*time.Millisecond, func() error {
		conn, err := net.Dial("unix", controlName(at))
		if err == nil {
			conn.Close()
		}
		return err
	})
}
