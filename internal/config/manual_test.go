package config

import (
	"bytes"
	"strings"
	"testing"
)

// The pages and completions name every setting and command of the tables.
func TestManualAndCompletionsAreComplete(t *testing.T) {
	program, file := string(Manual("1", "v9")), string(Manual("5", "v9"))
	completions := map[string]string{}
	for _, shell := range shells {
		completions[shell] = string(Completion(shell))
	}
	for i := range settings {
		s := &settings[i]
		if !strings.Contains(file, roff(s.env())) || !strings.Contains(file, `.B "`+s.key+": ") {
			t.Errorf("sluice.yaml(5) lacks %s", s.key)
		}
		if s.flag == "" {
			continue
		}
		if !strings.Contains(program, roff("--"+s.flag)) || !strings.Contains(program, roff(upperFirst(s.help))) {
			t.Errorf("sluice(1) lacks --%s", s.flag)
		}
		for shell, want := range map[string]string{"bash": "--" + s.flag + " ", "zsh": "'*--" + s.flag + "[", "fish": " -l " + s.flag + " "} {
			if !strings.Contains(strings.ReplaceAll(completions[shell], "'\n", " \n"), want) {
				t.Errorf("the completion of %s lacks --%s", shell, s.flag)
			}
		}
	}
	for _, c := range commands {
		if !strings.Contains(program, `.B "`+roff(c.synopsis())+`"`) {
			t.Errorf("sluice(1) lacks %q", c.synopsis())
		}
		for shell, text := range completions {
			if !strings.Contains(text, c.name) {
				t.Errorf("the completion of %s lacks %s", shell, c.name)
			}
		}
	}
	for _, text := range []string{Usage(), program} {
		for _, o := range commonOptions {
			if !strings.Contains(text, o.flag) {
				t.Errorf("--%s is missing in:\n%.80s", o.flag, text)
			}
		}
	}
}

func TestOtherPagesAndShells(t *testing.T) {
	if text := Manual("8", ""); text != nil {
		t.Errorf("%s", text)
	}
	if text := Completion("csh"); text != nil {
		t.Errorf("%s", text)
	}
}

// A line that begins with a dot or an apostrophe would be a request to roff.
func TestRoff(t *testing.T) {
	for in, want := range map[string]string{
		"--port":  `\-\-port`,
		".json":   `\&.json`,
		"'text'":  `\&'text'`,
		`a\b`:     `a\eb`,
		"a, – b…": `a, \(en b\&...`,
	} {
		if got := roff(in); got != want {
			t.Errorf("%s: %s, want %s", in, got, want)
		}
	}
	for _, section := range sections {
		for line := range bytes.Lines(Manual(section, "")) {
			if bytes.HasPrefix(line, []byte("'")) || len(bytes.TrimSpace(line)) == 0 {
				t.Errorf("section %s: %q", section, line)
			}
			for _, c := range line {
				if c >= 0x80 {
					t.Fatalf("section %s: not ASCII, which old readers need: %s", section, line)
				}
			}
		}
	}
}
