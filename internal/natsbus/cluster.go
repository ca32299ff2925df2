package natsbus

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

// The servers of a NATS cluster can lose each other while every client stays connected: a route is
// cut, a network is partitioned. Then events of services at the other servers are lost, and no
// connection shows it. NATS itself tells clients nothing.
//
// So the bus connects to each of the other servers with a witness, which sends a numbered beat to
// each link every Options.Beat. NATS keeps the order of a connection's messages, so a number that
// is skipped was lost between the servers, and with it perhaps events: a Gap follows. A beat that
// is only late skips none. An outage that is over before the next beat is not noticed.

// maxWitnesses bounds how many other servers are watched.
const maxWitnesses = 16

// silentBeats is how many beats of a witness have to be missing before the log says so.
const silentBeats = 3

// cluster watches whether the servers of a cluster pass messages to each other. Its fields are
// owned by its goroutine, but for the channels.
type cluster struct {
	bus    *Bus
	beats  chan beat
	opened chan opened
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	ended  sync.WaitGroup // its goroutine, and those that connect witnesses

	witnesses map[string]*witness // by the server's host:port
	watched   int                 // of Metrics.Watched
	opening   map[string]bool     // servers whose witness is being made
	gaps      map[*link]*gaps
	rounds    int
}

// gaps spaces the Gaps of a link, each of which fetches everything anew.
type gaps struct {
	due  bool
	next int // round of the next one, at the earliest
}

// roundsPerGap is how many rounds lie between two Gaps of a link, at least.
const roundsPerGap = 10

// opened is the result of connecting a witness.
type opened struct {
	host string
	nc   *nats.Conn
	err  error
}

// beat is a witness's message to a link. What it says came from NATS, and may be forged.
type beat struct {
	link    *link
	epoch   uint32 // of the link's connection
	witness string // token
	session uint32
	number  uint64
}

// witness is a connection to a server that no link may be connected to.
type witness struct {
	token   string
	nc      *nats.Conn
	session uint32 // changes when the connection is lost, which may lose beats, too
	number  uint64 // of the newest beat
	heard   map[*link]*heard
}

// heard is what a connection of a link has heard of a connection of a witness.
type heard struct {
	epoch  uint32 // of the link's connection
	number uint64 // of the newest beat that has arrived; 0: none
	missed int    // rounds since then
	lost   bool   // the log has said that beats do not arrive
}

func newCluster(b *Bus) *cluster {
	c := &cluster{
		bus:       b,
		beats:     make(chan beat, 1024),
		opened:    make(chan opened),
		witnesses: make(map[string]*witness),
		opening:   make(map[string]bool),
		gaps:      make(map[*link]*gaps),
	}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// start runs the cluster's goroutine, when all links are open.
func (c *cluster) start() {
	for _, l := range c.bus.links {
		c.gaps[l] = new(gaps)
	}
	c.ended.Go(c.run)
}

func (c *cluster) run() {
	every := time.NewTicker(c.bus.opts.Beat)
	defer every.Stop()
	for {
		select {
		case <-every.C:
			c.round()
		case b := <-c.beats:
			c.arrived(b)
		case o := <-c.opened:
			c.take(o)
		case <-c.ctx.Done():
			for _, w := range c.witnesses {
				w.nc.Close()
			}
			return
		}
	}
}

// close ends run and the witnesses.
func (c *cluster) close() {
	c.cancel()
	c.ended.Wait()
}

// round sends a beat of each witness to each link.
func (c *cluster) round() {
	c.rounds++
	c.signal()
	c.choose()
	defer c.count()
	for host, w := range c.witnesses {
		if !w.nc.IsConnected() {
			w.heard = make(map[*link]*heard)
			w.session++
			continue
		}
		w.number++
		payload := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, w.session), w.number)
		for _, l := range c.bus.links {
			// A message that cannot be sent ends the connection, and its session.
			_ = w.nc.Publish(l.inbox+beatToken+w.token, payload)
			h := w.heard[l]
			if epoch := l.epoch.Load(); h == nil || h.epoch != epoch {
				h = &heard{epoch: epoch}
				w.heard[l] = h
			}
			if !l.up.Load() {
				continue
			}
			if h.missed++; h.missed > silentBeats && !h.lost {
				h.lost = true
				c.bus.opts.Metrics.Partitions.Inc()
				c.bus.opts.Log.Error("NATS servers do not pass messages to each other; events may be missing until they do",
					"connection", l.number, "server", host)
			}
		}
	}
}

// count updates Metrics.Watched.
func (c *cluster) count() {
	n := 0
	for _, w := range c.witnesses {
		arrives := 0
		for _, h := range w.heard {
			if h.number != 0 && !h.lost {
				arrives++
			}
		}
		if arrives == len(c.bus.links) {
			n++
		}
	}
	c.bus.opts.Metrics.Watched.Add(int64(n - c.watched))
	c.watched = n
}

// signal signals the Gaps that are due.
func (c *cluster) signal() {
	for l, g := range c.gaps {
		if g.due && c.rounds >= g.next {
			g.due, g.next = false, c.rounds+roundsPerGap
			l.emit(change{to: Gap})
		}
	}
}

// choose makes and closes witnesses so that there is one for each server that not all links are
// connected to. A server that loses another drops it from its list, so the witness of one that has
// left the list stays while it is connected.
func (c *cluster) choose() {
	want := c.others()
	for host, w := range c.witnesses {
		if !slices.Contains(want, host) && (!w.nc.IsConnected() || c.linked(host)) {
			w.nc.Close()
			delete(c.witnesses, host)
		}
	}
	for _, host := range want {
		if c.witnesses[host] != nil || c.opening[host] || len(c.witnesses)+len(c.opening) >= maxWitnesses {
			continue
		}
		c.opening[host] = true
		c.ended.Go(func() {
			nc, err := c.bus.links[0].witness(c.ctx, host)
			select {
			case c.opened <- opened{host, nc, err}:
			case <-c.ctx.Done():
				if err == nil {
					nc.Close()
				}
			}
		})
	}
}

// take takes a new witness in, or leaves its server unwatched.
func (c *cluster) take(o opened) {
	if o.err == nil {
		delete(c.opening, o.host)
		c.witnesses[o.host] = &witness{token: rand.Text(), nc: o.nc, session: 1, heard: make(map[*link]*heard)}
	}
	if o.err != nil || !o.nc.IsConnected() {
		err := o.err
		if err == nil {
			err = o.nc.LastError()
		}
		c.bus.opts.Log.Info("a server of the NATS cluster cannot be reached from here; while that is so, an outage between it and the others is not noticed",
			"server", o.host, "error", c.bus.opts.scrub(err))
	}
}

// others returns the servers that a witness is due for, as host:port, sorted.
func (c *cluster) others() []string {
	servers := map[string]bool{}
	for _, l := range c.bus.links {
		nc := l.nc.Load()
		if !nc.IsConnected() {
			return slices.Sorted(maps.Keys(c.witnesses)) // as it is, until they are known again
		}
		for _, s := range nc.Servers() {
			servers[hostOf(s)] = true
		}
	}
	maps.DeleteFunc(servers, func(host string, _ bool) bool { return c.linked(host) })
	return slices.Sorted(maps.Keys(servers))
}

// linked reports whether all links are connected to a server.
func (c *cluster) linked(host string) bool {
	for _, l := range c.bus.links {
		if nc := l.nc.Load(); !nc.IsConnected() || hostOf(nc.ConnectedUrl()) != host {
			return false
		}
	}
	return true
}

// hostOf returns host:port of a server's URL.
func hostOf(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	return u.Host
}

// arrived handles a beat.
func (c *cluster) arrived(b beat) {
	for host, w := range c.witnesses {
		if w.token != b.witness {
			continue
		}
		if b.session != w.session || b.number > w.number || b.epoch != b.link.epoch.Load() {
			return // of a connection that is gone, or forged
		}
		h := w.heard[b.link]
		if h == nil || h.epoch != b.epoch || b.number <= h.number {
			return
		}
		if h.number == 0 && h.lost || h.number != 0 && b.number > h.number+1 {
			c.bus.opts.Log.Warn("messages between NATS servers were lost", "connection", b.link.number, "server", host)
			c.gaps[b.link].due = true
			c.signal()
		}
		if h.number == 0 {
			c.bus.opts.Log.Info("watching a server of the NATS cluster", "connection", b.link.number, "server", host)
		}
		*h = heard{epoch: b.epoch, number: b.number}
		return
	}
}

// beatToken begins the token of a beat's subject after the link's inbox prefix. No reply token is
// as long as it and a witness's token.
const beatToken = "beat"

// beat takes what has arrived on a token of the inbox that is no reply's. Only the dispatcher calls
// it.
func (l *link) beat(token string, data []byte) {
	token, ok := strings.CutPrefix(token, beatToken)
	if !ok || l.watch == nil || len(data) != 12 {
		return
	}
	b := beat{link: l, epoch: l.epoch.Load(), witness: token,
		session: binary.BigEndian.Uint32(data), number: binary.BigEndian.Uint64(data[4:])}
	select {
	case l.watch <- b:
	default: // a lost beat is a Gap: nothing worse
	}
}

// witness connects to one server of the cluster with the credentials of the link.
func (l *link) witness(ctx context.Context, host string) (*nats.Conn, error) {
	settings := nats.GetDefaultOptions()
	options, err := Credentials(l.opts.Creds, l.opts.Nkey, l.opts.Cert, l.opts.Key, l.opts.RootCAs)
	if err != nil {
		return nil, err
	}
	for _, apply := range options {
		if err := apply(&settings); err != nil {
			return nil, err
		}
	}
	settings.Name = l.opts.Name + " witness " + strconv.Itoa(l.number)
	settings.Servers = []string{l.urlOf(host)}
	settings.IgnoreDiscoveredServers = true
	settings.CustomDialer = &witnessDialer{ctx: ctx, timeout: l.opts.tryTimeout}
	settings.Timeout = l.opts.tryTimeout
	settings.PingInterval, settings.MaxPingsOut = l.opts.Ping, missedPings
	settings.RetryOnFailedConnect = true
	settings.MaxReconnect = -1
	settings.ReconnectBufSize = -1
	settings.IgnoreAuthErrorAbort = true
	settings.CustomReconnectDelayCB = func(try int) time.Duration {
		return backoff(try, l.opts.retryMin, l.opts.retryMax)
	}
	settings.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {} // else nats.go prints it
	return settings.Connect()
}

// witnessDialer dials until its context ends, for one nats.Conn. That calls it from one goroutine
// at a time, and forgets a connection whose server has accepted it and does not reply.
type witnessDialer struct {
	ctx     context.Context
	timeout time.Duration
	last    net.Conn
	kept    func() bool // ends that ctx closes last
}

// Dial implements nats.CustomDialer.
func (d *witnessDialer) Dial(network, address string) (net.Conn, error) {
	if d.last != nil {
		d.kept()
		_ = d.last.Close()
		d.last = nil
	}
	c, err := (&net.Dialer{Timeout: d.timeout}).DialContext(d.ctx, network, address)
	if err != nil {
		return nil, err
	}
	d.last, d.kept = c, context.AfterFunc(d.ctx, func() { _ = c.Close() })
	return c, nil
}

// urlOf returns the address of a server of the cluster: as it is configured, else with the scheme
// and the user of the first configured one.
func (l *link) urlOf(host string) string {
	var first *url.URL
	for _, s := range l.opts.URL.List() {
		u, err := url.Parse(s)
		if err != nil {
			continue
		}
		if u.Host == host {
			return s
		}
		if first == nil {
			first = u
		}
	}
	if first == nil {
		return "nats://" + host
	}
	u := url.URL{Scheme: first.Scheme, User: first.User, Host: host}
	return u.String()
}
