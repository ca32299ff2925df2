//go:build linux

package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sluice/loadtest/plan"
)

// documents are the files that tell users how to call the harness.
var documents = []string{"README.md", "CONTRIBUTING.md", "docs/performance.md", "docs/scaling.md", "docs/interest.md", "bench/README.md", "bench/compare.yaml", "bench/quick.yaml", "bench/second.yaml", "bench/loops.yaml", "bench/peers.yaml"}

var (
	// harnessCommand matches a call of the harness in a code block, continued lines
	// included, or in backquotes.
	harnessCommand = regexp.MustCompile("(?m)^bin/sluice-load ((?:.*\\\\\n)*.*)$|`(?:bin/)?sluice-load ([^`]+)`")
	// makeCommand matches a make target that runs the harness.
	makeCommand = regexp.MustCompile("make (compare|load)((?: [A-Z]+=(?:'[^']*'|[^\\s`']+))*)")
	yamlBlock   = regexp.MustCompile("(?s)```yaml\n(.*?)```")
)

// Each command of the documents parses, and each plan in them is complete: no flag,
// scenario or target that they name is missing.
func TestDocumentedCommandsParse(t *testing.T) {
	t.Chdir("../..") // paths in commands are relative to the top of the tree
	commands := 0
	for _, name := range documents {
		text := readFile(t, name)
		for _, m := range harnessCommand.FindAllStringSubmatch(text, -1) {
			commands++
			if err := parses(words(strings.ReplaceAll(m[1]+m[2], "\\\n", " "))); err != nil {
				t.Errorf("%s: sluice-load %s: %v", name, m[1]+m[2], err)
			}
		}
		for _, m := range makeCommand.FindAllStringSubmatch(text, -1) {
			commands++
			if err := parses(makeArgs(m[1], words(m[2]))); err != nil {
				t.Errorf("%s: %s: %v", name, m[0], err)
			}
		}
		for _, m := range yamlBlock.FindAllStringSubmatch(text, -1) {
			file := filepath.Join(t.TempDir(), "scenarios.yaml")
			if err := os.WriteFile(file, []byte(m[1]), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := parses([]string{"run", "-start", "x", "-scenarios", file}); err != nil {
				t.Errorf("%s: %v\n%s", name, err, m[1])
			}
		}
	}
	if commands < 15 {
		t.Errorf("only %d commands found in %v", commands, documents)
	}
}

func TestUsageExamplesParse(t *testing.T) {
	t.Chdir("../..")
	_, examples, _ := strings.Cut(usage, "Examples:")
	lines := strings.Split(strings.TrimSpace(examples), "\n")
	for _, line := range lines {
		if err := parses(words(strings.TrimSpace(line))[1:]); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if len(lines) < 3 {
		t.Errorf("only %d examples", len(lines))
	}
}

func TestMistakesInDocumentsAreFound(t *testing.T) {
	t.Chdir("../..")
	for _, line := range []string{"run -floor single -kind nothing", "run -no-such-flag", "report run.json -pdf x", "frobnicate", "run -plan bench/compare.yaml -only none"} {
		if err := parses(words(line)); err == nil {
			t.Errorf("%s passes", line)
		}
	}
}

// parses reports what is wrong with a call of the harness, without running it.
func parses(args []string) error {
	switch args[0] {
	case "run":
		if len(args) == 2 && args[1] == "-h" {
			return nil
		}
		r, err := parseRun(args[1:])
		if err != nil {
			return err
		}
		return r.plan.Complete()
	case "report":
		var r runFlags
		f := flag.NewFlagSet("report", flag.ContinueOnError)
		f.SetOutput(io.Discard)
		r.outputs(f)
		return f.Parse(args[2:])
	case "faults":
		_, err := parseFaults(args[1:])
		return err
	case "scale":
		_, err := parseScale(args[1:])
		return err
	case "interest":
		_, err := parseInterest(args[1:])
		return err
	case "plan":
		_, err := parsePlan(args[1:])
		return err
	case "floor", "kinds":
		return nil
	}
	return fmt.Errorf("there is no command %q", args[0])
}

// makeArgs returns the call of the harness that a make target makes.
func makeArgs(target string, settings []string) []string {
	file, rest := "bench/compare.yaml", []string(nil)
	for _, s := range settings {
		switch name, value, _ := strings.Cut(s, "="); name {
		case "QUICK":
			file = "bench/quick.yaml"
		case "PLAN":
			file = "bench/" + value + ".yaml"
		case "ARGS":
			rest = words(value)
		}
	}
	if target == "compare" {
		return append([]string{"run", "-plan", file, "-json", "x.json", "-html", "x.html", "-md", "x.md", "-svg", "x"}, rest...)
	}
	return append([]string{"run", "-start", "x", "-name", "sluice", "-floor", "single"}, rest...)
}

// words splits a command line as a shell does, as far as the documents need it.
func words(line string) []string {
	var all []string
	var word strings.Builder
	quote, open := rune(0), false
	for _, c := range line + " " {
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(c)
		case c == '\'' || c == '"':
			quote, open = c, true
		case c == ' ' || c == '\n' || c == '\t':
			if word.Len() > 0 || open {
				all = append(all, word.String())
			}
			word.Reset()
			open = false
		default:
			word.WriteRune(c)
		}
	}
	return all
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The plans of the comparison are complete.
func TestPlansOfTheComparison(t *testing.T) {
	for _, name := range []string{"compare", "quick", "second", "loops", "reconnect", "failover", "upgrade", "peers"} {
		p, err := plan.Read(filepath.Join("..", "..", "bench", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Complete(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
