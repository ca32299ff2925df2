//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"sluice/loadtest/netns"
	"sluice/loadtest/plan"
	"sluice/loadtest/run"
)

// within runs the same command line in namespaces of its own, where packets arrive on the clients'
// cores. why is the reason if that is not possible: then nothing has run.
func within(p plan.Plan, args []string, out io.Writer) (why string, err error) {
	if err := run.Prepare(&p); err != nil {
		return "", err
	}
	switch shared := p.Reachable(); {
	case p.SharedNetwork:
		return "as the plan says", nil
	case shared != "":
		return shared, nil
	case len(p.ClientCores) == 0 || slices.ContainsFunc(p.ClientCores, func(c int) bool { return slices.Contains(p.ServerCores, c) }):
		return "the clients have no cores of their own", nil
	}
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer cancel()
	var cores []string
	for _, c := range p.ClientCores {
		cores = append(cores, strconv.Itoa(c))
	}
	cmd := exec.Command(self, append([]string{"within", strings.Join(cores, ",")}, args...)...)
	cmd.Stdout, cmd.Stderr = out, os.Stderr
	err = netns.Run(ctx, cmd, exec.Command(self, "guard"))
	var refused netns.Refused
	if errors.As(err, &refused) {
		return refused.Why, nil
	}
	return "", err
}

// withinCommand is "run", in the namespaces that within has started it in.
func withinCommand(args []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New("only a run starts this")
	}
	var cores []int
	for _, text := range strings.Split(args[0], ",") {
		c, err := strconv.Atoi(text)
		if err != nil || c < 0 {
			return fmt.Errorf("%q is no core", text)
		}
		cores = append(cores, c)
	}
	parent, err := netns.Enter(cores)
	if err != nil {
		return nil // the parent has the reason, and goes on without
	}
	parent.Report(steeredRun(args[1:], out))
	return nil
}

// steeredRun is a run whose packets arrive on the clients' cores.
func steeredRun(args []string, out io.Writer) error {
	r, err := parseRun(args)
	if err != nil {
		return err
	}
	return r.execute(out, run.Options{Steered: true})
}
