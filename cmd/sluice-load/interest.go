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

	"sluice/loadtest/interest"
	"sluice/loadtest/result"
)

const interestUsage = `usage: sluice-load interest [flags]

Measures what subscriptions cost a cluster of NATS servers: memory, CPU, churn, and how long events are missing
after a server's restart; by name, by wildcard, and behind a leaf node. docs/interest.md explains the tables.

`

// interestFlags is the command line of "interest", parsed.
type interestFlags struct {
	options            interest.Options
	from, json         string
	into, coefficients string
}

// parseInterest parses the arguments of "interest".
func parseInterest(args []string) (*interestFlags, error) {
	var r interestFlags
	var sizes string
	var quick bool
	f := flag.NewFlagSet("interest", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), interestUsage)
		f.PrintDefaults()
	}
	f.StringVar(&r.options.NATS, "nats-server", "bin/nats-server", "the NATS server's program")
	f.StringVar(&sizes, "sizes", "100000,500000,1000000", "numbers of live subscriptions, ascending")
	f.DurationVar(&r.options.Limit, "limit", 8*time.Minute, "how long the whole run may take")
	f.BoolVar(&quick, "quick", false, "2,000 and 20,000 subscriptions: half a minute, and rough")
	f.StringVar(&r.from, "from", "", "measure nothing: read this JSON file of a run before")
	f.StringVar(&r.json, "json", "", "write the result to this file, after each row")
	f.StringVar(&r.into, "into", "", "put the tables between the marks in this Markdown file")
	f.StringVar(&r.coefficients, "coefficients", "", "write the costs of a subscription to this file, which sluice-load plan is built with")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if quick {
		sizes = "2000,20000"
	}
	var err error
	if r.options.Sizes, err = numbers(sizes); err != nil {
		return nil, err
	}
	return &r, r.options.Check()
}

// interestCommand measures, or reads what was measured, and writes the files.
func interestCommand(args []string, out io.Writer) error {
	r, err := parseInterest(args)
	if err != nil {
		return err
	}
	res, failed := r.result()
	if res == nil {
		return failed
	}
	_, err = io.WriteString(out, res.Markdown())
	return errors.Join(failed, err, write(r.json, res.WriteJSON), write(r.into, inserted(r.into, res.Insert)), write(r.coefficients, func(to io.Writer) error {
		c, err := res.Coefficients()
		if err != nil {
			return err
		}
		return result.Encode(to, c)
	}))
}

// result measures, or reads what was measured.
func (r *interestFlags) result() (*interest.Result, error) {
	if r.from != "" {
		return read(r.from, interest.Read)
	}
	r.options.Say = func(line string) { fmt.Fprintln(os.Stderr, line) }
	r.options.Keep = func(res *interest.Result) {
		if err := write(r.json, res.WriteJSON); err != nil {
			fmt.Fprintln(os.Stderr, "sluice-load:", err)
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	return interest.Run(ctx, r.options)
}
