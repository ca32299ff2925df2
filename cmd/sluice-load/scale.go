//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/loadtest/capacity"
	"sluice/loadtest/result"
	"sluice/loadtest/scale"
)

const scaleUsage = `usage: sluice-load scale [flags]

Measures several gateways with their own clients on a cluster of NATS servers, derives what a unit of work
costs, and compares what that predicts with the measurement. Exit code 1: a gateway got an event twice or not
at all, or a client missed one.

`

// scaleFlags is the command line of "scale", parsed.
type scaleFlags struct {
	options            scale.Options
	from, json         string
	resume             bool
	into, coefficients string
}

// numbers parses numbers that are separated by commas.
func numbers(text string) (all []int, err error) {
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(word))
		if err != nil {
			return nil, fmt.Errorf("%q is no number", word)
		}
		all = append(all, n)
	}
	return all, nil
}

// parseScale parses the arguments of "scale".
func parseScale(args []string) (*scaleFlags, error) {
	var r scaleFlags
	var gateways, topics, topologies string
	var quick bool
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), scaleUsage)
		f.PrintDefaults()
	}
	f.StringVar(&r.options.Gateway, "gateway", "bin/sluice", "the gateway's program")
	f.StringVar(&r.options.NATS, "nats-server", "bin/nats-server", "the NATS server's program")
	f.StringVar(&gateways, "gateways", "1,2,4,5", "numbers of gateways, ascending from 1")
	f.StringVar(&topics, "topics", "1,1000", "numbers of topics")
	f.StringVar(&topologies, "topologies", "cluster,leaf,relay,within", "how gateways reach NATS: cluster (directly), leaf (over a leaf node), relay (over a relay), within (each is a leaf node itself)")
	f.IntVar(&r.options.Clients, "clients", 19_000, "clients of each gateway")
	f.Float64Var(&r.options.Rate, "rate", 1, "events per topic and second")
	f.IntVar(&r.options.Payload, "payload", 128, "bytes of an event's payload")
	f.DurationVar(&r.options.Window, "window", 15*time.Second, "how long events are sent in each step")
	f.DurationVar(&r.options.Limit, "limit", 15*time.Minute, "how long the whole run may take; what is not measured then is left out")
	f.BoolVar(&quick, "quick", false, "1 and 2 gateways with 2,000 clients each: less than three minutes, and rough")
	f.StringVar(&r.from, "from", "", "measure nothing: read this JSON file of a run before")
	f.StringVar(&r.json, "json", "", "write the result to this file; until then each step is kept in FILE.part")
	f.BoolVar(&r.resume, "resume", false, "measure only what FILE.part of -json does not have, after a run that was ended")
	f.StringVar(&r.into, "into", "", "put the tables between the marks in this Markdown file")
	f.StringVar(&r.coefficients, "coefficients", "", "write the coefficients to this file, which sluice-load plan is built with")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	var err1, err2 error
	r.options.Gateways, err1 = numbers(gateways)
	r.options.Topics, err2 = numbers(topics)
	if err := errors.Join(err1, err2); err != nil {
		return nil, err
	}
	r.options.Topologies = strings.Split(topologies, ",")
	if r.resume && r.json == "" {
		return nil, errors.New("-resume needs -json: what was measured before is in FILE.part")
	}
	if quick {
		set := map[string]bool{}
		f.Visit(func(f *flag.Flag) { set[f.Name] = true })
		if !set["gateways"] {
			r.options.Gateways = []int{1, 2}
		}
		if !set["clients"] {
			r.options.Clients = 2000
		}
		if !set["topologies"] {
			r.options.Topologies = []string{scale.Cluster, scale.Leaf, scale.Relay}
		}
		if !set["rate"] {
			r.options.Rate = 2
		}
		if !set["window"] {
			r.options.Window = 3 * time.Second
		}
		if !set["limit"] {
			r.options.Limit = 3 * time.Minute
		}
	}
	return &r, r.options.Check()
}

// scaleCommand measures, or reads what was measured, and writes the files.
func scaleCommand(args []string, out io.Writer) error {
	r, err := parseScale(args)
	if err != nil {
		return err
	}
	res, failed := r.result()
	if res == nil {
		return failed
	}
	if res.Coefficients == (capacity.Coefficients{}) { // the other files would have no figures
		if r.json == "" {
			return failed
		}
		return fmt.Errorf("%w (what was measured is in %s: -resume goes on)", failed, r.part())
	}
	if _, err := io.WriteString(out, res.Markdown()); err != nil {
		return err
	}
	err = errors.Join(
		write(r.json, res.WriteJSON),
		write(r.coefficients, func(to io.Writer) error { return result.Encode(to, res.Coefficients) }),
		write(r.into, inserted(r.into, res.Insert, func(text []byte) ([]byte, error) { return insertPlans(text, res.Coefficients) })),
	)
	if err == nil && r.json != "" && len(res.Left) == 0 {
		_ = os.Remove(r.part()) // there is none if nothing was measured
	}
	return errors.Join(failed, err)
}

// part is the file that keeps what was measured until all is.
func (r *scaleFlags) part() string { return r.json + ".part" }

// write writes a file, if it has a name.
func write(name string, f func(io.Writer) error) error {
	if name == "" {
		return nil
	}
	var b strings.Builder
	err := f(&b)
	if err == nil {
		err = os.MkdirAll(filepath.Dir(name), 0o755)
	}
	if err == nil {
		err = os.WriteFile(name, []byte(b.String()), 0o644)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// inserted is for write: what a file has after all insertions.
func inserted(name string, insert ...func(text []byte) ([]byte, error)) func(io.Writer) error {
	return func(to io.Writer) error {
		text, err := os.ReadFile(name)
		for _, f := range insert {
			if err == nil {
				text, err = f(text)
			}
		}
		if err == nil {
			_, err = to.Write(text)
		}
		return err
	}
}

// read reads a result of any kind.
func read[T any](name string, parse func(io.Reader) (*T, error)) (*T, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parse(file)
}

// result measures, or reads what was measured. With an error, it may have a part.
func (r *scaleFlags) result() (res *scale.Result, err error) {
	if r.from != "" {
		return read(r.from, scale.Read)
	}
	if r.resume {
		if r.options.Before, err = read(r.part(), scale.Read); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	if r.json != "" {
		r.options.Keep = func(res *scale.Result) error { return write(r.part(), res.WriteJSON) }
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	r.options.Worker = func() *exec.Cmd { return exec.Command(self, "client") }
	r.options.Say = func(line string) { fmt.Fprintln(os.Stderr, line) }
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	return scale.Run(ctx, r.options)
}
