//go:build !race && !invariants

package owners_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/cache"
	"sluice/fanout"
	"sluice/internal/config"
	"sluice/internal/connid"
	"sluice/internal/framing"
	"sluice/internal/grace"
	"sluice/internal/httpedge"
	"sluice/internal/jwtauth"
	"sluice/internal/metrics"
	"sluice/internal/natsbus"
	"sluice/internal/owner"
	"sluice/internal/owners"
	"sluice/internal/servicelog"
	"sluice/internal/session"
	"sluice/netpoll"
	"sluice/wsproto"
)

// station is a gateway without sockets, goroutines and NATS's client: what remains is the gateway's
// own work for a request. It is the network of its bus, and a service that has all resources.
type station struct {
	clock *owner.ManualClock
	net   *netpoll.Driven
	bus   *natsbus.Driven
	set   *owners.Set

	asked []asked // published, and not responded to
}

type asked struct{ subject, reply string }

// clients is how many have a request in flight at a time, as in bench/compare.yaml.
const clients = 64

func newStation(tb testing.TB) *station {
	s := &station{clock: owner.NewManualClock()}
	c := config.Config{Loops: 1, Shards: 1, NATSConnections: 1, Flush: "write", Log: slog.New(slog.DiscardHandler)}.WithDefaults()
	ids, faults := connid.WithPrefix("c"), owner.NewFaults(s.clock, c.Log)
	g := grace.New(grace.Options{Length: c.NATSGrace, Clock: s.clock, Log: c.Log, Expired: func() {}})
	api := c.HTTPOptions()
	api.Log, api.Clock = c.Log, s.clock
	edge := httpedge.New(httpedge.Options{
		API: api, WSPath: c.WSPath, Loops: 1, Clock: s.clock, Faults: faults, Log: c.Log,
		Gateway: httpedge.Gateway{IDs: ids, Healthy: func() bool { return true }, Draining: func() bool { return false }, Closed: g.Over},
	})
	s.set = owners.New(owners.Options{
		Config: &c, UnusedBytes: 1 << 20, IDs: ids, HTTP: edge, Tokens: new(jwtauth.Auth), Grace: g, Resets: owner.NewThrottle(1),
		Services: servicelog.New(c.Log, s.clock), Trace: framing.Trace{Log: c.Log, IDs: ids}, Faults: faults, Clock: s.clock, Log: c.Log,
		Compressions: new(metrics.Counter), Fanout: new(fanout.Metrics), Session: new(session.Metrics), Cache: new(cache.Metrics),
	})
	err := s.set.Attach(natsbus.Options{
		Log: c.Log, Metrics: new(natsbus.Metrics), Faults: faults, Clock: s.clock, Timeouts: owners.Timeouts(&c), Conns: 1,
	}, func(o natsbus.Options) (*natsbus.Bus, error) {
		s.bus = natsbus.NewDriven(o, s)
		return s.bus.Bus, nil
	})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.bus.Close)
	s.net, err = netpoll.NewDriven(netpoll.Options{
		Loops: 1, Handler: s.set.Handler(), Clock: s.clock, Metrics: new(netpoll.Metrics), Log: c.Log, Faults: faults,
		Limits: c.NetLimits(time.Minute, 1<<30), AfterPanic: s.set.Mend,
	})
	if err != nil {
		tb.Fatal(err)
	}
	s.settle()
	return s
}

// Publish implements natsbus.Network, as Subscribe and Unsubscribe do.
func (s *station) Publish(_ int, subject, reply string, _ []byte) bool {
	if subject != "" {
		s.asked = append(s.asked, asked{subject, reply})
	}
	return true
}

func (s *station) Subscribe(int, string)   {}
func (s *station) Unsubscribe(int, string) {}

var (
	replyAccess = []byte(`{"result":{"get":true,"call":"*"}}`)
	replyGet    = []byte(`{"result":{"model":{"name":"load","value":42}}}`)
	replyCall   = []byte(`{"result":{"n":1}}`)
)

// respond has the service respond to what it was asked, together.
func (s *station) respond() {
	link := s.bus.Links[0]
	for _, a := range s.asked {
		data := replyCall
		switch kind, _, _ := strings.Cut(a.subject, "."); kind {
		case "access":
			data = replyAccess
		case "get":
			data = replyGet
		}
		link.Deliver("", a.reply, data)
	}
	s.asked = s.asked[:0]
}

// settle runs all owners until none has anything to do.
func (s *station) settle() {
	link, loop := s.bus.Links[0], s.net.Loops[0]
	for idle := false; !idle; {
		idle = true
		for link.Publishing() {
			link.Publish()
			idle = false
		}
		s.respond()
		for link.Dispatching() > 0 {
			link.Dispatch(0)
			idle = false
		}
		for _, shard := range s.set.Shards() {
			for shard.Cache.Due() {
				shard.Cache.Turn()
				idle = false
			}
		}
		for loop.Woken() {
			loop.Turn()
			idle = false
		}
	}
}

// peer is a client's socket.
type peer struct {
	conn *netpoll.DrivenConn
	got  []byte
	n    int // responses
}

func (p *peer) Write(b []byte) (int, bool) {
	p.got = append(p.got[:0], b...)
	p.n++
	return len(b), true
}

func (*peer) Closed() {}

func (s *station) connect(tb testing.TB, n int) []*peer {
	var all []*peer
	for i := range n {
		p := new(peer)
		p.conn = s.net.Loops[0].Open(p, netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(i+1)))
		all = append(all, p)
	}
	return all
}

const get = "GET /api/load/a HTTP/1.1\r\nHost: localhost:8080\r\n\r\n"

// getting returns a function that has each client of a station make a GET request, and returns when
// all have their responses.
func getting(tb testing.TB) func() {
	s := newStation(tb)
	all := s.connect(tb, clients)
	request := []byte(get)
	round := func() {
		for _, p := range all {
			p.conn.Receive(request)
		}
		s.settle()
	}
	round()
	for _, p := range all {
		if p.n != 1 || !bytes.HasPrefix(p.got, []byte("HTTP/1.1 200 OK\r\n")) || !bytes.HasSuffix(p.got, []byte(`{"name":"load","value":42}`)) {
			tb.Fatalf("%d responses, %q", p.n, p.got)
		}
	}
	return round
}

// calling is getting with calls of WebSocket clients.
func calling(tb testing.TB) func() {
	s := newStation(tb)
	all := s.connect(tb, clients)
	for _, p := range all {
		p.conn.Receive([]byte("GET / HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"))
	}
	s.settle()
	frame := func(text string) []byte {
		return wsproto.AppendMaskedFrame(nil, true, wsproto.OpText, []byte(text), [4]byte{1, 2, 3, 4})
	}
	var input []byte
	send := func(b []byte) {
		for _, p := range all {
			input = append(input[:0], b...) // frames are unmasked in place
			p.conn.Receive(input)
		}
		s.settle()
	}
	send(frame(`{"id":1,"method":"version","params":{"protocol":"1.2.3"}}`))
	call := frame(`{"id":2,"method":"call.load.a.ping","params":{"n":1}}`)
	round := func() { send(call) }
	round()
	for _, p := range all {
		if !bytes.Contains(p.got, []byte(`{"payload":{"n":1}}`)) {
			tb.Fatalf("%q", p.got)
		}
	}
	return round
}

// What a request may allocate, with some for a collection that empties pools.
func TestRequestAllocs(t *testing.T) {
	for name, c := range map[string]struct {
		of   func(testing.TB) func()
		most float64
	}{
		// All by the test's network: two messages, each with its subscription and reply subject,
		// and what the socket takes.
		"call": {calling, 9},
		// Beside that, the session with its subscription, and the shard's part.
		"get": {getting, 22},
	} {
		round := c.of(t)
		if n := testing.AllocsPerRun(20, round) / clients; n > c.most {
			t.Errorf("%s: %.1f allocations, want at most %v", name, n, c.most)
		}
	}
}

// BenchmarkGet is a GET request of one of 64 clients.
func BenchmarkGet(b *testing.B) { benchmark(b, getting) }

// BenchmarkCall is a call of one of 64 WebSocket clients.
func BenchmarkCall(b *testing.B) { benchmark(b, calling) }

func benchmark(b *testing.B, of func(testing.TB) func()) {
	round := of(b)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; n += clients {
		round()
	}
}
