package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// container is a container that runs on a node, or the sandbox of a pod.
type container struct {
	node      Node
	id        string
	namespace string
	pod       string
	name      string // empty for a sandbox
	cgroup    string // absolute in every controller
}

// bundle is what is read of an OCI bundle's config.json.
type bundle struct {
	Annotations map[string]string `json:"annotations"`
	Linux       struct {
		CgroupsPath string `json:"cgroupsPath"`
	} `json:"linux"`
}

// containersOn lists what runs on a node. It reads containerd's bundles, so it
// needs neither the API server nor a containerd that answers.
func containersOn(n Node) ([]container, error) {
	if !n.isOn() {
		return nil, nil
	}
	files, err := filepath.Glob(n.inside("/run/containerd/io.containerd.runtime.v2.task/k8s.io/*/config.json"))
	if err != nil {
		return nil, err
	}
	var list []container
	for _, file := range files {
		content, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		c, err := parseBundle(content)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		c.node, c.id = n, filepath.Base(filepath.Dir(file))
		list = append(list, c)
	}
	return list, nil
}

func parseBundle(content []byte) (container, error) {
	var b bundle
	if err := json.Unmarshal(content, &b); err != nil {
		return container{}, err
	}
	const prefix = "io.kubernetes.cri."
	return container{
		namespace: b.Annotations[prefix+"sandbox-namespace"],
		pod:       b.Annotations[prefix+"sandbox-name"],
		name:      b.Annotations[prefix+"container-name"],
		cgroup:    b.Linux.CgroupsPath,
	}, nil
}

// freezer is the container's folder in the freezer.
func (c container) freezer() string { return filepath.Join(cgroupRoot, "freezer", c.cgroup) }

func (c container) running() bool { return len(pidsIn(subtree(c.freezer()))) > 0 }

// findPod returns all running containers of a pod, its sandbox included.
func findPod(cfg Config, pod string) ([]container, error) {
	namespace, name, ok := strings.Cut(pod, "/")
	if !ok {
		namespace, name = "default", pod
	}
	var found []container
	for _, n := range cfg.nodes() {
		list, err := containersOn(n)
		if err != nil {
			return nil, err
		}
		for _, c := range list {
			if c.namespace == namespace && c.pod == name && c.running() {
				found = append(found, c)
			}
		}
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("no process of pod %s/%s on any node", namespace, name)
	}
	return found, nil
}

// podReport is what the commands on containers and pods print.
type podReport struct {
	// T0 is the moment just before the first process was told, in Unix nanoseconds.
	T0        int64 `json:"t0_unix_ns"`
	Done      int64 `json:"done_unix_ns"`
	Processes int   `json:"processes"`
}

func (r podReport) print() error {
	r.Done = time.Now().UnixNano()
	return json.NewEncoder(os.Stdout).Encode(r)
}

// cmdContainer returns the command that kills, freezes or thaws one container.
func cmdContainer(verb string) func(Config, []string) error {
	return func(cfg Config, args []string) error {
		fs := flag.NewFlagSet("container "+verb, flag.ContinueOnError)
		pod := fs.String("pod", "", "NAMESPACE/NAME")
		name := fs.String("container", "", "name of the container in the pod")
		if _, err := parseArgs(fs, args, 0, 0); err != nil {
			return err
		}
		list, err := findPod(cfg, *pod)
		if err != nil {
			return err
		}
		for _, c := range list {
			if c.name == *name && c.name != "" {
				return c.act(verb)
			}
		}
		return fmt.Errorf("pod %s runs no container %q", *pod, *name)
	}
}

func (c container) act(verb string) error {
	dirs := subtree(c.freezer())
	report := podReport{T0: time.Now().UnixNano(), Processes: len(pidsIn(dirs))}
	var err error
	switch verb {
	case "kill":
		report.Processes, err = killFolders(c.freezer(), dirs)
	case "freeze":
		err = setFreezer(c.freezer(), "FROZEN")
	case "thaw":
		err = setFreezer(c.freezer(), "THAWED")
	}
	if err != nil {
		return err
	}
	return report.print()
}

// cmdPodKill kills all containers of a pod at once, and on request its sandbox too.
func cmdPodKill(cfg Config, args []string) error {
	fs := flag.NewFlagSet("pod kill", flag.ContinueOnError)
	pod := fs.String("pod", "", "NAMESPACE/NAME")
	sandbox := fs.Bool("sandbox", false, "also the process that holds the pod's network")
	if _, err := parseArgs(fs, args, 0, 0); err != nil {
		return err
	}
	list, err := findPod(cfg, *pod)
	if err != nil {
		return err
	}
	var dirs []string
	for _, c := range list {
		if c.name != "" || *sandbox {
			dirs = append(dirs, subtree(c.freezer())...)
		}
	}
	report := podReport{T0: time.Now().UnixNano()}
	report.Processes, err = killFolders(filepath.Dir(list[0].freezer()), dirs)
	if err != nil {
		return err
	}
	return report.print()
}
