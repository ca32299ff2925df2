//go:build linux

package interest

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"sluice/loadtest/capacity"
	"sluice/loadtest/result"
)

// Read reads the JSON form of a result.
func Read(from io.Reader) (*Result, error) {
	return result.Decode(from, func(r *Result) int { return r.Schema }, Schema)
}

// WriteJSON writes the result.
func (r *Result) WriteJSON(to io.Writer) error { return result.Encode(to, r) }

// Coefficients returns what a subscription costs, from the row with the most of them.
func (r *Result) Coefficients() (c capacity.Interest, err error) {
	err = errors.New("no row by name has been measured")
	for _, row := range r.Rows {
		if row.Way == Names && row.Error == "" {
			c, err = capacity.Interest{Own: row.Heap, Remote: row.RouteHeap, OwnChurn: row.ChurnCPU, RemoteChurn: row.ChurnRoute}, nil
		}
	}
	return c, err
}

// big writes a number with commas.
func big(n int) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

func (row *Row) cells(columns ...string) string {
	if row.Error != "" {
		columns = append(columns[:2], "failed: "+strings.NewReplacer("|", "/", "\n", " ").Replace(row.Error))
	}
	return "| " + strings.Join(columns, " | ") + " |\n"
}

var ways = map[string]string{Names: "by name", Wildcards: "by one wildcard", Leaf: "by name, behind a leaf node", Same: "the same names by all gateways, behind a leaf node",
	Edge: "by one wildcard, behind a leaf node", Isolated: "by name, behind a leaf node, `isolate_leafnode_interest`"}

// Markdown renders the tables.
func (r *Result) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "Measured on %s with nats-server %s, %s for all: three servers, %d gateways at the first one. It took %.0f s.\n\n", r.Date, r.Version, r.Machine, Gateways, r.Seconds)
	b.WriteString("| gateways subscribe | resources | until all servers know | memory for each resource: gateways' server, each other | CPU for each | process: gateways' server, each other | busy cores |\n|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		b.WriteString(row.cells(ways[row.Way], big(row.Resources), fmt.Sprintf("%.2f s", row.Seconds), fmt.Sprintf("%.0f B, %.0f B", max(row.Heap, 0), max(row.RouteHeap, 0)),
			fmt.Sprintf("%.2f µs, %.2f µs", row.CPU, row.RouteCPU), fmt.Sprintf("%.0f MB, %.0f MB", float64(row.RSS)/1e6, float64(row.RouteRSS)/1e6), fmt.Sprintf("%.1f", row.Busy)))
	}
	b.WriteString("\n| gateways subscribe | resources | churn, UNSUB and SUB | CPU for each pair | after a server's restart: until it knows all | events missed there | gateways that get an event |\n|---|---|---|---|---|---|---|\n")
	for _, row := range r.Rows {
		if row.Way != Names && row.Way != Wildcards {
			continue
		}
		churn, cpu := "none", "–"
		if row.Churn > 0 {
			churn, cpu = big(int(row.Churn))+" pairs/s", fmt.Sprintf("%.2f µs, %.2f µs", row.ChurnCPU, row.ChurnRoute)
		}
		resync, missed, copies := fmt.Sprintf("%.2f s", row.Resync), fmt.Sprintf("%.0f %%, the last after %.2f s", 100*row.Lost, row.Missing), fmt.Sprintf("%.2f", row.Copies)
		if row.Resync < 0 {
			resync, missed, copies = fmt.Sprintf("more than %v", resyncLimit), "–", "–"
		}
		b.WriteString(row.cells(ways[row.Way], big(row.Resources), churn, cpu, resync, missed, copies))
	}
	b.WriteString("\n| gateways subscribe | resources | subscriptions at the hub | at another leaf node |\n|---|---|---|---|\n")
	for _, row := range r.Rows {
		if row.Way != Names && row.Way != Wildcards {
			b.WriteString(row.cells(ways[row.Way], big(row.Resources), big(row.Hub), big(row.Other)))
		}
	}
	return b.String()
}

const (
	begin = "<!-- interest: written by make interest -->\n"
	end   = "<!-- /interest -->\n"
)

// Insert puts the tables between the marks of a Markdown text.
func (r *Result) Insert(text []byte) ([]byte, error) {
	return result.Between(text, begin, end, r.Markdown())
}
