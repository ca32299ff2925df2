package archtest

import (
	"go/ast"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const (
	// maxColumns bounds a comment line, its indentation included.
	maxColumns = 100
	// tabColumns is how many columns the rule counts for a tab.
	tabColumns = 4
	// maxMethods bounds the methods of one type. A type with several roles embeds a struct per
	// role.
	maxMethods = 40
)

// directive matches comments that tools read: they must stay on one line.
var directive = regexp.MustCompile(`^//([a-z]+:[a-z]|nolint|export |line |extern )`)

// wideComments returns the numbers of the lines that consist of a comment longer than
// maxColumns. Directives are exempt, and so is a line whose text is one word, such as an address.
func (s *source) wideComments() (lines []int) {
	for _, group := range s.ast.Comments {
		for _, c := range group.List {
			if directive.MatchString(c.Text) {
				continue
			}
			first := s.line(c.Pos())
			for i, text := range strings.Split(c.Text, "\n") {
				line := s.text[first+i-1]
				if i == 0 && !strings.HasPrefix(strings.TrimLeft(line, " \t"), text) {
					continue // follows code on its line
				}
				words := len(strings.Fields(strings.TrimLeft(text, "/* \t")))
				if words > 1 && columns(line) > maxColumns {
					lines = append(lines, first+i)
				}
			}
		}
	}
	return lines
}

// columns returns the width of a line.
func columns(line string) (n int) {
	for _, r := range line {
		if r == '\t' {
			n += tabColumns - n%tabColumns
		} else {
			n++
		}
	}
	return n
}

// Comments fit beside another window: they wrap at maxColumns.
func TestCommentsWrap(t *testing.T) {
	for _, s := range sources(t) {
		for _, line := range s.wideComments() {
			t.Errorf("%s:%d: a comment line is longer than %d columns (a tab counts %d): wrap it", s.path, line, maxColumns, tabColumns)
		}
	}
}

// countMethods adds the methods that the file declares, by folder and type: "netpoll.Conn".
func (s *source) countMethods(count map[string]int) {
	for _, d := range s.ast.Decls {
		f, ok := d.(*ast.FuncDecl)
		if !ok || f.Recv == nil {
			continue
		}
		if name := receiver(f); name != nil {
			count[s.pkg+"."+name.Name]++
		}
	}
}

// A type with dozens of methods has more than one role, and no reader can hold it in the head.
func TestTypesAreSmall(t *testing.T) {
	count := map[string]int{}
	for _, s := range sources(t) {
		s.countMethods(count)
	}
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if n := count[name]; n > maxMethods {
			t.Errorf("%s has %d methods, more than %d: embed a type for each role", name, n, maxMethods)
		}
	}
}

func TestWideCommentsAreFound(t *testing.T) {
	long := strings.Repeat("long ", 20) // 100 columns with its last space
	s := parse(t, "package p\n\n"+
		"// "+long+"\n"+ // 3: 102 columns
		"// "+long[:96]+"\n"+ // 99 columns
		"//go:generate "+long+"\n"+
		"// https://"+strings.Repeat("a", 100)+"\n"+
		"func f() {\n"+
		"\t// "+long[:92]+"\n"+ // 99 columns
		"\t// "+long[:94]+"\n"+ // 9: 101 columns
		"\tf() // "+long+"\n"+
		"\t/* short\n"+
		long+long+"*/\n"+ // 12
		"}\n")
	if got, want := s.wideComments(), []int{3, 9, 12}; !slices.Equal(got, want) {
		t.Errorf("wide comment lines %v, want %v", got, want)
	}
}

func TestMethodsAreCounted(t *testing.T) {
	count := map[string]int{}
	parse(t, `package p

type a struct{}
type b[T any] struct{}

func (a) one()     {}
func (x *a) two()  {}
func (b[T]) one()  {}
func (*b[T]) two() {}
func free()        {}
`).countMethods(count)
	if want := map[string]int{"p.a": 2, "p.b": 2}; !maps.Equal(count, want) {
		t.Errorf("methods %v, want %v", count, want)
	}
}
