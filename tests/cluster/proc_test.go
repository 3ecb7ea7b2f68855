package main

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseStatOfAnOddName(t *testing.T) {
	line := "42 (a) b (c) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1000 10 18446744073709551615 1 1 1 1 1 0 0 4096 0 0 0"
	st, err := parseStat(line)
	if err != nil || st != (procStat{state: 'S', start: 987654}) {
		t.Errorf("%+v, %v", st, err)
	}
	for what, dying := range map[string]string{
		"SIGKILL is pending": strings.Replace(line, "1 1 1 1 1 0 0", "1 1 1 1 1 256 0", 1),
		"it exits":           strings.Replace(line, "-1 4194560", "-1 4194564", 1),
	} {
		if st, err := parseStat(dying); err != nil || !st.dying {
			t.Errorf("%s: %+v, %v", what, st, err)
		}
	}
	for _, bad := range []string{"", "42 (x", "42 (x) S 1 2"} {
		if _, err := parseStat(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestAProcessIsItselfAndNoOther(t *testing.T) {
	self, err := identify(os.Getpid())
	if err != nil || !self.alive() {
		t.Fatalf("%+v, %v", self, err)
	}
	recycled := procID{PID: self.PID, Start: self.Start - 1}
	if recycled.alive() {
		t.Error("a process that started at another time passes for this one")
	}
	if err := recycled.signal(unix.SIGKILL); err != nil {
		t.Error(err)
	} // and this test still runs
	if (procID{}).alive() {
		t.Error("no process is alive")
	}
}

func TestAZombieIsNotAlive(t *testing.T) {
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if err := id.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := id.waitGone(5e9); err != nil {
		t.Error(err)
	}
	cmd.Wait()
}

func TestPidFiles(t *testing.T) {
	cfg := Config{State: t.TempDir()}
	want := procID{PID: 12, Start: 34}
	if err := writePid(cfg, "x", want); err != nil {
		t.Fatal(err)
	}
	if got := readPid(cfg, "x"); got != want {
		t.Errorf("%+v", got)
	}
	if got := cfg.daemons(); !slices.Equal(got, []string{"x"}) {
		t.Errorf("%q", got)
	}
	if err := os.WriteFile(cfg.pidFile("x"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := readPid(cfg, "x"); got != (procID{}) {
		t.Errorf("a damaged file says %+v", got)
	}
}
