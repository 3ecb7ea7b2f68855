package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// checkHost fails where the test bed cannot work.
func checkHost(cfg Config) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	for _, hidden := range append([]string{"/run", "/var/run", "/var/log", "/proc", "/sys"}, hostDirs...) {
		if within(cfg.State, hidden) {
			return fmt.Errorf("GAPLESS_STATE must not be in %s: nodes have their own", hidden)
		}
	}
	_, err := controllers()
	return err
}

// The kubelets set these for the whole machine; down sets them back.
var hostSettings = []string{"vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops",
	"kernel/keys/root_maxkeys", "kernel/keys/root_maxbytes"}

// saveHost notes what a cluster changes on the host outside its own folder, once.
func saveHost(cfg Config) error {
	if _, err := os.Stat(cfg.path("host", "saved")); err == nil {
		return nil
	}
	for _, name := range hostSettings {
		value, err := os.ReadFile("/proc/sys/" + name)
		if err != nil {
			continue // this kernel has no such setting
		}
		if err := writeFileAtomic(cfg.path("host", "sysctl", name), value, 0o644); err != nil {
			return err
		}
	}
	for _, dir := range hostDirs {
		if _, err := os.Stat(dir); err == nil {
			continue
		}
		if err := writeFileAtomic(cfg.path("host", "made", dir), nil, 0o644); err != nil {
			return err
		}
	}
	return writeFileAtomic(cfg.path("host", "saved"), nil, 0o644)
}

// restoreHost undoes what saveHost noted.
func restoreHost(cfg Config) error {
	var errs []error
	for _, name := range hostSettings {
		if value, err := os.ReadFile(cfg.path("host", "sysctl", name)); err == nil {
			errs = append(errs, os.WriteFile("/proc/sys/"+name, []byte(strings.TrimSpace(string(value))), 0o644))
		}
	}
	for _, dir := range hostDirs {
		if _, err := os.Stat(cfg.path("host", "made", dir)); err != nil {
			continue
		}
		if err := unix.Rmdir(dir); err != nil && !errors.Is(err, unix.ENOENT) {
			errs = append(errs, fmt.Errorf("remove %s: %w", dir, err))
		}
	}
	return errors.Join(errs...)
}
