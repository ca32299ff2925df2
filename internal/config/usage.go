package config

import (
	"fmt"
	"strings"
)

// Usage returns the help text: every flag, by group, with its default.
func Usage() string {
	var b strings.Builder
	for i := range commands {
		lead := "       "
		if i == 0 {
			lead = "Usage: "
		}
		fmt.Fprintf(&b, "%s%-32s %s\n", lead, commands[i].synopsis(), commands[i].help)
	}
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
		line(s.short, s.flag, s.arg, s.help+s.defaultNote(&defaults))
	}
	b.WriteString("\nCommon options:\n")
	for _, o := range commonOptions {
		line(o.short, o.flag, o.arg, o.help)
	}
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

// defaultNote returns the default in parentheses; empty if it says nothing.
func (s *setting) defaultNote(defaults *Config) string {
	d := s.toJSON(defaults)
	if d == nil || d == false || d == 0 || s.arg == "" {
		return ""
	}
	text := strings.Trim(fmt.Sprint(d), "[]")
	if text == "" {
		return ""
	}
	return " (default " + text + ")"
}

// usageColumn is where the help's right column begins.
const usageColumn = 39
