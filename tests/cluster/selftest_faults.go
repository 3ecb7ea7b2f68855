package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// testContainerFaults: freeze, thaw and kill reach one container, and pod kill all of them.
func testContainerFaults(b *bench) error {
	n := b.cfg.node(1)
	const target = " --pod selftest/probe-n1 --container probe"
	before, err := b.probe(n)
	if err != nil {
		return err
	}
	if err := b.do("container freeze" + target); err != nil {
		return err
	}
	if _, err := b.ask(n, "/", ""); err == nil {
		return errors.New("a frozen container answers")
	}
	if err := b.do("container thaw" + target); err != nil {
		return err
	}
	if _, err := b.ask(n, "/", ""); err != nil {
		return fmt.Errorf("a thawed container does not answer: %w", err)
	}
	if err := b.do("container kill" + target); err != nil {
		return err
	}
	if err := b.waitRestarts(n, before, map[string]int{"probe": 1, "idle": 0}); err != nil {
		return err
	}
	if err := b.do("pod kill --pod selftest/probe-n1"); err != nil {
		return err
	}
	if err := b.waitRestarts(n, before, map[string]int{"probe": 2, "idle": 1}); err != nil {
		return err
	}
	if err := b.do("pod kill --sandbox --pod selftest/probe-n1"); err != nil {
		return err
	}
	return b.waitRestarts(n, before, map[string]int{"probe": 3, "idle": 2})
}

// waitRestarts waits until the probe's containers have been started again so many times.
func (b *bench) waitRestarts(n Node, before podState, want map[string]int) error {
	base := map[string]int{}
	for _, c := range before.Status.ContainerStatuses {
		base[c.Name] = c.RestartCount
	}
	err := poll(60*time.Second, 100*time.Millisecond, func() error {
		now, err := b.probe(n)
		if err != nil {
			return err
		}
		for _, c := range now.Status.ContainerStatuses {
			if got := c.RestartCount - base[c.Name]; got != want[c.Name] {
				return fmt.Errorf("container %s was started again %d times, not %d", c.Name, got, want[c.Name])
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return b.waitProbe(n, 30*time.Second)
}

// camera is a stand-in for the cameras: a web server and a counter of datagrams
// in their network namespace.
type camera struct {
	web      net.Listener
	udp      net.PacketConn
	received atomic.Int64
}

func startCamera() (*camera, error) {
	c := &camera{}
	err := inNetns(camsNetns, func() error {
		var err error
		if c.web, err = net.Listen("tcp", camsIP+":8554"); err != nil {
			return err
		}
		c.udp, err = net.ListenPacket("udp", camsIP+":9000")
		return err
	})
	if err != nil {
		return nil, err
	}
	go http.Serve(c.web, http.NotFoundHandler())
	go func() {
		buffer := make([]byte, 64)
		for {
			if _, _, err := c.udp.ReadFrom(buffer); err != nil {
				return
			}
			c.received.Add(1)
		}
	}()
	return c, nil
}

func (c *camera) stop() {
	c.web.Close()
	c.udp.Close()
}

// targets returns what the probe of n1 tries to reach, by the link that it uses.
func (b *bench) targets() (map[string][]string, error) {
	targets := map[string][]string{
		"api":     {fmt.Sprintf("https://%s:443/version", kubernetesIP), fmt.Sprintf("https://%s:%d/version", hostIP, apiPort)},
		"cameras": {"http://" + camsIP + ":8554/"},
	}
	for _, i := range []int{2, 3} {
		n := b.cfg.node(i)
		pod, err := b.probe(n)
		if err != nil {
			return nil, err
		}
		var service struct{ Spec struct{ ClusterIP string } }
		if err := b.api.get("/api/v1/namespaces/selftest/services/probe-"+n.Name(), &service); err != nil {
			return nil, err
		}
		targets["peer:"+n.Name()] = []string{
			"http://" + pod.Status.PodIP + ":8080/", "http://" + service.Spec.ClusterIP + ":8080/",
		}
	}
	return targets, nil
}

// testLinks: each link cut alone separates what it joins, also over connections
// that are open already and through services, and nothing else.
func testLinks(b *bench) error {
	cam, err := startCamera()
	if err != nil {
		return err
	}
	defer cam.stop()
	targets, err := b.targets()
	if err != nil {
		return err
	}
	n := b.cfg.node(1)
	for _, link := range []string{"", "api", "peer:n2", "cameras", "peer:n3", ""} {
		if link != "" {
			if err := b.do("link cut n1 " + link); err != nil {
				return err
			}
		}
		for other, urls := range targets {
			for _, url := range append(urls, urls...) {
				if err := b.expect(n, url, other != link); err != nil {
					return fmt.Errorf("link %q is cut: %w", link, err)
				}
			}
		}
		if link != "" {
			if err := b.do("link mend n1 " + link); err != nil {
				return err
			}
		}
	}
	return nil
}

// expect checks that the node's probe reaches a URL, or that it does not.
func (b *bench) expect(n Node, url string, reachable bool) error {
	_, err := b.ask(n, "/fetch", url)
	if reachable && err != nil {
		return fmt.Errorf("%s cannot reach %s: %w", n, url, err)
	}
	if !reachable && err == nil {
		return fmt.Errorf("%s reaches %s", n, url)
	}
	return nil
}

// testDirections: a link that is cut in one direction lets the other pass.
func testDirections(b *bench) error {
	cam, err := startCamera()
	if err != nil {
		return err
	}
	defer cam.stop()
	n := b.cfg.node(1)
	for direction, want := range map[string]struct{ in, out bool }{
		"in": {false, true}, "out": {true, false}, "both": {false, false},
	} {
		if err := b.do("link cut n1 cameras --direction " + direction); err != nil {
			return err
		}
		in, out, err := b.exchange(n, cam)
		if err != nil {
			return err
		}
		if in != want.in || out != want.out {
			return fmt.Errorf("direction %s is cut, and packets pass: in %v, out %v", direction, in, out)
		}
	}
	if err := b.do("link mend n1"); err != nil {
		return err
	}
	if in, out, err := b.exchange(n, cam); err != nil || !in || !out {
		return fmt.Errorf("the link is mended, and packets pass: in %v, out %v (%v)", in, out, err)
	}
	return nil
}

// exchange tells whether datagrams from the camera reach the node's probe, and the other way round.
func (b *bench) exchange(n Node, cam *camera) (in, out bool, err error) {
	pod, err := b.probe(n)
	if err != nil {
		return false, false, err
	}
	before, err := b.receivedBy(n)
	if err != nil {
		return false, false, err
	}
	outBefore := cam.received.Load()
	if _, err := b.ask(n, "/send", camsIP+":9000"); err != nil {
		return false, false, err
	}
	address, err := net.ResolveUDPAddr("udp", pod.Status.PodIP+":9000")
	if err != nil {
		return false, false, err
	}
	if _, err := cam.udp.WriteTo([]byte("x"), address); err != nil {
		return false, false, err
	}
	time.Sleep(300 * time.Millisecond)
	after, err := b.receivedBy(n)
	return after > before, cam.received.Load() > outBefore, err
}

func (b *bench) receivedBy(n Node) (int, error) {
	text, err := b.ask(n, "/received", "")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(text))
}

// testAllLinks: with all links cut nothing enters or leaves the node.
func testAllLinks(b *bench) error {
	n2 := b.cfg.node(2)
	pod, err := b.probe(b.cfg.node(1))
	if err != nil {
		return err
	}
	url := "http://" + pod.Status.PodIP + ":8080/"
	if err := b.expect(n2, url, true); err != nil {
		return err
	}
	if err := b.do("link cut n1 all"); err != nil {
		return err
	}
	if err := b.expect(n2, url, false); err != nil {
		return err
	}
	if _, err := b.ask(b.cfg.node(1), "/", ""); err == nil {
		return errors.New("the host reaches a node that is cut off")
	}
	if err := b.do("link mend n1 all"); err != nil {
		return err
	}
	return b.expect(n2, url, true)
}

// testDiskFull: a full volume refuses the next byte, and a freed one takes it.
func testDiskFull(b *bench) error {
	n := b.cfg.node(1)
	if _, err := b.ask(n, "/write", "/media/file"); err != nil {
		return err
	}
	if err := b.do("disk fill n1 small", "disk fill n1 d1"); err != nil {
		return err
	}
	_, err := b.ask(n, "/write", "/media/file")
	if err == nil || !strings.Contains(err.Error(), "no space left") {
		return fmt.Errorf("a write to a full disk gave: %v", err)
	}
	if err := b.do("disk free n1 small", "disk free n1 d1"); err != nil {
		return err
	}
	if _, err := b.ask(n, "/write", "/media/file"); err != nil {
		return fmt.Errorf("a write to a freed disk: %w", err)
	}
	return nil
}

// testDiskFaulty: a pod that starts on a faulty volume feels its faults, no other
// does, and a power cut and the end of the cluster leave nothing of it.
func testDiskFaulty(b *bench) error {
	n, other := b.cfg.node(1), b.cfg.node(2)
	if _, err := b.tb("volume", "faulty", "n1", "small"); err == nil {
		return errors.New("a volume that a pod uses was made faulty under it")
	}
	// Without grace, as its manifest has it, the pod would leave the API before its volume leaves the node.
	if _, err := kubectl(b.cfg, "", "delete", "pod", "-n", "selftest", "probe-n1", "--grace-period=1", "--timeout=60s"); err != nil {
		return err
	}
	if err := b.do("volume faulty n1 small"); err != nil {
		return err
	}
	if err := b.addProbe(n); err != nil {
		return err
	}
	if err := b.waitProbe(n, 30*time.Second); err != nil {
		return err
	}
	write := func(n Node) error {
		_, err := b.ask(n, "/write", "/media/file")
		return err
	}
	if err := write(n); err != nil {
		return fmt.Errorf("healthy: %w", err)
	}
	if err := b.do("volume faulty n1 small --fail all"); err != nil {
		return err
	}
	if err := write(n); err == nil {
		return errors.New("a write to a failing disk succeeds")
	}
	if err := write(other); err != nil {
		return fmt.Errorf("another node's disk: %w", err)
	}
	if err := b.do("volume faulty n1 small"); err != nil {
		return err
	}
	if err := write(n); err != nil {
		return fmt.Errorf("healthy again: %w", err)
	}
	if err := b.do("node power-off n1", "node power-on n1"); err != nil {
		return err
	}
	if v, err := n.volume("small"); err != nil || v.isFaulty() {
		return fmt.Errorf("after a power cut the volume is still faulty: %v", err)
	}
	return b.waitProbe(n, 60*time.Second)
}

// testControlFaults: a frozen or killed API server does not answer, and the nodes go on.
func testControlFaults(b *bench) error {
	n := b.cfg.node(1)
	targets, err := b.targets()
	if err != nil {
		return err
	}
	pod, err := b.probe(n)
	if err != nil {
		return err
	}
	for _, fault := range [][2]string{{"freeze", "thaw"}, {"stop", "start"}} {
		if err := b.do("control " + fault[0] + " apiserver"); err != nil {
			return err
		}
		for link, urls := range targets {
			if link == "cameras" {
				continue
			}
			response, err := http.Get("http://" + pod.Status.PodIP + ":8080/fetch?arg=" + urls[0])
			if err != nil {
				return err
			}
			response.Body.Close()
			if reached := response.StatusCode == http.StatusOK; reached != (link != "api") {
				return fmt.Errorf("API server: %s: link %s: reached is %v", fault[0], link, reached)
			}
		}
		if err := b.do("control " + fault[1] + " apiserver"); err != nil {
			return err
		}
		if err := waitAPI(b.cfg, 30*time.Second); err != nil {
			return err
		}
	}
	return nil
}
