package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"sluice/internal/res"
)

// parseHere is the longest message, in bytes, that a loop parses itself (internal/owners).
const parseHere = 32 << 10

// Long messages are parsed off the loop, with the order, the responses and the errors of short
// ones.
func TestLongMessages(t *testing.T) {
	g := startLive(t, func(c *Config) { c.Loops = 1 })
	g.serve("access.>", always(`{"result":{"get":true,"call":"*"}}`))
	g.serve("call.>", func(m *nats.Msg) string { return `{"result":"` + m.Subject + `"}` })
	g.serve("get.>", always(`{"result":{"model":{"n":1}}}`))
	c := g.dial()
	long := `"` + strings.Repeat("a", parseHere) + `"`
	c.send(`{"id":1,"method":"call.test.a.first","params":` + long + `}`)
	c.send(`{"id":2,"method":"call.test.a.second"}`)
	c.send(strings.Repeat("[", 2*parseHere)) // not JSON: no response
	c.send(`{"id":3,"method":"nonsense","params":` + long + `}`)
	c.send(`{"id":4,"method":"version","params":{"protocol":"1.2.3","more":` + long + `}}`)
	c.send(`{"id":5,"method":"version","params":[` + strings.Repeat("1,", 64<<10) + `1]}`)
	c.send(`{"id":6,"method":"subscribe.` + strings.Repeat("a.", 64<<10) + `a"}`)
	c.send(`{"id":7,"method":"subscribe.a` + strings.Repeat(".{cid}", 300) + `"}`)
	c.send(`{"id":8,"method":"subscribe.test.a?` + strings.Repeat("q", 100<<10) + `"}`)
	got := map[string]string{}
	var order []string
	for len(order) < 8 {
		m := c.next()
		var r struct{ ID json.Number }
		if err := json.Unmarshal([]byte(m), &r); err != nil {
			t.Fatal(err)
		}
		order = append(order, r.ID.String())
		got[r.ID.String()] = m
	}
	for id, want := range map[string]string{
		"1": "call.test.a.first", "2": "call.test.a.second", "3": res.CodeInvalidRequest, "4": "1.2.3",
		"5": res.CodeInvalidParams, "6": res.CodeSubjectTooLong, "7": res.CodeSubjectTooLong, "8": `"models"`,
	} {
		if !strings.Contains(got[id], want) {
			t.Errorf("response %s: %.200s", id, got[id])
		}
	}
	if s := strings.Join(order, ""); strings.Index(s, "1") > strings.Index(s, "2") || strings.Index(s, "3") > strings.Index(s, "7") {
		t.Errorf("order %v", order)
	}
	if n := g.netMetrics.Offloaded.Load(); n != 7 {
		t.Errorf("%d messages were parsed off the loop", n)
	}
	c.send(`{"id":9,"method":"call.test.a.last","params":` + long + `}`)
	c.conn.Close() // while a worker has its message
	other := g.dial()
	if response, _ := other.ask("call.test.a.m", ""); !strings.Contains(response, "result") {
		t.Error(response)
	}
}
