package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
)

// cmdLogsCollect copies everything that helps to find out why a test failed.
// It goes on when a part fails: an API server that does not answer is a finding.
func cmdLogsCollect(cfg Config, args []string) error {
	args, err := parseArgs(flag.NewFlagSet("logs collect", flag.ContinueOnError), args, 1, 1)
	if err != nil {
		return err
	}
	dir, err := filepath.Abs(args[0])
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	errs := []error{sh("cp", "--recursive", "--dereference", cfg.path("log"), dir)}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	kubectl := cfg.bin("kubectl")
	outputs := map[string][]string{
		"objects.yaml": {kubectl, "get", "all,events,leases,pv,pvc,configmaps,endpointslices,nodes", "-A", "-o", "yaml"},
		"events.txt":   {kubectl, "get", "events", "-A", "--sort-by=.lastTimestamp"},
		"pods.txt":     {kubectl, "get", "pods", "-A", "-o", "wide"},
		"status.txt":   {self, "status"},
		"kernel.txt":   {"dmesg", "--ctime"},
	}
	if custom, err := output(kubectl, "--kubeconfig="+cfg.kubeconfig(), "--request-timeout=5s",
		"get", "recorderpairs", "-A", "-o", "yaml"); err == nil {
		errs = append(errs, os.WriteFile(filepath.Join(dir, "recorderpairs.yaml"), []byte(custom), 0o644))
	}
	errs = append(errs, keepVolumes(cfg, filepath.Join(dir, "volumes")))
	for name, argv := range outputs {
		errs = append(errs, collect(cfg, filepath.Join(dir, name), argv))
	}
	return errors.Join(errs...)
}

// keptBytes is the most that is kept of all volumes: a test records for a minute or two.
const keptBytes = 512 << 20

// keepVolumes copies what is recorded, so that a member can be started on a copy and asked again.
func keepVolumes(cfg Config, dir string) error {
	volumes, err := filepath.Glob(cfg.path("nodes", "*", "volumes", "*"))
	if err != nil {
		return err
	}
	var errs []error
	left := int64(keptBytes)
	for _, volume := range volumes {
		used, err := usedBytes(volume)
		left -= used
		switch {
		case err != nil:
			errs = append(errs, err)
		case left < 0:
			errs = append(errs, fmt.Errorf("%s is not kept: its %d bytes are too many", volume, used))
		case used > 0:
			errs = append(errs, os.MkdirAll(dir, 0o755), sh("cp", "--recursive", volume, dir))
		}
	}
	return errors.Join(errs...)
}

// usedBytes is what the files of a folder have.
func usedBytes(dir string) (int64, error) {
	var sum int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil {
			sum += info.Size()
		}
		return err
	})
	return sum, err
}

// collect writes what a program prints to a file, errors included.
func collect(cfg Config, file string, argv []string) error {
	out, err := os.Create(file)
	if err != nil {
		return err
	}
	defer out.Close()
	if filepath.Base(argv[0]) == "kubectl" {
		argv = append(argv, "--request-timeout=5s")
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+cfg.kubeconfig())
	cmd.Stdout, cmd.Stderr = out, out
	return cmd.Run()
}
