//go:build linux

// Command sluice-load measures realtime gateways. Package loadtest explains how, and
// docs/performance.md how to read the figures.
//
// It owns the command line and the terminal. It never measures anything itself.
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
	"strings"
	"syscall"

	"sluice/loadtest/client"
	"sluice/loadtest/floor"
	"sluice/loadtest/hostile"
	"sluice/loadtest/netns"
	"sluice/loadtest/plan"
	"sluice/loadtest/report"
	"sluice/loadtest/result"
	"sluice/loadtest/run"
	"sluice/loadtest/soak/service"
)

const usage = `sluice-load measures realtime gateways.

  sluice-load run [flags]       run scenarios; "run -h" lists the flags
  sluice-load soak [flags]      everything goes wrong for a while, and then all clients must be exact
  sluice-load faults [flags]    cause faults one by one, and say what became of a gateway's clients
  sluice-load differential      hold the same conversations with two gateways, and compare what clients receive
  sluice-load simulate [flags]  run a gateway with its peers from a seed, on one goroutine, again and again
  sluice-load scale [flags]     measure several gateways on a NATS cluster, and what a unit of work costs
  sluice-load latency [flags]   measure what a leaf node and a relay add to events, gets and calls
  sluice-load interest [flags]  measure what subscriptions cost a cluster of NATS servers
  sluice-load plan [flags]      compute how many gateways and NATS servers a number of clients needs
  sluice-load report FILE.json  render the page, the tables and the charts of a run again
  sluice-load floor [flags]     serve the floor: one write per event and connection
  sluice-load kinds             list the kinds of scenarios

Examples:

  sluice-load run -start "./bin/sluice --embedded-nats --embedded-nats-listen 127.0.0.1:{nats} --addr 127.0.0.1 --port {port}" -kind fanout,idle -n 1000 -html run.html
  sluice-load run -url ws://127.0.0.1:8080/ -nats nats://127.0.0.1:4222 -kind unary
  sluice-load run -plan bench/quick.yaml -html report.html
`

func main() {
	if err := command(os.Args[1:], os.Stdout); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "sluice-load:", err)
		os.Exit(1)
	}
}

// command executes the command line. Output for pipes goes to out.
func command(args []string, out io.Writer) error {
	name := "help"
	if len(args) > 0 {
		name, args = args[0], args[1:]
	}
	switch name {
	case "run":
		return runCommand(args, out)
	case "soak":
		return soakCommand(args, out)
	case "faults":
		return faultsCommand(args, out)
	case "differential":
		return differentialCommand(args, out)
	case "simulate":
		return simulateCommand(args, out)
	case "scale":
		return scaleCommand(args, out)
	case "latency":
		return latencyCommand(args, out)
	case "interest":
		return interestCommand(args, out)
	case "plan":
		return planCommand(args, out)
	case "soak-service": // a soak starts its services with it
		return service.Worker(os.Stdin, os.Stdout)
	case "report":
		return reportCommand(args, out)
	case "floor":
		return floorCommand(args)
	case "within": // a run starts itself again with it
		return withinCommand(args, out)
	case "guard": // it starts this, too
		return netns.Guard(os.Stdin)
	case "attack": // a run starts its attackers with it
		return hostile.Worker(os.Stdin, os.Stdout)
	case "client": // a run starts its client processes with it
		return client.Worker(os.Stdin, os.Stdout)
	case "kinds":
		_, err := fmt.Fprintln(out, strings.Join(plan.Kinds, "\n"))
		return err
	case "help", "-h", "--help":
		_, err := io.WriteString(out, usage)
		return err
	}
	return fmt.Errorf("there is no command %q; see sluice-load help", name)
}

// floorCommand serves the floor until a signal.
func floorCommand(args []string) error {
	var o floor.Options
	f := flag.NewFlagSet("floor", flag.ContinueOnError)
	f.IntVar(&o.Port, "port", 8090, "port for clients")
	f.IntVar(&o.Feed, "feed", 8091, "port for events")
	f.BoolVar(&o.Batched, "batched", false, "one write per connection for all events of a read")
	if err := f.Parse(args); err != nil {
		return err
	}
	s, err := floor.Listen(o)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	ended := make(chan error, 1)
	go func() { ended <- s.Serve() }()
	select {
	case err := <-ended:
		return err
	case <-stop:
		return s.Close()
	}
}

// runCommand runs a plan, prints its tables and writes its files.
func runCommand(args []string, out io.Writer) error {
	r, err := parseRun(args)
	if err != nil {
		return err
	}
	if err := r.check(); err != nil {
		return err
	}
	why, err := within(r.plan, args, out)
	if err != nil || why == "" {
		return err
	}
	return r.execute(out, run.Options{Unsteered: why})
}

// execute executes the plan. o says where packets arrive.
func (r *runFlags) execute(out io.Writer, o run.Options) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	line := &progress{to: os.Stderr, quiet: r.quiet, live: terminal(os.Stderr)}
	o.Self = self
	o.Worker = func() *exec.Cmd { return exec.Command(self, "client") }
	o.Progress, o.Say = line.show, line.say
	o.Cell = func(rep *result.Report, _ int) { rep.Command = r.command; r.keep(rep) }
	if o.Unsteered != "" {
		line.say("packets arrive on the core that sends them: " + o.Unsteered)
	}
	rep, err := run.Run(ctx, r.plan, o)
	line.end()
	if rep == nil {
		return err
	}
	rep.Command = r.command
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	if err := errors.Join(err, report.Table(out, rep, r.wide), r.write(rep)); err != nil {
		return err
	}
	for _, c := range rep.Cells {
		if c.Error != "" {
			return errors.New("some scenarios failed: the table says which, and why")
		}
	}
	return nil
}

// reportCommand renders the report of an earlier run again.
func reportCommand(args []string, out io.Writer) error {
	var r runFlags
	f := flag.NewFlagSet("report", flag.ContinueOnError)
	r.outputs(f)
	if len(args) == 0 {
		return errors.New("say which JSON file, as in: sluice-load report FILE.json -html FILE.html")
	}
	if err := f.Parse(args[1:]); err != nil {
		return err
	}
	file, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer file.Close()
	rep, err := result.Read(file)
	if err != nil {
		return fmt.Errorf("%s is no report of a run: %w", args[0], err)
	}
	r.json = "" // the file exists already
	return errors.Join(report.Table(out, rep, r.wide), r.write(rep))
}
