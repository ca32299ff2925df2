package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"sluice/fanout"
	"sluice/internal/connid"
	"sluice/internal/res"
	"sluice/internal/session"
	"sluice/netpoll"
)

// Connection is a client with its connection.
type Connection struct {
	CID           string `json:"cid"`
	Kind          string `json:"kind"` // websocket, stream or http
	State         string `json:"state"`
	Remote        string `json:"remote"`
	TLS           bool   `json:"tls"`
	Protocol      string `json:"protocol"`
	Loop          int    `json:"loop"`
	HasToken      bool   `json:"hasToken"`
	Slow          bool   `json:"slow"`
	Paused        bool   `json:"paused"`
	Throttled     bool   `json:"throttled"`
	Queued        int    `json:"queued"` // bytes that wait to be written
	IdleMs        int64  `json:"idleMs"`
	StalledMs     int64  `json:"stalledMs"` // since the socket took something; 0 unless slow
	Requests      int    `json:"requests"`  // in progress
	Subscriptions int    `json:"subscriptions"`

	// Token has the field of the client's token that was asked for.
	Token map[string]json.RawMessage `json:"token,omitempty"`

	token string // raw JSON
}

// ConnectionList is the response of GET /api/connections.
type ConnectionList struct {
	Connections []Connection `json:"connections"`
	Matched     int          `json:"matched"` // before the limit
}

// attached is what a connection's Session holds.
type attached interface{ Session() *session.Session }

// row returns a connection's row, nil if it has no session. It runs on the loop.
func row(c *netpoll.Conn) *Connection {
	a, ok := c.Session.(attached)
	if !ok {
		return nil
	}
	s := a.Session()
	if s == nil || s.Closed() {
		return nil
	}
	r := sessionRow(s)
	n := netpoll.InfoOf(c)
	r.Kind, r.State, r.TLS, r.Loop = n.Kind, n.State, n.TLS, n.Handle.Loop()
	r.Remote = cmp.Or(r.Remote, n.Remote)
	r.Slow, r.Paused, r.Throttled, r.Queued = n.Lagging, n.Paused, n.Throttled, n.Queued
	r.IdleMs, r.StalledMs = n.Idle.Milliseconds(), n.Stalled.Milliseconds()
	return r
}

// sessionRow returns what the session has of a row.
func sessionRow(s *session.Session) *Connection {
	i := session.InfoOf(s)
	var client res.AuthRequest
	s.Peer().Describe(&client)
	return &Connection{
		CID: i.CID, Kind: "http", State: "request", Remote: client.RemoteAddr, Protocol: i.Protocol, HasToken: i.Token != "",
		Requests: i.Requests, Subscriptions: i.Subscriptions, token: i.Token,
	}
}

// orders are the ways to sort connections; the first rows come first.
var orders = map[string]func(a, b *Connection) int{
	"slow": func(a, b *Connection) int {
		return cmp.Or(cmp.Compare(b.StalledMs, a.StalledMs), cmp.Compare(b.Queued, a.Queued))
	},
	"queued":        func(a, b *Connection) int { return cmp.Compare(b.Queued, a.Queued) },
	"requests":      func(a, b *Connection) int { return cmp.Compare(b.Requests, a.Requests) },
	"subscriptions": func(a, b *Connection) int { return cmp.Compare(b.Subscriptions, a.Subscriptions) },
	"idle":          func(a, b *Connection) int { return cmp.Compare(b.IdleMs, a.IdleMs) },
	"cid":           func(a, b *Connection) int { return cmp.Compare(a.CID, b.CID) },
}

// best keeps the first n rows of an order.
type best[T any] struct {
	n       int
	order   func(a, b T) int
	rows    []T
	matched int
}

func (b *best[T]) add(row T) {
	b.matched++
	b.rows = append(b.rows, row)
	if len(b.rows) >= 4*b.n+64 {
		b.cut()
	}
}

// cut sorts the rows and drops those after the first n.
func (b *best[T]) cut() []T {
	slices.SortStableFunc(b.rows, b.order)
	b.rows = b.rows[:min(len(b.rows), b.n)]
	return b.rows
}

// filter selects connections.
type filter struct {
	network      netip.Prefix // of the client's address
	addr         bool
	field, value string // of the client's token
}

func newFilter(r *http.Request) (f filter, err error) {
	q := r.URL.Query()
	f.field, f.value = q.Get("field"), q.Get("value")
	if f.value != "" && f.field == "" {
		return f, refuse(http.StatusBadRequest, "value needs field, the member of clients' tokens to compare with it")
	}
	if text := q.Get("addr"); text != "" {
		f.addr = true
		if ip, err := netip.ParseAddr(text); err == nil {
			f.network = netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen())
		} else if f.network, err = netip.ParsePrefix(text); err != nil {
			return f, refuse(http.StatusBadRequest, "addr must be an IP address, or a network such as 10.0.0.0/8")
		}
	}
	return f, nil
}

// match reports whether a row is selected, and adds the field of the token that was asked for.
func (f *filter) match(c *Connection) bool {
	if f.addr {
		a, err := netip.ParseAddrPort(c.Remote)
		ip := a.Addr()
		if err != nil {
			ip, err = netip.ParseAddr(c.Remote)
		}
		if err != nil || !f.network.Contains(ip.Unmap()) {
			return false
		}
	}
	if f.field == "" {
		return true
	}
	v, ok := fieldOf(c.token, f.field)
	if ok {
		c.Token = map[string]json.RawMessage{f.field: v}
	}
	return f.value == "" || ok && (string(v) == f.value || equalText(v, f.value))
}

// fieldOf returns a member of a token; a.b is the member b of the member a.
func fieldOf(token, field string) (json.RawMessage, bool) {
	at := json.RawMessage(token)
	for name := range strings.SplitSeq(field, ".") {
		var members map[string]json.RawMessage
		if json.Unmarshal(at, &members) != nil {
			return nil, false
		}
		var ok bool
		if at, ok = members[name]; !ok {
			return nil, false
		}
	}
	return at, true
}

func equalText(v json.RawMessage, text string) bool {
	var s string
	return json.Unmarshal(v, &s) == nil && s == text
}

func (s *Server) listConnections(ctx context.Context, r *http.Request) (any, error) {
	q := r.URL.Query()
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	by := cmp.Or(q.Get("sort"), "slow")
	order, ok := orders[by]
	if !ok {
		return nil, refuse(http.StatusBadRequest, "sort must be slow, queued, requests, subscriptions, idle or cid")
	}
	f, err := newFilter(r)
	if err != nil {
		return nil, err
	}
	if name := q.Get("resource"); name != "" {
		rid, query := res.SplitRID(name)
		if !res.ValidRID(name) {
			return nil, refuse(http.StatusBadRequest, "resource must be a resource ID, such as library.books?start=0")
		}
		return s.subscribers(ctx, rid, query, strings.Contains(name, "?"), limit, order, f)
	}
	return s.recent.get(ctx, s.clock, "connections?"+r.URL.RawQuery, func() (any, error) {
		ctx, cancel := detached(ctx)
		defer cancel()
		slowOnly := by == "slow" && q.Get("addr")+f.field == ""
		return s.connections(ctx, limit, slowOnly, order, f)
	})
}

// detached returns the context of an answer that other requests may wait for, too.
func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), answerWithin)
}

// connections lists connections; with slowOnly only slow consumers, which costs no walk over all.
func (s *Server) connections(ctx context.Context, limit int, slowOnly bool, order func(a, b *Connection) int, f filter) (*ConnectionList, error) {
	return s.collect(limit, order, f, func(l Loop, take func([]*Connection)) error {
		return inSlices(ctx, l.Post, func(from int) (list []*Connection, next int) {
			add := func(c *netpoll.Conn) {
				if r := row(c); r != nil {
					list = append(list, r)
				}
			}
			if slowOnly {
				l.Net.Slow(step, add)
				return list, -1
			}
			next = l.Net.Walk(from, step, add)
			return list, next
		}, take)
	})
}

// collect asks all loops at the same time, and returns the first rows that f selects.
func (s *Server) collect(limit int, order func(a, b *Connection) int, f filter, from func(l Loop, take func([]*Connection)) error) (*ConnectionList, error) {
	loops := s.gw.Loops()
	type part struct {
		best[*Connection]
		err error
	}
	parts := make(chan part, len(loops))
	for _, l := range loops {
		go func() {
			p := part{best: best[*Connection]{n: limit, order: order}}
			err := from(l, func(rows []*Connection) {
				for _, c := range rows {
					if f.match(c) {
						p.add(c)
					}
				}
			})
			if err != nil {
				p.err = late("event loop", l.Net.Index())
			}
			parts <- p
		}()
	}
	first := best[*Connection]{n: limit, order: order}
	matched := 0
	for range loops {
		p := <-parts
		if p.err != nil {
			return nil, p.err
		}
		matched += p.matched
		for _, c := range p.rows {
			first.add(c)
		}
	}
	list := &ConnectionList{Connections: []Connection{}, Matched: matched}
	for _, c := range first.cut() {
		list.Connections = append(list.Connections, *c)
	}
	return list, nil
}

// subscribers lists the clients that are subscribed to a resource.
func (s *Server) subscribers(ctx context.Context, name, query string, one bool, limit int, order func(a, b *Connection) int, f filter) (*ConnectionList, error) {
	info, err := s.inspect(ctx, name, query, one)
	if err != nil {
		return nil, err
	}
	refs := map[int][]uint64{}
	for _, e := range info.Entries {
		for _, t := range e.Topics {
			refs[t.Loop] = append(refs[t.Loop], t.Ref)
		}
	}
	return s.collect(limit, order, f, func(l Loop, take func([]*Connection)) error {
		for _, ref := range refs[l.Net.Index()] {
			err := inSlices(ctx, l.Post, func(from int) (list []*Connection, next int) {
				next = l.Env.Hub.Members(ref, from, step, func(m fanout.Subscriber) {
					sub, ok := m.(*session.Sub)
					if !ok || sub.Session().Closed() {
						return
					}
					if r := s.rowOf(l, sub.Session()); r != nil {
						list = append(list, r)
					}
				})
				return list, next
			}, take)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// rowOf returns the row of a session, with its connection if it has one of its own. It runs on the
// loop.
func (s *Server) rowOf(l Loop, of *session.Session) *Connection {
	if who, ok := s.gw.IDs.Parse(of.CID()); ok && who.Number == 0 {
		if c := l.Net.Conn(who.Conn); c != nil {
			return row(c)
		}
	}
	r := sessionRow(of)
	r.Loop = l.Net.Index()
	return r
}

// Subscription is one of a client's subscriptions.
type Subscription struct {
	RID       string `json:"rid"`
	State     string `json:"state"` // ARCHITECTURE.md
	Direct    int    `json:"direct"`
	Backlog   int    `json:"backlog"`
	Conflated bool   `json:"conflated"`
	Lost      int    `json:"lost"`
	Access    string `json:"access"`
	Call      string `json:"call,omitempty"`
}

// ConnectionDetails is the response of GET /api/connections/{cid}.
type ConnectionDetails struct {
	Connection
	List     []Subscription `json:"list"`     // of subscriptions
	More     bool           `json:"more"`     // there are more subscriptions
	InFlight []Request      `json:"inFlight"` // requests in progress, the oldest first
}

// maxInFlight bounds the requests in progress that are listed.
const maxInFlight = 100

// findLoop returns the loop of a connection ID, and what the ID names there.
func (s *Server) findLoop(cid string) (who connid.ID, l Loop, err error) {
	who, ok := s.gw.IDs.Parse(cid)
	if !ok {
		return who, l, refuse(http.StatusNotFound, "%q is not a connection ID of this gateway", clip(cid))
	}
	for _, l := range s.gw.Loops() {
		if l.Net.Index() == who.Loop {
			return who, l, nil
		}
	}
	return who, l, notOpen(cid)
}

func notOpen(cid string) error {
	return refuse(http.StatusNotFound, "connection %s is not open", clip(cid))
}

// clip bounds what a message quotes.
func clip(text string) string {
	if len(text) > 100 {
		return text[:100] + "…"
	}
	return text
}

func (s *Server) showConnection(ctx context.Context, r *http.Request) (any, error) {
	cid := r.PathValue("cid")
	who, l, err := s.findLoop(cid)
	if err != nil {
		return nil, err
	}
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	match := func(string) bool { return true }
	if text := q.Get("match"); text != "" {
		p, ok := res.ParsePattern(text)
		if !ok {
			return nil, refuse(http.StatusBadRequest, "match must be a pattern of resource names, such as library.> or library.*.title")
		}
		match = func(rid string) bool {
			name, _ := res.SplitRID(rid)
			return p.Match(name)
		}
	}
	var rows []*Request
	d, err := ask(ctx, l.Post, func() *ConnectionDetails {
		of := l.Session(who)
		if of == nil || of.Closed() {
			return nil
		}
		r := s.rowOf(l, of)
		if r == nil {
			return nil
		}
		d := &ConnectionDetails{Connection: *r, List: []Subscription{}, InFlight: []Request{}}
		d.More = session.EachSub(of, limit, match, func(i session.SubInfo) {
			d.List = append(d.List, Subscription(i))
		})
		session.EachRequest(of, maxInFlight, func(i session.RequestInfo) { rows = append(rows, shown(i, who.Loop)) })
		return d
	})
	switch {
	case err != nil:
		return nil, late("event loop", who.Loop)
	case d == nil:
		return nil, notOpen(cid)
	}
	if err := s.gw.locate(ctx, l, rows); err != nil {
		return nil, err
	}
	for _, row := range rows {
		d.InFlight = append(d.InFlight, *row)
	}
	if field := q.Get("field"); field != "" {
		f := filter{field: field}
		f.match(&d.Connection)
	}
	slices.SortFunc(d.List, func(a, b Subscription) int { return cmp.Compare(a.RID, b.RID) })
	return d, nil
}
