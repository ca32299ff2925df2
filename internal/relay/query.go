package relay

import (
	"strconv"
	"strings"

	"sluice/internal/res"
	"sluice/internal/state"
)

const (
	// maxRounds and maxRoundBytes bound the rounds that are kept for edges' requests.
	maxRounds     = 4096
	maxRoundBytes = 16 << 20
	// maxNamed is the length of names up to which they are part of the subject of query requests,
	// so that a round that is not kept any more is answered with the whole state.
	maxNamed = 1024
)

// round is what a turn has changed of the query resources of one name. An edge applies the rounds
// of a name in the order of their numbers, each once: it gets the query event of a round after
// every answer without the round's changes, and before every answer that has later ones only. So
// the events of a round are what an edge misses.
//
// The whole state is a reply that includes later rounds as well. So once it is given, all rounds of
// the name up to the present are answered with the whole state: name.fullTo.
type round struct {
	n       *name
	number  uint64
	replies map[string][]byte // by query: {"result":{"events":[…] without the end
	gone    map[string]bool   // queries whose resource was deleted
	full    bool              // the whole state is shorter than the events
	bytes   int
}

// rounds are the rounds that edges may ask about. They belong to the front.
type rounds struct {
	prefix string // of the subjects of query requests
	number uint64 // of the newest
	byNum  map[uint64]*round
	oldest uint64 // number of the oldest that may be kept
	bytes  int
	dirty  []*name // with a round that is not yet published
}

func (r *rounds) init(id string) {
	*r = rounds{prefix: "_EVENT_." + id + ".", number: r.number, oldest: r.number + 1, byNum: make(map[uint64]*round)}
}

// open returns the name's round of this turn.
func (f *front) open(n *name) *round {
	if n.round == nil {
		n.round = &round{n: n, replies: make(map[string][]byte, 1)}
		f.rounds.dirty = append(f.rounds.dirty, n)
	}
	return n.round
}

// record adds an event of a query resource to its name's round.
func (f *front) record(t *topic, ev *state.Event) {
	r := f.open(t.n)
	if ev.Kind == state.Delete {
		if r.gone == nil {
			r.gone = make(map[string]bool)
		}
		r.gone[t.query] = true
		return
	}
	b := r.replies[t.query]
	before := len(b)
	if b == nil {
		b = append(b, `{"result":{"events":[`...)
	} else {
		b = append(b, ',')
	}
	b = append(b, `{"event":`...)
	b = res.AppendString(b, eventName(ev))
	if data := eventData(ev); len(data) > 0 {
		b = append(b, `,"data":`...)
		b = append(b, data...)
	}
	b = append(b, '}')
	r.replies[t.query] = b
	r.bytes += len(b) - before
	if ev.Kind != state.Custom && r.bytes > maxRoundBytes/4 {
		r.full = true
	}
}

// recordAll adds a query resource's whole state to its name's round.
func (f *front) recordAll(t *topic) {
	f.open(t.n).full = true
}

// publishRounds publishes the rounds of the turn.
func (f *front) publishRounds() {
	dirty := f.rounds.dirty
	f.rounds.dirty = nil
	for _, n := range dirty {
		f.publishRound(n)
	}
}

// publishRound publishes the query event of a name's round, if it has one.
func (f *front) publishRound(n *name) {
	r := n.round
	if r == nil {
		return
	}
	n.round = nil
	w := &f.rounds
	w.number++
	r.number = w.number
	if r.full {
		n.fullTo = w.number
	}
	w.byNum[r.number] = r
	w.bytes += r.bytes
	for len(w.byNum) > maxRounds || w.bytes > maxRoundBytes && len(w.byNum) > 1 {
		if old := w.byNum[w.oldest]; old != nil {
			w.bytes -= old.bytes
			delete(w.byNum, w.oldest)
			old.n.fullTo = max(old.n.fullTo, w.oldest)
		}
		w.oldest++
	}
	f.metrics.Rounds.Inc()
	subject := w.prefix + strconv.FormatUint(r.number, 10)
	if len(n.name) <= maxNamed {
		subject += "." + n.name
	}
	f.send("event."+n.name+".query", append(res.AppendString([]byte(`{"subject":`), subject), '}'))
}

// queryRequest answers an edge's query request. subject is what follows the prefix.
func (f *front) queryRequest(subject, reply string, payload []byte) {
	f.metrics.QueryRequests.Inc()
	text, resource, _ := strings.Cut(subject, ".")
	number, err := strconv.ParseUint(text, 10, 64)
	query, ok := queryOf(payload)
	if err != nil || !ok {
		f.fail(reply, res.InternalError("malformed query request"))
		return
	}
	r, n := f.rounds.byNum[number], f.names[resource]
	if n == nil && r != nil {
		n = f.names[r.n.name]
	}
	switch {
	case r != nil && r.gone[query]:
		f.fail(reply, res.ErrNotFound)
	case n != nil && number <= n.fullTo || r == nil:
		if n == nil {
			f.fail(reply, res.ErrTimeout) // dropped: a reset follows the query event
			return
		}
		f.wholeState(n, query, reply)
	case r.replies[query] == nil:
		f.send(reply, []byte(`{"result":{"events":[]}}`))
	default:
		b := r.replies[query]
		f.send(reply, append(b[:len(b):len(b)], `]}}`...))
	}
}

// wholeState answers a query request with all that a query's resource is now.
func (f *front) wholeState(n *name, query, reply string) {
	f.publishRound(n)
	n.fullTo = f.rounds.number
	t := n.topics[query]
	if t == nil || t.snap == nil {
		f.send(reply, []byte(`{"result":{"events":[]}}`)) // a reset or an answer follows
		return
	}
	b := appendState([]byte(`{"result":`), t.snap)
	f.send(reply, append(b, '}'))
	f.weigh(t)
}
