package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"sluice/internal/scaffold"
)

const serviceUsage = `Usage: sluice service new NAME [-lang go|node|python]

Writes a small service into the new folder NAME: one model that clients follow and change. It
runs immediately, in Go with the go-res library (the default), in Node with the NATS client, or in
Python without a package. NAME begins the names of the service's resources: letters a to z,
digits and hyphens.
`

// service does "sluice service new".
func (p *process) service(args []string) int {
	flags := flag.NewFlagSet("service new", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	lang := flags.String("lang", scaffold.Languages[0], "")
	name, err := serviceName(flags, args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, serviceUsage)
		return exitOK
	case err == nil:
		err = scaffold.Write(".", name, *lang)
	}
	if err != nil {
		fmt.Fprintf(p.stderr, "sluice: %v\nTry sluice service -h for the options.\n", err)
		return exitUsage
	}
	run := map[string]string{"go": "go run .", "node": "npm install && npm start", "python": "python3 service.py"}[*lang]
	fmt.Fprintf(p.stdout, `The service is in %s. To run it, start each of these in a terminal of its own:

  sluice --embedded-nats
  cd %s && %s
  curl -N -H 'Accept: text/event-stream' http://localhost:8080/api/%s/counter

And each time that you run this, the last one shows a new count:

  curl -X POST http://localhost:8080/api/%s/counter/increment
`, name+string(filepath.Separator), name, run, name, name)
	return exitOK
}

// serviceName parses the arguments of "sluice service" and returns the name in them. Flags may
// precede and follow it.
func serviceName(flags *flag.FlagSet, args []string) (string, error) {
	if len(args) == 0 {
		return "", errors.New("say what to do, as in: sluice service new library")
	}
	if strings.HasPrefix(args[0], "-") {
		if err := flags.Parse(args); err != nil {
			return "", err
		}
	}
	if args[0] != "new" {
		return "", fmt.Errorf("there is no command %q: the only one is sluice service new NAME", args[0])
	}
	if err := flags.Parse(args[1:]); err != nil {
		return "", err
	}
	name := flags.Arg(0)
	if flags.NArg() > 0 {
		if err := flags.Parse(flags.Args()[1:]); err != nil {
			return "", err
		}
	}
	if flags.NArg() > 0 {
		return "", fmt.Errorf("%q is one name too many", flags.Arg(0))
	}
	return name, nil
}
