package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/url"
	"strconv"

	"sluice/internal/admin/client"
	"sluice/internal/livetrace"
)

// trace does "sluice trace": it prints the messages of one connection, or about some resources,
// while a running gateway handles them.
func (p *process) trace(args []string) int {
	flags := flag.NewFlagSet("sluice trace", flag.ContinueOnError)
	flags.SetOutput(p.stderr)
	var o client.Options
	o.Flags(flags)
	cid := flags.String("cid", "", "`ID` of the connection")
	resource := flags.String("resource", "", "`pattern` of resource names, such as library.>")
	seconds := flags.Int("seconds", 60, "how long, in `seconds`, 600 at most")
	rate := flags.Int("rate", 100, "`lines` per second, 1000 at most")
	bytes := flags.Int("bytes", 512, "`bytes` of each payload that are shown, 4096 at most; 0: none")
	raw := flags.Bool("json", false, "print the JSON objects")
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		return exitUsage
	case flags.NArg() > 0 || (*cid == "") == (*resource == ""):
		flags.Usage()
		return exitUsage
	}
	from, err := client.New(o)
	if err != nil {
		return p.misused(err)
	}
	q := url.Values{"seconds": {strconv.Itoa(*seconds)}, "rate": {strconv.Itoa(*rate)}, "bytes": {strconv.Itoa(*bytes)}}
	if *cid != "" {
		q.Set("cid", *cid)
	} else {
		q.Set("resource", *resource)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-p.signals:
			cancel()
		case <-ctx.Done():
		}
	}()
	err = from.Stream(ctx, "/api/trace?"+q.Encode(), func(line []byte) error {
		if *raw {
			_, err := fmt.Fprintf(p.stdout, "%s\n", line)
			return err
		}
		var l livetrace.Line
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("%w: is this the admin port of a gateway?", err)
		}
		_, err := fmt.Fprintln(p.stdout, l.String())
		return err
	})
	if err != nil && ctx.Err() == nil {
		fmt.Fprintf(p.stderr, "sluice: %v\n%s\n", err, needsAdmin)
		return exitFailure
	}
	return exitOK
}
