package relay

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"time"

	"sluice/internal/downlink"
	"sluice/internal/limit"
	"sluice/internal/natsbus"
	"sluice/internal/res"
	"sluice/internal/upstream"
)

// group is the queue group in which relays listen for requests of edges.
const group = "sluice-relay"

// requests are the subjects of edges' requests, but for query requests.
var requests = []string{"get.>", "access.>", "call.>", "auth.>"}

// maxHeard bounds the subjects of token resets that are listened to, beside auth.>.
const maxHeard = 256

// passage is the role of the front that passes on what is not answered from the cache. It belongs
// to the shard's goroutine, too.
type passage struct{ *front }

// request handles a request of an edge.
func (f passage) request(m downlink.Message) {
	defer f.contain()
	if m.Reply == "" {
		return // the reply is all that an edge wants
	}
	if rest, ok := strings.CutPrefix(m.Subject, f.rounds.prefix); ok {
		f.queryRequest(rest, m.Reply, m.Data)
		return
	}
	kind, name, _ := strings.Cut(m.Subject, ".")
	switch kind {
	case "get":
		f.get(name, m)
	case "access":
		f.access(name, m)
	case "call":
		resource := name
		if dot := strings.LastIndexByte(name, '.'); dot > 0 {
			resource = name[:dot]
		}
		f.pass(limit.Call, resource, m)
	default: // auth, and what token resets name: on the connection on which tokens arrive
		f.pass(limit.Call, m.Subject, m)
	}
}

// access passes an access request. Its reply must not be older than the subscription to the
// resource's events, one of which may revoke it. If there is none yet, a get usually follows. The
// shard's mailbox may have a Subscribe already, which Prepare follows.
func (f passage) access(name string, m downlink.Message) {
	f.shard.Cache.Prepare(name, func() {
		defer f.contain()
		f.pass(limit.Access, name, m)
	})
}

// pass sends a request home and its reply to the edge, with everything that may precede it: events,
// which the shard has handled before the reply, and pre-responses.
func (f passage) pass(p limit.Priority, name string, m downlink.Message) {
	f.metrics.Passed.Inc()
	from := m.Reply
	if dot := strings.LastIndexByte(from, '.'); dot > 0 {
		from = from[:dot] // the gateway
	}
	f.shard.Caller.Request(natsbus.Request{
		Name: name, Subject: m.Subject, Payload: m.Data, Priority: p, Client: hash(from), Trace: m.Trace,
		More: func(data []byte) { f.send(m.Reply, bytes.Clone(data)) },
	}, func(data []byte, err error) {
		defer f.contain()
		f.publishRounds()
		switch {
		case err == nil:
			f.send(m.Reply, data)
		case errors.Is(err, natsbus.ErrNoResponders):
			if f.down != nil {
				f.down.NoResponders(m.Reply)
			}
		default:
			f.fail(m.Reply, upstream.Error(err))
		}
	})
}

// system passes a system event that concerns clients.
func (f passage) system(event string, data []byte) {
	defer f.contain()
	f.publishRounds()
	if event == "tokenReset" {
		f.listen(data)
	}
	f.send("system."+event, data)
}

// listen subscribes to the requests that a token reset leads to.
func (f passage) listen(data []byte) {
	_, subject, err := new(res.Parser).TokenReset(data)
	if err != nil || f.down == nil || f.heard[subject] {
		return
	}
	kind, _, _ := strings.Cut(subject, ".")
	switch kind {
	case "auth", "call", "access", "get":
		return
	}
	if len(f.heard) >= maxHeard {
		f.unheard.Log(f.log, slog.LevelError, f.now(), time.Second, "system.tokenReset: too many subjects; name one below auth.", "subject", subject)
		return
	}
	f.heard[subject] = true
	f.down.ListenLater(group, subject)
}

// resetAccess has edges request access again for resources that match.
func (f passage) resetAccess(patterns []res.Pattern) {
	defer f.contain()
	f.publishRounds()
	names := make([]string, len(patterns))
	for i, p := range patterns {
		names[i] = p.String()
	}
	b := appendNames([]byte(`{"access":[`), names)
	f.send("system.reset", append(b, ']', '}'))
}

// token passes a client's token.
func (f passage) token(cid string, data []byte) {
	defer f.contain()
	f.send("conn."+cid+".token", data)
}

// activate begins to serve edges. They may have missed anything; once the relay listens to them, a
// reset follows.
func (f *front) activate(down downstream) {
	f.down = down
	f.heard = make(map[string]bool)
	f.resets.next = 0
	f.shard.Cache.Wheel().Cancel(&f.resets.timer)
}

// deactivate ends activate. The topics stay for the next time.
func (f *front) deactivate(down downstream) {
	if f.down == down {
		f.down = nil
	}
}
