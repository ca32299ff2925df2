package owners

import (
	"sluice/internal/presence"
	"sluice/internal/session"
)

// follower passes the comings and goings of a loop's clients to the tracker (session.Watcher).
// Owned by the loop.
//
// A disconnect event takes its place among the loop's requests, so it follows the client's. Only an
// access request that a shard makes for it can come later. While NATS is away, the event is passed
// on immediately, so that the tracker can coalesce it.
type follower struct {
	loop   *Loop
	to     *presence.Tracker
	closed []presence.Change // since the last turn has ended
}

// follow has the tracker follow the loop's clients; nil: there is none.
func (l *Loop) follow(t *presence.Tracker) {
	if t != nil {
		l.follower = &follower{loop: l, to: t}
		l.Env.Watcher = l.follower
	}
}

// change returns what the tracker gets of a session.
func change(kind presence.Kind, s *session.Session) presence.Change {
	c := session.ClientOf(s)
	return presence.Change{Kind: kind, CID: c.CID, RemoteAddr: c.RemoteAddr, Stream: c.Stream, Protocol: c.Protocol, TokenID: c.TokenID}
}

// Opened implements session.Watcher.
func (f *follower) Opened(s *session.Session) { f.to.Open(change(presence.Opened, s)) }

// Changed implements session.Watcher.
func (f *follower) Changed(s *session.Session) { f.to.Put(change(presence.Changed, s)) }

// Arrived implements session.Watcher.
func (f *follower) Arrived(s *session.Session) { f.to.Put(change(presence.Arrived, s)) }

// Left implements session.Watcher.
func (f *follower) Left(s *session.Session) {
	f.to.Put(presence.Change{Kind: presence.Left, CID: s.CID()})
}

// Closed implements session.Watcher.
func (f *follower) Closed(s *session.Session) {
	c := change(presence.Closed, s)
	if e, ok := s.Peer().(session.Ender); ok {
		c.Reason, c.Code = e.Ending()
	}
	if f.to.Down() {
		f.to.Put(c)
		return
	}
	if len(f.closed) == 0 {
		f.loop.Net.Wake() // connections are closed after the loop's mailbox was handled
	}
	f.closed = append(f.closed, c)
}

// endTurn has the disconnect events follow the requests of this turn.
func (f *follower) endTurn() {
	if len(f.closed) == 0 {
		return
	}
	closed, to := f.closed, f.to
	f.closed = nil
	f.loop.Upstream.Caller.Do(func() {
		for _, c := range closed {
			to.Put(c)
		}
		to.Flush()
	})
}

// Departed passes on the clients that were closed last. The loops have ended.
func (s *Set) Departed() {
	s.EachLoop(func(l *Loop) {
		if f := l.follower; f != nil {
			for _, c := range f.closed {
				f.to.Put(c)
			}
			f.closed = nil
		}
	})
}

// link notifies the tracker of the first NATS connection's loss or return.
func (s *Set) link(conn int, up bool) {
	if t := s.o.Presence; t != nil && conn == 0 {
		t.Link(up)
	}
}
