//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"sluice/loadtest/soak"
)

const soakUsage = `usage: sluice-load soak [flags]

Runs two gateways, three NATS nodes, four services and thousands of clients while processes are killed and
frozen, connections cut and garbage sent, and checks that every client ends with exactly what the
services say. The report and all logs are in the folder -out. Exit code 0: all is well; 1: something
is wrong, and the output says what.

`

// soakCommand runs a soak.
func soakCommand(args []string, out io.Writer) error {
	var o soak.Options
	var quiet bool
	f := flag.NewFlagSet("soak", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), soakUsage)
		f.PrintDefaults()
	}
	f.DurationVar(&o.Time, "time", 10*time.Minute, "how long faults happen; each kind happens once at least")
	f.IntVar(&o.Clients, "clients", 5000, "clients of all kinds together")
	f.Uint64Var(&o.Seed, "seed", 0, "decides what happens; 0: chosen by the clock, and logged")
	f.StringVar(&o.Out, "out", "bin/soak", "folder of the report and the logs")
	f.StringVar(&o.Gateway, "gateway", "bin/sluice", "the gateway's program")
	f.StringVar(&o.NATS, "nats-server", "bin/nats-server", "the NATS server's program")
	f.BoolVar(&quiet, "quiet", false, "show no progress")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if o.Seed == 0 {
		o.Seed = uint64(time.Now().UnixNano())
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	for _, p := range []*string{&o.Gateway, &o.NATS, &o.Out} {
		if *p, err = filepath.Abs(*p); err != nil {
			return err
		}
	}
	o.Service = func() *exec.Cmd { return exec.Command(self, "soak-service") }
	if !quiet {
		o.Say = func(line string) { fmt.Fprintln(os.Stderr, line) }
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	r, err := soak.Run(ctx, o)
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if r == nil {
		return err
	}
	if err := errors.Join(err, r.Summary(out)); err != nil {
		return err
	}
	if !r.OK() {
		return errors.New("the soak failed: the list above says how")
	}
	return nil
}
