package docstest

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// guides are the pages whose blocks are run: each entry in one session, in order. Those of npm need
// Node and packages from npm's registry: the end-to-end tests run them, by the variable DOCS_NPM.
var guides = []struct {
	name  string
	pages string // a pattern
	lang  string // of the blocks with for=LANG that are run
	npm   bool
	needs string // a program without which the session is left out
}{
	{name: "readme", pages: "README.md"},
	{name: "start", pages: "docs/start.md"},
	{name: "configuration", pages: "docs/configuration.md"},
	{name: "admin", pages: "docs/admin.md"},
	{name: "performance", pages: "docs/performance.md"},
	{name: "services in Go", pages: chapters, lang: "go"},
	{name: "services in Python", pages: chapters, lang: "python", needs: "python3"},
	{name: "services in Node", pages: chapters, lang: "node", npm: true},
	{name: "tuning", pages: "docs/tuning.md"},
	{name: "resgate", pages: "docs/resgate.md"},
	{name: "troubleshooting", pages: "docs/troubleshooting.md"},
	{name: "extensions", pages: "docs/extensions.md"},
	{name: "edge", pages: "docs/edge.md"},
	{name: "failover", pages: "docs/failover.md"},
	{name: "presence", pages: "docs/presence.md"},
	{name: "security", pages: "docs/security.md"},
	{name: "clusters", pages: "docs/clusters.md"},
	{name: "authentication", pages: "docs/authentication.md"},
	{name: "clients", pages: "docs/clients.md", npm: true},
	{name: "sluice-client", pages: "docs/client/README.md", npm: true},
}

// chapters are the pages of the guide to services. Their programs are there in each language, and
// the same commands are run with each.
const chapters = "docs/services/[0-9]*.md"

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
					if !b.has("for") || b.words["for"] == g.lang {
						s.do(b)
					}
				}
			}
		})
	}
}

// command matches a line of a block without a language that should say how it is tested.
var command = regexp.MustCompile(`(?m)^\s*(\$|curl|sluice|make|go|npm|node|docker|helm|systemctl|apt|(\./)?bin/\S+) `)

// Each block says how it is tested, and those that are run are on the page of a guide.
func TestBlocksSayHowTheyAreTested(t *testing.T) {
	guided := tested(t)
	pages := slices.Concat(match(t, "*.md"), match(t, "*/README.md"), match(t, "docs/*.md"), match(t, "docs/*/*.md"))
	slices.Sort(pages)
	for _, page := range slices.Compact(pages) {
		for _, b := range blocks(t, page) {
			switch kind := b.kind(); {
			case b.lang == "json" && kind == "":
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
			case kind == "show" && b.words["show"] == "":
				t.Errorf(`%s: say why the block is not tested: show="…"`, b)
			case kind != "" && kind != "show" && !slices.Contains(guided, page):
				t.Errorf("%s: the block is not run: its page is not in the table of guides", b)
			case b.lang == "" && command.MatchString(b.text), b.lang != "" && b.lang != "text" && kind == "":
				t.Errorf(`%s: say how the block is tested: run, background, file=…, settings, nats or show="…"`, b)
			}
		}
	}
}

// Each chapter of the guide to services has a program, and the command that runs it, in each
// language.
func TestChaptersInEachLanguage(t *testing.T) {
	languages := []string{"go", "node", "python"}
	for _, page := range match(t, chapters) {
		programs, commands := map[string]int{}, map[string]int{}
		for _, b := range blocks(t, page) {
			switch lang := b.words["for"]; {
			case !b.has("for"):
			case !slices.Contains(languages, lang):
				t.Errorf("%s: for=%s is none of %v", b, lang, languages)
			case b.kind() == "file":
				programs[lang]++
			default:
				commands[lang]++
			}
		}
		for _, lang := range languages {
			if programs[lang] != programs["go"] || commands[lang] != commands["go"] || commands[lang] == 0 {
				t.Errorf("%s: %d programs and %d commands in %s, %d and %d in Go", page, programs[lang], commands[lang], lang, programs["go"], commands["go"])
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
