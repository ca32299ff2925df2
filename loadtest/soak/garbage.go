//go:build linux

package soak

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/loadtest/wire"
	"sluice/wsproto"
)

// garbageConnections is how many connections a fault of garbage opens, garbageAtOnce how many
// together.
const (
	garbageConnections = 40
	garbageAtOnce      = 10
)

// sendGarbage sends garbage to both gateways, and waits until all of it is answered or ignored.
func (e *env) sendGarbage(ctx context.Context, f fault) {
	var all sync.WaitGroup
	for worker := range garbageAtOnce {
		all.Add(1)
		go func() {
			defer all.Done()
			rng := rand.New(rand.NewPCG(f.seed, uint64(worker)))
			for i := range garbageConnections / garbageAtOnce {
				if ctx.Err() != nil {
					return
				}
				g := e.gateways[(worker+i)%gateways]
				if f.kind == garbagePort {
					e.garbageTo(ctx, g, rng)
				} else {
					e.garbageFrames(ctx, g, rng)
				}
				e.journal.garbage.Add(1)
			}
		}()
	}
	all.Wait()
}

// garbageTo sends bytes that are no request, or the beginning of one, and leaves.
func (e *env) garbageTo(ctx context.Context, g *gateway, rng *rand.Rand) {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := d.DialContext(ctx, "tcp", g.addr)
	if err != nil {
		return
	}
	defer c.Close()
	noise := make([]byte, rng.IntN(4<<10))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	junk := string(noise)
	text := []string{
		junk,
		"GET / HTTP/1.1\r\n" + junk + "\r\n\r\n",
		"GET /api/s0/leaf/0 HTTP/1.1\r\nHost: soak\r\nContent-Length: 99999999999999999999\r\n\r\n" + junk,
		"POST /api/s0/counter/add HTTP/1.1\r\nHost: soak\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + junk,
		"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + junk, // the beginning of a TLS hello
		"PROXY TCP4 1.1.1.1 " + junk,
		"GET / HTTP/1.1\r\nHost: soak\r\nX: " + strings.Repeat("x", 100<<10) + "\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + junk,
		"GET / HTTP/1.1\r\nHost: so", // and silence
	}[rng.IntN(9)]
	_ = c.SetDeadline(time.Now().Add(time.Duration(500+rng.IntN(1000)) * time.Millisecond))
	_, _ = io.WriteString(c, text)
	_, _ = io.Copy(io.Discard, c)
}

// violations returns each kind once: of WebSocket's rules, and with the code 0 of RES, where the
// connection must stay open.
func violations(rng *rand.Rand) []wire.Violation {
	key := [4]byte{1, byte(rng.Uint32()), 3, 4}
	masked := func(payload string) []byte {
		return wsproto.AppendMaskedFrame(nil, true, wsproto.OpText, []byte(payload), key)
	}
	return append(wire.Violations(key),
		wire.Violation{Name: "no JSON", Bytes: masked("certainly not")},
		wire.Violation{Name: "deep JSON", Bytes: masked(`{"id":1,"method":"call.s0.counter.add","params":` + strings.Repeat("[", 30_000))},
		wire.Violation{Name: "no method", Bytes: masked(`{"id":1}`)},
		wire.Violation{Name: "wildcards", Bytes: masked(`{"id":1,"method":"subscribe.s0.>"}`)},
	)
}

// garbageFrames breaks the rules of WebSocket or RES on a connection, and checks how the gateway
// closes it.
func (e *env) garbageFrames(ctx context.Context, g *gateway, rng *rand.Rand) {
	c := &client{env: e, id: -1, gateway: g.index, rng: rng}
	w, err := c.upgrade(ctx)
	if err != nil {
		return // down or frozen at the moment
	}
	defer wire.Reset(raw(w.Conn))
	frames, stop := make(chan wire.Frame), make(chan struct{})
	defer close(stop)
	go w.Receive(frames, stop)
	all := violations(rng)
	v := all[rng.IntN(len(all))]
	if _, err := w.Write(v.Bytes); err != nil {
		return
	}
	if v.Code == 0 {
		// Open means that it still answers.
		if w.Send(wsproto.OpText, `{"id":77,"method":"version"}`) != nil {
			return
		}
	}
	late := time.After(healLimit)
	for {
		select {
		case f := <-frames:
			switch {
			case f.Op == wsproto.OpClose:
				// The gateway may have been ended by a fault of the other lane.
				if f.Code != v.Code && !slices.Contains([]int{1001, 1012, wire.NoClose}, f.Code) {
					e.journal.fail("%s: closed with %d, want %d", v.Name, f.Code, v.Code)
				}
				return
			case v.Code == 0 && strings.Contains(f.Text, `"id":77`):
				return
			}
		case <-late:
			e.journal.fail("%s: neither closed nor answered for %v", v.Name, healLimit)
			return
		case <-ctx.Done():
			return
		}
	}
}
