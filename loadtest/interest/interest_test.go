//go:build linux

package interest

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sluice/internal/testkit"
)

var natsServer string

func TestMain(m *testing.M) {
	testkit.Main(m, map[*string]string{&natsServer: "github.com/nats-io/nats-server/v2"})
}

// A small run has all rows: what the servers know is what gateways have subscribed to, and after a
// restart each event reaches those gateways that want it.
func TestRun(t *testing.T) {
	kept := 0
	r, err := Run(t.Context(), Options{NATS: natsServer, Sizes: []int{400}, Keep: func(*Result) { kept++ }})
	if err != nil {
		t.Fatalf("%v\n%s", err, r.Markdown())
	}
	if kept != len(r.Rows) || len(r.Rows) != 6 || r.Version == "" {
		t.Fatalf("%d rows, kept %d times, version %q", len(r.Rows), kept, r.Version)
	}
	for _, row := range r.Rows {
		hub, other, copies := 0, 0, 0.0
		switch row.Way {
		case Names:
			copies = 1
		case Wildcards:
			copies = Gateways
		case Leaf:
			hub, other = 400, 400
		case Same:
			hub, other = 100, 100
		case Edge:
			hub, other = 1, 1
		case Isolated:
			hub = 400
		}
		// Servers have subscriptions of their own, whose number changes.
		if near := row.Hub - hub; near < -50 || near > 50 || row.Other < other-50 || row.Other > other+50 {
			t.Errorf("%s: %d subscriptions at the hub and %d at the other leaf node, want %d and %d", row.Way, row.Hub, row.Other, hub, other)
		}
		if row.Copies != copies {
			t.Errorf("%s: %.2f gateways get an event, want %.0f", row.Way, row.Copies, copies)
		}
		if row.Way == Names && (row.CPU <= 0 || row.Churn <= 0 || row.Resync <= 0) {
			t.Errorf("%+v", row)
		}
	}
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	again, err := Read(&b)
	if err != nil || again.Markdown() != r.Markdown() {
		t.Errorf("%v: the result is another one after it was read", err)
	}
}

func TestCheck(t *testing.T) {
	for _, sizes := range [][]int{{1}, {1000, 1000}, {2000, 1000}} {
		if err := (&Options{Sizes: sizes}).Check(); err == nil {
			t.Errorf("%v is accepted", sizes)
		}
	}
}

// A server that does not start fails its row, and the others follow.
func TestRowsFail(t *testing.T) {
	r, err := Run(t.Context(), Options{NATS: "/bin/false", Sizes: []int{400}})
	if err == nil || len(r.Rows) != 6 || !strings.Contains(r.Markdown(), "failed: NATS server n1 ended before it was ready") {
		t.Errorf("%v\n%s", err, r.Markdown())
	}
}

func TestInsert(t *testing.T) {
	r := &Result{Rows: []Row{{Way: Names, Resources: 1000}, {Way: Leaf, Resources: 1000, Error: errors.New("a | b").Error()}}}
	once, err := r.Insert([]byte("before\n" + begin + "old\n" + end + "after\n"))
	if err != nil || !bytes.Contains(once, []byte("| by name | 1,000 |")) || !bytes.Contains(once, []byte("failed: a / b")) || bytes.Contains(once, []byte("old")) {
		t.Fatalf("%v:\n%s", err, once)
	}
	if twice, err := r.Insert(once); err != nil || !bytes.Equal(once, twice) {
		t.Errorf("%v:\n%s", err, twice)
	}
	if _, err := r.Insert([]byte("no marks")); err == nil {
		t.Error("a text without marks is accepted")
	}
}
