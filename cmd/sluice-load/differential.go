//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"

	"sluice/loadtest/differential"
	"sluice/loadtest/plan"
)

const differentialUsage = `usage: sluice-load differential [flags]

Holds the same random conversations with two gateways of a plan, and compares what clients receive. Each has a
NATS server and a service of its own. Exit code 0: no difference but those that are meant; 1: there are others.

`

// defaultDifferential is how long conversations are held.
const defaultDifferential = time.Minute

// differentialCommand compares two gateways.
func differentialCommand(args []string, out io.Writer) error {
	var o differential.Options
	f := flag.NewFlagSet("differential", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), differentialUsage)
		f.PrintDefaults()
	}
	file := f.String("plan", "bench/differential.yaml", "YAML file of two targets: the gateway in question, and the reference")
	f.StringVar(&o.NATS, "nats-server", "bin/nats-server", "the NATS server's program")
	f.Uint64Var(&o.Seed, "seed", 1, "of the first conversation")
	f.IntVar(&o.Count, "n", 0, "conversations; 0: as many as -time allows")
	f.DurationVar(&o.Time, "time", 0, "after which no conversation begins (default 1m without -n)")
	f.IntVar(&o.Steps, "steps", 60, "of each conversation")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if o.Count == 0 && o.Time == 0 {
		o.Time = defaultDifferential
	}
	p, err := plan.Read(*file)
	if err != nil {
		return err
	}
	o.Targets = p.Targets
	o.Say = func(line string) { fmt.Fprintln(out, line) }
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	r, err := differential.Run(ctx, o)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "%d conversations, %d steps, %d differences\n", r.Conversations, r.Steps, len(r.Found))
	for _, name := range slices.Sorted(maps.Keys(r.Allowed)) {
		fmt.Fprintf(out, "  meant: %s (%d)\n", name, r.Allowed[name])
	}
	if r.Ended > 0 {
		fmt.Fprintf(out, "the reference ended %d times, the last time:\n%s\n", r.Ended, r.Why)
	}
	if len(r.Found) > 0 {
		return errors.New("the gateways differ")
	}
	return nil
}
