//go:build linux

package client

import (
	"bufio"
	"bytes"
	"net"
	"net/http"
	"strings"
	"testing"

	"sluice/wsproto"
)

func TestSocketIOPackets(t *testing.T) {
	for in, want := range map[string]struct {
		kind int
		id   uint64
		data string
	}{
		`0{"sid":"x"}`:             {packetOpen, 0, `{"sid":"x"}`},
		`1`:                        {packetClose, 0, ""},
		`2`:                        {packetPing, 0, ""},
		`2probe`:                   {packetPing, 0, "probe"},
		`6`:                        {packetNoop, 0, ""},
		`40{"sid":"y"}`:            {packetConnect, 0, `{"sid":"y"}`},
		`41`:                       {packetDisconnect, 0, ""},
		`42["load.t0",{"due":1}]`:  {packetEvent, 0, `["load.t0",{"due":1}]`},
		`4217["a"]`:                {packetEvent, 17, `["a"]`},
		`431[]`:                    {packetAck, 1, `[]`},
		`4312["no"]`:               {packetAck, 12, `["no"]`},
		`44{"message":"no"}`:       {packetError, 0, `{"message":"no"}`},
		``:                         {packetUnknown, 0, ""},
		`3`:                        {packetUnknown, 0, ""},
		`4`:                        {packetUnknown, 0, ""},
		`45`:                       {packetUnknown, 0, ""},
		`451-["a"]`:                {packetUnknown, 0, ""},
		`5`:                        {packetUnknown, 0, ""},
		`7`:                        {packetUnknown, 0, ""},
		`bAAAA`:                    {packetUnknown, 0, ""},
		"\x00":                     {packetUnknown, 0, ""},
		"4\x00":                    {packetUnknown, 0, ""},
		`42/admin,["a"]`:           {packetUnknown, 0, ""},
		`4399999999999999999999[]`: {packetUnknown, 0, ""},
	} {
		if kind, id, data := parsePacket([]byte(in)); kind != want.kind || id != want.id || string(data) != want.data {
			t.Errorf("%q: %d, id %d, %q", in, kind, id, data)
		}
	}
}

// socketIOServer accepts one client, sends the packets of say in turn, each when it has got as many
// packets as it says, and reports what it got.
func socketIOServer(t *testing.T, say []saying, got chan<- string) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		defer close(got)
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		r := bufio.NewReader(c)
		request, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		got <- request.RequestURI
		_, _ = c.Write([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"))
		var parser wsproto.Parser
		var pending []byte
		buf := make([]byte, 4<<10)
		for packets := 0; ; {
			for len(say) > 0 && say[0].after <= packets {
				_, _ = c.Write(wsproto.AppendFrame(nil, wsproto.OpText, []byte(say[0].packet)))
				say = say[1:]
			}
			n, err := r.Read(buf)
			if err != nil {
				return
			}
			pending = append(pending, buf[:n]...)
			for len(pending) > 0 {
				m, n, done, err := parser.Next(pending, wsproto.Limits{Message: 1 << 20})
				if err != nil || n == 0 || !done {
					break
				}
				got <- string(m.Payload)
				packets++
				pending = pending[n:]
			}
		}
	}()
	return l.Addr().String()
}

// A saying is a packet that a server sends after it has got so many.
type saying struct {
	after  int
	packet string
}

// A client opens in the order of the protocol, answers pings, and counts the events in its rooms.
func TestSocketIOClient(t *testing.T) {
	got := make(chan string, 100)
	event := func(topic int) string {
		return `42["` + Topic(topic) + `",` + string(AppendEvent(nil, 1<<60, 100)) + `]`
	}
	addr := socketIOServer(t, []saying{{0, `0{"sid":"a","upgrades":[],"pingInterval":25000}`}, {1, `40{"sid":"b"}`}, {3, `431[]`}, {3, `431[]`},
		{3, `2`}, {4, event(2)}, {4, event(3)}, {4, `6`}, {4, `2x`}}, got)
	e, err := New(Config{Protocol: ProtocolSocketIO, Addr: addr, First: 1, Count: 1, Topics: 4, PerClient: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Connect(); err != nil {
		t.Fatal(err)
	}
	s := until(t, e, "deliveries", func(c Counters) bool { return c.Ready == 1 && c.Deliveries == 2 })
	for _, want := range []string{"/socket.io/?EIO=4&transport=websocket", "40", `421["subscribe","load.t2"]`, `421["subscribe","load.t3"]`, "3", "3x"} {
		if packet := <-got; packet != want {
			t.Errorf("%s, want %s", packet, want)
		}
	}
	if s.Count.Failed+s.Count.Closed != 0 || s.Count.Strange != 0 {
		t.Errorf("%+v", s.Count)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// A client that is not let in, or in no room, fails, and says why.
func TestSocketIORejections(t *testing.T) {
	for what, c := range map[string]struct {
		say  []saying
		want string
	}{
		"not let in":         {[]saying{{0, "0{}"}, {1, `44{"message":"no"}`}}, "disconnected"},
		"in no room":         {[]saying{{0, "0{}"}, {1, `40{}`}, {2, `431["no such room"]`}}, "rejected a subscription"},
		"closed":             {[]saying{{0, "0{}"}, {1, "1"}}, "disconnected"},
		"sent away":          {[]saying{{0, "0{}"}, {1, `40{}`}, {2, `41`}}, "disconnected"},
		"a frame of garbage": {[]saying{{0, "0{}"}, {1, "40{}"}, {2, "40{}"}, {2, "hello"}, {2, "1"}}, "disconnected"},
	} {
		addr := socketIOServer(t, c.say, make(chan string, 100))
		e, err := New(Config{Protocol: ProtocolSocketIO, Addr: addr, Count: 1, Topics: 1, PerClient: 1})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Connect(); err != nil {
			t.Fatal(err)
		}
		s := until(t, e, "failure", func(c Counters) bool { return c.Failed == 1 })
		if !strings.Contains(s.Count.LastError, c.want) {
			t.Errorf("%s: %s", what, s.Count.LastError)
		}
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
}

// No packet breaks the client, and each known one is its type, its id and its data.
func FuzzSocketIO(f *testing.F) {
	for _, seed := range []string{`0{"sid":"x"}`, `2probe`, `40{"sid":"y"}`, `42["load.t0",{"due":1}]`, `4217["a",{"due":2}]`, `431[]`, `44{}`, `42/a,1[]`, `451-["a"]`, `1`, ``} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		kind, id, data := parsePacket(p)
		switch {
		case kind == packetUnknown:
			if id != 0 || data != nil {
				t.Fatalf("%q: unknown, but id %d and %q", p, id, data)
			}
		case !bytes.HasSuffix(p, data):
			t.Fatalf("%q ends in no %q", p, data)
		case kind < packetConnect && len(p) != 1+len(data), kind >= packetConnect && len(data) > 0 && data[0]-'0' < 10:
			t.Fatalf("%q: type %d, id %d, data %q", p, kind, id, data)
		}
		for _, state := range []connState{stateOpening, stateReady} {
			th := newBareThread(false)
			th.cfg.Topics, th.driver = 1, socketioDriver{}
			c := &th.conns[0]
			c.state, c.pending = state, 2
			th.driver.Message(c, p)
			events := int64(0)
			for rest, ok := p, true; ok && kind == packetEvent; {
				if _, rest, ok = nextStamp(rest); ok {
					events++
				}
			}
			if n := th.count.Deliveries + th.count.Stale; n != events {
				t.Fatalf("%q: %d events, want %d", p, n, events)
			}
		}
	})
}
