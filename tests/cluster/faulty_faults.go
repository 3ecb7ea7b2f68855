package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// class is a kind of call that can be made to fail.
type class string

const (
	classReads  class = "reads"  // of files and folders
	classWrites class = "writes" // of bytes, names and sizes
	classSyncs  class = "syncs"  // of a file, a folder or all
	classOther  class = "other"  // opening, looking up, asking for sizes: fails with "all" only
	classNever  class = ""       // what the kernel needs to let go of things
)

// classAll is what `--fail all` says.
const classAll class = "all"

// Calls by their numbers in linux/fuse.h.
const (
	opSetattr, opSymlink, opMknod, opMkdir         = 4, 6, 8, 9
	opUnlink, opRmdir, opRename, opLink            = 10, 11, 12, 13
	opLookup, opGetattr, opReadlink, opOpen        = 1, 3, 5, 14
	opRead, opWrite, opStatfs, opRelease           = 15, 16, 17, 18
	opFsync, opInit, opOpendir, opReaddir          = 20, 26, 27, 28
	opFsyncdir, opAccess, opCreate                 = 30, 34, 35
	opInterrupt, opFallocate, opReaddirplus        = 36, 43, 44
	opRename2, opCopyFileRange, opSyncfs           = 45, 47, 50
	opTmpfile, opStatx                      uint32 = 51, 52
)

var classes = map[class][]uint32{
	classReads: {opRead, opReaddir, opReaddirplus},
	classWrites: {opWrite, opSetattr, opSymlink, opMknod, opMkdir, opUnlink, opRmdir, opRename, opRename2, opLink,
		opCreate, opFallocate, opCopyFileRange, opTmpfile},
	classSyncs: {opFsync, opFsyncdir, opSyncfs},
	classOther: {opLookup, opGetattr, opReadlink, opOpen, opStatfs, opOpendir, opAccess, opStatx},
}

// classOf tells which kind of call this is.
func classOf(op uint32) class {
	for c, ops := range classes {
		if slices.Contains(ops, op) {
			return c
		}
	}
	return classNever
}

// faults says what a faulty mount does to the calls that reach it. The zero
// value does nothing.
type faults struct {
	// Fail lists the kinds of calls that end with EIO.
	Fail []class `json:"fail,omitempty"`
	// Stall is by how much each sync is late, also one that then fails.
	Stall time.Duration `json:"stall_ns,omitempty"`
	// Share is the part of the calls that this happens to, above 0 and up to 1.
	Share float64 `json:"share"`
	// Count ends it after so many calls; 0: no such end.
	Count int `json:"count,omitempty"`
	// For ends it after a time; 0: it lasts until it is lifted.
	For time.Duration `json:"for_ns,omitempty"`
}

// check refuses what means nothing.
func (f faults) check() error {
	for _, c := range f.Fail {
		if !slices.Contains([]class{classReads, classWrites, classSyncs, classAll}, c) {
			return fmt.Errorf("no kind of call %q: use reads, writes, syncs or all", c)
		}
	}
	if f.Stall < 0 || f.Stall > time.Minute || f.For < 0 || f.Count < 0 {
		return errors.New("a stall is at most a minute, and nothing is negative")
	}
	if f.Share <= 0 || f.Share > 1 {
		return errors.New("a share is above 0 and at most 1")
	}
	return nil
}

// verdict is what happens to one call.
type verdict struct {
	fail  bool
	stall time.Duration
}

// counts is what happened since the faults were set.
type counts struct {
	Calls   map[class]int `json:"calls"`
	Failed  map[class]int `json:"failed"`
	Stalled int           `json:"stalled"`
	// Dropped is how many written bytes failed syncs lost.
	Dropped int64 `json:"dropped_bytes"`
}

// sentence decides about calls, one after the other. Time and chance are passed in.
type sentence struct {
	faults faults
	since  time.Time
	hits   int
	counts counts
}

// newSentence is what is decided from now on.
func newSentence(f faults, now time.Time) *sentence {
	return &sentence{faults: f, since: now, counts: counts{Calls: map[class]int{}, Failed: map[class]int{}}}
}

// judge decides about a call; chance is in [0, 1).
func (s *sentence) judge(op uint32, now time.Time, chance float64) verdict {
	c, f := classOf(op), s.faults
	if c == classNever {
		return verdict{}
	}
	s.counts.Calls[c]++
	v := verdict{fail: slices.Contains(f.Fail, c) || slices.Contains(f.Fail, classAll)}
	if c == classSyncs {
		v.stall = f.Stall
	}
	over := f.For > 0 && now.Sub(s.since) >= f.For || f.Count > 0 && s.hits >= f.Count
	if v == (verdict{}) || over || chance >= f.Share {
		return verdict{}
	}
	s.hits++
	if v.fail {
		s.counts.Failed[c]++
	}
	if v.stall > 0 {
		s.counts.Stalled++
	}
	return v
}

// report writes the counts as JSON.
func (s *sentence) report() ([]byte, error) { return json.Marshal(s.counts) }
