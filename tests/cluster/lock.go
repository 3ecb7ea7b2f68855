package main

import (
	"fmt"
	"net"
	"time"
)

// lockLimit is longer than the slowest thing that is done under a lock: a cold build.
const lockLimit = 30 * time.Minute

// lock keeps other runs of testbed from working on the same thing: "cluster",
// or the name of a node. It is an abstract socket, so that it leaves no file
// and ends with its holder.
func lock(name string) (unlock func(), err error) {
	address := &net.UnixAddr{Name: "@gapless-testbed-" + name, Net: "unix"}
	var l *net.UnixListener
	err = poll(lockLimit, 10*time.Millisecond, func() error {
		var err error
		if l, err = net.ListenUnix("unix", address); err != nil {
			return fmt.Errorf("another testbed works on %s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func() { l.Close() }, nil
}
