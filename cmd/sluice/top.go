package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"sluice/internal/admin/client"
	"sluice/internal/top"
)

// top does "sluice top": it shows in the terminal what a running gateway is doing.
func (p *process) top(args []string) int {
	flags := flag.NewFlagSet("sluice top", flag.ContinueOnError)
	flags.SetOutput(p.stderr)
	var o client.Options
	o.Flags(flags)
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0:
		flags.Usage()
		return exitUsage
	}
	api, err := client.New(o)
	if err != nil {
		return p.misused(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := api.Get(ctx, "/api/overview"); err != nil {
		fmt.Fprintf(p.stderr, "sluice: %v\n%s\n", err, needsAdmin)
		return exitFailure
	}
	go func() {
		select {
		case <-p.signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	if err := top.New(api, top.Interval, nil).Run(ctx); err != nil {
		fmt.Fprintf(p.stderr, "sluice: no display: %v\n", err)
		return exitFailure
	}
	return exitOK
}
