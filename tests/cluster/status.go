package main

import (
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// cmdStatus shows what runs, what is cut and how full the disks are.
func cmdStatus(cfg Config, args []string) error {
	if err := noArgs("status", args); err != nil {
		return err
	}
	if len(cfg.nodes()) == 0 {
		fmt.Println("no cluster")
		return nil
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	defer w.Flush()
	for _, name := range controlPrograms {
		state := "down"
		if id := readPid(cfg, name); id.alive() {
			state = fmt.Sprintf("up\tpid %d", id.PID)
			if frozen(filepath.Join(cgroupRoot, "freezer", controlCgroup, name)) {
				state = "frozen\t"
			}
		}
		fmt.Fprintf(w, "%s\t%s\n", name, state)
	}
	fmt.Fprintf(w, "services\tthrough %s\n", serviceGateway())
	a, err := newAPI(cfg)
	if err != nil {
		return err
	}
	a.http.Timeout = 2 * time.Second
	answers := a.get("/readyz", nil)
	for _, n := range cfg.nodes() {
		if answers == nil {
			n.printStatus(w, a)
			continue
		}
		fmt.Fprintf(w, "%s\t%s\ton: %v; the API does not answer\n", n, n.IP(), n.isOn())
	}
	return nil
}

func (n Node) printStatus(w *tabwriter.Writer, a *api) {
	state := "off"
	if n.isOn() {
		state = "Ready"
		if err := n.ready(a); err != nil {
			state = err.Error()
		}
	}
	fmt.Fprintf(w, "%s\t%s\t%s\n", n, n.IP(), state)
	if all, err := n.readCuts(); err == nil {
		for link, made := range all {
			fmt.Fprintf(w, "  link %s\tdrops %g %%\t%s\n", link, 100*made.Share, made.Direction)
		}
	}
	for _, v := range n.volumes() {
		var pv struct {
			Status struct{ Phase string }
			Spec   struct {
				ClaimRef struct{ Namespace, Name string }
			}
		}
		phase := "unknown"
		if err := a.get(v.apiPath(), &pv); err == nil {
			phase = pv.Status.Phase
		}
		usage := "not mounted"
		if mountedAt(v.disk().point) != nil {
			if used, total, err := v.disk().usage(); err == nil {
				usage = humanBytes(used) + " of " + humanBytes(total)
			}
		}
		fmt.Fprintf(w, "  volume %s\t%s\t%s\t%s\t%s\n", v.name, phase, usage, pv.Spec.ClaimRef.Name, v.disk().point)
	}
	list, _ := containersOn(n)
	for _, c := range list {
		if frozen(c.freezer()) {
			fmt.Fprintf(w, "  container %s/%s %s\tfrozen\n", c.namespace, c.pod, c.name)
		}
	}
}

// frozen tells whether a folder of the freezer is frozen.
func frozen(dir string) bool {
	state, err := os.ReadFile(filepath.Join(dir, "freezer.state"))
	return err == nil && string(state) != "THAWED\n"
}
