package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/reassembly"
	"golang.org/x/sys/unix"
)

// What arrives at a pod from cameras is read from its own network interface, so
// that nobody has to believe the pod's word. Only what passed the node's rules
// is seen there.

const (
	rtspPort = 554
	// A reader that waits for its turn for a second must lose nothing.
	captureBuffer = 64 << 20
	captureLook   = 100 * time.Millisecond
)

// stamp is how cameras number their frames: tests/cameras/README.md.
var stamp = regexp.MustCompile(`gapless-frame-idcam=(\d{3}) n=(\d{12})`)

const stampLength = len("gapless-frame-idcam=000 n=000000000000")

// span is numbers of frames that follow each other, both ends included.
type span [2]uint64

// conversation is one TCP connection from a camera to the pod.
type conversation struct {
	// From is the camera's address.
	From string `json:"from"`
	// Begun is whether the connection was made during the capture.
	Begun bool `json:"begun"`
	// Ended is whether it was ended then.
	Ended bool `json:"ended"`
	// Frames are those whose number arrived.
	Frames []span `json:"frames"`
	// Skipped is how many bytes never arrived before later ones did: of a
	// connection that was cut and given up, or if packets were dropped here.
	Skipped int `json:"skipped"`
	rest    []byte
}

// captured is what cmdCapture prints in the end.
type captured struct {
	Connections []*conversation `json:"connections"`
	// Dropped is how many packets the capture itself lost.
	Dropped uint32 `json:"dropped"`
}

// cmdCapture tells which frames of cameras arrive at a pod until standard input ends.
func cmdCapture(cfg Config, args []string) error {
	fs := flag.NewFlagSet("capture", flag.ContinueOnError)
	pod := fs.String("pod", "", "NAMESPACE/NAME")
	if _, err := parseArgs(fs, args, 0, 0); err != nil {
		return err
	}
	list, err := findPod(cfg, *pod)
	if err != nil {
		return err
	}
	pids := pidsIn(subtree(list[0].freezer()))
	if len(pids) == 0 {
		return fmt.Errorf("pod %s has no process", *pod)
	}
	var socket int
	err = inNetnsAt(fmt.Sprintf("/proc/%d/ns/net", pids[0]), func() error {
		socket, err = packetSocket()
		return err
	})
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	var ended atomic.Bool
	go func() {
		io.Copy(io.Discard, os.Stdin)
		ended.Store(true)
	}()
	fmt.Println(`{"ready":true}`)
	found, err := capture(socket, &ended)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(found)
}

// packetSocket sees each packet of each interface of the network namespace.
func packetSocket() (int, error) {
	const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL<<8&0xff00 // in network byte order
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		return 0, fmt.Errorf("packet socket: %w", err)
	}
	wait := unix.NsecToTimeval(captureLook.Nanoseconds())
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer),
		unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait),
	)
	if err != nil {
		unix.Close(fd)
		return 0, fmt.Errorf("packet socket: %w", err)
	}
	return fd, nil
}

func capture(socket int, ended *atomic.Bool) (*captured, error) {
	found := &captured{Connections: []*conversation{}}
	assembler := reassembly.NewAssembler(reassembly.NewStreamPool(found))
	buffer := make([]byte, 1<<18)
	for !ended.Load() {
		n, _, err := unix.Recvfrom(socket, buffer, 0)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("packet socket: %w", err)
		}
		assemble(assembler, buffer[:n])
	}
	assembler.FlushAll()
	stats, err := unix.GetsockoptTpacketStats(socket, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	found.Dropped = stats.Drops
	return found, nil
}

func assemble(assembler *reassembly.Assembler, data []byte) {
	packet := gopacket.NewPacket(data, layers.LayerTypeEthernet, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	tcp, ok := packet.Layer(layers.LayerTypeTCP).(*layers.TCP)
	if !ok || tcp.SrcPort != rtspPort {
		return
	}
	assembler.AssembleWithContext(packet.NetworkLayer().NetworkFlow(), tcp, arrival{time.Now()})
}

// arrival is when a packet was read.
type arrival struct{ at time.Time }

func (a arrival) GetCaptureInfo() gopacket.CaptureInfo { return gopacket.CaptureInfo{Timestamp: a.at} }

// New is called for each connection.
func (c *captured) New(network, _ gopacket.Flow, tcp *layers.TCP, _ reassembly.AssemblerContext) reassembly.Stream {
	made := &conversation{From: network.Src().String(), Begun: tcp.SYN, Frames: []span{}}
	c.Connections = append(c.Connections, made)
	return made
}

// Accept takes connections too that were there before.
func (c *conversation) Accept(_ *layers.TCP, _ gopacket.CaptureInfo, _ reassembly.TCPFlowDirection, _ reassembly.Sequence, start *bool, _ reassembly.AssemblerContext) bool {
	*start = true
	return true
}

// ReassembledSG gets the bytes in their order.
func (c *conversation) ReassembledSG(sg reassembly.ScatterGather, _ reassembly.AssemblerContext) {
	if _, _, end, skip := sg.Info(); skip > 0 {
		c.Skipped += skip
	} else if end {
		c.Ended = true
	}
	length, _ := sg.Lengths()
	c.read(sg.Fetch(length))
}

// ReassemblyComplete is called when a connection ended, and when the capture does.
func (c *conversation) ReassemblyComplete(reassembly.AssemblerContext) bool { return true }

// read finds the numbers of frames; one may be in two pieces.
func (c *conversation) read(data []byte) {
	text := append(c.rest, data...)
	for _, found := range stamp.FindAllSubmatch(text, -1) {
		number, err := strconv.ParseUint(string(found[2]), 10, 64)
		if err == nil {
			c.note(number)
		}
	}
	// A whole stamp is never kept, so none is found twice.
	keep := min(len(text), stampLength-1)
	c.rest = append([]byte(nil), text[len(text)-keep:]...)
}

func (c *conversation) note(number uint64) {
	if n := len(c.Frames); n > 0 && c.Frames[n-1][1]+1 == number {
		c.Frames[n-1][1] = number
		return
	}
	c.Frames = append(c.Frames, span{number, number})
}
