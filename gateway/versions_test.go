package gateway

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/testkit"
)

// ages is a resource as a client of TestOldVersionsAreShed has it: the age of each part.
type ages struct {
	model map[string]string
	list  []string
}

// age returns the first letters of a value, which are followed by x.
func age(raw json.RawMessage) string {
	before, _, _ := strings.Cut(strings.Trim(string(raw), `"`), "x")
	return before
}

// apply applies a message to the state, as a client library does.
func (a *ages) apply(t *testing.T, message string) {
	t.Helper()
	if strings.Contains(message[:min(len(message), 64)], `"result":"x`) {
		return // of a call
	}
	var m struct {
		Event  string
		Result struct {
			Models      map[string]map[string]json.RawMessage
			Collections map[string][]json.RawMessage
		}
		Data struct {
			Values map[string]json.RawMessage
			Idx    int
			Value  json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(message), &m); err != nil {
		t.Fatalf("%v: %.200s", err, message)
	}
	for _, values := range m.Result.Models {
		a.model = map[string]string{}
		for k, v := range values {
			a.model[k] = age(v)
		}
	}
	for _, values := range m.Result.Collections {
		a.list = nil
		for _, v := range values {
			a.list = append(a.list, age(v))
		}
	}
	switch d := &m.Data; m.Event {
	case "test.model.change":
		for k, v := range d.Values {
			a.model[k] = age(v)
		}
	case "test.list.remove":
		a.list = append(a.list[:d.Idx], a.list[d.Idx+1:]...)
	case "test.list.add":
		a.list = append(a.list[:d.Idx], append([]string{age(d.Value)}, a.list[d.Idx:]...)...)
	}
}

// all reports whether there are so many parts, all of one age.
func (a *ages) all(parts, age int) bool {
	want := fmt.Sprint(age)
	for _, v := range a.model {
		if v != want {
			return false
		}
	}
	for _, v := range a.list {
		if v != want {
			return false
		}
	}
	return len(a.model)+len(a.list) == parts
}

// TestOldVersionsAreShed: clients that do not read keep old states of resources that change, and
// long differences from them. These count for backlogBytes: beyond it the worst clients go, the
// others have the newest state when they read again, and nothing is left in the end.
func TestOldVersionsAreShed(t *testing.T) {
	const clients = 8
	numbered := func(n int, format string, fill int) string {
		texts := make([]string, n)
		for i := range texts {
			texts[i] = fmt.Sprintf(format, i) + strings.Repeat("x", fill) + `"`
		}
		return strings.Join(texts, ",")
	}
	for _, kind := range []struct {
		name  string
		parts int
		steps int // from one age to the next
		limit int // bytes; fewer clients than all keep so much
		state func(age int) string
		step  func(g *live, age int)
	}{
		{"model", 18, 18, 4 << 20, func(age int) string {
			return `{"model":{` + numbered(18, fmt.Sprintf(`"p%%d":"%d`, age), 50_000) + `}}`
		}, func(g *live, age int) {
			for i := range 18 {
				g.publish("event.test.model.change", fmt.Sprintf(`{"values":{"p%d":"%d%s"}}`, i, age, strings.Repeat("x", 50_000)))
			}
		}},
		{"list", 1200, 2400, 6 << 20, func(age int) string { // the difference has some 1 MB, too
			return `{"collection":[` + numbered(1200, fmt.Sprintf(`"%dx%%d`, age), 280) + `]}`
		}, func(g *live, _ int) {
			g.publish("system.reset", `{"resources":["test.list"]}`)
		}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			g := start(t, create(t, func(c *Config) {
				c.PingInterval, c.SlowTimeout, c.OutboxBytes, c.BacklogBytes, c.HeldEvents = Off, Off, 256<<20, kind.limit, 4
				c.Loops = 1
				c.CloseTimeout = time.Minute // those that are closed read only in the end
			}))
			var now atomic.Int64
			states := make([]string, clients+1)
			for age := range states {
				states[age] = `{"result":` + kind.state(age) + `}`
			}
			g.serve("access.>", always(`{"result":{"get":true,"call":"*"}}`))
			g.serve("get.>", func(*nats.Msg) string { return states[now.Load()] })
			g.serve("call.>", always(`{"result":"`+strings.Repeat("x", 200_000)+`"}`))
			var slow []*wsClient
			var theirs []*ages
			for age := range clients {
				c, a := g.dial(), new(ages)
				slow, theirs = append(slow, c), append(theirs, a)
				_ = c.conn.SetDeadline(time.Now().Add(testkit.Patience))
				c.send(`{"id":1,"method":"subscribe.test.` + kind.name + `"}`)
				if a.apply(t, c.next()); !a.all(kind.parts, age) {
					t.Fatalf("a client begins with another state than that of age %d", age)
				}
				lagging, closed := g.netMetrics.Lagging.Load(), g.netMetrics.BacklogClosed.Load()
				for n := 0; g.netMetrics.Lagging.Load() <= lagging && g.netMetrics.BacklogClosed.Load() == closed; n++ {
					if n == 500 {
						t.Fatal("a client that reads nothing does not lag")
					}
					frames := g.netMetrics.Frames.Load()
					_ = c.conn.SetDeadline(time.Now().Add(testkit.Patience))
					c.send(fmt.Sprintf(`{"id":%d,"method":"call.test.%s.long"}`, 10+n, kind.name))
					testkit.Until(t, "a response", func() bool { return g.netMetrics.Frames.Load() > frames })
				}
				now.Add(1)
				kind.step(g, age+1)
				testkit.Until(t, "the loop has the newest state", func() bool {
					return g.fanoutMetrics.Events.Load() == uint64(kind.steps*(age+1))
				})
			}
			f, s := &g.fanoutMetrics, &g.sessionMetrics
			testkit.Until(t, "clients go, and the others keep old states", func() bool {
				waits := g.netMetrics.BacklogBytes.Load() + g.held().Held()
				return g.netMetrics.BacklogClosed.Load() > 0 && f.VersionBytes.Load() > 0 && waits <= int64(kind.limit)
			})
			closed := uint64(0)
			for i, c := range slow {
				for a := theirs[i]; !a.all(kind.parts, clients); {
					_ = c.conn.SetDeadline(time.Now().Add(testkit.Patience))
					m, err := c.receive()
					if err != nil {
						// It is cut if it comes to its close frame only after closeTimeout.
						if err != error(closedError{1013}) && err != error(closedError{1006}) {
							t.Errorf("client %d: %v", i, err)
						}
						closed++
						break
					}
					a.apply(t, m)
				}
			}
			if n := g.netMetrics.BacklogClosed.Load(); n != closed || n == clients {
				t.Errorf("of %d clients %d were closed, %d have noticed it", clients, n, closed)
			}
			testkit.Until(t, "nothing is kept", func() bool {
				return f.VersionBytes.Load() == 0 && f.VersionShares.Load() == 0 && s.HeldBytes.Load() == 0 && s.HeldShares.Load() == 0
			})
		})
	}
}
