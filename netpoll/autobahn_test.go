//go:build !race

package netpoll

import (
	"encoding/binary"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/internal/owner"
	"sluice/wsproto"
)

var writeAutobahn = flag.Bool("write-docs", false, "write the WebSocket cases into docs/websocket-cases.md; see \"make docs\"")

// autobahnPatience bounds a case: some send many megabytes.
const autobahnPatience = 10 * patience

// autobahnPage is where the table with its results stands.
const autobahnPage = "../docs/websocket-cases.md"

// TestAutobahn runs the table against an engine whose handler echoes messages, and compares the
// page of the results.
func TestAutobahn(t *testing.T) {
	s := serveAutobahn(t)
	page := autobahnReport{b: []byte(autobahnIntro)}
	for _, group := range autobahnGroups() {
		var cases autobahn
		group(&cases)
		for i := range cases {
			c := &cases[i]
			deflates := strings.Contains(s.runAutobahn(t, c), "permessage-deflate")
			if want := c.offer != "" && !strings.HasSuffix(c.offer, "=9"); deflates != want {
				t.Fatalf("%s: permessage-deflate is %v", c.number, deflates)
			}
			page.add(c)
		}
	}
	if page.cases != 517 {
		t.Errorf("%d cases", page.cases)
	}
	if *writeAutobahn {
		if err := os.WriteFile(autobahnPage, page.b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if b, err := os.ReadFile(autobahnPage); err != nil || string(b) != string(page.b) {
		t.Errorf("docs/websocket-cases.md is out of date (%v): make docs", err)
	}
}

// serveAutobahn starts the server of the cases.
func serveAutobahn(t *testing.T) *server {
	type decision struct {
		c    *Conn
		line string
	}
	var decisions []decision // owned by the loop
	return serve(t, func(o *Options, h *testHandler) {
		o.Limits.MaxMessage, o.Limits.OutboxBytes, o.Limits.BacklogBytes = 32<<20, 64<<20, 256<<20
		o.Clock = owner.SystemClock() // what a socket does not take is written after a time
		h.refuse = Pending
		h.upgrade = func(c *Conn, head *wsproto.Head) {
			line := wsproto.NegotiateDeflate(head)
			if line != "" {
				c.EnableDeflate()
			}
			decisions = append(decisions, decision{c, line})
			c.Loop().Wake()
		}
		h.onIterate = func(*Loop) {
			for _, d := range decisions {
				d.c.Accept(func(dst []byte) []byte { return append(dst, d.line...) })
			}
			decisions = decisions[:0]
		}
		h.message = func(c *Conn, payload []byte) { // binary messages are echoed as text, too
			c.Send(wsproto.AppendFrame(nil, wsproto.OpText, payload))
		}
	})
}

// runAutobahn runs a case, and returns the head of the response to the upgrade.
func (s *server) runAutobahn(t *testing.T, want *autobahnCase) (head string) {
	t.Helper()
	c := dial(t, s.Addr())
	defer c.Close()
	request := upgradeHead("/ws", "")
	if want.offer != "" {
		request = strings.TrimSuffix(request, "\r\n") + "Sec-WebSocket-Extensions: " + want.offer + "\r\n\r\n"
	}
	c.send([]byte(request))
	_ = c.SetDeadline(time.Now().Add(autobahnPatience))
	code, head := c.status()
	if code != 101 {
		t.Fatalf("%s: not upgraded: %q", want.number, head)
	}
	send := want.send
	if want.offer != "" && !strings.Contains(head, "permessage-deflate") {
		send = new(writes).fragments(opText, want.want[0].payload, 0, 0).b // declined: a client sends plain messages
		want = &autobahnCase{number: want.number, title: want.title, want: want.want[:1]}
	}
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for at, k := 0, 0; at < len(send); {
			end := len(send)
			switch {
			case want.chop > 0:
				end = min(at+want.chop, end)
			case k < len(want.cuts):
				end, k = want.cuts[k], k+1
			}
			if _, err := c.Write(send[at:end]); err != nil {
				return // the server has closed after what it refuses
			}
			at = end
		}
	}()
	for i, reply := range want.want {
		op, payload, err := readFrame(c.r)
		if err != nil || op != reply.op || string(payload) != reply.payload {
			t.Fatalf("%s: reply %d: opcode %d, %d bytes %.40q, %v; want opcode %d, %d bytes %.40q", want.number, i, op, len(payload), payload, err, reply.op, len(reply.payload), reply.payload)
		}
	}
	<-wrote
	expected := want.code
	if expected == 0 {
		c.send(closeFrame(1000))
		expected = 1000
	}
	op, payload, err := readFrame(c.r)
	got := uint16(noCode)
	if len(payload) >= 2 {
		got = binary.BigEndian.Uint16(payload)
	}
	if err != nil || op != opClose || got != expected {
		t.Fatalf("%s: opcode %d, code %d, %v; want a close frame with %d", want.number, op, got, err, expected)
	}
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		t.Fatalf("%s: %d bytes after the close frame, %v", want.number, len(rest), err)
	}
	return head
}

const autobahnIntro = `# WebSocket cases

What Sluice's WebSocket does in the cases of the [Autobahn test suite](https://github.com/crossbario/autobahn-testsuite), by the suite's numbers.
The table is Sluice's own; a test runs each case on each change, on sockets (` + "`go test ./netpoll -run TestAutobahn`" + `), and this page is written from it.
All cases have the result that the suite calls strict. Where it leaves the result open (7.1.6, 7.13.x), the table has one.

The server of the test echoes messages, as the suite demands. Three things differ from the suite's own runs:

- The protocol has no binary messages. A binary message reaches the application like text, and the test echoes it as text.
- Cases 12 and 13 have 5 messages each instead of 1,000, of data that the test makes.
- Sluice agrees to compression only without context takeover and with the full window, so that one compressed frame serves all clients.
  An offer that demands a smaller window of the server (13.3, 13.5) is declined, and messages are not compressed.

"echo" is each message, "pong" each ping, in the order of the requests. A number is the code of the server's close frame, after which it closes the
connection; without one, the client closes with 1000 and gets 1000. Bytes are those of the client after the upgrade.
`

// autobahnReport is the page of the results.
type autobahnReport struct {
	b     []byte
	group string
	cases int
}

// autobahnNames are the headings.
var autobahnNames = map[string]string{
	"1": "Framing", "2": "Pings and pongs", "3": "Reserved bits", "4": "Reserved opcodes", "5": "Fragmentation", "6": "UTF-8",
	"7": "Closing", "9": "Sizes", "10": "Automatic fragmentation", "12": "Compression", "13": "Compression: parameters",
}

// add adds the row of a case that has passed.
func (r *autobahnReport) add(c *autobahnCase) {
	r.cases++
	if group, _, _ := strings.Cut(c.number, "."); group != r.group {
		r.group = group
		r.b = fmt.Appendf(r.b, "\n## %s. %s\n\n", group, autobahnNames[group])
		if group == "13" {
			for k, offer := range autobahnOffers {
				r.b = fmt.Appendf(r.b, "%d. `%s`\n", k+1, offer)
			}
			r.b = append(r.b, '\n')
		}
		r.b = append(r.b, "| case | the client sends | bytes | the server | result |\n|---|---|---|---|---|\n"...)
	}
	r.b = fmt.Appendf(r.b, "| %s | %s | `%s` | %s | pass |\n", c.number, c.title, autobahnBytes(c.send), c.expectation())
}

// autobahnBytes returns the first bytes as hexadecimal numbers, and how many there are.
func autobahnBytes(b []byte) string {
	const most = 16
	if len(b) <= most {
		return fmt.Sprintf("% x", b)
	}
	return fmt.Sprintf("% x … %d", b[:most], len(b))
}

// expectation describes what the server does.
func (c *autobahnCase) expectation() string {
	var parts []string
	echoes, pongs := 0, 0
	for _, r := range c.want {
		if r.op == opPong {
			pongs++
		} else {
			echoes++
		}
	}
	for _, kind := range []struct {
		n    int
		name string
	}{{pongs, "pong"}, {echoes, "echo"}} {
		switch {
		case kind.n == 1:
			parts = append(parts, kind.name)
		case kind.n > 1:
			parts = append(parts, fmt.Sprintf("%d × %s", kind.n, kind.name))
		}
	}
	switch {
	case c.code == noCode:
		parts = append(parts, "close without a code")
	case c.code != 0:
		parts = append(parts, fmt.Sprint(c.code))
	case len(parts) == 0:
		parts = append(parts, "nothing")
	}
	return strings.Join(parts, ", ")
}
