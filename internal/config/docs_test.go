package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var writeDocs = flag.Bool("write-docs", false, "write the settings into docs/configuration.md; see \"make docs\"")

const (
	docsFile  = "../../docs/configuration.md"
	docsBegin = "<!-- settings: \"make docs\" writes what follows from the table in internal/config -->\n"
	docsEnd   = "<!-- end of settings -->\n"
)

// documented returns the table of settings in Markdown.
func documented() string {
	defaults := Config{}.WithDefaults()
	var b strings.Builder
	group := ""
	cell := func(s string) string { return strings.ReplaceAll(strings.ReplaceAll(s, "|", `\|`), "<", "&lt;") }
	for i := range settings {
		s := &settings[i]
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n### %s\n\n| key | flag, variable | values | default | reload | what it is |\n|---|---|---|---|---|---|\n", group)
		}
		names := "`" + s.env() + "`"
		if s.flag != "" {
			names = "`--" + s.flag + "`<br>" + names
		}
		if s.short != "" {
			names = "`-" + s.short + "`, " + names
		}
		key := "`" + s.key + "`"
		for _, a := range s.aliases {
			key += "<br>also `" + a.key + "`"
			if a.deprecated {
				key += " (deprecated)"
			}
		}
		def := strings.Trim(string(s.shown(&defaults)), `"`)
		switch def {
		case "null", "[]", "":
			def = "–"
		default:
			def = "`" + def + "`"
		}
		reload := "–"
		if s.has(reloadable) {
			reload = "yes"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %s |\n", key, names, cell(s.bounds()), def, reload, cell(s.description()))
	}
	return b.String() + "\n"
}

// The documentation of settings is that of the table.
func TestDocs(t *testing.T) {
	text, err := os.ReadFile(docsFile)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, begins := strings.Cut(string(text), docsBegin)
	_, after, ends := strings.Cut(rest, docsEnd)
	if !begins || !ends {
		t.Fatal("docs/configuration.md has no place for the settings")
	}
	want := before + docsBegin + documented() + docsEnd + after
	if string(text) == want {
		return
	}
	if !*writeDocs {
		t.Fatal(`docs/configuration.md is not that of the table of settings: run "make docs"`)
	}
	if err := os.WriteFile(docsFile, []byte(want), 0o600); err != nil {
		t.Fatal(err)
	}
}
