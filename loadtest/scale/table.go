//go:build linux

package scale

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"sluice/loadtest/capacity"
	"sluice/loadtest/result"
)

// The bounds that the document promises.
const (
	evenBound = 0.05 // of the CPU per delivery of several gateways, against that of one
	modelOff  = 0.15 // of predictions
)

// Read reads the JSON form of a result.
func Read(from io.Reader) (*Result, error) {
	return result.Decode(from, func(r *Result) int { return r.Schema }, Schema)
}

// WriteJSON writes the result.
func (r *Result) WriteJSON(to io.Writer) error { return result.Encode(to, r) }

// single returns the cell of one gateway with all clients that a cell is compared with.
func (r *Result) single(topics int) (Cell, bool) {
	i := slices.IndexFunc(r.Cells, func(c Cell) bool {
		return c.Topology == Cluster && c.Gateways == 1 && c.Clients == r.Clients && c.Topics == topics
	})
	if i < 0 {
		return Cell{}, false
	}
	return r.Cells[i], true
}

// measurements renders what was measured with all clients.
func (r *Result) measurements(b *strings.Builder) {
	b.WriteString("| NATS | gateways | clients | topics | deliveries/s | CPU per delivery | against one gateway | events in, each gateway | memory per client | CPU of NATS per event | CPU of the relay per event | p99 |\n")
	b.WriteString("|---|---|---|---|---|---|---|---|---|---|---|---|\n")
	for _, c := range r.Cells {
		if c.Clients != r.Clients {
			continue
		}
		against := "–"
		if one, ok := r.single(c.Topics); ok && (c.Gateways > 1 || c.Topology != Cluster) {
			against = fmt.Sprintf("%+.1f %%", 100*(c.PerDelivery()/one.PerDelivery()-1))
		}
		once := count(float64(c.Each[0].Due)) + ", each once"
		if !c.OnceEach() {
			once = "**not each once**"
		}
		events, relay := float64(max(c.Events, 1)), "–"
		if c.Topology == Relay {
			relay = fmt.Sprintf("%.1f µs", c.Relay/events)
		}
		empty := 0.0
		for _, u := range c.Each {
			empty += float64(u.Empty)
		}
		all := float64(c.Gateways * c.Clients)
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %.2f µs | %s | %s | %.1f KB | %.1f µs | %s | %.1f ms |\n", c.Topology, c.Gateways, count(all), count(float64(c.Topics)),
			count(float64(c.Deliveries)/c.Seconds), c.PerDelivery(), against, once, (c.Memory()-empty)/all/1e3, c.NATS/events, relay, float64(c.P99)/1e3)
	}
}

// count writes a large number with separators, without decimals.
func count(v float64) string {
	text := fmt.Sprintf("%.0f", v)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// figure writes a number with three digits, more if it is larger.
func figure(v float64) string {
	if v >= 100 {
		return count(v)
	}
	digits := 2
	if v > 0 {
		digits = min(max(2-int(math.Floor(math.Log10(v))), 0), 4)
	}
	return fmt.Sprintf("%.*f", digits, v)
}

func coefficients(b *strings.Builder, c capacity.Coefficients) {
	b.WriteString("| coefficient | value | of |\n|---|---|---|\n")
	for _, row := range []struct {
		name string
		v    float64
		unit string
		of   string
	}{
		{"`event`", c.Event, "µs", "a gateway's CPU for each event that it gets from NATS"},
		{"`delivery`", c.Delivery, "µs", "a gateway's CPU for each client that an event is written to"},
		{"`idle`", c.Idle, "µs", "a gateway's CPU for each client and second: pings, timers"},
		{"`itself`", c.Itself, "µs", "a gateway's CPU for each second, without clients"},
		{"`connect`", c.Connect, "µs", "a gateway's CPU for each client that connects and subscribes, access included"},
		{"`base`", c.Base / 1e6, "MB", "a gateway's memory without clients"},
		{"`perClient`", c.PerClient / 1e3, "KB", "a gateway's memory for each client"},
		{"`perTopic`", c.PerTopic / 1e3, "KB", "a gateway's memory for each resource that its clients have"},
		{"`socket`", c.Socket / 1e3, "KB", "the kernel's memory for each client's connection"},
		{"`overhead`", c.Overhead, "bytes", "of a delivery beyond its payload: the event around it, the frame"},
		{"`natsIn`", c.NATSIn, "µs", "the CPU of all NATS servers for each event that a service publishes"},
		{"`natsOut`", c.NATSOut, "µs", "the CPU of all NATS servers for each gateway that gets an event"},
		{"`natsItself`", c.NATSItself, "µs", "the CPU of all NATS servers for each second, without events"},
		{"`natsConnect`", c.NATSConnect, "µs", "the CPU of all NATS servers for each client that connects: its access request"},
	} {
		fmt.Fprintf(b, "| %s | %s %s | %s |\n", row.name, figure(row.v), row.unit, row.of)
	}
}

func comparisons(b *strings.Builder, all []comparison) {
	b.WriteString("| clients | gateways | topics | what | predicted | measured | off by |\n|---|---|---|---|---|---|---|\n")
	for _, c := range all {
		off := fmt.Sprintf("%+.1f %%", 100*c.off())
		if math.Abs(c.off()) > modelOff {
			off = "**" + off + "**"
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s %s | %s | %s |\n", count(float64(c.cell.Gateways*c.cell.Clients)), c.cell.Gateways, count(float64(c.cell.Topics)),
			c.what, figure(c.predicted), c.unit, figure(c.measured), off)
	}
}

// Markdown renders everything that docs/scaling.md has of a run.
func (r *Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s, on %s with %d cores, of which the gateways share %d: %s clients for each gateway, one subscription each, %s events per topic and\nsecond with %d bytes of payload.\n\n",
		r.Date, r.Machine.CPU, r.Machine.Cores, max(len(r.Machine.Server), 1), count(float64(r.Clients)), figure(r.Rate), r.Payload)
	r.measurements(&b)
	b.WriteString("\n" + r.verdict() + "\n")
	for _, l := range r.Left {
		why, _, _ := strings.Cut(l.Why, "\n")
		fmt.Fprintf(&b, "\nLeft out: %v: %.200s.\n", Cell{Topology: l.Topology, Gateways: l.Gateways, Clients: l.Clients, Topics: l.Topics}, why)
	}
	b.WriteString("\n### Coefficients\n\n")
	coefficients(&b, r.Coefficients)
	b.WriteString("\n### Predicted and measured\n\n")
	comparisons(&b, r.compare())
	return b.String()
}

// verdict says which bounds were kept.
func (r *Result) verdict() string {
	worst, wrong, busy := 0.0, 0, 0.0
	for _, c := range r.Cells {
		busy = max(busy, c.Other)
		if one, ok := r.single(c.Topics); ok && c.Clients == r.Clients && c.Topology == Cluster {
			worst = max(worst, math.Abs(c.PerDelivery()/one.PerDelivery()-1))
		}
	}
	all := r.compare()
	for _, c := range all {
		if math.Abs(c.off()) > modelOff {
			wrong++
		}
	}
	even := "within"
	if worst > evenBound {
		even = "not within"
	}
	return fmt.Sprintf("The CPU per delivery of several gateways on the cluster is %s %.0f %% of a single one's: %.1f %% at most. Of %d predictions, %d are wrong by more than %.0f %%.\nOther programs used up to %.2f of the machine's cores meanwhile.",
		even, 100*evenBound, 100*worst, len(all), wrong, 100*modelOff, busy)
}

const (
	markBegin = "<!-- scale: written by make scale -->\n"
	markEnd   = "<!-- /scale -->\n"
)

// Insert puts the tables between the marks of a Markdown text.
func (r *Result) Insert(text []byte) ([]byte, error) {
	return result.Between(text, markBegin, markEnd, r.Markdown())
}
