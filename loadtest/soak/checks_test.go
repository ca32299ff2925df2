//go:build linux

package soak

import (
	"io"
	"strings"
	"testing"
	"time"

	"sluice/internal/resmodel"
	"sluice/loadtest/soak/service"
	"sluice/loadtest/wire"
)

// judged returns a journal with one fault from second 10 to second 20.
func judged(t *testing.T, s span) *journal {
	j := newJournal(io.Discard, func(string) {})
	t.Cleanup(j.close)
	at := func(seconds float64) time.Time { return j.began.Add(time.Duration(seconds * float64(time.Second))) }
	s.from, s.until, s.healed = at(10), at(15), at(20)
	j.spans = []*span{&s}
	return j
}

func TestGapsNeedAReason(t *testing.T) {
	for _, tt := range []struct {
		name        string
		span        span
		gap         gap
		from, until float64
		want        losses
	}{
		{"during a fault", span{loses: true}, gap{count: 3}, 12, 14, losses{Explained: 3}},
		{"around it", span{loses: true}, gap{count: 3}, 9, 30, losses{Explained: 3}},
		{"long before it", span{loses: true}, gap{count: 3}, 1, 5, losses{Unexplained: 3}},
		{"long after it", span{loses: true}, gap{count: 3}, 25, 30, losses{Unexplained: 3}},
		{"just before it", span{loses: true}, gap{count: 1}, 7, 9, losses{Explained: 1}},
		{"of another gateway", span{loses: true, gateways: []int{secured}}, gap{count: 1}, 12, 14, losses{Unexplained: 1}},
		{"of another service", span{loses: true, services: []int{2}}, gap{count: 1, service: 1}, 12, 14, losses{Unexplained: 1}},
		{"a fault that loses nothing", span{}, gap{count: 1}, 12, 14, losses{Unexplained: 1}},
		{"slow reader", span{}, gap{count: 7, slow: true}, 12, 14, losses{Slow: 7}},
		{"late during a fault", span{loses: true}, gap{late: true}, 12, 14, losses{Delayed: 1}},
		{"late for a slow reader", span{}, gap{late: true, slow: true}, 12, 14, losses{Unexplained: 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := judged(t, tt.span)
			tt.gap.from = j.began.Add(time.Duration(tt.from * float64(time.Second)))
			tt.gap.until = j.began.Add(time.Duration(tt.until * float64(time.Second)))
			j.gaps = []gap{tt.gap}
			got, wrong := j.judgeGaps()
			if got != tt.want || (len(wrong) > 0) != (tt.want.Unexplained > 0) {
				t.Errorf("%+v %v, want %+v", got, wrong, tt.want)
			}
		})
	}
}

func TestClosesNeedAReason(t *testing.T) {
	restart := span{gateways: []int{secured}, codes: []int{1001, wire.NoClose}}
	for _, tt := range []struct {
		name           string
		closing        closing
		opened, closed float64
		ok             bool
	}{
		{"in the restart", closing{gateway: secured, code: 1001}, 1, 12, true},
		{"noticed late", closing{gateway: secured, code: 1001}, 1, 40, true},
		{"opened after it", closing{gateway: secured, code: 1001}, 25, 40, false},
		{"closed before it", closing{gateway: secured, code: 1001}, 1, 9, false},
		{"another gateway", closing{gateway: plain, code: 1001}, 1, 12, false},
		{"another code", closing{gateway: secured, code: 1011}, 1, 12, false},
		{"slow", closing{gateway: plain, code: 1013, slow: true}, 1, 5, true},
		{"not slow", closing{gateway: plain, code: 1013}, 1, 5, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			j := judged(t, restart)
			tt.closing.opened = j.began.Add(time.Duration(tt.opened * float64(time.Second)))
			tt.closing.closed = j.began.Add(time.Duration(tt.closed * float64(time.Second)))
			j.closes = []closing{tt.closing}
			if wrong := j.judgeCloses(); (len(wrong) == 0) != tt.ok {
				t.Errorf("%v", wrong)
			}
		})
	}
}

// told is a truth of one service.
func told() *truth {
	t := &truth{store: resmodel.NewStore(), values: map[string][2]string{}, ticks: map[string]uint64{"s0.feed.0": 5}, gens: []uint64{1}}
	t.store.Set("s0.a", map[string]any{"x": map[string]any{"rid": "s0.b"}, "n": map[string]any{"data": map[string]any{"y": 1}}})
	t.store.Set("s0.b", []any{map[string]any{"rid": "s0.a"}, map[string]any{"rid": "s0.a", "soft": true}, map[string]any{"rid": "s0.gone"}, 3})
	t.store.Set("s0.feed.0", map[string]any{})
	t.store.SetSliced("s0.query.0", []any{1, 2, 3})
	t.store.Set("s0.secret", map[string]any{})
	t.store.Deny("s0.secret", true)
	return t
}

func TestHTTPAgainstTheTruth(t *testing.T) {
	const a = `{"n":{"y":1},"x":{"href":"/api/s0/b","collection":[{"href":"/api/s0/a"},{"href":"/api/s0/a"},{"href":"/api/s0/gone","error":{"code":"system.notFound","message":"Not found"}},3]}}`
	for _, tt := range []struct {
		rid    string
		status int
		text   string
		want   string
	}{
		{"s0.a", 200, a, ""},
		{"s0.a", 200, strings.Replace(a, "3]", "4]", 1), "GET s0.a is"},
		{"s0.a", 404, "", "status 404 for s0.a, which is there"},
		{"s0.query.0?from=1&count=1", 200, "[2]", ""},
		{"s0.secret", 401, "", ""},
		{"s0.secret", 200, "{}", "denied"},
		{"s0.gone", 404, "", ""},
		{"s0.gone", 200, "{}", "does not exist"},
	} {
		if got := differs(told(), tt.rid, tt.status, tt.text); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
			t.Errorf("%s %d %s: %q, want %q", tt.rid, tt.status, tt.text, got, tt.want)
		}
	}
}

// A client that holds less, more or something else than the truth is not exact.
func TestClientAgainstTheTruth(t *testing.T) {
	for _, tt := range []struct{ name, result, want string }{
		{"exact", `{"collections":{"s0.query.0?from=1":[2,3]}}`, ""},
		{"other values", `{"collections":{"s0.query.0?from=1":[2]}}`, "s0.query.0?from=1 is"},
		{"nothing", "", "is not subscribed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &client{version: newerVersion, view: resmodel.NewView(), feeds: map[string]*feed{}, wants: []string{"s0.query.0?from=1"}}
			if tt.result != "" {
				c.view.Sent(`{"id":1,"method":"subscribe.s0.query.0?from=1"}`)
				if err := c.view.Received(`{"id":1,"result":` + tt.result + `}`); err != nil {
					t.Fatal(err)
				}
			}
			if got := c.compare(told()); (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	c := &client{version: newerVersion, view: resmodel.NewView(), feeds: map[string]*feed{}, wants: []string{"s0.feed.0"}}
	c.view.Sent(`{"id":1,"method":"subscribe.s0.feed.0"}`)
	if err := c.view.Received(`{"id":1,"result":{"models":{"s0.feed.0":{}}}}`); err != nil {
		t.Fatal(err)
	}
	for n, want := range map[uint64]string{4: "5 ticks were sent", 5: "", 6: "5 ticks were sent"} {
		f := &feed{}
		f.take(service.Tick{Gen: 1, N: n})
		c.feeds["s0.feed.0"] = f
		if got := c.compare(told()); (want == "") != (got == "") || !strings.Contains(got, want) {
			t.Errorf("tick %d: %q, want %q", n, got, want)
		}
	}
}

func TestParseFigures(t *testing.T) {
	f, err := parseFigures([]byte("# HELP a b\na 1\nb{x=\"1\"} 2\nb{x=\"2\"} 3\nsluice_ws_connections_closed_total{code=\"1001\"} 4\n"))
	if err != nil || f["a"] != 1 || f.sum("b") != 5 || f.codes()["1001"] != 4 {
		t.Errorf("%v %v", f, err)
	}
	for _, bad := range []string{"a", "a x"} {
		if _, err := parseFigures([]byte(bad)); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

func TestEventsOfAStream(t *testing.T) {
	out := make(chan string, 8)
	events(strings.NewReader(":\n\ndata: {\"a\":1}\n\ndata: x\ndata: y\n\ndata: cut"), out, nil)
	var got []string
	for m := range out {
		got = append(got, m)
	}
	if want := `{"a":1}|x` + "\n" + `y`; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestOptions(t *testing.T) {
	for want, o := range map[string]Options{
		"-time":    {Clients: 100, Seed: 1},
		"-clients": {Time: time.Second, Clients: 3, Seed: 1},
		"-seed":    {Time: time.Second, Clients: 100},
	} {
		if _, err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}
