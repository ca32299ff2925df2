package transcript

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
)

// Language lists the verbs that a runner knows. It is immutable.
type Language struct {
	Actors []string // kinds of named actors: "client" in "client a < …"
	Blocks []string // verbs that open a block, in addition to "each"
	Verbs  []string // all other verbs
	Keep   []string // verbs whose continuation lines stay in Step.More instead of joining Step.Arg
}

// Script is a parsed file.
type Script struct {
	File     string
	Settings map[string]string
	Steps    []Step
	source   []string // the file's lines
	edits    []edit
}

// Step is one line of a script, or a block with the lines inside it.
type Step struct {
	Line   int    // first line, counted from 1
	Lines  int    // number of lines, continuations included
	Verb   string // "advance", "service <", "client <"
	Actor  string // "a" of "client a < …"
	Arg    string // the rest of the line
	More   []string
	Values []string // of "each"
	Body   []Step   // of blocks
}

// edit replaces lines of the source.
type edit struct {
	line, count int // the first line, counted from 1
	text        []string
}

// Load reads and parses a file.
func (l *Language) Load(file string) (*Script, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	return l.Parse(file, string(b))
}

// Parse parses the text of a script; file is for messages only.
func (l *Language) Parse(file, text string) (*Script, error) {
	s := &Script{File: file, Settings: map[string]string{}, source: strings.Split(text, "\n")}
	p := parser{language: l, script: s}
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
	language *Language
	script   *Script
	lines    []logical
	next     int
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

var actorLine = regexp.MustCompile(`^(\w+) (\w+) (\S+)(?: (.*))?$`)

// block parses steps up to an "end", which is returned, or the end of the file.
func (p *parser) block() (steps []Step, closer logical, err error) {
	for p.next < len(p.lines) {
		l := p.lines[p.next]
		p.next++
		if l.text == "end" {
			return steps, l, nil
		}
		if key, ok := strings.CutPrefix(l.text, "set "); ok {
			k, v, ok := strings.Cut(key, " ")
			if !ok || len(steps) > 0 {
				return nil, l, p.errorf(l, "set needs a key and a value, before the first step")
			}
			p.script.Settings[k] = strings.TrimSpace(v)
			continue
		}
		st, err := p.step(l)
		if err != nil {
			return nil, l, err
		}
		steps = append(steps, st)
	}
	return steps, logical{}, nil
}

// step parses one line, and the block that it opens.
func (p *parser) step(l logical) (Step, error) {
	verb, arg, _ := strings.Cut(l.text, " ")
	st := Step{Line: l.line, Lines: l.count, Verb: verb, Arg: strings.TrimSpace(arg), More: l.more}
	block := verb == "each" || slices.Contains(p.language.Blocks, verb)
	switch {
	case slices.Contains(p.language.Actors, verb):
		m := actorLine.FindStringSubmatch(l.text)
		if m == nil {
			return st, p.errorf(l, "%s needs a name and a verb: %s", verb, l.text)
		}
		st.Actor, st.Verb, st.Arg = m[2], m[1]+" "+m[3], m[4]
	case verb == "service":
		w, rest, _ := strings.Cut(st.Arg, " ")
		st.Verb, st.Arg = "service "+w, strings.TrimSpace(rest)
	case verb == "each":
		if len(l.more) == 0 || p.next == len(p.lines) || p.lines[p.next].text != "do" {
			return st, p.errorf(l, "each needs its values as indented lines, then do")
		}
		p.next++
		st.Values, st.More = l.more, nil
	case !block && !slices.Contains(p.language.Verbs, verb):
		return st, p.errorf(l, "unknown verb %q", verb)
	}
	if len(st.More) > 0 && !slices.Contains(p.language.Keep, verb) && !slices.Contains(p.language.Keep, st.Verb) {
		st.Arg = strings.TrimSpace(st.Arg + " " + strings.Join(st.More, " "))
		st.More = nil
	}
	if !block {
		return st, nil
	}
	body, closer, err := p.block()
	if err != nil {
		return st, err
	}
	if closer.text != "end" {
		return st, p.errorf(l, "%s without end", verb)
	}
	st.Body = body
	return st, nil
}

func (p *parser) errorf(l logical, format string, a ...any) error {
	return fmt.Errorf("%s:%d: %s", p.script.File, l.line, fmt.Sprintf(format, a...))
}

// Replace records that the lines of step are to be replaced by text, which may be empty. It takes
// effect in Save.
func (s *Script) Replace(step *Step, text ...string) {
	s.edits = append(s.edits, edit{step.Line, step.Lines, text})
}

// InsertAfter records that text is to follow the lines of step. It takes effect in Save.
func (s *Script) InsertAfter(step *Step, text ...string) {
	s.edits = append(s.edits, edit{step.Line + step.Lines, 0, text})
}

// Lines returns the number of lines of the source.
func (s *Script) Lines() int { return len(s.source) }

// Save applies the recorded edits and writes the file. Without edits it does nothing.
func (s *Script) Save() error {
	if len(s.edits) == 0 {
		return nil
	}
	slices.SortStableFunc(s.edits, func(a, b edit) int { return a.line - b.line })
	var out []string
	at := 1
	for _, e := range s.edits {
		if e.line > at {
			out = append(out, s.source[at-1:e.line-1]...)
			at = e.line
		}
		out = append(out, e.text...)
		at = max(at, e.line+e.count)
	}
	out = append(out, s.source[at-1:]...)
	return os.WriteFile(s.File, []byte(strings.Join(out, "\n")), 0o644)
}
