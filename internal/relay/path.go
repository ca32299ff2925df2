package relay

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sluice/internal/downlink"
	"sluice/internal/natsbus"
)

const (
	// pathSubject is where relays trace the way to the services: a relay sends its id home, and
	// each relay there adds its own and passes the message on. One that returns has found a loop.
	pathSubject = "sluice.relay.path"
	// maxPath is the number of relays in a row at which a loop is assumed.
	maxPath = 16
	// pathEvery is how often a running relay checks its path.
	pathEvery = 30 * time.Second
)

// path finds loops of relays.
type path struct {
	r     *Relay
	found atomic.Pointer[error] // a loop
}

// trace is the payload of a path message and of its reply.
type trace struct {
	Path []string `json:"path"`
	Loop bool     `json:"loop,omitempty"` // of a reply: the path has no end
}

func (t trace) encode() []byte {
	b, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings can be encoded
	}
	return b
}

var errNoPath = errors.New("cannot check for loops of relays")

// check returns an error if what this relay sends home returns to it. Once it was started, it
// repeats the check.
func (p *path) check(ctx context.Context) error {
	result := make(chan error, 1)
	p.probe(func(err error) { result <- err })
	select {
	case err := <-result:
		if errors.Is(err, errNoPath) {
			p.r.log.Warn("a loop of relays would not be found; permit "+pathSubject+" on both NATS servers", "error", err)
			err = nil
		}
		if err == nil {
			p.again()
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *path) again() {
	p.r.o.Clock.AfterFunc(pathEvery, func() {
		if p.r.stopped.Load() {
			return
		}
		p.probe(func(err error) {
			if err != nil && !errors.Is(err, errNoPath) {
				p.r.fail(err)
				return
			}
			p.again()
		})
	})
}

// probe traces the path once. done is called on the shard's goroutine.
func (p *path) probe(done func(error)) {
	r := p.r
	r.shard.Cache.Run(func() {
		r.shard.Caller.Request(natsbus.Request{Subject: pathSubject, Payload: trace{Path: []string{r.id}}.encode()}, func(data []byte, err error) {
			if found := p.found.Load(); found != nil {
				done(*found)
				return
			}
			var reply trace
			switch {
			case errors.Is(err, natsbus.ErrNoResponders):
				done(nil)
			case err != nil:
				done(fmt.Errorf("%w: %w", errNoPath, err))
			case json.Unmarshal(data, &reply) == nil && reply.Loop:
				done(loopOf(reply.Path))
			default:
				done(nil)
			}
		})
	})
}

// loopOf returns the error for a loop with the relays of a path.
func loopOf(ids []string) error {
	return fmt.Errorf("a loop of relays: what this one sends home comes back to it (%s); home and edge must be different NATS servers that do not reach each other by relays or leaf nodes",
		strings.Join(ids, " → "))
}

// received handles a path message at edge, on the control connection's goroutine.
func (p *path) received(m downlink.Message) {
	r := p.r
	var t trace
	if len(m.Data) > 4096 || json.Unmarshal(m.Data, &t) != nil || m.Reply == "" {
		return // not from a relay
	}
	if slices.Contains(t.Path, r.id) || len(t.Path) >= maxPath {
		ids := append(t.Path, r.id)
		if t.Path[0] == r.id {
			err := loopOf(ids)
			p.found.Store(&err)
		}
		r.keeper.control.Send(m.Reply, trace{Path: ids, Loop: true}.encode())
		return
	}
	t.Path = append(t.Path, r.id)
	r.shard.Cache.Run(func() {
		r.shard.Caller.Request(natsbus.Request{Subject: pathSubject, Payload: t.encode()}, func(data []byte, err error) {
			switch {
			case err == nil:
				r.keeper.control.Send(m.Reply, data)
			case errors.Is(err, natsbus.ErrNoResponders):
				r.keeper.control.Send(m.Reply, t.encode())
			}
		})
	})
}
