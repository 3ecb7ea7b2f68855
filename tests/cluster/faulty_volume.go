package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// fuseKind is how a faulty mount is called in mountinfo.
const fuseKind = "fuseblk"

// faultyName is the daemon behind the volume's faulty file system.
func (v volume) faultyName() string { return "faulty-" + v.name }

// isFaulty tells whether the volume is seen through a file system that fails on demand.
func (v volume) isFaulty() bool {
	m := mountedAt(v.disk().point)
	return m != nil && m.kind == fuseKind
}

// makeFaulty puts that file system over the volume's disk, at the same place.
// The nodes receive the mount like that of the disk itself; a pod sees it if it
// starts after that, because its own mount of the volume is made then.
func (v volume) makeFaulty() error {
	if v.isFaulty() && readPid(v.node.cfg, v.faultyName()).alive() {
		return nil
	}
	if err := v.makeSound(); err != nil {
		return err
	}
	d := v.disk()
	if mountedAt(d.point) == nil {
		return fmt.Errorf("%s is not mounted: is %s on?", v.name, v.node)
	}
	if err := v.waitUnused(time.Second); err != nil {
		return fmt.Errorf("%s: a pod that runs would go on as before: %w", v.name, err)
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	argv := []string{self, "faulty", "mount", "--backing", d.point, "--at", d.point}
	if _, err := (daemon{name: v.faultyName(), argv: argv}).start(v.node.cfg); err != nil {
		return err
	}
	if err := waitFaulty(d.point, 10*time.Second); err != nil {
		return errors.Join(fmt.Errorf("see %s: %w", v.node.cfg.log(v.faultyName()+".log"), err), v.makeSound())
	}
	return nil
}

// makeSound takes that file system away. A pod that saw the volume through it
// sees nothing any more and has to be started again.
func (v volume) makeSound() error {
	for v.isFaulty() {
		if err := unix.Unmount(v.disk().point, unix.MNT_DETACH); err != nil {
			return fmt.Errorf("unmount %s: %w", v.disk().point, err)
		}
	}
	return errors.Join(removeControl(v.disk().point), stopDaemon(v.node.cfg, v.faultyName()))
}

// lift ends the faults of a faulty volume; one that no pod uses, or whose
// program died, is made sound.
func (v volume) lift() error {
	if !v.isFaulty() {
		return nil
	}
	if v.waitUnused(0) == nil {
		return v.makeSound()
	}
	if _, err := askFaulty(controlName(v.disk().point), faults{Share: 1}); err != nil {
		return v.makeSound()
	}
	return nil
}

// makeSound takes the faulty file systems of all volumes away.
func (n Node) makeSound() error {
	var errs []error
	for _, v := range n.volumes() {
		errs = append(errs, v.makeSound())
	}
	return errors.Join(errs...)
}

// lockedVolume is nodeVolume, with the node locked until the caller unlocks it.
func lockedVolume(cfg Config, args []string) (volume, func(), error) {
	v, err := nodeVolume(cfg, args)
	if err != nil {
		return volume{}, nil, err
	}
	unlock, err := lock(v.node.Name())
	return v, unlock, err
}

// cmdVolumeFaulty makes a volume faulty, and begins faults.
func cmdVolumeFaulty(cfg Config, args []string) error {
	fs := flag.NewFlagSet("volume faulty", flag.ContinueOnError)
	f := faultFlags(fs)
	args, err := parseArgs(fs, args, 2, 2)
	if err != nil {
		return err
	}
	v, unlock, err := lockedVolume(cfg, args)
	if err != nil {
		return err
	}
	defer unlock()
	if err := v.makeFaulty(); err != nil {
		return err
	}
	return setFaults(v.disk().point, *f)
}

// cmdVolumeSound takes the faulty file system of a volume away.
func cmdVolumeSound(cfg Config, args []string) error {
	args, err := parseArgs(flag.NewFlagSet("volume sound", flag.ContinueOnError), args, 2, 2)
	if err != nil {
		return err
	}
	v, unlock, err := lockedVolume(cfg, args)
	if err != nil {
		return err
	}
	defer unlock()
	return v.makeSound()
}
