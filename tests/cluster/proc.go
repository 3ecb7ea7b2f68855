package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// procID names one process for good: a number is used again, a number with the
// time at which it started is not.
type procID struct {
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks after boot
}

// procStat is the part of /proc/PID/stat that matters here.
type procStat struct {
	state byte
	start uint64
	// dying: the process is exiting, or is about to because of SIGKILL.
	dying bool
}

// parseStat reads a line of /proc/PID/stat. The name in it may hold blanks and
// brackets, so fields are counted from the last bracket.
func parseStat(line string) (procStat, error) {
	const exiting, killPending = 0x4, 1 << (unix.SIGKILL - 1)
	end := strings.LastIndexByte(line, ')')
	if end < 0 {
		return procStat{}, fmt.Errorf("no name in %q", line)
	}
	fields := strings.Fields(line[end+1:])
	if len(fields) < 29 || len(fields[0]) != 1 {
		return procStat{}, fmt.Errorf("too short: %q", line)
	}
	start, err := strconv.ParseUint(fields[19], 10, 64)
	flags, flagsErr := strconv.ParseUint(fields[6], 10, 64)
	pending, pendingErr := strconv.ParseUint(fields[28], 10, 64)
	return procStat{state: fields[0][0], start: start, dying: flags&exiting != 0 || pending&killPending != 0},
		errors.Join(err, flagsErr, pendingErr)
}

func readStat(pid int) (procStat, error) {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return procStat{}, err
	}
	return parseStat(string(line))
}

// identify returns the identity of a process that runs.
func identify(pid int) (procID, error) {
	st, err := readStat(pid)
	return procID{PID: pid, Start: st.start}, err
}

// exists tells whether this very process has not ended yet. A zombie has.
func (p procID) exists() bool {
	st, ok := p.stat()
	return ok && st.state != 'Z' && st.state != 'X'
}

// alive tells whether the process exists and goes on: it has not been killed.
// The end of a node's first process takes a while, as it waits for all others.
func (p procID) alive() bool {
	st, ok := p.stat()
	return ok && st.state != 'Z' && st.state != 'X' && !st.dying
}

// stat returns the state of the process, unless another one has its number now.
func (p procID) stat() (procStat, bool) {
	if p.PID <= 0 {
		return procStat{}, false
	}
	st, err := readStat(p.PID)
	return st, err == nil && st.start == p.Start
}

// signal sends sig to this process and to no other, even if the number was reused meanwhile.
func (p procID) signal(sig unix.Signal) error {
	if !p.exists() {
		return nil
	}
	fd, err := unix.PidfdOpen(p.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if !p.exists() {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return err
	}
	return nil
}

// waitGone waits until the process has ended.
func (p procID) waitGone(limit time.Duration) error {
	return poll(limit, 5*time.Millisecond, func() error {
		if p.exists() {
			return fmt.Errorf("process %d does not end", p.PID)
		}
		return nil
	})
}

// poll calls try until it succeeds, and returns its last error when limit has passed.
func poll(limit, every time.Duration, try func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := try()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("after %v: %w", limit, err)
		}
		time.Sleep(every)
	}
}

// daemon is a program that goes on when testbed ends.
type daemon struct {
	name string // of its pid file and its log
	argv []string
	attr syscall.SysProcAttr
	// cgroup to put it in, in every controller; empty: it sees to that itself.
	cgroup string
}

func (c Config) pidFile(name string) string { return c.path("run", name+".pid") }

// start runs the daemon unless it runs already.
func (d daemon) start(cfg Config) (procID, error) {
	id := readPid(cfg, d.name)
	if id.alive() {
		return id, nil
	}
	if err := id.waitGone(10 * time.Second); err != nil {
		return procID{}, err
	}
	out, err := openLog(cfg, d.name)
	if err != nil {
		return procID{}, err
	}
	defer out.Close()
	cmd := exec.Command(d.argv[0], d.argv[1:]...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = "/", out, out
	attr := d.attr
	attr.Setsid = true
	cmd.SysProcAttr = &attr
	if err := cmd.Start(); err != nil {
		return procID{}, fmt.Errorf("start %s: %w", d.name, err)
	}
	if d.cgroup != "" {
		if err := joinCgroup(d.cgroup, cmd.Process.Pid); err != nil {
			return procID{}, err
		}
	}
	id, err = identify(cmd.Process.Pid)
	if err != nil {
		return procID{}, fmt.Errorf("%s ended at once, see %s: %w", d.name, cfg.log(d.name+".log"), err)
	}
	go cmd.Wait() // so that it is no zombie if it ends before this program does
	return id, writePid(cfg, d.name, id)
}

func openLog(cfg Config, name string) (*os.File, error) {
	if err := os.MkdirAll(cfg.path("log"), 0o755); err != nil {
		return nil, err
	}
	return os.OpenFile(cfg.log(name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
}

func writePid(cfg Config, name string, id procID) error {
	content, err := json.Marshal(id)
	if err != nil {
		return err
	}
	return writeFileAtomic(cfg.pidFile(name), content, 0o644)
}

// readPid returns what the pid file says; a missing or damaged file says that nothing runs.
func readPid(cfg Config, name string) procID {
	var id procID
	content, err := os.ReadFile(cfg.pidFile(name))
	if err != nil || json.Unmarshal(content, &id) != nil {
		return procID{}
	}
	return id
}

// stopDaemon kills the daemon, waits for its end and forgets it.
func stopDaemon(cfg Config, name string) error {
	id := readPid(cfg, name)
	if id.exists() {
		if err := id.signal(unix.SIGKILL); err != nil {
			return err
		}
		thawAll(controlCgroup + "/" + name) // what is frozen does not die
		if err := id.waitGone(10 * time.Second); err != nil {
			return err
		}
	}
	if err := os.Remove(cfg.pidFile(name)); err != nil && !os.IsNotExist(err) {
		return err
	}
	return nil
}

// daemons lists the names of all pid files.
func (c Config) daemons() []string {
	files, _ := filepath.Glob(c.pidFile("*")) // the pattern is valid
	var names []string
	for _, file := range files {
		names = append(names, strings.TrimSuffix(filepath.Base(file), ".pid"))
	}
	return names
}
