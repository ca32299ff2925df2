package session

import "sluice/internal/res"

// Watcher follows the clients of a loop. It is called on the loop, and must not change the session.
type Watcher interface {
	// Opened is called before the first request to a service for the client, except for those of
	// header authentication.
	Opened(s *Session)
	// Changed is called when the client's protocol version or token ID has changed since.
	Changed(s *Session)
	// Arrived is called instead of Opened for a client of another process that goes on here.
	Arrived(s *Session)
	// Left is called instead of Closed if another process goes on with the client.
	Left(s *Session)
	// Closed is called after the last request to a service for the client. Peer describes it still.
	Closed(s *Session)
}

// Ender is a Peer that knows why its client has gone.
type Ender interface {
	// Ending returns the reason, a word, and the close code of a WebSocket; 0: there is none.
	Ending() (reason string, code uint16)
}

// Announce has Env.Watcher follow the client of s from now on. Requests over HTTP are not
// announced, except for streams.
func Announce(s *Session) {
	if w := s.env.Watcher; w != nil && !s.closed {
		s.watched = true
		w.Opened(s)
	}
}

// CloseMoved is Close for a session that another process goes on with.
func CloseMoved(s *Session) {
	if s.watched && !s.closed {
		s.watched = false
		s.env.Watcher.Left(s)
	}
	s.Close()
}

// changed notifies the Watcher of a change.
func changed(s *Session) {
	if s.watched && !s.closed {
		s.env.Watcher.Changed(s)
	}
}

// Client describes a client to a Watcher.
type Client struct {
	CID        string
	RemoteAddr string // as trusted proxies name it
	Stream     bool   // server-sent events, not WebSocket
	Protocol   string // version of RES; empty: the client has not named it
	TokenID    string // empty: none
}

// ClientOf describes the client of a session that was announced.
func ClientOf(s *Session) Client {
	var r res.AuthRequest
	s.peer.Describe(&r)
	c := Client{CID: s.cid, RemoteAddr: r.RemoteAddr, Stream: s.http, TokenID: s.tid()}
	if s.versioned {
		c.Protocol = s.version.String()
	}
	return c
}
