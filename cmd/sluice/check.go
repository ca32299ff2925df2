package main

import (
	"errors"
	"fmt"
	"log/slog"

	"sluice/internal/config"
)

// check does "sluice check": it prints the effective configuration to stdout, and to stderr every
// warning and every mistake that a start with the same arguments and environment would find, but
// for what needs a socket. After the word "relay", the settings are those of "sluice relay". It
// exits with 0, or with 2 if there is a mistake.
func (p *process) check(args []string) int {
	relay := len(args) > 0 && args[0] == "relay"
	if relay {
		args = args[1:]
	}
	setup, err := config.Check(args, p.environ)
	if setup.Help || setup.Version {
		return p.inform(setup)
	}
	setup.Relay = relay
	_, _ = p.stdout.Write(setup.Effective())
	setup.Warnings = append(setup.Warnings, setup.Unused()...)
	if err == nil {
		c := setup.Config
		c.Log = slog.New(slog.DiscardHandler)
		if relay {
			_, err = p.relay(c)
		} else {
			_, err = p.gateway(c) // it also reads the certificates
			setup.Warnings = append(setup.Warnings, setup.Config.Warnings()...)
		}
	}
	for _, n := range setup.Notes {
		fmt.Fprintf(p.stderr, "note: %s\n", n)
	}
	for _, w := range setup.Warnings {
		fmt.Fprintf(p.stderr, "warning: %s\n", w)
	}
	if err != nil {
		for _, e := range flatten(err) {
			fmt.Fprintf(p.stderr, "error: %v\n", e)
		}
		return exitUsage
	}
	return exitOK
}

// flatten returns the errors that an error joins, or the error itself.
func flatten(err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []error
		for _, e := range joined.Unwrap() {
			all = append(all, flatten(e)...)
		}
		return all
	}
	return []error{err}
}

// config does "sluice config": it prints a configuration file with the defaults and a comment on
// each setting, or with --schema the JSON Schema of such files.
func (p *process) config(args []string) int {
	switch {
	case len(args) == 0:
		_, _ = p.stdout.Write(config.Commented())
	case len(args) == 1 && (args[0] == "--schema" || args[0] == "-schema"):
		_, _ = p.stdout.Write(config.Schema())
	case len(args) == 1 && (args[0] == "-h" || args[0] == "--help"):
		fmt.Fprint(p.stdout, config.Usage())
	default:
		return p.misused(errors.New("sluice config takes no argument but --schema"))
	}
	return exitOK
}

// print does the commands that print the text their one argument names. text returns nil for an
// argument that names none, and advice then says what to write.
func (p *process) print(args []string, text func(name string) []byte, advice string) int {
	if len(args) == 2 {
		if args[1] == "-h" || args[1] == "--help" {
			fmt.Fprint(p.stdout, config.Usage())
			return exitOK
		}
		if found := text(args[1]); found != nil {
			_, _ = p.stdout.Write(found)
			return exitOK
		}
	}
	return p.misused(fmt.Errorf("sluice %s: %s", args[0], advice))
}
