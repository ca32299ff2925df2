//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"sluice/loadtest/faults"
	"sluice/loadtest/plan"
)

const faultsUsage = `usage: sluice-load faults [flags]

Causes one fault after another under some clients of a gateway, or of each gateway of a plan, and says what
became of them. Exit code 0: the first gateway kept all its clients; 1: it did not.

`

// faultsFlags is the command line of "faults", parsed.
type faultsFlags struct {
	options faults.Options
	into    string
}

// parseFaults parses the arguments of "faults", and reads the file that they name.
func parseFaults(args []string) (*faultsFlags, error) {
	var r faultsFlags
	var one plan.Target
	var file, only string
	f := flag.NewFlagSet("faults", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), faultsUsage)
		f.PrintDefaults()
	}
	f.StringVar(&file, "plan", "", "YAML file of targets")
	f.StringVar(&one.Start, "start", "", "command that starts the gateway; {port}, {nats} and {feed} are ports chosen for it")
	f.StringVar(&one.Protocol, "protocol", "res", "res or centrifuge")
	f.StringVar(&one.Name, "name", "gateway", "the gateway's name in the table")
	f.StringVar(&r.options.NATS, "nats-server", "bin/nats-server", "the NATS server's program")
	f.StringVar(&only, "only", "", "cause only these faults, separated by commas")
	f.BoolVar(&r.options.Short, "short", false, "fewer clients and shorter faults")
	f.StringVar(&r.into, "into", "", "put the table between the marks in this Markdown file")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if only != "" {
		r.options.Rows = strings.Split(only, ",")
	}
	switch {
	case file != "" && one.Start != "":
		return nil, errors.New("-start has no effect beside -plan: write it into the file")
	case file != "":
		p, err := plan.Read(file)
		if err != nil {
			return nil, err
		}
		r.options.Targets = p.Targets
	case one.Start != "":
		r.options.Targets = []plan.Target{one}
	}
	return &r, r.options.Check()
}

// faultsCommand causes faults, prints the table and writes it into a file, row by row.
func faultsCommand(args []string, out io.Writer) error {
	r, err := parseFaults(args)
	if err != nil {
		return err
	}
	r.options.Say = func(line string) { fmt.Fprintln(os.Stderr, line) }
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	r.options.Row = func(t *faults.Table) error { return r.row(t, out) }
	t, err := faults.Run(ctx, r.options)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, t.Legend()); err != nil {
		return err
	}
	if !t.OK(0) {
		return fmt.Errorf("%s did not keep all its clients: the table says how", t.Targets[0].Name)
	}
	return nil
}

// row prints the newest row of a table, and writes the table so far into the file.
func (r *faultsFlags) row(t *faults.Table, out io.Writer) error {
	last := len(t.Rows) - 1
	line := t.Line(last)
	if last == 0 {
		line = t.Head() + line
	}
	if _, err := io.WriteString(out, line); err != nil || r.into == "" {
		return err
	}
	text, err := os.ReadFile(r.into)
	if err == nil {
		text, err = t.Insert(text)
	}
	if err == nil {
		err = os.WriteFile(r.into, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.into, err)
	}
	return nil
}
