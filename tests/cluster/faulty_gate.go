package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// maxWrite is the most bytes of one write call. A message is that and its head.
const (
	maxWrite   = 128 << 10
	maxMessage = maxWrite + 8<<10
)

// Sizes of the heads in linux/fuse.h, in bytes.
const (
	inHead    = 40
	outHead   = 16
	writeHead = 40
)

// ours marks the numbers of calls that the gate makes itself; the kernel's are even and count from 2.
const ours = uint64(1) << 63

// gate stands between the kernel and the pass-through file system: messages of
// the FUSE protocol go through it both ways. A call that is to fail is
// answered here, and so is syncfs(2), which go-fuse does not know.
//
// A sync that fails loses what was written since the last good one, as a real
// page cache may (a page whose writeback failed is clean afterwards, and is not
// written again): the bytes are zeros from then on. So a program that counts
// them as durable after its next sync, which succeeds, is found out.
type gate struct {
	kernel  *os.File // /dev/fuse
	inner   *os.File // a socket to go-fuse, one message a datagram
	backing *os.File // the folder

	mu       sync.Mutex
	sentence *sentence
	unsynced unsynced
	waits    map[uint64]chan struct{}
	next     atomic.Uint64
}

func newGate(kernel, inner, backing *os.File) *gate {
	return &gate{kernel: kernel, inner: inner, backing: backing, sentence: newSentence(faults{Share: 1}, time.Now()),
		unsynced: unsynced{}, waits: map[uint64]chan struct{}{}}
}

// set begins other faults, and returns what the ones before did.
func (g *gate) set(f faults) ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	report, err := g.sentence.report()
	g.sentence = newSentence(f, time.Now())
	return report, err
}

// call is the head of a message from the kernel.
type call struct {
	op   uint32
	id   uint64
	node uint64
	pid  uint32 // the thread that made it
	body []byte
}

func parseCall(message []byte) (call, error) {
	if len(message) < inHead {
		return call{}, fmt.Errorf("a call of %d bytes", len(message))
	}
	le := binary.LittleEndian
	return call{op: le.Uint32(message[4:]), id: le.Uint64(message[8:]), node: le.Uint64(message[16:]),
		pid: le.Uint32(message[32:]), body: message[inHead:]}, nil
}

// handle is the open file that a read, write, sync or release is about.
func (c call) handle() uint64 {
	if len(c.body) < 8 {
		return 0
	}
	return binary.LittleEndian.Uint64(c.body)
}

// fromKernel passes calls on until the mount is gone.
func (g *gate) fromKernel() error {
	buffer := make([]byte, maxMessage)
	for {
		n, err := g.kernel.Read(buffer)
		switch {
		case errors.Is(err, unix.ENODEV), errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOENT), errors.Is(err, unix.EAGAIN):
			continue
		case err != nil:
			return err
		}
		if err := g.take(append([]byte(nil), buffer[:n]...)); err != nil {
			return err
		}
	}
}

// take deals with one call. What takes time does so beside the others.
func (g *gate) take(message []byte) error {
	c, err := parseCall(message)
	if err != nil {
		return err
	}
	if c.op == opInterrupt {
		return nil // no call waits for another one
	}
	g.mu.Lock()
	v := g.sentence.judge(c.op, time.Now(), rand.Float64())
	keep := false
	if !v.fail {
		keep = g.unsynced.note(c, message)
	}
	g.mu.Unlock()
	switch {
	case keep:
		return nil
	case classOf(c.op) == classSyncs:
		go g.sync(c, message, v)
		return nil
	case v.fail:
		return g.answer(c.id, unix.EIO)
	}
	return g.forward(message)
}

// sync lets a sync through, late or not, or fails it.
func (g *gate) sync(c call, message []byte, v verdict) {
	time.Sleep(v.stall)
	g.mu.Lock()
	writes, releases := g.unsynced.take(c, v.fail)
	g.mu.Unlock()
	if v.fail {
		g.drop(writes)
	}
	for _, release := range releases {
		g.forward(release)
	}
	switch {
	case v.fail:
		g.answer(c.id, unix.EIO)
	case c.op == opSyncfs:
		errno, _ := unix.Syncfs(int(g.backing.Fd())).(unix.Errno)
		g.answer(c.id, errno)
	default:
		g.forward(message)
	}
}

// drop turns written bytes into zeros, and waits until they are.
func (g *gate) drop(writes []written) {
	for _, w := range writes {
		const punchHole = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_KEEP_SIZE
		body := make([]byte, 32)
		le := binary.LittleEndian
		le.PutUint64(body, w.handle)
		le.PutUint64(body[8:], w.offset)
		le.PutUint64(body[16:], uint64(w.length))
		le.PutUint32(body[24:], punchHole)
		g.call(opFallocate, w.node, body)
		g.mu.Lock()
		g.sentence.counts.Dropped += int64(w.length)
		g.mu.Unlock()
	}
}

// call makes a call that the kernel knows nothing of, and waits for its answer.
func (g *gate) call(op uint32, node uint64, body []byte) {
	id := ours | g.next.Add(1)
	done := make(chan struct{})
	g.mu.Lock()
	g.waits[id] = done
	g.mu.Unlock()
	message := make([]byte, inHead, inHead+len(body))
	le := binary.LittleEndian
	le.PutUint32(message, uint32(inHead+len(body)))
	le.PutUint32(message[4:], op)
	le.PutUint64(message[8:], id)
	le.PutUint64(message[16:], node)
	if g.forward(append(message, body...)) == nil {
		<-done
	}
}

// fromInner passes answers on until go-fuse ends.
func (g *gate) fromInner() error {
	buffer := make([]byte, maxMessage)
	for {
		n, err := g.inner.Read(buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n < outHead {
			return err
		}
		id := binary.LittleEndian.Uint64(buffer[8:])
		if id&ours != 0 && id != ^uint64(0) {
			g.mu.Lock()
			done := g.waits[id]
			delete(g.waits, id)
			g.mu.Unlock()
			close(done)
			continue
		}
		if err := g.reply(buffer[:n]); err != nil {
			return err
		}
	}
}

func (g *gate) forward(message []byte) error {
	_, err := g.inner.Write(message)
	return err
}

// answer ends a call without asking go-fuse.
func (g *gate) answer(id uint64, errno unix.Errno) error {
	message := make([]byte, outHead)
	le := binary.LittleEndian
	le.PutUint32(message, outHead)
	le.PutUint32(message[4:], uint32(-int32(errno)))
	le.PutUint64(message[8:], id)
	return g.reply(message)
}

func (g *gate) reply(message []byte) error {
	_, err := g.kernel.Write(message)
	if errors.Is(err, unix.ENOENT) {
		return nil // whoever asked has been killed, or it was the answer to a release
	}
	return err
}

// written is a piece of a file that no sync has covered yet.
type written struct {
	pid    uint32
	node   uint64
	handle uint64
	offset uint64
	length uint32
}

// unsynced is what was written to each file since the last sync, and the
// releases of its handles that wait for the next one.
type unsynced map[uint64]*file

type file struct {
	writes   []written
	releases [][]byte
}

// note looks at a call on its way. It returns whether it keeps it: a release
// waits while the bytes that were written through its handle may get lost.
func (u unsynced) note(c call, message []byte) bool {
	f := u[c.node]
	switch {
	case c.op == opWrite && len(c.body) >= writeHead:
		if f == nil {
			f = &file{}
			u[c.node] = f
		}
		le := binary.LittleEndian
		f.writes = append(f.writes, written{c.pid, c.node, c.handle(), le.Uint64(c.body[8:]), le.Uint32(c.body[16:])})
	case c.op == opRelease && f != nil:
		f.releases = append(f.releases, message)
		return true
	}
	return false
}

// take returns, and forgets, what a sync covers: of one file, or of all. One
// that fails covers only what the same thread wrote: every other one would be
// told by a sync of its own, which here succeeds.
func (u unsynced) take(c call, failed bool) (writes []written, releases [][]byte) {
	for node, f := range u {
		if c.op != opSyncfs && (c.op != opFsync || c.node != node) {
			continue
		}
		var rest []written
		for _, w := range f.writes {
			if failed && w.pid != c.pid {
				rest = append(rest, w)
			} else {
				writes = append(writes, w)
			}
		}
		if f.writes = rest; len(rest) == 0 {
			releases = append(releases, f.releases...)
			delete(u, node)
		}
	}
	return writes, releases
}
