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
	"syscall"
	"time"

	"sluice/internal/simulation"
)

const simulateUsage = `usage: sluice-load simulate [flags]

Runs worlds: a gateway with clients and services on one goroutine, in which the seed decides who acts
next, what gets lost and how time passes. What fails can be replayed. It prints the shortest sequence
of events found that fails. Exit code 0: all is well; 1: something is wrong.

`

// simulateCommand runs worlds of the simulation.
func simulateCommand(args []string, out io.Writer) error {
	var o simulation.Options
	f := flag.NewFlagSet("simulate", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), simulateUsage)
		f.PrintDefaults()
	}
	f.Uint64Var(&o.Seed, "seed", 0, "decides what happens; 0: chosen by the clock, and printed")
	f.Uint64Var(&o.First, "world", 0, "number of the first world: with -worlds 1 the one to replay")
	f.Uint64Var(&o.Worlds, "worlds", 0, "how many; 0: as many as -time allows")
	f.DurationVar(&o.Time, "time", 0, "after which no world begins (default 1m without -worlds)")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if o.Worlds == 0 && o.Time == 0 {
		o.Time = time.Minute
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	fmt.Fprintf(out, "seed %d\n", o.Seed)
	o.Say = func(line string) { fmt.Fprintln(out, line) }
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	start := time.Now()
	r := simulation.Run(ctx, o)
	fmt.Fprintf(out, "%d worlds, %d steps, %d messages to clients in %v\n", r.Worlds, r.Steps, r.Messages, time.Since(start).Round(time.Second))
	if r.Failure != nil {
		fmt.Fprint(out, r.Failure)
		return errors.New("a world has failed")
	}
	return nil
}
