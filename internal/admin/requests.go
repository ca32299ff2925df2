package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"sluice/internal/livetrace"
	"sluice/internal/natsbus"
	"sluice/internal/res"
	"sluice/internal/session"
)

// Request is a client's request in progress.
type Request struct {
	CID     string `json:"cid"`
	Client  string `json:"client"` // websocket, stream or http
	Type    string `json:"type"`   // subscribe, get, call, new, auth, unsubscribe or version
	RID     string `json:"rid"`    // without the values of secret parameters
	Method  string `json:"method,omitempty"`
	AgeMs   int64  `json:"ageMs"`
	State   string `json:"state"`             // queued, sent, access, load, order or login: docs/admin.md
	Subject string `json:"subject,omitempty"` // of the request to a service that it waits for
	Loop    int    `json:"loop"`

	name string // of the resource, as services know it
}

// ServiceRequest is a request to a service in flight, made for a client or by a cache shard.
type ServiceRequest struct {
	Subject string `json:"subject"`
	AgeMs   int64  `json:"ageMs"`
	State   string `json:"state"`         // queued or sent
	CID     string `json:"cid,omitempty"` // of the client whose request in progress waits for it
	Owner   string `json:"owner"`

	client uint64
}

// RequestList is the response of GET /api/requests: the oldest requests first.
type RequestList struct {
	Requests        []Request        `json:"requests"`
	Matched         int              `json:"matched"` // before the limit
	Services        []ServiceRequest `json:"services"`
	ServicesMatched int              `json:"servicesMatched"`
}

// The states of a request to a service.
const (
	stateQueued = "queued"
	stateSent   = "sent"
)

// shown returns the row of a client's request, which is sent if it waits for a service: match finds
// out whether it is.
func shown(i session.RequestInfo, loop int) *Request {
	name, _ := res.SplitRID(res.ExpandCID(i.RID, i.CID))
	r := &Request{
		CID: i.CID, Client: i.Client, Type: i.Type, RID: livetrace.RedactRID(i.RID), Method: i.Method, AgeMs: i.Age.Milliseconds(),
		State: i.Waits, Subject: i.Subject, Loop: loop, name: name,
	}
	if r.State == "service" {
		r.State = stateSent
	}
	return r
}

// caller is an owner that sends requests to services.
type caller struct {
	kind  string
	index int
	from  *natsbus.Caller
	post  func(f func())
}

func (c *caller) label() string { return fmt.Sprint(c.kind, " ", c.index) }

// callers returns all owners that send requests.
func (g *Gateway) callers() (all []caller) {
	for _, l := range g.Loops() {
		all = append(all, caller{"event loop", l.Net.Index(), l.Out.Caller, l.Post})
	}
	for i, sh := range g.Shards() {
		all = append(all, caller{"cache shard", i, sh.Caller, sh.Cache.Run})
	}
	return all
}

// match finds out which requests to services clients' requests wait for.
type match struct {
	bySubject map[string][]*Request
	cids      map[uint64]string // of the clients, by their numbers at natsbus
	queued    map[*Request]bool // of those that were found
}

func newMatch(rows []*Request) *match {
	m := &match{bySubject: map[string][]*Request{}, cids: map[uint64]string{}, queued: map[*Request]bool{}}
	for _, r := range rows {
		m.cids[natsbus.HashName(r.CID)] = r.CID
		if r.Subject != "" {
			m.bySubject[r.Subject] = append(m.bySubject[r.Subject], r)
		}
	}
	return m
}

// take notes a request to a service. A get is shared by all clients that wait for the resource.
func (m *match) take(i *ServiceRequest) {
	i.CID = m.cids[i.client]
	for _, r := range m.bySubject[i.Subject] {
		if r.CID != i.CID && r.State != "load" {
			continue
		}
		queued, found := m.queued[r]
		m.queued[r] = i.State == stateQueued && (queued || !found)
	}
}

// settle sets the states of the requests that wait for one that has not been sent.
func (m *match) settle() {
	for r, queued := range m.queued {
		if queued {
			r.State = stateQueued
		}
	}
}

// inFlight calls take with each request to a service that one of the owners has in flight.
func inFlight(ctx context.Context, all []caller, take func(*ServiceRequest)) error {
	return gather(len(all), func(n int, pass func([]*ServiceRequest)) error {
		c := all[n]
		err := inSlices(ctx, c.post, func(from int) (list []*ServiceRequest, next int) {
			next = c.from.Walk(from, func(i natsbus.InFlight) {
				row := &ServiceRequest{Subject: i.Subject, AgeMs: i.Age.Milliseconds(), State: stateQueued, Owner: c.label(), client: i.Client}
				if i.Sent {
					row.State = stateSent
				}
				list = append(list, row)
			})
			return list, next
		}, pass)
		if err != nil {
			err = late(c.kind, c.index)
		}
		return err
	}, take)
}

// older sorts the oldest first.
func older(a, b *Request) int {
	return cmp.Or(cmp.Compare(b.AgeMs, a.AgeMs), cmp.Compare(a.CID, b.CID))
}

// listRequests lists the requests in progress of all clients, and those in flight at services.
func (s *Server) listRequests(ctx context.Context, r *http.Request) (any, error) {
	limit, err := limitOf(r)
	if err != nil {
		return nil, err
	}
	service := r.URL.Query().Get("service")
	if service != "" && !res.ValidRID(service) || strings.Contains(service, "?") {
		return nil, refuse(http.StatusBadRequest, "service must be the leading part of resource names, such as library")
	}
	return s.recent.get(ctx, s.clock, "requests?"+r.URL.RawQuery, func() (any, error) {
		ctx, cancel := detached(ctx)
		defer cancel()
		return s.requests(ctx, limit, service)
	})
}

// belongs reports whether a resource, or the resource of a subject, is one of a service.
func belongs(name, service string) bool {
	rest, ok := strings.CutPrefix(name, service)
	return ok && (rest == "" || service == "" || rest[0] == '.')
}

func (s *Server) requests(ctx context.Context, limit int, service string) (*RequestList, error) {
	loops := s.gw.Loops()
	first := best[*Request]{n: limit, order: older}
	err := gather(len(loops), func(n int, pass func([]*Request)) error {
		l, index := loops[n], loops[n].Net.Index()
		err := inSlices(ctx, l.Post, func(from int) (list []*Request, next int) {
			next = l.Env.WalkRequests(from, func(i session.RequestInfo) { list = append(list, shown(i, index)) })
			return list, next
		}, pass)
		if err != nil {
			err = late("event loop", index)
		}
		return err
	}, func(row *Request) {
		if belongs(row.name, service) {
			first.add(row)
		}
	})
	if err != nil {
		return nil, err
	}
	rows := first.cut()
	m := newMatch(rows)
	sent := best[*ServiceRequest]{n: limit, order: func(a, b *ServiceRequest) int { return cmp.Compare(b.AgeMs, a.AgeMs) }}
	err = inFlight(ctx, s.gw.callers(), func(row *ServiceRequest) {
		m.take(row)
		_, name, _ := strings.Cut(row.Subject, ".")
		if belongs(name, service) {
			sent.add(row)
		}
	})
	if err != nil {
		return nil, err
	}
	m.settle()
	list := &RequestList{Requests: []Request{}, Matched: first.matched, Services: []ServiceRequest{}, ServicesMatched: sent.matched}
	for _, row := range rows {
		list.Requests = append(list.Requests, *row)
	}
	for _, row := range sent.cut() {
		list.Services = append(list.Services, *row)
	}
	return list, nil
}

// locate sets the states of the requests of one client on a loop.
func (g *Gateway) locate(ctx context.Context, l Loop, rows []*Request) error {
	m := newMatch(rows)
	asked := []caller{{"event loop", l.Net.Index(), l.Out.Caller, l.Post}}
	shards := g.Shards()
	for _, row := range rows {
		kind, name, _ := strings.Cut(row.Subject, ".")
		if kind != "access" && kind != "get" {
			continue // a loop sends it itself
		}
		for i, sh := range shards {
			c := caller{"cache shard", i, sh.Caller, sh.Cache.Run}
			if sh == g.ShardOf(name) && !slices.ContainsFunc(asked, func(a caller) bool { return a.from == c.from }) {
				asked = append(asked, c)
			}
		}
	}
	if err := inFlight(ctx, asked, m.take); err != nil {
		return err
	}
	m.settle()
	return nil
}
