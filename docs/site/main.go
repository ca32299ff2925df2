// Command site makes the documentation's static site from the same Markdown that is read in the
// tree: the pages below docs, and those at the top that they link to. It never uses the network.
//
// Links between pages become links within the site. A link to another file of the tree stays a name
// without a link. The command fails if a link of the site leads nowhere.
package main

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"html/template"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/parser"
	"github.com/yuin/goldmark/renderer/html"
	"github.com/yuin/goldmark/text"
)

//go:embed page.html
var layout string

func main() {
	from := flag.String("from", "../..", "top of the tree")
	to := flag.String("to", "../../bin/site", "folder for the site; what is in it is replaced")
	flag.Parse()
	if err := build(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// page is a page of the site.
type page struct {
	source, file string // paths below the tree and the site
	title        string
	body         template.HTML
	links        []string        // to other pages, as file#anchor
	anchors      map[string]bool // of its headings
}

// site is what is built.
type site struct {
	tree  fs.FS
	pages map[string]*page // by source
	files map[string]bool  // pictures, by path in the tree
}

func build(from, to string) error {
	s := &site{tree: os.DirFS(from), pages: map[string]*page{}, files: map[string]bool{}}
	sources := []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "bench/README.md", "examples/README.md"}
	err := fs.WalkDir(s.tree, "docs", func(file string, d fs.DirEntry, err error) error {
		if err == nil && path.Ext(file) == ".md" {
			sources = append(sources, file)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, source := range sources {
		s.pages[source] = &page{source: source, file: address(source), anchors: map[string]bool{}}
	}
	for _, source := range sources {
		if err := s.render(s.pages[source]); err != nil {
			return fmt.Errorf("%s: %w", source, err)
		}
	}
	if err := s.check(); err != nil {
		return err
	}
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return s.write(to)
}

// address returns where the site has the page of a source.
func address(source string) string {
	source = strings.TrimSuffix(source, ".md")
	if source == "README" {
		return "index.html"
	}
	if path.Base(source) == "README" {
		return path.Dir(source) + "/index.html"
	}
	return source + ".html"
}

// render fills in the page from its source.
func (s *site) render(p *page) error {
	source, err := fs.ReadFile(s.tree, p.source)
	if err != nil {
		return err
	}
	md := goldmark.New(goldmark.WithExtensions(extension.GFM),
		goldmark.WithParserOptions(parser.WithAutoHeadingID()),
		goldmark.WithRendererOptions(html.WithUnsafe())) // pictures are HTML; the pages are ours
	ids := &headings{anchors: p.anchors}
	doc := md.Parser().Parse(text.NewReader(source), parser.WithContext(parser.NewContext(parser.WithIDs(ids))))
	var dead []*ast.Link
	err = ast.Walk(doc, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Heading:
			if entering && p.title == "" {
				p.title = plain(n, source)
			}
		case *ast.Link:
			if !entering {
				break
			}
			to, ok := s.link(p, string(n.Destination))
			if !ok {
				dead = append(dead, n)
			}
			n.Destination = []byte(to)
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		return err
	}
	for _, l := range dead {
		for parent := l.Parent(); l.FirstChild() != nil; {
			parent.InsertBefore(parent, l, l.FirstChild())
		}
		l.Parent().RemoveChild(l.Parent(), l)
	}
	var b bytes.Buffer
	if err := md.Renderer().Render(&b, source, doc); err != nil {
		return err
	}
	p.body = template.HTML(picture.ReplaceAllStringFunc(b.String(), func(tag string) string {
		s.files[path.Join(path.Dir(p.source), picture.FindStringSubmatch(tag)[1])] = true
		return tag
	}))
	return nil
}

// picture matches a picture in a page.
var picture = regexp.MustCompile(`<img src="([^":]+)"`)

// plain returns a heading's text.
func plain(n ast.Node, source []byte) string {
	var b strings.Builder
	_ = ast.Walk(n, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		if t, ok := n.(*ast.Text); ok && entering {
			b.Write(t.Segment.Value(source))
		}
		return ast.WalkContinue, nil
	})
	return b.String()
}

// link returns what a link of a page is on the site. It reports false for a file or folder of the
// tree that is no page, and so has no address there.
func (s *site) link(p *page, target string) (string, bool) {
	if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
		return target, true
	}
	file, anchor, _ := strings.Cut(target, "#")
	to := p
	if file != "" {
		to = s.pages[path.Join(path.Dir(p.source), file)]
	}
	if to == nil {
		return "", false
	}
	p.links = append(p.links, to.source+"#"+anchor)
	relative, err := filepath.Rel(path.Dir(p.file), to.file)
	if err != nil {
		relative = "/" + to.file
	}
	if anchor != "" {
		anchor = "#" + anchor
	}
	return filepath.ToSlash(relative) + anchor, true
}

// check returns an error for each link to a heading that is not there.
func (s *site) check() error {
	var errs []error
	for _, p := range s.pages {
		for _, l := range p.links {
			source, anchor, _ := strings.Cut(l, "#")
			if anchor != "" && !s.pages[source].anchors[anchor] {
				errs = append(errs, fmt.Errorf("%s: the link to %s leads nowhere: the page has no such heading", p.source, l))
			}
		}
	}
	for f := range s.files {
		if _, err := fs.Stat(s.tree, f); err != nil {
			errs = append(errs, fmt.Errorf("there is no picture %s", f))
		}
	}
	return errors.Join(errs...)
}

// entry is a line of the navigation.
type entry struct {
	Title, Link string
	Here        bool
}

func (s *site) write(to string) error {
	t, err := template.New("page").Parse(layout)
	if err != nil {
		return err
	}
	// The home page, the documentation, its guide, and then the rest.
	rank := func(p *page) int {
		return slices.IndexFunc([]bool{p.source == "README.md", p.source == "docs/README.md", p.source == "docs/start.md", strings.HasPrefix(p.source, "docs/services/"),
			strings.HasPrefix(p.source, "docs/"), true}, func(is bool) bool { return is })
	}
	order := slices.SortedFunc(maps.Values(s.pages), func(a, b *page) int {
		return cmp.Or(rank(a)-rank(b), strings.Compare(a.source, b.source))
	})
	for _, p := range order {
		var nav []entry
		for _, o := range order {
			link, err := filepath.Rel(path.Dir(p.file), o.file)
			if err != nil {
				return err
			}
			nav = append(nav, entry{Title: o.title, Link: filepath.ToSlash(link), Here: o == p})
		}
		var b bytes.Buffer
		if err := t.Execute(&b, map[string]any{"Title": p.title, "Body": p.body, "Nav": nav}); err != nil {
			return err
		}
		if err := save(filepath.Join(to, p.file), b.Bytes()); err != nil {
			return err
		}
	}
	for f := range s.files {
		content, err := fs.ReadFile(s.tree, f)
		if err != nil {
			return err
		}
		if err := save(filepath.Join(to, f), content); err != nil {
			return err
		}
	}
	fmt.Printf("%d pages and %d pictures in %s\n", len(s.pages), len(s.files), to)
	return nil
}

func save(file string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return err
	}
	return os.WriteFile(file, content, 0o644)
}

// headings gives headings the anchors that GitHub gives them, so that links work in both places.
type headings struct{ anchors map[string]bool }

// Generate implements parser.IDs.
func (h *headings) Generate(value []byte, _ ast.NodeKind) []byte {
	id := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, linked.ReplaceAllString(string(value), "$1"))
	name := id
	for n := 1; h.anchors[name]; n++ {
		name = fmt.Sprintf("%s-%d", id, n)
	}
	h.Put([]byte(name))
	return []byte(name)
}

// Put implements parser.IDs.
func (h *headings) Put(value []byte) { h.anchors[string(value)] = true }

var linked = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
