//go:build linux

package scale

import (
	"bytes"
	"math"
	"strings"
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/loadtest/capacity"
	"sluice/loadtest/result"
)

// Programs of the tests, built once.
var gatewayProgram, natsServer string

func TestMain(m *testing.M) {
	testkit.Main(m, map[*string]string{&gatewayProgram: "sluice/cmd/sluice", &natsServer: "github.com/nats-io/nats-server/v2"})
}

// Gateways get each event of their clients' topics once, directly, over a leaf node and over a
// relay, whether they have clients for all topics or not.
func TestMeasure(t *testing.T) {
	t.Parallel()
	o := Options{Gateway: gatewayProgram, NATS: natsServer, Clients: 40, Rate: 2, Window: 3 * time.Second}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []Cell{
		{Topology: Cluster, Gateways: 2, Clients: 20, Topics: 30},
		{Topology: Leaf, Gateways: 2, Clients: 20, Topics: 1},
		{Topology: Within, Gateways: 2, Clients: 20, Topics: 30},
		{Topology: Relay, Gateways: 2, Clients: 20, Topics: 30},
	} {
		t.Run(c.Topology, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			if err := o.measure(t.Context(), t.TempDir(), result.Machine{}, &c); err != nil {
				t.Fatal(err)
			}
			if want := int64(2 * c.Topics); c.Events != want || c.Expected != 2*2*20 || !c.OnceEach() {
				t.Errorf("%+v, want %d events", c, want)
			}
			if (c.Topology == Relay) != (c.Relay > 0 && c.RelayMemory > 0) {
				t.Errorf("the relay used %v µs and %d bytes", c.Relay, c.RelayMemory)
			}
			if c.Bytes < 128 || c.Each[0].Memory == 0 || c.Each[0].Due != 2*int64(min(c.Clients, c.Topics)) {
				t.Errorf("%+v", c)
			}
		})
	}
}

// A program that does not exist, or ends, is named.
func TestMeasureFails(t *testing.T) {
	for program, want := range map[string]string{"/nowhere/sluice": "/nowhere/sluice", "/bin/false": "gateway 0 ended"} {
		o := Options{Gateway: program, NATS: natsServer}
		c := Cell{Topology: Cluster, Gateways: 1, Clients: 1, Topics: 1}
		if err := o.measure(t.Context(), t.TempDir(), result.Machine{}, &c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", program, err)
		}
	}
}

// A run that goes on with what an earlier one has kept measures the rest. What fails, or finds no
// time, is left out and named; what was measured is there all the same.
func TestResume(t *testing.T) {
	c := capacity.Coefficients{Event: 12, Delivery: 1.5, Connect: 90, Base: 20e6, PerClient: 4000, Socket: 3000, Overhead: 40, NATSIn: 15, NATSOut: 6, NATSItself: 900}
	before := ideal(c)
	o := Options{Clients: before.Clients, NATS: "/nowhere/nats-server", Before: before}
	if err := o.Check(); err != nil {
		t.Fatal(err)
	}
	all := len(before.Cells)
	if r, err := o.run(t.Context(), before.Machine); err != nil || len(r.Cells) != all || len(r.Left) > 0 || r.Coefficients.Delivery == 0 {
		t.Errorf("with everything: %v, %+v", err, r)
	}
	before.Cells = before.Cells[:all-2]
	r, err := o.run(t.Context(), before.Machine)
	if err == nil || !strings.Contains(err.Error(), "/nowhere/nats-server") || len(r.Cells) != all-2 || len(r.Left) != 2 || r.Coefficients.Delivery == 0 {
		t.Errorf("without two: %v, %+v", err, r)
	}
	if text := r.Markdown(); strings.Count(text, "\nLeft out: relay, 2 gateways with 4000 clients each, ") != 2 {
		t.Error(text)
	}
	o.Limit = 1
	if r, err = o.run(t.Context(), before.Machine); err != nil || len(r.Left) != 2 || !strings.Contains(r.Left[0].Why, "may not take longer") {
		t.Errorf("without time: %v, %+v", err, r.Left)
	}
	o.Before = nil
	kept := 0
	o.Keep = func(*Result) error { kept++; return nil }
	if r, err = o.run(t.Context(), before.Machine); err == nil || len(r.Cells) > 0 || kept > 0 {
		t.Errorf("without anything: %v, %+v", err, r)
	}
	o.Before = before
	if _, err := o.run(t.Context(), result.Machine{CPU: "another"}); err == nil {
		t.Error("the figures of another machine are taken")
	}
}

func TestLine(t *testing.T) {
	for _, tt := range []struct {
		name       string
		x, y       []float64
		at0, slope float64
		fails      bool
	}{
		{"two points", []float64{1, 3}, []float64{5, 9}, 3, 2, false},
		{"more points", []float64{1, 2, 4}, []float64{5, 7, 11}, 3, 2, false},
		{"through zero", []float64{1, 2}, []float64{1, 3}, 0, 0, false}, // a negative beginning is none
		{"downwards", []float64{1, 2}, []float64{3, 2}, 0, 0, false},    // a negative slope is none
		{"what is zero does not count", []float64{1, 3, 7}, []float64{5, 9, 0}, 3, 2, false},
		{"one point", []float64{1}, []float64{1}, 0, 0, true},
		{"the same point", []float64{2, 2}, []float64{1, 3}, 0, 0, true},
		{"nothing", nil, nil, 0, 0, false},
		{"nothing was used", []float64{1, 2}, []float64{0, 0}, 0, 0, false},
	} {
		at0, slope, err := line(tt.x, tt.y)
		if (err != nil) != tt.fails || at0 < 0 || slope < 0 {
			t.Errorf("%s: %v, %v, %v", tt.name, at0, slope, err)
		}
		if tt.slope > 0 && (math.Abs(at0-tt.at0) > 1e-9 || math.Abs(slope-tt.slope) > 1e-9) {
			t.Errorf("%s: %v + %v x, want %v + %v x", tt.name, at0, slope, tt.at0, tt.slope)
		}
	}
}

// ideal returns a result of a machine that costs exactly what the coefficients say.
func ideal(c capacity.Coefficients) *Result {
	o := Options{Clients: 4000}
	_ = o.Check()
	r := &Result{Schema: Schema, Date: "2026-01-02", Clients: o.Clients, Rate: o.Rate, Payload: o.Payload, Machine: result.Machine{CPU: "CPU", Cores: 2, Server: []int{1}}}
	for _, cell := range o.plan() {
		g, n := float64(cell.Gateways), float64(cell.Clients)
		w := capacity.Work{Clients: g * n, Topics: float64(cell.Topics), PerClient: 1, Events: o.Rate, Payload: float64(o.Payload)}
		topics := float64(min(cell.Clients, cell.Topics))
		l := c.LoadAt(w, g, topics)
		cell.Seconds, cell.Events = 10, int64(10*w.Topics*w.Events)
		cell.Deliveries = int64(10 * l.Deliveries)
		cell.Expected = cell.Deliveries
		cell.Bytes, cell.Socket = w.Payload+c.Overhead, c.Socket
		cell.NATS, cell.NATSIdle, cell.NATSConnect = 10e6*l.NATSCores, c.NATSItself, c.NATSConnect*g*n
		for range cell.Gateways {
			cell.Each = append(cell.Each, Usage{CPU: 10e6 * l.Cores / g, Idle: c.Idle + c.Itself/n, Connect: c.Connect, Empty: int64(c.Base),
				Memory: int64(l.Memory / g), Events: int64(10 * l.Received), Due: int64(10 * l.Received)})
		}
		r.Cells = append(r.Cells, cell)
	}
	return r
}

// What costs exactly what the model says gives its coefficients, and predictions without error.
func TestFit(t *testing.T) {
	want := capacity.Coefficients{Event: 12, Delivery: 1.5, Idle: 2, Itself: 800, Connect: 90, Base: 20e6, PerClient: 4000, PerTopic: 500, Socket: 3000, Overhead: 40,
		NATSIn: 15, NATSOut: 6, NATSItself: 900, NATSConnect: 30}
	r := ideal(want)
	got, err := r.fit()
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []struct {
		name      string
		got, want float64
	}{
		{"event", got.Event, want.Event}, {"delivery", got.Delivery, want.Delivery}, {"idle", got.Idle, want.Idle}, {"itself", got.Itself, want.Itself},
		{"connect", got.Connect, want.Connect}, {"base", got.Base, want.Base}, {"perClient", got.PerClient, want.PerClient},
		{"perTopic", got.PerTopic, want.PerTopic}, {"socket", got.Socket, want.Socket}, {"overhead", got.Overhead, want.Overhead},
		{"natsIn", got.NATSIn, want.NATSIn}, {"natsOut", got.NATSOut, want.NATSOut}, {"natsItself", got.NATSItself, want.NATSItself}, {"natsConnect", got.NATSConnect, want.NATSConnect},
	} {
		if math.Abs(v.got-v.want) > 1e-2*v.want {
			t.Errorf("%s is %v, want %v", v.name, v.got, v.want)
		}
	}
	r.Coefficients = got
	all := r.compare()
	sizes := map[int]bool{}
	for _, c := range all {
		sizes[c.cell.Gateways*c.cell.Clients] = true
		if math.Abs(c.off()) > 0.02 {
			t.Errorf("%s of %+v: %v predicted, %v measured", c.what, c.cell, c.predicted, c.measured)
		}
	}
	if len(sizes) != 3 || !sizes[400] || !sizes[4000] || !sizes[20000] {
		t.Errorf("compared for %v clients", sizes)
	}
	if v := r.verdict(); !strings.Contains(v, "is within 5 %") || !strings.Contains(v, "0 are wrong") {
		t.Error(v)
	}
}

// Figures beyond the bounds are said to be so.
func TestVerdict(t *testing.T) {
	r := ideal(capacity.Coefficients{Event: 12, Delivery: 1.5, Connect: 90, Base: 20e6, PerClient: 4000, Socket: 3000, Overhead: 40, NATSIn: 15, NATSOut: 6, NATSItself: 900})
	r.Coefficients, _ = r.fit()
	for i := range r.Cells {
		if c := &r.Cells[i]; c.Gateways == 5 {
			for j := range c.Each {
				c.Each[j].CPU *= 1.3
			}
		}
	}
	if v := r.verdict(); !strings.Contains(v, "not within 5 %") || strings.Contains(v, " 0 are wrong") {
		t.Error(v)
	}
	if text := r.Markdown(); !strings.Contains(text, "| **-2") {
		t.Error(text)
	}
	r.Cells[len(r.Cells)-1].Each[0].Events++
	if text := r.Markdown(); !strings.Contains(text, "not each once") {
		t.Error(text)
	}
}

// What cannot be fitted is an error, and no figure is made up.
func TestFitFails(t *testing.T) {
	if _, err := (&Result{}).fit(); err == nil {
		t.Error("nothing is fitted")
	}
	r := ideal(capacity.Coefficients{Event: 12, Delivery: 1.5, Base: 20e6, PerClient: 4000, NATSIn: 15})
	r.Cells = r.Cells[len(r.Cells)-2:]
	if _, err := r.fit(); err == nil {
		t.Error("leaf nodes alone are fitted")
	}
}

func TestOptions(t *testing.T) {
	for name, o := range map[string]Options{
		"not ascending": {Gateways: []int{1, 4, 2}},
		"without one":   {Gateways: []int{2, 4}},
		"no topics":     {Topics: []int{0}},
		"topology":      {Topologies: []string{"ring"}},
		"few clients":   {Clients: 10},
		"short":         {Window: time.Second},
		"rate":          {Rate: -1},
	} {
		if o.Check() == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	var o Options
	if err := o.Check(); err != nil || o.Clients != 19_000 || len(o.plan()) != 20 {
		t.Errorf("%v: %+v, %d cells", err, o, len(o.plan()))
	}
}

// The tables go between the marks, again and again; JSON keeps everything.
func TestDocument(t *testing.T) {
	r := ideal(capacity.Coefficients{Event: 12, Delivery: 1.5, Base: 20e6, PerClient: 4000, NATSIn: 15})
	r.Coefficients, _ = r.fit()
	once, err := r.Insert([]byte("before\n" + markBegin + "old\n" + markEnd + "after\n"))
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	same, err := Read(&b)
	if err != nil {
		t.Fatal(err)
	}
	twice, err := same.Insert(once)
	if err != nil || !bytes.Equal(once, twice) || !bytes.HasPrefix(once, []byte("before\n")) || !bytes.HasSuffix(once, []byte("after\n")) || bytes.Contains(once, []byte("old")) {
		t.Errorf("%v:\n%s\n\n%s", err, once, twice)
	}
	if _, err := r.Insert([]byte("no marks")); err == nil {
		t.Error("a text without marks is accepted")
	}
	if _, err := Read(strings.NewReader(`{"schema": 9}`)); err == nil {
		t.Error("another schema is accepted")
	}
}
