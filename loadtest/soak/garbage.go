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

// violation is a sequence of bytes on a WebSocket, and the code that it must be closed with; 0 if
// the connection must stay open.
type violation struct {
	name  string
	bytes []byte
	code  int
}

// violations returns each kind once.
func violations(rng *rand.Rand) []violation {
	masked := func(fin bool, op wsproto.Op, payload string) []byte {
		return wsproto.AppendMaskedFrame(nil, fin, op, []byte(payload), [4]byte{1, byte(rng.Uint32()), 3, 4})
	}
	bits := masked(true, wsproto.OpText, "{}")
	bits[0] |= 0x20
	return []violation{
		{"unmasked frame", wsproto.AppendFrame(nil, wsproto.OpText, []byte("{}")), 1002},
		{"reserved opcode", masked(true, 0x0b, "x"), 1002},
		{"reserved bit", bits, 1002},
		{"fragmented ping", masked(false, wsproto.OpPing, "x"), 1002},
		{"continuation of nothing", masked(true, wsproto.OpContinuation, "x"), 1002},
		{"text that is not UTF-8", masked(true, wsproto.OpText, "\xff\xfe"), 1007},
		{"frame of 4 EiB", []byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1009},
		{"no JSON", masked(true, wsproto.OpText, "certainly not"), 0},
		{"deep JSON", masked(true, wsproto.OpText, `{"id":1,"method":"call.s0.counter.add","params":`+strings.Repeat("[", 30_000)), 0},
		{"no method", masked(true, wsproto.OpText, `{"id":1}`), 0},
		{"wildcards", masked(true, wsproto.OpText, `{"id":1,"method":"subscribe.s0.>"}`), 0},
	}
}

// garbageFrames breaks the rules of WebSocket or RES on a connection, and checks how the gateway
// closes it.
func (e *env) garbageFrames(ctx context.Context, g *gateway, rng *rand.Rand) {
	c := &client{env: e, id: -1, gateway: g.index, rng: rng}
	w, err := c.upgrade(ctx)
	if err != nil {
		return // down or frozen at the moment
	}
	defer reset(raw(w.Conn))
	frames, stop := make(chan frame), make(chan struct{})
	defer close(stop)
	go w.receive(frames, stop)
	all := violations(rng)
	v := all[rng.IntN(len(all))]
	if _, err := w.Write(v.bytes); err != nil {
		return
	}
	if v.code == 0 {
		// Open means that it still answers.
		if w.send(wsproto.OpText, `{"id":77,"method":"version"}`) != nil {
			return
		}
	}
	late := time.After(healLimit)
	for {
		select {
		case f := <-frames:
			switch {
			case f.op == wsproto.OpClose:
				// The gateway may have been ended by a fault of the other lane.
				if f.code != v.code && !slices.Contains([]int{1001, 1012, cutCode}, f.code) {
					e.journal.fail("%s: closed with %d, want %d", v.name, f.code, v.code)
				}
				return
			case v.code == 0 && strings.Contains(f.text, `"id":77`):
				return
			}
		case <-late:
			e.journal.fail("%s: neither closed nor answered for %v", v.name, healLimit)
			return
		case <-ctx.Done():
			return
		}
	}
}
