package docstest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// guides are the pages whose blocks are run: each entry in one session, in order. Those of npm need
// Node and packages from npm's registry: the end-to-end tests run them, by the variable DOCS_NPM.
var guides = []struct {
	name  string
	pages string // a pattern
	npm   bool
	needs string // a program without which the session is left out
}{
	{name: "start", pages: "docs/start.md"},
	{name: "services", pages: "docs/services/[0-9]*.md"},
	{name: "python", pages: "docs/services/python.md", needs: "python3"},
	{name: "tuning", pages: "docs/tuning.md"},
	{name: "resgate", pages: "docs/resgate.md"},
	{name: "troubleshooting", pages: "docs/troubleshooting.md"},
	{name: "extensions", pages: "docs/extensions.md"},
	{name: "authentication", pages: "docs/authentication.md"},
	{name: "clients", pages: "docs/clients.md", npm: true},
	{name: "node", pages: "docs/services/node.md", npm: true},
}

// tested returns the pages of all guides.
func tested(t *testing.T) (all []string) {
	for _, g := range guides {
		all = append(all, match(t, g.pages)...)
	}
	return all
}

// match returns the pages of a pattern, in order.
func match(t *testing.T, pattern string) (pages []string) {
	t.Helper()
	found, err := filepath.Glob(root + pattern)
	if err != nil || len(found) == 0 {
		t.Fatalf("no page matches %s: %v", pattern, err)
	}
	for _, f := range found {
		pages = append(pages, strings.TrimPrefix(f, root))
	}
	slices.Sort(pages)
	return pages
}

// The commands of the guides do what the pages say.
func TestGuides(t *testing.T) {
	bin := t.TempDir()
	build := exec.Command("go", "build", "-ldflags=-w", "-o", bin, "./cmd/sluice")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	for _, g := range guides {
		if g.npm != (os.Getenv("DOCS_NPM") != "") {
			continue
		}
		if g.needs != "" {
			if _, err := exec.LookPath(g.needs); err != nil {
				t.Logf("%s is left out: there is no %s", g.name, g.needs)
				continue
			}
		}
		t.Run(g.name, func(t *testing.T) {
			t.Parallel()
			s := newSession(t, bin)
			for _, page := range match(t, g.pages) {
				for _, b := range blocks(t, page) {
					s.do(b)
				}
			}
		})
	}
}

// Each block of a guide says how it is tested.
func TestBlocksSayHowTheyAreTested(t *testing.T) {
	for _, page := range tested(t) {
		for _, b := range blocks(t, page) {
			switch {
			case b.lang == "json":
				d := json.NewDecoder(strings.NewReader(b.text))
				for {
					var v any
					if err := d.Decode(&v); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						t.Errorf("%s: no valid JSON: %v", b, err)
						break
					}
				}
			case b.lang != "" && b.lang != "text" && b.kind() == "":
				t.Errorf("%s: say how the block is tested: run, background, file=…, settings or show", b)
			}
		}
	}
}

func TestMatchLines(t *testing.T) {
	for _, tt := range []struct {
		want, got string
		match     bool
	}{
		{"a", "a", true}, {"a", "b", false}, {"a", "a\nb", false},
		{"a…c", "abbc", true}, {"a.c", "abc", false},
		{"a\n…\nz", "a\nb\nc\nz", true}, {"a\n…\nz", "a\nz", true}, {"a\n…", "a", true}, {"a\n…\nz", "a\nb", false},
	} {
		if got := matchLines(strings.Split(tt.want, "\n"), lines(tt.got)); got != tt.match {
			t.Errorf("%q and %q: %v", tt.want, tt.got, got)
		}
	}
}
