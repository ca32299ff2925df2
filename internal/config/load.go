package config

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// Setup is what a command line, the environment and the configuration file ask for.
type Setup struct {
	Config   Config
	Relay    bool     // for Unused and Effective: the program is a relay; the caller sets it
	Help     bool     // -h: show Usage, start nothing
	Version  bool     // -v: show the version, start nothing
	Created  string   // the configuration file that was missing and has been written
	Warnings []string // about where settings came from; Config.Warnings has those about their values
	Notes    []string // the same, of interest only when looking for a fault

	sources map[*setting]string // where a value comes from; none: the default; nil: nothing was read
}

// Load reads the settings for a start. Flags win over environment variables, those over the
// configuration file, that over the defaults. args are the arguments after the program's name,
// environ is like os.Environ. A file that is missing is written with the defaults.
//
// An error names every mistake, one a line, with its place and what to do. With Help or Version set
// nothing further is read. Config is valid if err is nil. No message contains a part of a
// credential.
func Load(args, environ []string) (Setup, error) {
	return readSources(args, environ, reader{create: true})
}

// Check reads the settings like Load, but writes nothing, and what Load only warns of is an error:
// keys, variables and arguments that mean nothing, and keys that are there twice. With an error
// Setup has the settings that could be read.
func Check(args, environ []string) (Setup, error) {
	return readSources(args, environ, reader{strict: true})
}

// Reload reads the settings again, as Load did, for a gateway that runs. A file that is missing, or
// cannot be read twice, is an error.
func Reload(args, environ []string) (Setup, error) {
	return readSources(args, environ, reader{again: true})
}

// reader reads settings from their sources, in ascending order of strength.
type reader struct {
	create bool // write a missing file
	strict bool // problems are errors
	again  bool // the file was read before

	Setup
	errs []error
}

func readSources(args, environ []string, r reader) (Setup, error) {
	line, err := parseFlags(args)
	if err != nil {
		return r.Setup, err
	}
	if r.Help, r.Version = line.help, line.version; r.Help || r.Version {
		return r.Setup, nil
	}
	r.sources = map[*setting]string{}
	r.strict = r.strict || line.strict
	r.fromOTel(environ)
	env := readEnviron(environ)
	r.fromFile(cmp.Or(line.config, env.values[envConfig]))
	r.fromEnvironment(env)
	r.fromFlags(line)
	if t := r.Config.RequestTimeout; t > 0 && t <= secondsUpTo {
		r.Config.RequestTimeout = t * 1000
		r.warn("requestTimeout %d is taken as seconds, as Resgate does: write %d, in milliseconds",
			t.Milliseconds(), r.Config.RequestTimeout.Milliseconds())
	}
	if len(r.errs) == 0 {
		r.errs = r.Config.mistakes(func(s *setting) string { return r.sources[s] })
	}
	return r.Setup, errors.Join(r.errs...)
}

// secondsUpTo is the request timeout up to which Resgate takes the number for seconds, which it
// once was.
const secondsUpTo = 10 * time.Millisecond

func (r *reader) warn(format string, args ...any) {
	r.Warnings = append(r.Warnings, fmt.Sprintf(format, args...))
}

func (r *reader) fail(format string, args ...any) {
	r.errs = append(r.errs, fmt.Errorf(format, args...))
}

// report takes note of a problem; prefix says where it is.
func (r *reader) report(prefix string, p problem) {
	if r.strict {
		r.fail("%s%w", prefix, p.err())
		return
	}
	r.warn("%s%s", prefix, p.warning())
}

// fromFile applies the configuration file, if path names one.
func (r *reader) fromFile(path string) {
	if path == "" {
		return
	}
	text, err := readText(path, r.again)
	if r.create && errors.Is(err, fs.ErrNotExist) {
		// Resgate starts without it, too.
		if err := writeDefaults(path); err != nil {
			r.warn("config file is missing and cannot be written, the defaults are used: %v", err)
		} else {
			r.Created = path
		}
		return
	}
	if err != nil {
		r.fail("config file: %w", err)
		return
	}
	all, err := entries(text, isYAML(path))
	if err != nil {
		r.fail("config file %s%w", path, err)
		return
	}
	found := apply(&r.Config, all)
	for _, err := range found.errs[:min(len(found.errs), maxListed)] {
		r.fail("config file %s%w", path, err)
	}
	if n := len(found.errs) - maxListed; n > 0 {
		r.fail("config file %s: %d more values are wrong", path, n)
	}
	for _, p := range found.problems {
		r.report(fmt.Sprintf("config file %s%v: ", path, p.at), p)
	}
	if found.further > 0 {
		r.warn("config file %s: %d more keys are unknown or there twice", path, found.further)
	}
	for _, n := range found.notes {
		r.Notes = append(r.Notes, "config file "+path+n)
	}
	for s, at := range found.places {
		r.sources[s] = fmt.Sprintf("%s:%d", path, at.line)
	}
}

func (r *reader) fromEnvironment(env environment) {
	for _, name := range env.unknown[:min(len(env.unknown), maxListed)] {
		p := problem{what: "unknown environment variable", effect: ", ignored", advice: "remove it"}
		if plain(name) {
			p.what += " " + name
			if near := nearestVariable(name); near != "" {
				p.advice = "did you mean " + near + "?"
			}
		}
		r.report("", p)
	}
	if n := len(env.unknown); n > maxListed {
		r.warn("%d more environment variables that begin with %s are unknown", n-maxListed, envPrefix)
	}
	if len(env.links) > 0 {
		r.Notes = append(r.Notes, "environment variables of linked services, ignored: "+names(env.links))
	}
	for i := range settings {
		s := &settings[i]
		name := s.env()
		value, ok := env.values[name]
		if !ok || value == "" && !s.hasEmpty() {
			continue // "SLUICE_PORT=", as a template without a value leaves it, sets nothing
		}
		texts := []string{value}
		if s.kind() == several {
			texts = strings.FieldsFunc(value, func(r rune) bool { return r == ';' })
		}
		if err := s.set(&r.Config, texts); err != nil {
			r.fail("%s: %w", name, err)
			continue
		}
		r.sources[s] = name
	}
}

func (r *reader) fromFlags(line commandLine) {
	if line.ignored > 0 {
		p := problem{what: fmt.Sprintf("the last arguments (%d)", line.ignored), effect: " are ignored",
			advice: "flags end at the first argument that is none, as with Resgate"}
		if line.meant != "" {
			p.advice += "; for the command, begin with sluice " + line.meant
		}
		r.report("", p)
	}
	for i := range settings {
		s := &settings[i]
		texts := line.texts[s]
		if len(texts) == 0 || s.has(zeroFlagIsNone) && last(texts) == "0" {
			continue
		}
		if err := s.set(&r.Config, texts); err != nil {
			r.fail("--%s: %w", s.flag, err)
			continue
		}
		r.sources[s] = "--" + s.flag
	}
}
