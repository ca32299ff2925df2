//go:build linux

package main

import (
	"strings"
	"testing"
)

// The command runs the worlds that it is asked for, and says how many.
func TestSimulate(t *testing.T) {
	var out strings.Builder
	if err := command([]string{"simulate", "-seed", "7", "-world", "3", "-worlds", "2"}, &out); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, "seed 7\n2 worlds, ") {
		t.Errorf("output: %s", got)
	}
	if err := command([]string{"simulate", "for", "ever"}, &out); err == nil {
		t.Error("arguments are accepted")
	}
}
