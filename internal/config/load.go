package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Setup is what a command line, the environment and the configuration file ask
// for.
type Setup struct {
	Config   Config
	Help     bool     // -h: show Usage, start nothing
	Version  bool     // -v: show the version, start nothing
	Created  string   // the configuration file that was missing and is written now
	Warnings []string // about where settings came from, for the log; Config.Warnings has those about their values
	Notes    []string // the same for who looks for a fault
}

// Load reads the settings. Flags win over environment variables, those over
// the configuration file, that over the defaults. args are the arguments after
// the program's name, environ is like os.Environ. An error is the user's to
// mend and says what is wrong where; a Setup with Help or Version set is
// returned without reading anything further. The Config is valid if err is nil.
// No message has a part of a credential in it.
func Load(args, environ []string) (Setup, error) {
	var s Setup
	line, err := parseFlags(args)
	if err != nil {
		return s, err
	}
	if s.Help, s.Version = line.help, line.version; s.Help || s.Version {
		return s, nil
	}
	env := readEnviron(environ)
	if err := s.fromFile(cmp.Or(line.config, env.values[envConfig])); err != nil {
		return s, err
	}
	if err := s.fromEnvironment(env); err != nil {
		return s, err
	}
	if err := s.fromFlags(line); err != nil {
		return s, err
	}
	if t := s.Config.RequestTimeout; t > 0 && t <= secondsUpTo {
		s.Config.RequestTimeout = t * 1000
		s.warn("requestTimeout %d is taken as seconds, as Resgate does: write %d, in milliseconds",
			t.Milliseconds(), s.Config.RequestTimeout.Milliseconds())
	}
	return s, s.Config.Validate()
}

// secondsUpTo is the request timeout up to which Resgate takes the number for
// seconds, which it once was.
const secondsUpTo = 10 * time.Millisecond

func (s *Setup) warn(format string, args ...any) {
	s.Warnings = append(s.Warnings, fmt.Sprintf(format, args...))
}

// fromFile applies the configuration file, if path names one.
func (s *Setup) fromFile(path string) error {
	if path == "" {
		return nil
	}
	if err := checkFile(path); err != nil {
		return fmt.Errorf("config file: %w", err)
	}
	unknown, err := readFile(&s.Config, path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Resgate starts without it, too.
		if err := writeDefaults(path); err != nil {
			s.warn("config file is missing and cannot be written, the defaults are used: %v", err)
		} else {
			s.Created = path
		}
	case err != nil:
		return err
	case len(unknown) > 0:
		s.warn("config file %s: unknown keys, ignored: %s", path, names(unknown))
	}
	return nil
}

func (s *Setup) fromEnvironment(env environment) error {
	if len(env.unknown) > 0 {
		s.warn("unknown environment variables, ignored: %s", names(env.unknown))
	}
	if len(env.links) > 0 {
		s.Notes = append(s.Notes, "environment variables of linked services, ignored: "+names(env.links))
	}
	for i := range settings {
		name := settings[i].env()
		value, ok := env.values[name]
		if !ok || value == "" && !settings[i].hasEmpty() {
			continue // "SLUICE_PORT=", as a template without a value leaves it, sets nothing
		}
		texts := []string{value}
		if settings[i].form() == several {
			texts = strings.FieldsFunc(value, func(r rune) bool { return r == ';' })
		}
		if err := settings[i].set(&s.Config, texts); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

func (s *Setup) fromFlags(line commandLine) error {
	if line.ignored > 0 {
		s.warn("the last arguments (%d) are ignored: flags end at the first argument that is none, as for Resgate", line.ignored)
	}
	for i := range settings {
		texts := line.texts[&settings[i]]
		if len(texts) == 0 || settings[i].has(zeroFlagIsNone) && last(texts) == "0" {
			continue
		}
		if err := settings[i].set(&s.Config, texts); err != nil {
			return fmt.Errorf("--%s: %w", settings[i].flag, err)
		}
	}
	return nil
}

// Usage returns the help text: every flag, by group, with its default.
func Usage() string {
	var b strings.Builder
	b.WriteString("Usage: sluice [options]\n       sluice demo [options]\n")
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
	line("c", "config", "file", "JSON configuration file; written with the defaults if missing")
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

"sluice demo" runs a gateway with a demo service and a page to try it on; it
brings its own NATS server unless --nats names one.
`)
	return b.String()
}

// usageColumn is where the help's right column begins.
const usageColumn = 39
