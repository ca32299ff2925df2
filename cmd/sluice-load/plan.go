//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"sluice/loadtest/capacity"
)

const planUsage = `usage: sluice-load plan [flags]

Computes how many gateways and NATS servers a number of clients needs, in each of some regions, of which some
may fail. docs/scaling.md explains the model and its coefficients.

`

// planFlags is the command line of "plan", parsed.
type planFlags struct {
	work            capacity.Work
	regions         capacity.Regions
	gateway, server capacity.Machine
	from            string
}

// amount is a flag with a number, to which k, M, G (thousands) or Ki, Mi, Gi may be appended.
type amount struct{ to *float64 }

var units = map[string]float64{"": 1, "k": 1e3, "M": 1e6, "G": 1e9, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}

// Set implements flag.Value.
func (a amount) Set(text string) error {
	number := strings.TrimRight(text, "kMGi")
	unit, known := units[text[len(number):]]
	v, err := strconv.ParseFloat(strings.ReplaceAll(number, ",", ""), 64)
	if err != nil || !known {
		return errors.New("write it like 1000000, 1M or 16Gi")
	}
	*a.to = v * unit
	return nil
}

// String implements flag.Value.
func (a amount) String() string {
	if a.to == nil {
		return ""
	}
	return strconv.FormatFloat(*a.to, 'f', -1, 64)
}

// parsePlan parses the arguments of "plan".
func parsePlan(args []string) (*planFlags, error) {
	r := planFlags{
		work:    capacity.Work{Clients: 1e6, Topics: 1000, PerClient: 1, Events: 1, Payload: 128},
		regions: capacity.Regions{Regions: 1},
		gateway: capacity.Machine{Cores: 4, Memory: 16 << 30, Network: 5e9, Connections: 250e3, Use: 0.6},
		server:  capacity.Machine{Cores: 4, Network: 5e9, Use: 0.6},
	}
	churn, access := time.Hour, time.Duration(0)
	f := flag.NewFlagSet("plan", flag.ContinueOnError)
	f.Usage = func() {
		fmt.Fprint(f.Output(), planUsage)
		f.PrintDefaults()
	}
	f.Var(amount{&r.work.Clients}, "clients", "subscribers, all together")
	f.Var(amount{&r.work.Topics}, "topics", "different resources that they subscribe to")
	f.Float64Var(&r.work.PerClient, "per-client", r.work.PerClient, "subscriptions of each client")
	f.Float64Var(&r.work.Events, "events", r.work.Events, "events per topic and second")
	f.Var(amount{&r.work.Payload}, "payload", "bytes of an event's payload")
	f.DurationVar(&churn, "session", churn, "how long a client stays connected; 0: for ever")
	f.DurationVar(&access, "access", access, "how often access to each client's resources is asked for again; 0: never")
	f.IntVar(&r.regions.Regions, "regions", r.regions.Regions, "regions, with as many clients each")
	f.IntVar(&r.regions.Failed, "failed", r.regions.Failed, "regions that may fail at the same time: the others take their clients")
	f.Float64Var(&r.gateway.Cores, "cores", r.gateway.Cores, "cores of a gateway's machine")
	f.Var(amount{&r.gateway.Memory}, "memory", "bytes of memory of a gateway's machine")
	f.Var(amount{&r.gateway.Network}, "network", "bits per second of a gateway's or NATS server's network")
	f.Var(amount{&r.gateway.Connections}, "connections", "clients of a gateway at most: what a restart may move, and what its descriptors allow")
	f.Float64Var(&r.gateway.Use, "use", r.gateway.Use, "share of each machine that may be used, above 0 and up to 1")
	f.Float64Var(&r.server.Cores, "nats-cores", r.server.Cores, "cores of a NATS server's machine")
	f.StringVar(&r.from, "coefficients", "", "JSON file with coefficients of your own, as sluice-load scale writes it; default: those of docs/scaling.md")
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if f.NArg() > 0 {
		return nil, fmt.Errorf("%q is no flag", f.Arg(0))
	}
	if churn < 0 || access < 0 {
		return nil, errors.New("times must not be negative")
	}
	if churn > 0 {
		r.work.Churn = r.work.Clients / churn.Seconds()
	}
	if access > 0 {
		r.work.Access = r.work.PerClient / access.Seconds()
	}
	r.server.Network, r.server.Use = r.gateway.Network, r.gateway.Use
	return &r, nil
}

// planCommand prints what a number of clients needs.
func planCommand(args []string, out io.Writer) error {
	r, err := parsePlan(args)
	if err != nil {
		return err
	}
	c, err := capacity.Measured()
	if err == nil && r.from != "" {
		var text []byte
		if text, err = os.ReadFile(r.from); err == nil {
			c = capacity.Coefficients{}
			d := json.NewDecoder(bytes.NewReader(text))
			d.DisallowUnknownFields()
			err = d.Decode(&c)
		}
	}
	if err != nil {
		return err
	}
	return r.write(out, c)
}

// write prints the plan as a table of Markdown.
func (r *planFlags) write(out io.Writer, c capacity.Coefficients) error {
	before, after, err := c.Plan(r.work, r.regions, r.gateway, r.server)
	if err != nil {
		return err
	}
	regions, left := float64(r.regions.Regions), float64(r.regions.Regions-r.regions.Failed)
	var b strings.Builder
	row := func(name, all, one, failed string) {
		if r.regions.Failed == 0 {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", name, all, one)
		} else {
			fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, all, one, failed)
		}
	}
	row("", "all together", "one region", fmt.Sprintf("the same while %d of %d regions %s", r.regions.Failed, r.regions.Regions, map[bool]string{true: "is away", false: "are away"}[r.regions.Failed == 1]))
	row("---", "---", "---", "---")
	row("clients", big(r.work.Clients), big(r.work.Clients/regions), big(r.work.Clients/left))
	row("gateways", big(after.Gateways*regions), big(after.Gateways)+", by "+after.Limit, "")
	row("NATS servers", big(after.NATSServers*regions), big(after.NATSServers), "")
	row("clients of a gateway", "", big(before.PerGateway), big(after.PerGateway))
	row("deliveries per second", big(before.Load.Deliveries*regions), big(before.Load.Deliveries), big(after.Load.Deliveries))
	row("events per second to each gateway", "", big(before.Load.Received), big(after.Load.Received))
	share := func(used, offers float64) string { return fmt.Sprintf("%.0f %%", 100*used/offers) }
	row("CPU of a gateway", "", share(before.Load.Cores/after.Gateways, r.gateway.Cores), share(after.Load.Cores/after.Gateways, r.gateway.Cores))
	memory := func(l capacity.Load) string {
		return fmt.Sprintf("%.1f GB", (l.Memory+l.Sockets)/after.Gateways/1e9)
	}
	row("memory of a gateway, its sockets included", "", memory(before.Load), memory(after.Load))
	row("network of a gateway", "", bits(before.Load.Bits/after.Gateways), bits(after.Load.Bits/after.Gateways))
	row("network to clients", bits(before.Load.Bits*regions), bits(before.Load.Bits), bits(after.Load.Bits))
	row("CPU of a NATS server", "", share(before.Load.NATSCores/after.NATSServers, r.server.Cores), share(after.Load.NATSCores/after.NATSServers, r.server.Cores))
	interest, err := capacity.MeasuredInterest()
	if err != nil {
		return err
	}
	row("memory of a NATS server for subscriptions", "", megabytes(interest.Memory(r.part(regions), before.Gateways, before.NATSServers)),
		megabytes(interest.Memory(r.part(left), after.Gateways, after.NATSServers)))
	row("network from NATS to gateways", bits(before.Load.NATSBits*regions), bits(before.Load.NATSBits), bits(after.Load.NATSBits))
	row("events into the region's NATS", "", bits(8*r.work.Topics*r.work.Events*(r.work.Payload+c.Overhead)), "")
	if r.regions.Failed > 0 {
		row("until clients are back, by the CPU of gateways", "", "", after.Restore.Round(100*time.Millisecond).String())
	}
	_, err = io.WriteString(out, b.String())
	return err
}

// part returns the work of one of some regions.
func (r *planFlags) part(regions float64) capacity.Work {
	w := r.work
	w.Clients /= regions
	return w
}

func megabytes(v float64) string { return fmt.Sprintf("%.1f MB", v/1e6) }

// big writes a large number with separators.
func big(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func bits(v float64) string {
	for _, u := range []struct {
		name string
		size float64
	}{{"Tbit/s", 1e12}, {"Gbit/s", 1e9}, {"Mbit/s", 1e6}} {
		if v >= u.size {
			return fmt.Sprintf("%.1f %s", v/u.size, u.name)
		}
	}
	return fmt.Sprintf("%.0f kbit/s", v/1e3)
}

const (
	planBegin = "<!-- plan: sluice-load plan "
	planEnd   = "<!-- /plan -->\n"
)

// insertPlans renders the plans of a Markdown text again. Each stands between marks, the first of
// which has the command line.
func insertPlans(text []byte, c capacity.Coefficients) ([]byte, error) {
	var all bytes.Buffer
	for {
		before, rest, found := bytes.Cut(text, []byte(planBegin))
		all.Write(before)
		if !found {
			return all.Bytes(), nil
		}
		args, rest, ok1 := bytes.Cut(rest, []byte(" -->\n"))
		_, after, ok2 := bytes.Cut(rest, []byte(planEnd))
		if !ok1 || !ok2 {
			return nil, errors.New("the marks of a plan are not complete: " + strings.TrimSpace(planBegin) + " ... --> and " + strings.TrimSpace(planEnd))
		}
		r, err := parsePlan(strings.Fields(string(args)))
		if err != nil {
			return nil, fmt.Errorf("plan %s: %w", args, err)
		}
		all.WriteString(planBegin + string(args) + " -->\n\n")
		if err := r.write(&all, c); err != nil {
			return nil, fmt.Errorf("plan %s: %w", args, err)
		}
		all.WriteString("\n" + planEnd)
		text = after
	}
}
