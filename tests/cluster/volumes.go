package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"
)

// volume is one disk of a node that the cluster knows as a PersistentVolume.
type volume struct {
	node  Node
	name  string // of the PersistentVolume
	class string
	size  int64
}

// volumes lists the node's media volumes.
func (n Node) volumes() []volume {
	return []volume{
		{n, n.Name() + "-d1", "local", 4 * gib},
		{n, n.Name() + "-d2", "local", 4 * gib},
		{n, n.Name() + "-small", "local-small", 96 * mib},
	}
}

// volume returns the node's volume with the given name; the node's own name in
// front of it may be left out.
func (n Node) volume(name string) (volume, error) {
	for _, v := range n.volumes() {
		if v.name == name || v.name == n.Name()+"-"+name {
			return v, nil
		}
	}
	return volume{}, fmt.Errorf("%s has no volume %q", n, name)
}

func (v volume) disk() disk {
	return disk{image: v.node.path("disks", v.name+".img"), point: v.node.path("volumes", v.name),
		size: v.size, owner: recorderUID}
}

func (v volume) apiPath() string { return "/api/v1/persistentvolumes/" + v.name }

// manifest describes the volume to the cluster.
func (v volume) manifest() map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolume",
		"metadata": map[string]any{"name": v.name, "labels": map[string]any{"testbed/node": v.node.Name()}},
		"spec": map[string]any{
			"capacity":                      map[string]any{"storage": fmt.Sprint(v.size)},
			"accessModes":                   []string{"ReadWriteOncePod"}, // which admits no other mode beside it
			"persistentVolumeReclaimPolicy": "Retain",
			"storageClassName":              v.class,
			"volumeMode":                    "Filesystem",
			"local":                         map[string]any{"path": v.disk().point},
			"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{
				map[string]any{"matchExpressions": []any{map[string]any{
					"key": "kubernetes.io/hostname", "operator": "In", "values": []string{v.node.Name()},
				}}},
			}}},
		},
	}
}

// volumeManifests returns the manifests of all volumes of the nodes, as a stream.
func volumeManifests(nodes []Node) (string, error) {
	var out strings.Builder
	for _, n := range nodes {
		for _, v := range n.volumes() {
			text, err := json.Marshal(v.manifest())
			if err != nil {
				return "", err
			}
			fmt.Fprintf(&out, "---\n%s\n", text)
		}
	}
	return out.String(), nil
}

// cmdVolumesReset makes volumes new and empty, and known to the cluster as Available.
func cmdVolumesReset(cfg Config, args []string) error {
	fs := flag.NewFlagSet("volumes reset", flag.ContinueOnError)
	all := fs.Bool("all", false, "also those that are not released; claims of them are lost")
	names, err := parseArgs(fs, args, 0, -1)
	if err != nil {
		return err
	}
	a, err := newAPI(cfg)
	if err != nil {
		return err
	}
	wanted := map[string]bool{}
	for _, name := range names {
		wanted[name] = true
	}
	return parallel(cfg.nodes(), func(n Node) error {
		unlock, err := lock(n.Name())
		if err != nil {
			return err
		}
		defer unlock()
		for _, v := range n.volumes() {
			reset := *all || wanted[v.name]
			if !reset && len(names) == 0 {
				if reset, err = v.released(a); err != nil {
					return err
				}
			}
			if !reset {
				continue
			}
			if err := v.reset(a); err != nil {
				return fmt.Errorf("%s: %w", v.name, err)
			}
			fmt.Println("reset", v.name)
		}
		return nil
	})
}

// released tells whether the volume lost its claim, or is not known at all.
func (v volume) released(a *api) (bool, error) {
	var pv struct{ Status struct{ Phase string } }
	err := a.get(v.apiPath(), &pv)
	if isNotFound(err) {
		return true, nil
	}
	return pv.Status.Phase == "Released" || pv.Status.Phase == "Failed", err
}

// reset formats the volume and makes a new object for it. It waits until no
// pod of the node has the volume mounted.
func (v volume) reset(a *api) error {
	if err := v.waitUnused(10 * time.Second); err != nil {
		return err
	}
	if err := errors.Join(a.remove(v.apiPath()), v.makeSound()); err != nil {
		return err
	}
	d := v.disk()
	if err := d.unmount(); err != nil {
		return err
	}
	if err := d.format(); err != nil {
		return err
	}
	if v.node.isOn() {
		if err := d.mount(); err != nil {
			return err
		}
	}
	text, err := json.Marshal(v.manifest())
	if err != nil {
		return err
	}
	return apply(v.node.cfg, string(text))
}

// waitUnused waits until the node shows the disk at its own place only.
func (v volume) waitUnused(limit time.Duration) error {
	m := mountedAt(v.disk().point)
	if m == nil || !v.node.isOn() {
		return nil
	}
	return poll(limit, 100*time.Millisecond, func() error {
		mounts, err := readMounts(fmt.Sprint(v.node.init().PID))
		if err != nil {
			return err
		}
		for _, other := range mounts {
			if other.device == m.device && other.point != v.disk().point {
				return fmt.Errorf("in use at %s", other.point)
			}
		}
		return nil
	})
}

// nodeVolume finds the volume that two arguments, NODE and PV, name.
func nodeVolume(cfg Config, args []string) (volume, error) {
	n, err := cfg.nodeNamed(args[0])
	if err != nil {
		return volume{}, err
	}
	return n.volume(args[1])
}

// cmdDiskFill fills a volume to its last block.
func cmdDiskFill(cfg Config, args []string) error {
	fs := flag.NewFlagSet("disk fill", flag.ContinueOnError)
	leave := fs.Int64("leave", 0, "bytes to leave free")
	args, err := parseArgs(fs, args, 2, 2)
	if err != nil {
		return err
	}
	v, err := nodeVolume(cfg, args)
	if err != nil {
		return err
	}
	if mountedAt(v.disk().point) == nil {
		return fmt.Errorf("%s is not mounted: is %s on?", v.name, v.node)
	}
	return v.disk().fill(*leave)
}

// cmdDiskFree gives back the space that cmdDiskFill took.
func cmdDiskFree(cfg Config, args []string) error {
	args, err := parseArgs(flag.NewFlagSet("disk free", flag.ContinueOnError), args, 2, 2)
	if err != nil {
		return err
	}
	v, err := nodeVolume(cfg, args)
	if err != nil {
		return err
	}
	return v.disk().free()
}
