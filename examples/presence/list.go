package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	intervals      = 3                      // without a heartbeat, after which a gateway's process counts as gone
	assumed        = 5 * time.Second        // interval of a gateway that has sent no heartbeat yet
	replyTime      = 2 * time.Second        // for a page; then the list is read again
	tick           = 100 * time.Millisecond // between checks of what has expired
	queue          = 1 << 16                // messages that wait for the list; further ones are a gap
	wake           = "gateways.heartbeat"   // asks all gateways for a heartbeat
	connectSuffix  = ".connect"
	gatewaySubject = "gateway."
	clientSubject  = "conn."
)

// client is what gateways say of a client.
type client struct {
	CID       string `json:"cid"`
	Transport string `json:"transport"`
	Address   string `json:"remoteAddr"`
	Gateway   string `json:"-"`
}

// notice is a connection event or a heartbeat.
type notice struct {
	client
	GID      string `json:"gid"`
	Instance string `json:"instance"`
	Seq      uint64 `json:"seq"`
	Interval int64  `json:"interval"` // milliseconds; of a heartbeat, as those below
	Draining bool   `json:"draining"`
	Stopped  bool   `json:"stopped"`
}

// page is the reply to a request for a process's list.
type page struct {
	Result *struct {
		Seq         uint64   `json:"seq"`
		Connections []client `json:"connections"`
		Next        uint64   `json:"next"`
	} `json:"result"`
}

// instance is the process of a gateway. An upgrade, and a start after a crash, make two of one ID.
type instance struct {
	gid, id  string
	clients  map[string]client
	due      uint64 // number of the next event, if numbered
	numbered bool   // false: the first page of the list has not been read
	reading  *reading
	beat     time.Time     // of the last heartbeat
	interval time.Duration // until the next one
	draining bool
	ended    bool // its clients are forgotten when the other process with its ID has been read
}

// reading is the list of a process while it is read.
type reading struct {
	inbox string // of the next page
	found map[string]client
	gone  map[string]bool // disconnected since the begin
	until time.Time
}

// list keeps who is connected to which gateway, by docs/presence.md. The goroutine of run owns it.
type list struct {
	nc     *nats.Conn
	wire   chan *nats.Msg // events, heartbeats and pages, in the order in which NATS has sent them
	calls  chan func()    // of other goroutines
	inbox  string
	pages  uint64 // requested
	away   bool   // NATS is
	change func(cid string, c *client)

	instances map[string]*instance
	count     map[string]int // processes that have a client
}

// newList returns a list that follows the gateways from now on. change is called for each client
// that comes or changes, and with nil for one that has gone.
func newList(nc *nats.Conn, change func(cid string, c *client)) (*list, error) {
	l := &list{nc: nc, wire: make(chan *nats.Msg, queue), calls: make(chan func()), inbox: nats.NewInbox() + ".", change: change,
		instances: map[string]*instance{}, count: map[string]int{}}
	for _, subject := range []string{"conn.*.connect", "conn.*.disconnect", "gateway.*", l.inbox + "*"} {
		if _, err := nc.ChanSubscribe(subject, l.wire); err != nil {
			return nil, err
		}
	}
	return l, nc.Publish(wake, nil)
}

// run follows the gateways until stop is closed.
func (l *list) run(stop <-chan struct{}) {
	checks := time.NewTicker(tick)
	defer checks.Stop()
	for {
		select {
		case m := <-l.wire:
			l.handle(m)
		case f := <-l.calls:
			for n := len(l.wire); n > 0; n-- { // what was sent before the call comes first
				l.handle(<-l.wire)
			}
			f()
		case now := <-checks.C:
			l.check(now)
		case <-stop:
			return
		}
	}
}

// handle takes a message. One that is no JSON is none of a gateway.
func (l *list) handle(m *nats.Msg) {
	if strings.HasPrefix(m.Subject, l.inbox) {
		l.read(m)
		return
	}
	var n notice
	if json.Unmarshal(m.Data, &n) != nil || n.Instance == "" {
		return
	}
	in := l.instances[n.Instance]
	if in == nil {
		if n.Stopped {
			return
		}
		in = &instance{gid: n.GID, id: n.Instance, clients: map[string]client{}, beat: time.Now(), interval: assumed}
		l.instances[in.id] = in
		if !strings.HasPrefix(m.Subject, gatewaySubject) {
			_ = l.nc.Publish(wake, nil) // a heartbeat has the interval
		}
	}
	if strings.HasPrefix(m.Subject, gatewaySubject) {
		l.heartbeat(in, &n)
		return
	}
	cid, kind, _ := strings.Cut(strings.TrimPrefix(m.Subject, clientSubject), ".")
	if n.CID, n.Gateway = cid, in.gid; "."+kind == connectSuffix {
		l.connected(in, n.client)
	} else {
		l.disconnected(in.gid, cid)
	}
	if in.numbered && n.Seq == in.due {
		in.due++
	} else {
		l.gap(in)
	}
}

func (l *list) connected(in *instance, c client) {
	if in.reading != nil {
		in.reading.found[c.CID] = c
	}
	l.put(in, c)
}

// disconnected removes a client from all processes with an ID: in an upgrade it may have moved.
func (l *list) disconnected(gid, cid string) {
	for _, in := range l.instances {
		if in.gid != gid {
			continue
		}
		if in.reading != nil {
			in.reading.gone[cid] = true
		}
		l.drop(in, cid)
	}
}

func (l *list) heartbeat(in *instance, n *notice) {
	in.beat, in.draining = time.Now(), n.Draining
	if n.Interval > 0 {
		in.interval = time.Duration(n.Interval) * time.Millisecond
	}
	if n.Stopped {
		l.end(in)
		return
	}
	in.ended = false // it was only silent
	if !in.numbered || n.Seq+1 != in.due {
		l.gap(in)
	}
}

// gap reads a process's list, unless the reply to that is being waited for.
func (l *list) gap(in *instance) {
	if in.reading == nil || in.numbered {
		l.reread(in)
	}
}

// reread begins to read a process's list.
func (l *list) reread(in *instance) {
	in.numbered = false
	in.reading = &reading{found: map[string]client{}, gone: map[string]bool{}}
	l.request(in, 0)
}

// request asks for a page. An error is that of a connection that is closed; the time runs out then.
func (l *list) request(in *instance, after uint64) {
	l.pages++
	in.reading.inbox, in.reading.until = l.inbox+strconv.FormatUint(l.pages, 10), time.Now().Add(replyTime)
	_ = l.nc.PublishRequest(gatewaySubject+in.gid+".connections", in.reading.inbox, fmt.Appendf(nil, `{"instance":%q,"after":%d}`, in.id, after))
}

// read takes a page. What was asked for before a gap is not waited for.
func (l *list) read(m *nats.Msg) {
	for _, in := range l.instances {
		if in.reading == nil || in.reading.inbox != m.Subject {
			continue
		}
		var p page
		if json.Unmarshal(m.Data, &p) != nil || p.Result == nil {
			return // no gateway has the subject: it is asked again when the time has run out
		}
		if !in.numbered { // the first page: all events up to its number came before it
			in.numbered, in.due = true, p.Result.Seq+1
		}
		for _, c := range p.Result.Connections {
			c.Gateway = in.gid
			in.reading.found[c.CID] = c
		}
		if p.Result.Next > 0 {
			l.request(in, p.Result.Next)
			return
		}
		l.complete(in)
		return
	}
}

// complete ends the reading of a process's list.
func (l *list) complete(in *instance) {
	r := in.reading
	in.reading = nil
	for cid := range in.clients {
		if _, found := r.found[cid]; !found && !in.draining { // if draining, it may be moving
			l.drop(in, cid)
		}
	}
	for cid, c := range r.found {
		if !r.gone[cid] {
			l.put(in, c)
		}
	}
	l.forgetEnded(in.gid)
}

// end forgets a process that has gone; if another one has its ID, after what that one has.
func (l *list) end(in *instance) {
	in.ended, in.numbered, in.reading = true, false, nil
	waits := false
	for _, other := range l.instances {
		if other.gid == in.gid && !other.ended {
			l.reread(other)
			waits = true
		}
	}
	if !waits {
		l.forgetEnded(in.gid)
	}
}

func (l *list) forgetEnded(gid string) {
	for _, in := range l.instances {
		if in.gid == gid && in.ended {
			for cid := range in.clients {
				l.drop(in, cid)
			}
			delete(l.instances, in.id)
		}
	}
}

// check ends processes that are silent, and repeats requests without a reply. Without NATS all are
// silent, so none ends.
func (l *list) check(now time.Time) {
	if !l.nc.IsConnected() {
		l.away = true
		return
	}
	back := l.away
	if l.away = false; back {
		_ = l.nc.Publish(wake, nil)
	}
	for _, in := range l.instances {
		switch {
		case in.ended:
		case back:
			in.beat = now
		case now.Sub(in.beat) > intervals*in.interval:
			l.end(in)
		case in.reading != nil && now.After(in.reading.until):
			l.reread(in)
		}
	}
}

func (l *list) put(in *instance, c client) {
	old, had := in.clients[c.CID]
	if in.clients[c.CID] = c; !had {
		l.count[c.CID]++
	}
	if !had || old != c {
		l.change(c.CID, &c)
	}
}

func (l *list) drop(in *instance, cid string) {
	if _, had := in.clients[cid]; !had {
		return
	}
	delete(in.clients, cid)
	if l.count[cid]--; l.count[cid] == 0 {
		delete(l.count, cid)
		l.change(cid, nil)
	}
}
