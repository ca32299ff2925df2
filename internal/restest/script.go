package restest

import (
	"fmt"
	"os"
	"regexp"
	"strings"
)

// Script is a parsed transcript.
type Script struct {
	File     string
	Settings map[string]string
	Steps    []Step
	source   []string // the file's lines, for rewriting
}

// Step is one line of a transcript, or a block with the lines inside it.
type Step struct {
	Line   int    // first line, counted from 1
	Lines  int    // number of lines, continuations included
	Verb   string // the first word, or two for "client" lines: "client <"
	Client string // of client and http lines
	Arg    string // what follows
	More   []string
	Values []string // of "each"
	Body   []Step   // of blocks
}

// Load reads and parses a transcript file.
func Load(file string) (*Script, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return Parse(file, string(b))
}

// Parse parses a transcript; file is for messages only.
func Parse(file, text string) (*Script, error) {
	s := &Script{File: file, Settings: map[string]string{}, source: strings.Split(text, "\n")}
	p := parser{script: s}
	if err := p.join(); err != nil {
		return nil, err
	}
	steps, closer, err := p.block()
	if err != nil {
		return nil, err
	}
	if closer.text != "" {
		return nil, fmt.Errorf("%s:%d: %q without a block", file, closer.line, closer.text)
	}
	s.Steps = steps
	return s, nil
}

// logical is a line with its continuations.
type logical struct {
	line, count int
	text        string
	more        []string
}

type parser struct {
	script *Script
	lines  []logical
	next   int
}

func (p *parser) join() error {
	for i, raw := range p.script.source {
		text := strings.TrimSpace(raw)
		switch {
		case text == "" || strings.HasPrefix(text, "#"):
		case raw[0] == ' ' || raw[0] == '\t':
			if len(p.lines) == 0 {
				return fmt.Errorf("%s:%d: a continuation of nothing", p.script.File, i+1)
			}
			l := &p.lines[len(p.lines)-1]
			l.more = append(l.more, text)
			l.count = i + 2 - l.line
		default:
			p.lines = append(p.lines, logical{line: i + 1, count: 1, text: text})
		}
	}
	return nil
}

var clientLine = regexp.MustCompile(`^client (\w+) (\S+)(?: (.*))?$`)

// block parses steps up to an "end", which is returned, or the end of the file.
func (p *parser) block() (steps []Step, closer logical, err error) {
	for p.next < len(p.lines) {
		l := p.lines[p.next]
		p.next++
		fail := func(format string, a ...any) error {
			return fmt.Errorf("%s:%d: %s", p.script.File, l.line, fmt.Sprintf(format, a...))
		}
		verb, arg, _ := strings.Cut(l.text, " ")
		st := Step{Line: l.line, Lines: l.count, Verb: verb, Arg: strings.TrimSpace(arg), More: l.more}
		switch verb {
		case "end":
			return steps, l, nil
		case "set":
			k, v, ok := strings.Cut(st.Arg, " ")
			if !ok || len(steps) > 0 {
				return nil, l, fail("set needs a key and a value, before the first step")
			}
			p.script.Settings[k] = strings.TrimSpace(v)
			continue
		case "client":
			m := clientLine.FindStringSubmatch(l.text)
			if m == nil {
				return nil, l, fail("not a client line: %s", l.text)
			}
			st.Client, st.Verb, st.Arg = m[1], "client "+m[2], m[3]
			switch m[2] {
			case "subscribes", "upgrades", "early", "leaves", "accepted", "refused":
			default:
				st.join()
			}
		case "http":
			m := httpLine.FindStringSubmatch(l.text)
			if m == nil {
				return nil, l, fail("not an http line: %s", l.text)
			}
			st.Client, st.Verb, st.Arg = m[1], "http "+m[2], m[3]
		case "service":
			w, rest, _ := strings.Cut(st.Arg, " ")
			st.Verb, st.Arg = "service "+w, strings.TrimSpace(rest)
			st.join()
		case "each":
			if len(l.more) == 0 || p.next == len(p.lines) || p.lines[p.next].text != "do" {
				return nil, l, fail("each needs its values as indented lines, then do")
			}
			p.next++
			st.Values, st.More = l.more, nil
		case "any", "repeat", "quiet", "advance", "logs", "waits", "subscribed", "unsubscribed", "differ":
		default:
			return nil, l, fail("unknown verb %q", verb)
		}
		if verb == "each" || verb == "any" || verb == "repeat" {
			var c logical
			if st.Body, c, err = p.block(); err != nil {
				return nil, l, err
			}
			if c.text != "end" {
				return nil, l, fail("%s without end", verb)
			}
		}
		steps = append(steps, st)
	}
	return steps, logical{}, nil
}

// join appends continuation lines to the argument.
func (st *Step) join() {
	if len(st.More) > 0 {
		st.Arg = strings.TrimSpace(st.Arg + " " + strings.Join(st.More, " "))
		st.More = nil
	}
}

// replace rewrites a step's line in the source with one line.
func (s *Script) replace(st *Step, text string) {
	s.source[st.Line-1] = text
	for i := st.Line; i < st.Line-1+st.Lines; i++ {
		s.source[i] = "\x00"
	}
}

// save writes the source back, without the lines that replace took away.
func (s *Script) save() error {
	kept := make([]string, 0, len(s.source))
	for _, l := range s.source {
		if l != "\x00" {
			kept = append(kept, l)
		}
	}
	return os.WriteFile(s.File, []byte(strings.Join(kept, "\n")), 0o644)
}
