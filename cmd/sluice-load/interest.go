//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/interest"
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
	return errors.Join(failed, err, r.keep(res), r.insert(res), r.fit(res))
}

// keep writes the JSON file.
func (r *interestFlags) keep(res *interest.Result) error {
	if r.json == "" {
		return nil
	}
	var b strings.Builder
	if err := errors.Join(res.WriteJSON(&b), os.MkdirAll(filepath.Dir(r.json), 0o755)); err != nil {
		return err
	}
	return os.WriteFile(r.json, []byte(b.String()), 0o644)
}

// insert writes the tables into the document.
func (r *interestFlags) insert(res *interest.Result) error {
	if r.into == "" {
		return nil
	}
	text, err := os.ReadFile(r.into)
	if err == nil {
		text, err = res.Insert(text)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.into, err)
	}
	return os.WriteFile(r.into, text, 0o644)
}

// fit writes the file of coefficients.
func (r *interestFlags) fit(res *interest.Result) error {
	if r.coefficients == "" {
		return nil
	}
	c, err := res.Coefficients()
	if err != nil {
		return err
	}
	text, err := json.MarshalIndent(c, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(r.coefficients, append(text, '\n'), 0o644)
}

// result measures, or reads what was measured.
func (r *interestFlags) result() (*interest.Result, error) {
	if r.from != "" {
		file, err := os.Open(r.from)
		if err != nil {
			return nil, err
		}
		defer file.Close()
		return interest.Read(file)
	}
	r.options.Say = func(line string) { fmt.Fprintln(os.Stderr, line) }
	r.options.Keep = func(res *interest.Result) {
		if err := r.keep(res); err != nil {
			fmt.Fprintln(os.Stderr, "sluice-load:", err)
		}
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	return interest.Run(ctx, r.options)
}
