//go:build linux

package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"sluice/loadtest/scale"
)

const latencyUsage = `usage: sluice-load latency [flags]

Measures events, gets and calls of clients whose gateways reach the services' NATS server (home) in different
ways: directly, over a leaf node, as a leaf node, and over a relay. One sample at a time, all ways in turn.

`

// latencyCommand measures, and puts the table into a file.
func latencyCommand(args []string, out io.Writer) error {
	var o scale.WayOptions
	var into string
	f := flag.NewFlagSet("latency", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), latencyUsage)
		f.PrintDefaults()
	}
	f.StringVar(&o.Gateway, "gateway", "bin/sluice", "the gateway's program")
	f.StringVar(&o.NATS, "nats-server", "bin/nats-server", "the NATS server's program")
	f.IntVar(&o.Samples, "samples", 5000, "samples of each kind")
	f.IntVar(&o.Payload, "payload", 128, "bytes of an event's payload")
	f.DurationVar(&o.Limit, "limit", 0, "how long the run may take (10m)")
	f.StringVar(&into, "into", "", "put the table between the marks in this Markdown file")
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 || o.Samples < 1 {
		return fmt.Errorf("at least one sample is needed, and no argument that is no flag; %q", f.Args())
	}
	o.Say = func(line string) { fmt.Fprintln(os.Stderr, line) }
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	w, err := scale.MeasureWays(ctx, o)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(out, w.Markdown()); err != nil {
		return err
	}
	return write(into, inserted(into, w.Insert))
}
