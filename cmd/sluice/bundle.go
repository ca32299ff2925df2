package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"sluice/internal/admin/client"
	"sluice/internal/bundle"
)

// needsAdmin says what commands need that ask a running gateway.
const needsAdmin = "The gateway must run with adminPort; -url, -token-file say where and how."

// bundle does "sluice bundle": it collects what a bug report needs from the admin port of a running
// gateway into one zip file.
func (p *process) bundle(args []string) int {
	flags := flag.NewFlagSet("sluice bundle", flag.ContinueOnError)
	flags.SetOutput(p.stderr)
	var o client.Options
	o.Flags(flags)
	file := flags.String("o", "sluice-bundle-"+time.Now().UTC().Format("20060102-150405")+".zip", "zip `file` to write; it must not exist")
	seconds := flags.Int("seconds", 5, "length of the CPU profile in `seconds`, 1 to 60")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0 || *seconds < 1 || *seconds > 60:
		flags.Usage()
		return exitUsage
	}
	from, err := client.New(o)
	if err != nil {
		return p.misused(err)
	}
	f, err := os.OpenFile(*file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return p.misused(fmt.Errorf("%w: name another file with -o", err))
	}
	problems, err := bundle.Write(context.Background(), f, from, *seconds)
	if err = errors.Join(err, f.Close()); err != nil {
		_ = os.Remove(*file)
		fmt.Fprintf(p.stderr, "sluice: no bundle: %v\n%s\n", err, needsAdmin)
		return exitFailure
	}
	for _, m := range problems {
		fmt.Fprintf(p.stderr, "sluice: missing: %s\n", m)
	}
	fmt.Fprintf(p.stdout, "%s written. It has resource names and addresses of clients, but no values, tokens or passwords.\n", *file)
	return exitOK
}
