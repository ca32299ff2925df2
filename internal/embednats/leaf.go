package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/secret"
)

// A leaf node's clients stay connected when its link to the hub is lost: only messages are missing,
// and requests get a "no responders" that is not true. So the gateway's in-process connections end
// with the link, and there are none before the next link is usable. What natsbus does about a lost
// connection is then right: it keeps requests back, counts the outage against the grace period, and
// fetches everything again afterwards.
//
// The server reports a lost link in its log, synchronously and before it removes what the hub
// subscribes to. From then on nothing that the server sends to the gateway is read, so no false
// reply is. Should the log's text change, the list of links shows a loss within checkEvery; a test
// holds the text.
//
// A link is usable when the hub has answered a ping: before that answer it has accepted the
// credentials and sent all its subscriptions, in this order.

const (
	checkEvery = 100 * time.Millisecond
	// connectWait bounds how long a connection waits for the link.
	connectWait = 5 * time.Second
)

// leaf watches the links to the hub: one for each remote of the configuration.
type leaf struct {
	srv  *server.Server
	need int
	hub  secret.URLs // for messages; empty: as the configuration file says
	log  *slog.Logger
	m    *Metrics

	poke chan struct{} // check now
	end  context.Context
	stop context.CancelFunc

	mu      sync.Mutex
	links   map[uint64]bool // the server's numbers of the links; nil: not all are up
	gone    map[uint64]bool // links that have ended, and may be in a list made before
	conns   map[*conn]bool
	why     string        // why there is no link, as the server said last
	fault   string        // what to do about it; empty: it may pass
	changed chan struct{} // closed and replaced when one of the above has changed
}

func newLeaf(srv *server.Server, need int, o *Options) *leaf {
	l := &leaf{srv: srv, need: need, hub: o.Leaf.URLs, log: o.Log, m: o.Metrics, poke: make(chan struct{}, 1),
		gone: make(map[uint64]bool), conns: make(map[*conn]bool), changed: make(chan struct{})}
	if l.m == nil {
		l.m = new(Metrics)
	}
	l.end, l.stop = context.WithCancel(context.Background())
	return l
}

// LinkError says why there is no link to the hub.
type LinkError struct {
	Hub   string // its address without credentials; empty if the configuration file has it
	Cause string // as the server said
	Fix   string // what to change; empty: it may pass
}

func (e *LinkError) Error() string {
	at := ""
	if e.Hub != "" {
		at = " at " + e.Hub
	}
	text := "no leaf link to the NATS server" + at + ": " + e.Cause
	switch {
	case e.Fix != "":
	case strings.Contains(e.Cause, server.TLSHandshakeError.String()): // the server says no more about it
		text += " (" + noTLS + ")"
	default:
		text += " (" + leafPort + ")"
	}
	return text
}

// noTLS is what to do if the hub does not speak TLS.
const noTLS = "if the hub's port for leaf nodes does not speak TLS, use a nats:// address, without natsCert and natsRootCAs"

// leafPort is what an address of natsLeaf must be.
const leafPort = "natsLeaf must be the port for leaf nodes of the hub's NATS server, which must run: leafnodes in its configuration, 7422 by default; not a port for clients, routes or HTTP, nor one behind which TLS begins first"

// Advice returns what to do if waiting does not help, else "".
func (e *LinkError) Advice() string { return e.Fix }

// watch checks the links until stop.
func (l *leaf) watch() {
	every := time.NewTicker(checkEvery)
	defer every.Stop()
	for {
		select {
		case <-every.C:
		case <-l.poke:
		case <-l.end.Done():
			l.mu.Lock()
			l.cut(errors.New("the server has stopped"))
			l.mu.Unlock()
			return
		}
		l.check()
	}
}

// check compares the server's links with those that are known.
func (l *leaf) check() {
	z, err := l.srv.Leafz(nil)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	listed, usable := make(map[uint64]bool), make(map[uint64]bool)
	var rtt, hub string
	for _, i := range z.Leafs {
		listed[i.ID] = true
		if i.IsSpoke && i.RTT != "0s" && !l.gone[i.ID] {
			usable[i.ID] = true
			rtt, hub = i.RTT, i.Name
		}
	}
	for id := range l.gone {
		if !listed[id] {
			delete(l.gone, id)
		}
	}
	for id := range l.links {
		if !listed[id] {
			l.cut(errors.New("it has ended"))
			break
		}
	}
	if l.links != nil || len(usable) < l.need {
		return
	}
	l.links = usable
	l.why, l.fault = "", ""
	l.m.Links.Add(int64(len(usable)))
	l.m.Ups.Inc()
	l.log.Info("leaf link up", "hub", hub, "url", l.hub, "rtt", rtt)
	l.notify()
}

// notify requires mu.
func (l *leaf) notify() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// cut ends the gateway's connections, because a link has ended. It requires mu.
func (l *leaf) cut(why error) {
	if l.links == nil {
		return
	}
	l.m.Links.Add(-int64(len(l.links)))
	l.m.Losses.Inc()
	l.links = nil
	for c := range l.conns {
		c.end(fmt.Errorf("the leaf link is lost: %w", why))
	}
	l.log.Warn("leaf link lost; the gateway has no NATS until it is back", "url", l.hub, "error", why)
	l.notify()
}

// connect opens a connection when all links are up.
func (l *leaf) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, connectWait)
	defer cancel()
	for {
		l.mu.Lock()
		up, changed, err := l.links != nil, l.changed, &LinkError{l.hub.String(), l.why, l.fault}
		l.mu.Unlock()
		if up {
			return l.open()
		}
		if err.Fix != "" {
			return nil, err
		}
		select {
		case <-changed:
		case <-l.end.Done():
			return nil, net.ErrClosed
		case <-ctx.Done():
			if err.Cause == "" {
				err.Cause = "it does not answer as a leaf node port"
			}
			return nil, err
		}
	}
}

// open opens a connection, which fails if the link has been lost since.
func (l *leaf) open() (net.Conn, error) {
	inner, err := l.srv.InProcessConn()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: inner, leaf: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.links == nil {
		inner.Close()
		return nil, &LinkError{l.hub.String(), "it was lost again", ""}
	}
	l.conns[c] = true
	return c, nil
}

// conn is an in-process connection of the gateway.
type conn struct {
	net.Conn
	leaf *leaf
	why  atomic.Pointer[error] // the link is lost; nil: it is not
}

// end ends the connection. What the server has sent and Read has not returned is dropped. It
// requires leaf.mu.
func (c *conn) end(why error) {
	c.why.Store(&why)
	delete(c.leaf.conns, c)
	c.Conn.Close()
}

// Read drops what arrives after the link was lost.
func (c *conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if why := c.why.Load(); why != nil {
		return 0, *why
	}
	return n, err
}

// Close closes the connection; closing it again does nothing.
func (c *conn) Close() error {
	c.leaf.mu.Lock()
	delete(c.leaf.conns, c)
	c.leaf.mu.Unlock()
	return c.Conn.Close()
}

// said takes a line of the server's log. The server may hold locks of its own.
func (l *leaf) said(level slog.Level, line string) {
	id, about, ok := lid(line)
	if _, why, closed := strings.Cut(about, "Leafnode connection closed: "); closed {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.gone[id] = true
		if l.links[id] {
			l.cut(errors.New(why))
		} else if l.links == nil && l.why == "" {
			l.why = "it has closed the connection: " + why
			l.notify()
		}
		return
	}
	if level < slog.LevelError || !ok && !strings.HasPrefix(line, "Error trying to connect as leafnode") {
		return
	}
	if ok {
		line = about
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	before := l.fault
	l.why, l.fault = strings.TrimPrefix(line, "Leafnode Error "), fix(line)
	if l.fault != before && l.fault != "" {
		l.log.Error("the leaf link cannot be used", "url", l.hub, "error", l.why, "advice", l.fault)
	}
	l.notify()
}

// lid returns the number of the link that a line is about, and what it says.
func lid(line string) (id uint64, about string, ok bool) {
	_, rest, _ := strings.Cut(line, " - lid") // lid:7, or lid_ws:7
	_, rest, _ = strings.Cut(rest, ":")
	number, about, _ := strings.Cut(rest, " - ")
	id, err := strconv.ParseUint(number, 10, 64)
	return id, about, err == nil
}

// fix returns what to change because of an error of the link, or "" if it may pass.
func fix(line string) string {
	has := func(texts ...string) bool {
		for _, t := range texts {
			if strings.Contains(line, t) {
				return true
			}
		}
		return false
	}
	switch {
	case has("Authorization Violation", "Authentication", "authentication", "Permissions Violation for account"):
		return "check the user in natsLeaf, natsCreds or natsNkey against the hub's leafnodes authorization"
	case has(server.ErrConnectedToWrongPort.Error()):
		return leafPort
	case has("x509:", "certificate"):
		return "check natsRootCAs, the name in the hub's certificate, and natsCert"
	case has("first record does not look like a TLS handshake"):
		return noTLS
	case has("Duplicate Remote"):
		return "another server with the same server_name is a leaf node of the hub: give each its own in embeddedNatsConfig, or leave it out"
	case has(server.ErrLeafNodeHasSameClusterName.Error()):
		return "the hub's cluster has the same name as the cluster in embeddedNatsConfig: give each its own"
	case has("Loop detected"):
		return "the hub is reached on two ways: let only one of them be a leaf link"
	}
	return ""
}
