package session

// Info is what a session knows of its client, at one moment.
type Info struct {
	CID           string
	Protocol      string // version
	Token         string // raw JSON, "" without one: a secret, of which only a field that was asked for may be shown
	HTTP          bool   // an HTTP request, not a WebSocket or stream
	Lagging       bool   // a slow consumer, whose events are held
	Requests      int    // in progress
	Subscriptions int
}

// InfoOf returns what a session knows of its client.
func InfoOf(s *Session) Info {
	return Info{
		CID: s.cid, Protocol: s.version.String(), Token: s.token(), HTTP: s.http, Lagging: s.lagging,
		Requests: int(s.requests), Subscriptions: s.subs.Len(),
	}
}

// SubInfo is what a session knows of a subscription, at one moment.
type SubInfo struct {
	RID       string
	State     string // substate.go
	Direct    int    // direct subscriptions; 0: only through references
	Backlog   int    // events that wait to be sent
	Conflated bool   // events were replaced by the difference to the newest state
	Lost      int    // custom events that were dropped from the backlog
	Access    string // unknown, granted, denied, or the code of the error
	Call      string // methods that may be called, as the service named them
}

// EachSub calls f for at most n subscriptions of a session of which match reports true, in no
// particular order. It returns whether there are more.
func EachSub(s *Session, n int, match func(rid string) bool, f func(SubInfo)) (more bool) {
	s.subs.each(func(b *Sub) {
		switch {
		case !match(b.rid):
		case n == 0:
			more = true
		default:
			n--
			f(b.info())
		}
	})
	return more
}

func (b *Sub) info() SubInfo {
	i := SubInfo{RID: b.rid, State: b.state.String(), Direct: int(b.direct), Access: "unknown"}
	if w := b.work; w != nil {
		i.Backlog, i.Conflated, i.Lost = len(w.queue), w.conflated, w.lost
		if w.script != nil {
			i.Backlog += w.script.Len() - w.at
		}
	}
	if a := b.acc; a != nil {
		switch err := a.canGet(); {
		case err == nil:
			i.Access, i.Call = "granted", a.Call
		case a.err == nil:
			i.Access = "denied"
		default:
			i.Access = err.Code
		}
	}
	return i
}

// Session returns the session that the subscription belongs to.
func (b *Sub) Session() *Session { return b.s }
