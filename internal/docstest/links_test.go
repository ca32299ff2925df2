package docstest

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"
)

var (
	link    = regexp.MustCompile(`\]\(([^()\s]+)\)|<img src="([^"]+)"|<source srcset="([^"]+)"`)
	heading = regexp.MustCompile(`^#{1,6} (.+)$`)
	inCode  = regexp.MustCompile("`[^`\n]*`")
	linked  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// Links between the pages of the tree, and to files in it, lead somewhere.
func TestLinks(t *testing.T) {
	pages := 0
	err := filepath.WalkDir(root, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(filepath.ToSlash(file), root)
		if d.IsDir() {
			switch {
			case d.Name() == "node_modules" || strings.HasPrefix(d.Name(), ".") && name != "", name == "bin", d.Name() == "templates":
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".md") {
			return nil
		}
		pages++
		text, _ := prose(read(t, name))
		for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(text, ""), -1) {
			target := m[1] + m[2] + m[3]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			to, anchor, _ := strings.Cut(target, "#")
			if to = path.Join(path.Dir(name), to); strings.HasPrefix(target, "#") {
				to = name
			}
			if _, err := os.Stat(root + to); err != nil {
				t.Errorf("%s: the link to %s leads nowhere", name, target)
				continue
			}
			if anchor != "" && strings.HasSuffix(to, ".md") {
				if _, anchors := prose(read(t, to)); !anchors[anchor] {
					t.Errorf("%s: the link to %s: the page has no such heading", name, target)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if pages < 5 {
		t.Errorf("only %d pages found", pages)
	}
}

// The README of an npm package is read where the tree is not: it links only to its own files.
func TestLinksOfPackages(t *testing.T) {
	packages := 0
	for _, file := range match(t, "docs/*/package.json") {
		folder := path.Dir(file)
		text, _ := prose(read(t, folder+"/README.md"))
		for _, m := range link.FindAllStringSubmatch(inCode.ReplaceAllString(text, ""), -1) {
			target := m[1] + m[2] + m[3]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "#") || strings.Contains(read(t, file), `"`+target+`"`) {
				continue
			}
			t.Errorf("%s/README.md: the link to %s leads nowhere in the package", folder, target)
		}
		packages++
	}
	if packages == 0 {
		t.Error("no package found")
	}
}

// Every page of docs is reached from its index, and the index from the README.
func TestIndex(t *testing.T) {
	if !strings.Contains(read(t, "README.md"), "](docs/README.md)") {
		t.Error("README.md has no link to docs/README.md")
	}
	index := read(t, "docs/README.md")
	for _, pattern := range []string{"docs/*.md", "docs/services/*.md"} {
		for _, page := range match(t, pattern) {
			if name := strings.TrimPrefix(page, "docs/"); name != "README.md" && !strings.Contains(index, "]("+name+")") {
				t.Errorf("docs/README.md has no link to %s", name)
			}
		}
	}
}

// prose returns a page without its fenced blocks, and the anchors of its headings.
func prose(page string) (string, map[string]bool) {
	var b strings.Builder
	anchors := map[string]bool{}
	counts := map[string]int{}
	end := ""
	for line := range strings.Lines(page) {
		line = strings.TrimRight(line, "\n")
		switch m := heading.FindStringSubmatch(line); {
		case end != "":
			if line == end {
				end = ""
			}
			continue
		case fence.MatchString(line):
			end = line[:len(line)-len(strings.TrimLeft(line, "`"))]
			continue
		case m != nil:
			a := anchor(m[1])
			if n := counts[a]; n > 0 {
				anchors[a+"-"+strconv.Itoa(n)] = true
			} else {
				anchors[a] = true
			}
			counts[a]++
		}
		b.WriteString(line + "\n")
	}
	return b.String(), anchors
}

// anchor returns the anchor that GitHub gives a heading.
func anchor(title string) string {
	title = linked.ReplaceAllString(title, "$1")
	return strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, title)
}
