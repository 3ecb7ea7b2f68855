// Command testbed runs a real Kubernetes cluster on one machine, and breaks it on purpose.
//
// Every node is a network namespace, a process namespace and a set of disks of
// its own, so that its power, its links and its disks can fail one at a time.
// README.md in this folder is its manual.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
)

// command is one thing that testbed does.
type command struct {
	name string // one or two words
	args string // what follows them, for the usage text
	help string
	run  func(cfg Config, args []string) error
}

// commands lists all of them in the order of the usage text. It is filled in
// init because the commands refer to it.
var commands []command

func init() {
	commands = []command{
		{"build", "", "build the programs that are not in the cache", cmdBuild},
		{"up", "[--nodes 3] [--keep]", "start or mend the cluster, from any earlier state", cmdUp},
		{"down", "", "stop the cluster and leave nothing behind", cmdDown},
		{"check-clean", "", "list what is left of a cluster; exit 1 if anything is", cmdCheckClean},
		{"status", "", "show nodes, links and volumes", cmdStatus},
		{"kubeconfig", "", "print the path of the kubeconfig", cmdKubeconfig},
		{"env", "", "print shell exports: KUBECONFIG and PATH", cmdEnv},
		{"load-image", "FILE.tar...", "import images on every node, now and on nodes to come", cmdLoadImage},
		{"tag-image", "NAME OTHER", "give an image another name on every node that is on", cmdTagImage},
		{"volumes reset", "[--all] [PV...]", "make released (or all, or the named) volumes anew", cmdVolumesReset},
		{"volume faulty", "NODE PV [the flags of faulty set]", "put a file system that fails on demand over a volume that no pod uses yet", cmdVolumeFaulty},
		{"volume sound", "NODE PV", "take it away", cmdVolumeSound},
		{"container kill", "--pod NS/NAME --container C", "SIGKILL every process of a container", cmdContainer("kill")},
		{"container freeze", "--pod NS/NAME --container C", "stop a container's processes from running", cmdContainer("freeze")},
		{"container thaw", "--pod NS/NAME --container C", "let them run again", cmdContainer("thaw")},
		{"pod kill", "--pod NS/NAME [--sandbox]", "SIGKILL every process of a pod at once", cmdPodKill},
		{"node power-off", "NODE", "cut a node's power: processes, link and page cache", cmdPowerOff},
		{"node power-on", "NODE [--wait=true]", "start it again and wait until it is Ready", cmdPowerOn},
		{"node destroy", "NODE", "cut the power and lose the disks for good", cmdDestroy},
		{"node create", "NODE", "add a node with new, empty disks", cmdCreate},
		{"link cut", "NODE api|operator|peer:NODE|cameras|camera:N|all [--direction in|out|both] [--share X]", "drop the packets of one link", cmdLink("cut")},
		{"link mend", "NODE [api|operator|peer:NODE|cameras|camera:N|all]", "let them pass again; without a link, on every link", cmdLink("mend")},
		{"disk fill", "NODE PV [--leave BYTES]", "fill a volume until no byte is left", cmdDiskFill},
		{"disk free", "NODE PV", "give the space back", cmdDiskFree},
		{"faulty mount", "--backing DIR --at DIR [--stdin]", "show a folder through a file system that fails on demand, until it ends", cmdFaultyMount},
		{"faulty set", "--at DIR [--fail KINDS] [--stall TIME] [--share X] [--count N] [--for TIME]", "make calls fail or syncs stall there; without flags, nothing does", cmdFaultySet},
		{"control stop", "PROGRAM", "SIGKILL a part of the control plane", cmdControl("stop")},
		{"control start", "PROGRAM", "start it again", cmdControl("start")},
		{"control freeze", "PROGRAM", "stop it from running", cmdControl("freeze")},
		{"control thaw", "PROGRAM", "let it run again", cmdControl("thaw")},
		{"capture", "--pod NS/NAME", "tell which frames of cameras arrive at a pod until standard input ends", cmdCapture},
		{"route", "NODE", "let the host reach service addresses through NODE", cmdRoute},
		{"logs collect", "DIR", "copy all logs, the cluster's objects and its volumes to DIR", cmdLogsCollect},
		{"selftest", "[NAME...]", "prove that the faults are real, on a cluster of its own", cmdSelftest},
	}
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			os.Exit(2)
		}
		fmt.Fprintln(os.Stderr, "testbed:", err)
		os.Exit(1)
	}
}

// run finds the command that args name and runs it.
func run(args []string) error {
	cfg, err := newConfig()
	if err != nil {
		return err
	}
	if len(args) >= 1 && args[0] == nodeInitCommand {
		return nodeInit(cfg, args[1:])
	}
	for _, c := range commands {
		words := strings.Fields(c.name)
		if len(args) < len(words) || strings.Join(args[:len(words)], " ") != c.name {
			continue
		}
		return c.run(cfg, args[len(words):])
	}
	usage()
	return flag.ErrHelp
}

func usage() {
	fmt.Fprintln(os.Stderr, "usage: testbed COMMAND")
	for _, c := range commands {
		fmt.Fprintf(os.Stderr, "  %-24s %s\n", c.name, c.help)
		if c.args != "" {
			fmt.Fprintf(os.Stderr, "  %-24s   %s\n", "", c.args)
		}
	}
}

// parseArgs parses flags that may stand before, between or after the other
// arguments, and returns those. It fails unless there are min to max of them
// (max < 0: any number).
func parseArgs(fs *flag.FlagSet, args []string, min, max int) ([]string, error) {
	var rest []string
	for {
		if err := fs.Parse(args); err != nil {
			return nil, flag.ErrHelp
		}
		if fs.NArg() == 0 {
			break
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
	if len(rest) < min || (max >= 0 && len(rest) > max) {
		return nil, fmt.Errorf("%s: wrong number of arguments %q", fs.Name(), rest)
	}
	return rest, nil
}

// noArgs is parseArgs for a command without flags or arguments.
func noArgs(name string, args []string) error {
	_, err := parseArgs(flag.NewFlagSet(name, flag.ContinueOnError), args, 0, 0)
	return err
}
