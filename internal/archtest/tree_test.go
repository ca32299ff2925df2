package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// module is this module's name, as imports begin with.
const module = "sluice"

// source is one Go file of the tree, parsed.
type source struct {
	path string // from the top of the tree, with slashes
	pkg  string // its folder
	test bool
	text []string // its lines
	fset *token.FileSet
	ast  *ast.File
}

// imports returns the paths that the file imports.
func (s *source) imports() []string {
	var all []string
	for _, i := range s.ast.Imports {
		p, _ := strconv.Unquote(i.Path.Value) // the parser has checked it
		all = append(all, p)
	}
	return all
}

// at says where a node stands.
func (s *source) at(n ast.Node) string {
	return s.path + ":" + strconv.Itoa(s.line(n.Pos()))
}

// line is the line of a position, counted from 1.
func (s *source) line(p token.Pos) int { return s.fset.Position(p).Line }

// selects calls f with every use of a member of an imported package, such as
// "time" and "Now".
func (s *source) selects(f func(n ast.Node, importPath, member string)) {
	names := map[string]string{}
	for _, i := range s.ast.Imports {
		p, _ := strconv.Unquote(i.Path.Value)
		name := path.Base(p)
		if i.Name != nil {
			name = i.Name.Name
		}
		names[name] = p
	}
	ast.Inspect(s.ast, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		if x, ok := sel.X.(*ast.Ident); ok {
			if p, ok := names[x.Name]; ok {
				f(sel, p, sel.Sel.Name)
			}
		}
		return true
	})
}

// top is the top folder of the tree.
func top(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.mod")); err != nil {
		t.Fatal(err)
	}
	return dir
}

// walk calls f with each file of the tree that is ours, by its path from the top.
func walk(t *testing.T, f func(name string)) {
	t.Helper()
	dir := top(t)
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if p != dir && (name == "node_modules" || name == "bin" || strings.HasPrefix(name, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		f(filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sources parses every Go file of the tree.
func sources(t *testing.T) []*source {
	t.Helper()
	dir := top(t)
	var all []*source
	walk(t, func(name string) {
		if !strings.HasSuffix(name, ".go") {
			return
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		s := &source{path: name, pkg: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
			text: lines(string(text)), fset: token.NewFileSet()}
		if s.ast, err = parser.ParseFile(s.fset, name, text, parser.ParseComments); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	})
	if len(all) < 50 {
		t.Fatalf("only %d Go files found under %s", len(all), dir)
	}
	return all
}

// parse reads a source that stands in a test.
func parse(t *testing.T, text string) *source {
	t.Helper()
	s := &source{path: "fault.go", pkg: "p", text: lines(text), fset: token.NewFileSet()}
	var err error
	if s.ast, err = parser.ParseFile(s.fset, s.path, text, parser.ParseComments); err != nil {
		t.Fatal(err)
	}
	return s
}

// lines returns the lines of a text that ends in a line feed.
func lines(text string) []string {
	return strings.Split(strings.TrimSuffix(text, "\n"), "\n")
}
