package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// controlName is the socket beside a mount through which its faults are set: a
// name in its folder would fail with it.
func controlName(at string) string { return filepath.Clean(at) + ".faults" }

// cmdFaultyMount shows a folder at another place, through a file system that fails on demand.
func cmdFaultyMount(_ Config, args []string) error {
	fs := flag.NewFlagSet("faulty mount", flag.ContinueOnError)
	backing := fs.String("backing", "", "the folder")
	at := fs.String("at", "", "where to show it")
	stdin := fs.Bool("stdin", false, "end when standard input does, as it does when the parent process dies")
	if _, err := parseArgs(fs, args, 0, 0); err != nil {
		return err
	}
	if *backing == "" || *at == "" {
		return errors.New("faulty mount: --backing and --at are needed")
	}
	m, err := mountFaulty(*backing, *at)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, unix.SIGTERM, unix.SIGINT)
	if *stdin {
		go func() {
			io.Copy(io.Discard, os.Stdin)
			stop <- unix.SIGTERM
		}()
	}
	fmt.Println("mounted", *at)
	select {
	case <-stop:
	case err = <-m.ended: // unmounted by someone else
		m.mounted = false
	}
	return errors.Join(err, m.close())
}

// cmdFaultySet begins faults on a faulty mount, in place of those that it has.
func cmdFaultySet(_ Config, args []string) error {
	fs := flag.NewFlagSet("faulty set", flag.ContinueOnError)
	at := fs.String("at", "", "the mount")
	f := faultFlags(fs)
	if _, err := parseArgs(fs, args, 0, 0); err != nil {
		return err
	}
	return setFaults(*at, *f)
}

// faultFlags are the flags that say what is to fail.
func faultFlags(fs *flag.FlagSet) *faults {
	f := &faults{}
	fs.Func("fail", "reads, writes, syncs (or several, with commas) or all: these calls end with EIO", func(text string) error {
		f.Fail = nil
		for _, name := range strings.Split(text, ",") {
			f.Fail = append(f.Fail, class(name))
		}
		return nil
	})
	fs.DurationVar(&f.Stall, "stall", 0, "by how much each sync is late")
	fs.Float64Var(&f.Share, "share", 1, "the part of the calls that it happens to")
	fs.IntVar(&f.Count, "count", 0, "end after so many calls")
	fs.DurationVar(&f.For, "for", 0, "end after this time")
	return f
}

// setFaults tells a mount, and prints what the faults before did to how many
// calls, and the moment of the change.
func setFaults(at string, f faults) error {
	if err := f.check(); err != nil {
		return err
	}
	before, err := askFaulty(controlName(at), f)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(struct {
		T0     int64           `json:"t0_unix_ns"`
		Before json.RawMessage `json:"before"`
	}{time.Now().UnixNano(), before})
}

// askFaulty sends faults to the process behind a mount.
func askFaulty(socket string, f faults) (json.RawMessage, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return nil, fmt.Errorf("no faulty mount answers there: %w", err)
	}
	defer conn.Close()
	if err := json.NewEncoder(conn).Encode(f); err != nil {
		return nil, err
	}
	var before json.RawMessage
	return before, json.NewDecoder(bufio.NewReader(conn)).Decode(&before)
}

// serveControl answers askFaulty until the listener is closed.
func serveControl(l net.Listener, g *gate) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		func() {
			defer conn.Close()
			var f faults
			if json.NewDecoder(conn).Decode(&f) != nil || f.check() != nil {
				return
			}
			if before, err := g.set(f); err == nil {
				conn.Write(append(before, '\n'))
			}
		}()
	}
}
