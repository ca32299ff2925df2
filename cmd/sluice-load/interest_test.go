//go:build linux

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const interestResult = "../../bench/results/interest.json"

func TestInterestFlags(t *testing.T) {
	r, err := parseInterest([]string{"-quick"})
	if err != nil || len(r.options.Sizes) != 2 || r.options.Sizes[1] != 20_000 {
		t.Errorf("%v: %+v", err, r)
	}
	for _, args := range [][]string{{"-sizes", "many"}, {"-sizes", "2000,1000"}, {"more"}} {
		if _, err := parseInterest(args); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

// The tables of docs/interest.md are those of the result in the tree: "make interest" writes both.
func TestInterestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/interest.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	doc, again, fitted := filepath.Join(dir, "interest.md"), filepath.Join(dir, "interest.json"), filepath.Join(dir, "coefficients.json")
	if err := os.WriteFile(doc, text, 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := command([]string{"interest", "-from", interestResult, "-into", doc, "-json", again, "-coefficients", fitted}, &out); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(doc)
	if err != nil || !bytes.Equal(text, want) {
		t.Errorf("the tables of docs/interest.md are not up to date: sluice-load interest -from bench/results/interest.json -into docs/interest.md writes them (%v)", err)
	}
	costs, err := os.ReadFile(fitted)
	if built, err2 := os.ReadFile("../../loadtest/capacity/interest.json"); err != nil || err2 != nil || !bytes.Equal(costs, built) {
		t.Errorf("loadtest/capacity/interest.json has other costs than bench/results/interest.json: %v, %v", err, err2)
	}
	kept, err1 := os.ReadFile(again)
	old, err2 := os.ReadFile(interestResult)
	if err1 != nil || err2 != nil || !bytes.Equal(kept, old) || !strings.Contains(out.String(), "| by name | ") {
		t.Errorf("%v, %v: the result is another one after it was read", err1, err2)
	}
}
