package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// powerCutReport is what `node power-off` prints.
type powerCutReport struct {
	Node string `json:"node"`
	// T0 is the moment of the cut, in Unix nanoseconds: no packet left the
	// node after it.
	T0 int64 `json:"t0_unix_ns"`
	// Begun is the moment just before the cut; it lies microseconds earlier.
	Begun int64 `json:"begun_unix_ns"`
	// Done is when every process had ended and every disk was unmounted.
	Done int64 `json:"done_unix_ns"`
}

// cmdPowerOff cuts a node's power.
func cmdPowerOff(cfg Config, args []string) error {
	fs := flag.NewFlagSet("node power-off", flag.ContinueOnError)
	killOnly := fs.Bool("kill-only", false, "kill the processes but keep the page cache, which is no power cut: shows that the self-test can tell")
	args, err := parseArgs(fs, args, 1, 1)
	if err != nil {
		return err
	}
	n, err := cfg.nodeNamed(args[0])
	if err != nil {
		return err
	}
	unlock, err := lock(n.Name())
	if err != nil {
		return err
	}
	defer unlock()
	if !n.isOn() {
		return fmt.Errorf("%s is off", n)
	}
	report, err := n.powerOff(*killOnly)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// powerOff cuts the link, kills every process at once and shuts the file
// systems down as they are. Then it clears away what a machine without power
// does not have: mounts, cgroups, network.
func (n Node) powerOff(killOnly bool) (powerCutReport, error) {
	report := powerCutReport{Node: n.Name()}
	// What is on top of a disk hides it: a moment before the cut, its pods lose such a volume.
	if err := n.makeSound(); err != nil {
		return report, err
	}
	roots, err := n.openDisks()
	if err != nil {
		return report, err
	}
	init := n.init()
	report.Begun = time.Now().UnixNano()
	err = linkDown(n.Link())
	report.T0 = time.Now().UnixNano()
	err = errors.Join(err, init.signal(unix.SIGKILL))
	for _, root := range roots {
		if !killOnly {
			err = errors.Join(err, powerCut(root))
		}
		err = errors.Join(err, root.Close())
	}
	if err = errors.Join(err, n.halt(), n.unmountDisks(), repairServiceRoute(n.cfg)); err != nil {
		return report, fmt.Errorf("power-off %s: %w", n, err)
	}
	report.Done = time.Now().UnixNano()
	return report, nil
}

// openDisks opens the root folder of every mounted disk.
func (n Node) openDisks() ([]*os.File, error) {
	var list []*os.File
	for _, d := range n.disks() {
		if mountedAt(d.point) == nil {
			continue
		}
		f, err := os.Open(d.point)
		if err != nil {
			return nil, err
		}
		list = append(list, f)
	}
	return list, nil
}

// cmdPowerOn starts a node that is off.
func cmdPowerOn(cfg Config, args []string) error {
	fs := flag.NewFlagSet("node power-on", flag.ContinueOnError)
	wait := fs.Bool("wait", true, "wait until the node is Ready")
	args, err := parseArgs(fs, args, 1, 1)
	if err != nil {
		return err
	}
	n, err := cfg.nodeNamed(args[0])
	if err != nil {
		return err
	}
	if _, err := os.Stat(n.path()); err != nil {
		return fmt.Errorf("%s does not exist: use `node create`", n)
	}
	return n.powerOn(*wait)
}

// powerOn boots the node and, if asked to, waits until it is Ready. Its lock is
// not held meanwhile: its power may be cut at any moment.
func (n Node) powerOn(wait bool) error {
	unlock, err := lock(n.Name())
	if err != nil {
		return err
	}
	err = errors.Join(n.boot(), repairServiceRoute(n.cfg))
	unlock()
	if err != nil || !wait {
		return err
	}
	return n.waitReady()
}

// cmdDestroy removes a node for good.
func cmdDestroy(cfg Config, args []string) error {
	args, err := parseArgs(flag.NewFlagSet("node destroy", flag.ContinueOnError), args, 1, 1)
	if err != nil {
		return err
	}
	n, err := cfg.nodeNamed(args[0])
	if err != nil {
		return err
	}
	unlock, err := lock(n.Name())
	if err != nil {
		return err
	}
	defer unlock()
	report := powerCutReport{Node: n.Name()}
	if n.isOn() {
		if report, err = n.powerOff(false); err != nil {
			return err
		}
	}
	if err := n.forget(); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}

// forget deletes the node's disks, and its objects in the cluster. Claims of
// its volumes are lost from then on.
func (n Node) forget() error {
	if err := errors.Join(n.unmountDisks(), os.RemoveAll(n.path())); err != nil {
		return err
	}
	a, err := newAPI(n.cfg)
	if err != nil {
		return err
	}
	if err := a.delete("/api/v1/nodes/" + n.Name()); err != nil {
		return err
	}
	for _, v := range n.volumes() {
		if err := a.remove(v.apiPath()); err != nil {
			return err
		}
	}
	return nil
}

// cmdCreate adds a node.
func cmdCreate(cfg Config, args []string) error {
	args, err := parseArgs(flag.NewFlagSet("node create", flag.ContinueOnError), args, 1, 1)
	if err != nil {
		return err
	}
	n, err := cfg.nodeNamed(args[0])
	if err != nil {
		return err
	}
	if _, err := os.Stat(cfg.pki("ca.crt")); err != nil {
		return errors.New("no cluster: run `testbed up` first")
	}
	if n.isOn() {
		return fmt.Errorf("%s exists and is on", n)
	}
	if err := n.powerOn(true); err != nil {
		return err
	}
	return applyCluster(cfg)
}
