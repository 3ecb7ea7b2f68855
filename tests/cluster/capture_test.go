package main

import (
	"fmt"
	"reflect"
	"testing"
)

// TestFramesAreFoundOnceWhereverTheBytesAreCut: reassembly hands the bytes over in pieces of any length.
func TestFramesAreFoundOnceWhereverTheBytesAreCut(t *testing.T) {
	var text []byte
	for _, n := range []int{7, 8, 9, 11, 12} {
		text = fmt.Appendf(text, "..gapless-frame-idcam=003 n=%012d t=00000000001795492676..", n)
	}
	for length := 1; length <= len(text); length++ {
		var c conversation
		for at := 0; at < len(text); at += length {
			c.read(text[at:min(at+length, len(text))])
		}
		if want := []span{{7, 9}, {11, 12}}; !reflect.DeepEqual(c.Frames, want) {
			t.Fatalf("in pieces of %d bytes: %v, not %v", length, c.Frames, want)
		}
	}
}
