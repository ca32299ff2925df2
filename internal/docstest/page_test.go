package docstest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

// root is the top of the tree.
const root = "../../"

// block is a fenced block of a page.
type block struct {
	page  string // relative to root
	line  int    // of its first line of text
	lang  string
	words map[string]string // what follows the language: words, and NAME=VALUE
	text  string
}

func (b block) String() string { return fmt.Sprintf("%s:%d", b.page, b.line) }

var (
	fence  = regexp.MustCompile("^```+(\\w*)(.*)$")
	hidden = regexp.MustCompile(`^<!-- sh (.+?): (.*) -->$`)
	// word matches a word after a block's language; a value may be in double quotes.
	word = regexp.MustCompile(`(\w+)(?:=(?:"([^"]*)"|(\S+)))?`)
)

// blocks returns the fenced blocks of a page.
func blocks(t *testing.T, page string) (all []block) {
	t.Helper()
	var open *block
	end := ""
	for i, line := range strings.Split(read(t, page), "\n") {
		switch m := fence.FindStringSubmatch(line); {
		case open != nil && line == end:
			all = append(all, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case m != nil:
			open = &block{page: page, line: i + 2, lang: m[1], words: map[string]string{}}
			end = line[:len(line)-len(strings.TrimLeft(line, "`"))]
			open.say(m[2])
		default:
			if m := hidden.FindStringSubmatch(line); m != nil {
				b := block{page: page, line: i + 1, lang: "sh", words: map[string]string{}, text: m[2]}
				b.say(m[1])
				all = append(all, b)
			}
		}
	}
	if open != nil {
		t.Fatalf("%s: the block is not closed", open)
	}
	return all
}

// say sets the words of a block.
func (b *block) say(words string) {
	for _, w := range word.FindAllStringSubmatch(words, -1) {
		b.words[w[1]] = w[2] + w[3]
	}
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(root + page)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func (b block) has(word string) bool {
	_, ok := b.words[word]
	return ok
}

// kind returns how the block is tested; "" if it does not say.
func (b block) kind() string {
	for _, k := range []string{"run", "background", "file", "settings", "nats", "show"} {
		if b.has(k) {
			return k
		}
	}
	return ""
}

// step is a command of a block with its expected output.
type step struct {
	line    int
	command string
	output  []string // nil: any
}

// steps takes a block of commands apart. A command ends at an empty line, at its output, and at the
// end of a line, unless that ends in a backslash or the block is one script.
func (b block) steps() (all []step) {
	open := false // the last line belongs to a command that is not finished
	after := false
	for i, line := range strings.Split(b.text, "\n") {
		switch {
		case strings.TrimSpace(line) == "":
			open, after = false, false
		case open:
			all[len(all)-1].command += "\n" + line
			open = strings.HasSuffix(line, `\`)
		case strings.HasPrefix(line, "#"):
			if after {
				s := &all[len(all)-1]
				s.output = append(s.output, strings.TrimPrefix(strings.TrimPrefix(line, "#"), " "))
			}
		default:
			all = append(all, step{line: b.line + i, command: line})
			open, after = strings.HasSuffix(line, `\`), true
		}
	}
	return all
}
