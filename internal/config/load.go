package config

import (
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
)

// Setup is what a command line, the environment and the configuration file ask
// for.
type Setup struct {
	Config   Config
	Help     bool     // -h: show Usage, start nothing
	Version  bool     // -v: show the version, start nothing
	Created  string   // the configuration file that was missing and is written now
	Warnings []string // about where settings came from, for the log; Config.Warnings has those about their values
}

// Load reads the settings. Flags win over environment variables, those over
// the configuration file, that over the defaults. args are the arguments after
// the program's name, environ is like os.Environ. An error is the user's to
// mend and says what is wrong where; a Setup with Help or Version set is
// returned without reading anything further. The Config is valid if err is nil.
func Load(args, environ []string) (Setup, error) {
	var s Setup
	flags, err := parseFlags(args)
	if err != nil {
		return s, err
	}
	if s.Help, s.Version = flags.help, flags.version; s.Help || s.Version {
		return s, nil
	}
	env, unknownEnv := readEnviron(environ)

	if path := cmp.Or(flags.config, env[envConfig]); path != "" {
		unknown, created, err := readFile(&s.Config, path)
		if err != nil {
			return s, err
		}
		if created {
			s.Created = path
		}
		if len(unknown) > 0 {
			s.Warnings = append(s.Warnings, fmt.Sprintf("config file %s: unknown keys, ignored: %s", path, strings.Join(unknown, ", ")))
		}
	}
	if len(unknownEnv) > 0 {
		s.Warnings = append(s.Warnings, "unknown environment variables, ignored: "+strings.Join(unknownEnv, ", "))
	}
	for i := range settings {
		name := settings[i].env()
		value, ok := env[name]
		if !ok {
			continue
		}
		texts := []string{value}
		if settings[i].form() == several {
			texts = strings.FieldsFunc(value, func(r rune) bool { return r == ';' })
		}
		if err := settings[i].set(&s.Config, texts); err != nil {
			return s, fmt.Errorf("%s: %w", name, err)
		}
	}
	for i := range settings {
		if texts := flags.texts[i]; len(texts) > 0 {
			if err := settings[i].set(&s.Config, texts); err != nil {
				return s, fmt.Errorf("--%s: %w", settings[i].flag, err)
			}
		}
	}
	if t := s.Config.RequestTimeout; t > 0 && t <= secondsBelow {
		s.Config.RequestTimeout = t * 1000
		s.Warnings = append(s.Warnings, fmt.Sprintf("requestTimeout %d is taken as seconds, as Resgate does: write %d, in milliseconds",
			t.Milliseconds(), s.Config.RequestTimeout.Milliseconds()))
	}
	if err := s.Config.Validate(); err != nil {
		return s, err
	}
	return s, nil
}

// secondsBelow is the request timeout up to which Resgate takes the number for
// seconds, which it once was.
const secondsBelow = 10 * 1e6 // 10 ms

// envConfig names the configuration file, as -c does.
const envConfig = envPrefix + "CONFIG"

// readEnviron picks the variables that are ours. A cluster manager that links
// services by environment variables sets SLUICE_PORT to a URL and more names
// of the kind for a service called sluice; none of these is a setting.
func readEnviron(environ []string) (ours map[string]string, unknown []string) {
	known := map[string]bool{envConfig: true}
	for i := range settings {
		known[settings[i].env()] = true
	}
	ours = map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		switch {
		case !strings.HasPrefix(name, envPrefix):
		case name == "SLUICE_PORT" && strings.Contains(value, "://"),
			strings.HasPrefix(name, "SLUICE_PORT_"), strings.HasPrefix(name, "SLUICE_SERVICE_"):
		case known[name]:
			ours[name] = value
		default:
			unknown = append(unknown, name)
		}
	}
	return ours, unknown
}

// commandLine is a command line taken apart.
type commandLine struct {
	texts         map[int][]string // what flags were given, by index into settings
	config        string
	help, version bool
}

// recorder keeps a flag's texts until the layers below it are read.
type recorder struct{ texts []string }

func (r *recorder) String() string     { return strings.Join(r.texts, ";") }
func (r *recorder) Set(s string) error { r.texts = append(r.texts, s); return nil }
func (r *recorder) Type() string       { return "" }

func parseFlags(args []string) (commandLine, error) {
	line := commandLine{texts: map[int][]string{}}
	fs := pflag.NewFlagSet("sluice", pflag.ContinueOnError)
	fs.SortFlags = false
	fs.Usage = func() {}
	fs.BoolVarP(&line.help, "help", "h", false, "")
	fs.BoolVarP(&line.version, "version", "v", false, "")
	fs.StringVarP(&line.config, "config", "c", "", "")
	recorders := make([]recorder, len(settings))
	for i := range settings {
		s := &settings[i]
		if s.flag == "" {
			continue
		}
		f := fs.VarPF(&recorders[i], s.flag, s.short, s.help)
		if s.form() == onOff {
			f.NoOptDefVal = "true"
		}
	}
	if err := fs.Parse(dashes(fs, args)); err != nil {
		return line, err
	}
	if fs.NArg() > 0 {
		return line, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if f := fs.Lookup("config"); f.Changed && line.config == "" {
		return line, errors.New("--config: name a file")
	}
	for i := range recorders {
		line.texts[i] = recorders[i].texts
	}
	return line, nil
}

// dashes rewrites the forms that Resgate's command line takes and ours would
// read differently: a long flag after one dash, a letter after two.
func dashes(fs *pflag.FlagSet, args []string) []string {
	out := make([]string, 0, len(args))
	for i, a := range args {
		if a == "--" {
			return append(out, args[i:]...)
		}
		body := strings.TrimLeft(a, "-")
		name, _, _ := strings.Cut(body, "=")
		switch {
		case len(name) == 1 && a == "--"+body && fs.ShorthandLookup(name) != nil:
			a = "-" + body
		case len(name) > 1 && a == "-"+body && fs.Lookup(name) != nil:
			a = "--" + body
		}
		out = append(out, a)
	}
	return out
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

"sluice demo" runs a gateway with a demo service and a page to try it on; it
brings its own NATS server unless --nats names one.
`)
	return b.String()
}

// usageColumn is where the help's right column begins.
const usageColumn = 39
