package config

import (
	"fmt"
	"strings"
)

// Usage returns the help text: every flag, by group, with its default.
func Usage() string {
	var b strings.Builder
	b.WriteString(`Usage: sluice [options]            run the gateway
       sluice demo [options]       run a gateway with a demo service and its page
       sluice check [options]      print the effective configuration and what is wrong with it
       sluice config [--schema]    print a configuration file with the defaults, or its JSON Schema
`)
	defaults := Config{}.WithDefaults()
	line := func(short, flag, arg, help string) {
		left := "    "
		if short != "" {
			left = "-" + short + ", "
		}
		left += "--" + flag
		if arg != "" {
			left += " <" + arg + ">"
		}
		if len(left) > usageColumn-6 {
			fmt.Fprintf(&b, "    %s\n%*s%s\n", left, usageColumn, "", help)
			return
		}
		fmt.Fprintf(&b, "    %-*s%s\n", usageColumn-4, left, help)
	}
	group := ""
	for i := range settings {
		s := &settings[i]
		if s.flag == "" {
			continue
		}
		if s.group != group {
			group = s.group
			fmt.Fprintf(&b, "\n%s:\n", group)
		}
		help := s.help
		if d := s.toJSON(&defaults); d != nil && d != false && d != 0 && s.arg != "" {
			if text := strings.Trim(fmt.Sprint(d), "[]"); text != "" {
				help += " (default " + text + ")"
			}
		}
		line(s.short, s.flag, s.arg, help)
	}
	b.WriteString("\nCommon options:\n")
	line("c", "config", "file", "configuration file, JSON, or YAML if it ends in .yaml or .yml; written if missing")
	line("", "strict", "", "take unknown keys, variables and arguments for errors")
	line("h", "help", "", "show this text")
	line("v", "version", "", "show the version")
	b.WriteString(`
Durations are written like 30s or 1m30s; a bare number is milliseconds.

Every setting can also stand in the configuration file under its key, or in the
environment: SLUICE_ and the key in capitals, its words separated by underscores
(natsUrl is SLUICE_NATS_URL). Flags win over the environment, that over the file.
An empty variable of a number, a duration or a switch counts as unset.

In natsUrl, percent-encode what means something in a URL in user names, passwords
and tokens: / as %2F, a comma as %2C, @ as %40. They are shown in no message.

"sluice demo" brings its own NATS server unless --nats names one. "sluice check" shows
where each value comes from, and ends with exit code 0, or 2 if a start would fail
or something in the file or the environment means nothing.
`)
	return b.String()
}

// usageColumn is where the help's right column begins.
const usageColumn = 39
