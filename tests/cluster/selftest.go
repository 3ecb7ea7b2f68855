package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"
)

// selftests lists what the self-test proves, in order. Each starts with a whole
// cluster and three probes, and may leave the cluster broken: `testbed up` must mend it.
var selftests = []struct {
	name string
	run  func(b *bench) error
}{
	{"volume-access", testVolumeAccess},
	{"power-cut-loses-what-was-not-synced", testPowerCut},
	{"node-returns-with-its-pods", testReturn},
	{"container-faults", testContainerFaults},
	{"links-separate", testLinks},
	{"link-directions", testDirections},
	{"all-links", testAllLinks},
	{"disk-full", testDiskFull},
	{"disk-faulty", testDiskFaulty},
	{"control-plane-faults", testControlFaults},
	{"faults-in-sequence", testSequence},
	{"destroy-and-create", testDestroy},
	{"volumes-reset", testVolumesReset},
	{"up-after-a-crash", testCrash},
	{"down-leaves-nothing", testDown},
}

// bench is a self-test that runs.
type bench struct {
	cfg      Config
	api      *api
	self     string
	killOnly bool
}

// cmdSelftest runs all self-tests, or the named ones. It uses the one cluster
// there is: what runs in it is lost.
func cmdSelftest(cfg Config, args []string) error {
	fs := flag.NewFlagSet("selftest", flag.ContinueOnError)
	killOnly := fs.Bool("kill-only", false, "replace power cuts by kills: the first test must fail then")
	names, err := parseArgs(fs, args, 0, -1)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	b := &bench{cfg: cfg, self: self, killOnly: *killOnly}
	failed := 0
	for _, test := range selftests {
		if len(names) > 0 && !contains(names, test.name) {
			continue
		}
		start := time.Now()
		err := b.fresh()
		if err == nil {
			err = test.run(b)
		}
		verdict := "PASS"
		if err != nil {
			verdict, failed = "FAIL", failed+1
		}
		fmt.Printf("--- %s: %s (%.2fs)\n", verdict, test.name, time.Since(start).Seconds())
		if err != nil {
			fmt.Printf("    %s\n", strings.ReplaceAll(err.Error(), "\n", "\n    "))
		}
	}
	if failed > 0 {
		return fmt.Errorf("%d self-tests failed", failed)
	}
	b.tb("up") // leave a whole cluster
	return b.clear()
}

func contains(list []string, want string) bool {
	for _, s := range list {
		if s == want {
			return true
		}
	}
	return false
}

// tb runs testbed itself, as a user would.
func (b *bench) tb(args ...string) (string, error) {
	var out, errOut bytes.Buffer
	cmd := exec.Command(b.self, args...)
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if err != nil {
		err = fmt.Errorf("testbed %s: %w: %s%s", strings.Join(args, " "), err, out.String(), errOut.String())
	}
	return out.String(), err
}

// do runs testbed several times and stops at the first failure.
func (b *bench) do(lines ...string) error {
	for _, line := range lines {
		if _, err := b.tb(strings.Fields(line)...); err != nil {
			return err
		}
	}
	return nil
}

// fresh makes the cluster whole, and gives each of three nodes a probe.
func (b *bench) fresh() error {
	if err := b.do("up"); err != nil {
		return err
	}
	var err error
	if b.api, err = newAPI(b.cfg); err != nil {
		return err
	}
	manifest := "apiVersion: v1\nkind: Namespace\nmetadata: {name: selftest}\n"
	if err := apply(b.cfg, manifest); err != nil {
		return err
	}
	for i := 1; i <= 3; i++ {
		if err := b.addProbe(b.cfg.node(i)); err != nil {
			return err
		}
	}
	for i := 1; i <= 3; i++ {
		if err := b.waitProbe(b.cfg.node(i), 30*time.Second); err != nil {
			return err
		}
	}
	return nil
}

// addProbe creates the node's probe unless it is there. The service account of
// a new namespace takes a moment to appear.
func (b *bench) addProbe(n Node) error {
	text, err := render("probe.yaml", map[string]any{
		"Node": n.Name(), "Image": probeImage, "Class": "local-small", "Volume": n.Name() + "-small",
	})
	if err != nil {
		return err
	}
	return poll(10*time.Second, 100*time.Millisecond, func() error { return apply(b.cfg, text) })
}

// clear removes all that the self-tests made in the cluster.
func (b *bench) clear() error {
	if _, err := kubectl(b.cfg, "", "delete", "namespace", "selftest", "--ignore-not-found", "--timeout=60s"); err != nil {
		return err
	}
	return b.do("volumes reset")
}

// podState is what is read of a pod.
type podState struct {
	Metadata struct{ UID string }
	Status   struct {
		PodIP             string
		Conditions        []condition
		ContainerStatuses []struct {
			Name         string
			ContainerID  string
			RestartCount int
			Ready        bool
		}
	}
}

func (b *bench) probe(n Node) (podState, error) {
	var pod podState
	err := b.api.get("/api/v1/namespaces/selftest/pods/probe-"+n.Name(), &pod)
	return pod, err
}

// containerIDs returns the identity of the containers that a probe has now.
func (p podState) containerIDs() string {
	var ids []string
	for _, c := range p.Status.ContainerStatuses {
		ids = append(ids, c.ContainerID)
	}
	return strings.Join(ids, " ")
}

// waitProbe waits until the node's probe is Ready and answers.
func (b *bench) waitProbe(n Node, limit time.Duration) error {
	return poll(limit, 100*time.Millisecond, func() error {
		pod, err := b.probe(n)
		if err != nil {
			return err
		}
		for _, c := range pod.Status.ContainerStatuses {
			if !c.Ready {
				return fmt.Errorf("probe-%s: container %s is not Ready", n, c.Name)
			}
		}
		_, err = b.ask(n, "/", "")
		return err
	})
}

// ask sends a request to the node's probe from the host, over a connection of its own.
func (b *bench) ask(n Node, path, arg string) (string, error) {
	pod, err := b.probe(n)
	if err != nil {
		return "", err
	}
	if pod.Status.PodIP == "" {
		return "", fmt.Errorf("probe-%s has no address", n)
	}
	client := http.Client{Timeout: 3 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get("http://" + pod.Status.PodIP + ":8080" + path + "?arg=" + url.QueryEscape(arg))
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = errors.New(strings.TrimSpace(string(body)))
	}
	return string(body), err
}

// powerOff cuts the power of a node, or only kills it if the self-test is to
// show that it would notice.
func (b *bench) powerOff(n Node) error {
	if b.killOnly {
		return b.do("node power-off --kill-only " + n.Name())
	}
	return b.do("node power-off " + n.Name())
}
