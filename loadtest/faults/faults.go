//go:build linux

package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	loadclient "sluice/loadtest/client"
	"sluice/loadtest/plan"
)

// The words for what became of the clients that did nothing wrong.
const (
	Kept        = "kept"
	Closed      = "closed"
	WrongState  = "wrong state"
	NotServed   = "not served"
	OutOfMemory = "out of memory"
)

// words explains them.
var words = [][2]string{
	{Kept, "what the row says under “kept” holds"},
	{Closed, "connections were closed; clients must connect again"},
	{WrongState, "clients stay connected and do not hold what the service says, a minute after the fault"},
	{NotServed, "requests or new clients fail or get no response"},
	{OutOfMemory, "the gateway used more memory than it may and was killed"},
}

// Outcome is what a fault did to a gateway's clients.
type Outcome struct {
	Word   string
	Detail string // figures and what else is worth knowing
}

// and adds details that are not empty.
func (o Outcome) and(details ...string) Outcome {
	for _, d := range details {
		if d != "" && o.Detail != "" {
			o.Detail += "; "
		}
		o.Detail += d
	}
	return o
}

// Options says what to run. Run does not change it.
type Options struct {
	Targets []plan.Target // Start, Env, Protocol, Title and Version; res or centrifuge
	NATS    string        // the NATS server's program
	Rows    []string      // only these; empty: all
	Memory  int64         // bytes that a gateway may use; 0: 512 MiB
	Short   bool          // sizes that suit a test
	Say     func(string)  // progress; nil: none

	// Row is called with the table so far when its last row has been measured, so that a run that
	// is interrupted keeps what it has. An error ends the run; nil: it is not called.
	Row func(*Table) error

	dir string // of temporary files
}

// Table is the outcome of each row, by target.
type Table struct {
	Targets []plan.Target
	Rows    []Row
	Cells   [][]Outcome // by row and target
	Memory  int64
}

// Check reports what is wrong with the options.
func (o *Options) Check() error {
	if len(o.Targets) == 0 || o.NATS == "" {
		return errors.New("say which gateways to run, and which NATS server")
	}
	for _, t := range o.Targets {
		if t.Start == "" || t.Protocol != loadclient.ProtocolRES && t.Protocol != loadclient.ProtocolCentrifuge {
			return fmt.Errorf("target %s: it needs a command that starts it, and the protocol res or centrifuge", t.Name)
		}
	}
	for _, name := range o.Rows {
		if _, ok := row(name); !ok {
			return fmt.Errorf("there is no fault %q", name)
		}
	}
	return nil
}

// Run causes each fault on each target, one after the other. An error says why it could not be run
// to its end; what gateways do wrong is in the table.
func Run(ctx context.Context, o Options) (*Table, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Memory == 0 {
		o.Memory = 512 << 20
	}
	dir, err := os.MkdirTemp("", "faults")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	o.dir = dir
	t := &Table{Targets: o.Targets, Memory: o.Memory}
	for _, r := range Rows() {
		if len(o.Rows) > 0 && !slices.Contains(o.Rows, r.Name) {
			continue
		}
		var cells []Outcome
		for _, target := range o.Targets {
			out, err := cause(ctx, &o, target, r)
			if err != nil {
				return t, fmt.Errorf("%s, %s: %w", target.Name, r.Name, err)
			}
			if o.Say != nil {
				o.Say(fmt.Sprintf("%s, %s: %s: %s", target.Name, r.Name, out.Word, out.Detail))
			}
			cells = append(cells, out)
		}
		t.Rows, t.Cells = append(t.Rows, r), append(t.Cells, cells)
		if o.Row != nil {
			if err := o.Row(t); err != nil {
				return t, err
			}
		}
	}
	return t, nil
}

// cause runs a row on a target.
func cause(ctx context.Context, o *Options, target plan.Target, r Row) (Outcome, error) {
	s, err := newStand(ctx, o, target, r)
	if err != nil {
		return Outcome{}, err
	}
	defer s.close()
	out, err := r.run(s)
	if out.Word != Kept && o.Say != nil {
		o.Say("the end of its log:\n" + s.gateway.Output())
	}
	switch {
	case ctx.Err() != nil:
		return out, ctx.Err()
	case err != nil && s.overrun.Load():
		return Outcome{Word: OutOfMemory}, nil
	}
	return out, err
}

// OK reports whether a target kept all promises.
func (t *Table) OK(target int) bool {
	return !slices.ContainsFunc(t.Cells, func(cells []Outcome) bool { return cells[target].Word != Kept })
}

// Markdown renders the table.
func (t *Table) Markdown() string {
	var b strings.Builder
	b.WriteString(t.Head())
	for i := range t.Rows {
		b.WriteString(t.Line(i))
	}
	b.WriteString(t.Legend())
	return b.String()
}

// Head renders the head of the table.
func (t *Table) Head() string {
	var b strings.Builder
	b.WriteString("| fault | kept means |")
	for _, target := range t.Targets {
		b.WriteString(" " + strings.TrimSpace(target.Label()+" "+target.Version) + " |")
	}
	b.WriteString("\n|---|---|" + strings.Repeat("---|", len(t.Targets)) + "\n")
	return b.String()
}

// Line renders a row.
func (t *Table) Line(i int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| %s | %s |", t.Rows[i].Fault, t.Rows[i].Kept)
	for _, c := range t.Cells[i] {
		text := "**" + c.Word + "**"
		if c.Detail != "" {
			text += ": " + c.Detail
		}
		b.WriteString(" " + text + " |")
	}
	b.WriteString("\n")
	return b.String()
}

// Legend renders what the words of the table mean.
func (t *Table) Legend() string {
	var b strings.Builder
	fmt.Fprintf(&b, "\nA gateway may use %d MiB; a Go runtime's limit is 80%% of that. The words:\n\n", t.Memory>>20)
	for _, w := range words {
		fmt.Fprintf(&b, "- **%s**: %s.\n", w[0], w[1])
	}
	return b.String()
}

const (
	markBegin = "<!-- faults: written by make reliability -->\n"
	markEnd   = "<!-- /faults -->\n"
)

// Insert puts the table between the marks of a Markdown text.
func (t *Table) Insert(text []byte) ([]byte, error) {
	before, rest, ok1 := bytes.Cut(text, []byte(markBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(markEnd))
	if !ok1 || !ok2 {
		return nil, errors.New("the marks for the table are missing: " + strings.TrimSpace(markBegin) + " and " + strings.TrimSpace(markEnd))
	}
	return slices.Concat(before, []byte(markBegin+"\n"+t.Markdown()+"\n"+markEnd), after), nil
}
