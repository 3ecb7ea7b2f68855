package main

import (
	"strings"
	"testing"
)

func TestCutsAsRules(t *testing.T) {
	for _, c := range []struct {
		name string
		cuts cuts
		want string
	}{
		{"none", cuts{}, `*raw
:TESTBED-CUT - [0:0]
COMMIT
*mangle
:TESTBED-CUT - [0:0]
COMMIT
`},
		{"peer, both ways", cuts{"peer:n2": every(cutBoth)}, `*raw
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -i eth0 -s 198.18.0.12 -j DROP
-A TESTBED-CUT -i eth0 -s 198.18.102.0/24 -j DROP
COMMIT
*mangle
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -o eth0 -d 198.18.0.12 -j DROP
-A TESTBED-CUT -o eth0 -d 198.18.102.0/24 -j DROP
COMMIT
`},
		{"one way each", cuts{"cameras": every(cutIn), "api": every(cutOut)}, `*raw
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -i eth0 -s 198.18.0.2 -j DROP
-A TESTBED-CUT -i eth0 -s 198.18.0.64/26 -j DROP
COMMIT
*mangle
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -o eth0 -p tcp -d 198.18.0.1 --dport 6443 -j DROP
-A TESTBED-CUT -o eth0 -p tcp -d 198.18.0.1 --sport 10250 -j DROP
COMMIT
`},
		{"one camera", cuts{"camera:3": every(cutIn)}, `*raw
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -i eth0 -s 198.18.0.67 -j DROP
COMMIT
*mangle
:TESTBED-CUT - [0:0]
COMMIT
`},
		{"a part of one camera's", cuts{"camera:3": {cutBoth, 0.01}}, `*raw
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -i eth0 -s 198.18.0.67 -m statistic --mode random --probability 0.01 -j DROP
COMMIT
*mangle
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -o eth0 -d 198.18.0.67 -m statistic --mode random --probability 0.01 -j DROP
COMMIT
`},
		{"the operator's", cuts{"operator": every(cutIn)}, `*raw
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -i eth0 -p tcp --dport 7444 -j DROP
-A TESTBED-CUT -i eth0 -p tcp --sport 7444 -j DROP
COMMIT
*mangle
:TESTBED-CUT - [0:0]
COMMIT
`},
		{"everything", cuts{"all": every(cutBoth)}, `*raw
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -i eth0 -j DROP
COMMIT
*mangle
:TESTBED-CUT - [0:0]
-A TESTBED-CUT -o eth0 -j DROP
COMMIT
`},
	} {
		got, err := restoreInput(testConfig, c.cuts)
		if err != nil || strings.Join(strings.Fields(got), " ") != strings.Join(strings.Fields(c.want), " ") {
			t.Errorf("%s: %v\n%s", c.name, err, got)
		}
	}
}

func TestPacketsOfRules(t *testing.T) {
	const head = "Chain TESTBED-CUT (1 references)\n    pkts      bytes target     prot opt in     out     source               destination\n"
	for _, c := range []struct {
		rules string
		want  uint64
		fails bool
	}{
		{"", 0, false},
		{"      12     1440 DROP       all  --  eth0   *       198.18.0.12          0.0.0.0/0\n" +
			"       3      180 DROP       all  --  eth0   *       198.18.102.0/24      0.0.0.0/0\n", 15, false},
		{"     12K     1440 DROP       all  --  eth0   *       198.18.0.12          0.0.0.0/0\n", 0, true},
	} {
		got, err := packets(head + c.rules)
		if got != c.want || (err != nil) != c.fails {
			t.Errorf("%q: %d, %v", c.rules, got, err)
		}
	}
}

func TestUnknownLinks(t *testing.T) {
	for _, link := range []string{"", "peer", "peer:", "peer:x", "internet", "camera:", "camera:64"} {
		if _, err := linkMatches(testConfig, link); err == nil {
			t.Errorf("%q was accepted", link)
		}
	}
}
