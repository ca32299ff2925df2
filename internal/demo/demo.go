// Package demo is the service and the page behind "sluice demo": a market whose prices move, a book list that many
// tabs edit together, a sign-in, and a count of connected clients.
//
// It owns that data, the rules for who may change it, and the embedded files of the page. It is also the example
// to read before writing a service: everything it tells the gateway goes through the go-res library and NATS, as it
// would in a process of its own. It never imports or calls the gateway, and never knows a client other than by
// the connection ID that comes with a request.
//
// The resources:
//
//	demo.tickers         collection of references to demo.ticker.<symbol>
//	demo.ticker.<symbol> model: symbol, name, price, open, high, low
//	demo.books           collection of references to demo.book.<id>; methods new, remove; event activity
//	demo.book.<id>       model: id, title, author; method set
//	demo.session.<cid>   model of one's own connection: name, canEdit; auth methods login, logout
//	demo.clients         model: connected, signedIn
package demo

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/jirenius/go-res"
	"github.com/nats-io/nats.go"
)

// Options say where the demo finds NATS and how lively it is. The zero value of each field means its default.
type Options struct {
	URL     string        // NATS server; default nats.DefaultURL
	NATS    []nats.Option // added to the demo's own, for example nats.InProcessServer
	WSPath  string        // path on which the gateway accepts WebSockets, told to the page; default "/"
	Log     *slog.Logger  // default: discard
	Step    time.Duration // time between two moves of the market; default 400 ms
	Roll    time.Duration // time between two roll calls of the clients; default 1.5 s
	Seed    uint64        // seed of the market's random walk; default: random
	Books   int           // most books the list holds; default 100
	Clients int           // most connections that are counted; default 10,000

	// NotFound answers requests for paths that the page does not have; default http.NotFound.
	NotFound http.HandlerFunc
}

func (o Options) withDefaults() Options {
	if o.URL == "" {
		o.URL = nats.DefaultURL
	}
	if o.WSPath == "" {
		o.WSPath = "/"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Step == 0 {
		o.Step = 400 * time.Millisecond
	}
	if o.Roll == 0 {
		o.Roll = 1500 * time.Millisecond
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Books == 0 {
		o.Books = 100
	}
	if o.Clients == 0 {
		o.Clients = 10_000
	}
	if o.NotFound == nil {
		o.NotFound = http.NotFound
	}
	return o
}

// serviceName is the first part of the name of every resource of the demo.
const serviceName = "demo"

// group is the go-res group of all handlers. go-res runs a group's callbacks one at a time and in order, so the
// group is the single owner of the demo's state and nothing here needs a lock.
const group = "demo"

// Demo is the demo's service. Its methods may be called from any goroutine.
type Demo struct {
	// Fixed after New.
	opt   Options
	log   *slog.Logger
	svc   *res.Service
	pages *pages

	// Owned by the group.
	market   *market
	books    *shelf
	sessions *register

	// Guarded by mu.
	mu      sync.Mutex
	state   state
	link    *link
	served  chan struct{} // closed when go-res has left Serve
	quit    chan struct{} // closed to end the pulses
	pulsing sync.WaitGroup

	// posting is held for reading while work is handed to the group, for writing to end that for good.
	posting sync.RWMutex
	closed  bool
}

type state uint8

const (
	idle state = iota
	running
	stopped
)

// ErrStarted is what Start returns when it was called before.
var ErrStarted = errors.New("demo: already started")

// New makes a demo that is not yet connected to anything.
func New(opt Options) (*Demo, error) {
	opt = opt.withDefaults()
	if !strings.HasPrefix(opt.WSPath, "/") {
		return nil, fmt.Errorf("demo: the WebSocket path %q must begin with a slash", opt.WSPath)
	}
	if opt.Step < 0 || opt.Roll < 0 || opt.Books < 0 || opt.Clients < 0 {
		return nil, errors.New("demo: durations and bounds must not be negative")
	}
	d := &Demo{opt: opt, log: opt.Log, quit: make(chan struct{}), served: make(chan struct{})}
	var err error
	if d.pages, err = newPages(opt.WSPath, opt.NotFound); err != nil {
		return nil, err
	}
	d.svc = res.NewService(serviceName).SetLogger(serviceLog{opt.Log})
	d.market = newMarket(d.svc, opt.Seed)
	d.books = newShelf(d.svc, opt.Books)
	d.sessions = newRegister(d.svc, opt.Clients, opt.Log)
	return d, nil
}

// Start connects to NATS and serves. When it returns without an error, the service answers requests and its
// data is alive. It can be called once; after an error the demo is of no further use.
func (d *Demo) Start() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != idle {
		return ErrStarted
	}
	d.state = stopped // until everything below has succeeded

	opts := append([]nats.Option{
		nats.Name("sluice demo"),
		nats.MaxReconnects(-1),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) {
			if err != nil {
				d.log.Warn("demo: lost NATS, trying again", "error", err)
			}
		}),
		// After a cut nobody knows which events arrived. A reset makes every gateway ask again.
		nats.ReconnectHandler(func(*nats.Conn) {
			d.log.Info("demo: connected to NATS again")
			d.post(d.svc.ResetAll)
		}),
	}, d.opt.NATS...)
	nc, err := nats.Connect(d.opt.URL, opts...)
	if err != nil {
		return fmt.Errorf("demo: connect to NATS at %s: %w", d.opt.URL, err)
	}
	d.link = newLink(nc)

	ready := make(chan struct{})
	d.svc.SetOnServe(func(*res.Service) { close(ready) })
	var serveErr error
	go func() {
		defer close(d.served)
		serveErr = d.svc.Serve(d.link)
	}()
	select {
	case <-ready:
	case <-d.served:
		nc.Close()
		return fmt.Errorf("demo: could not serve: %w", errors.Join(serveErr, nc.LastError()))
	}
	// The subscriptions are with the server once it has answered a ping sent after them.
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		d.shutdown()
		return fmt.Errorf("demo: NATS at %s does not answer: %w", d.opt.URL, err)
	}
	d.state = running
	d.pulse(d.opt.Step, d.market.move)
	d.pulse(d.opt.Roll, d.sessions.roll)
	return nil
}

// Stop answers what was already asked, then leaves NATS. It returns when nothing of the demo runs any more, and
// does nothing if the demo is not running.
func (d *Demo) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != running {
		return
	}
	d.state = stopped
	d.shutdown()
}

// shutdown ends the sources of work one after the other, each before whatever it feeds: pulses, requests, the
// group, the connection. go-res may hang in Shutdown when work arrives meanwhile, so none may.
func (d *Demo) shutdown() {
	close(d.quit)
	d.pulsing.Wait()
	d.posting.Lock()
	d.closed = true
	d.posting.Unlock()

	d.link.quiesce()
	idle := make(chan struct{})
	d.svc.WithGroup(group, func(*res.Service) { close(idle) })
	<-idle
	if d.link.IsConnected() {
		if err := d.link.FlushTimeout(flushTimeout); err != nil {
			d.log.Warn("demo: last answers may be lost", "error", err)
		}
	}
	if err := d.svc.Shutdown(); err != nil {
		d.log.Warn("demo: shutdown", "error", err)
	}
	<-d.served
}

// post has f run by the group, unless the demo is stopping.
func (d *Demo) post(f func()) {
	d.posting.RLock()
	defer d.posting.RUnlock()
	if !d.closed {
		d.svc.WithGroup(group, func(*res.Service) { f() })
	}
}

// pulse has f run by the group every interval. A beat is left out while the one before still waits, so a slow
// group is not flooded.
func (d *Demo) pulse(every time.Duration, f func()) {
	d.pulsing.Add(1)
	go func() {
		defer d.pulsing.Done()
		t := time.NewTicker(every)
		defer t.Stop()
		free := make(chan struct{}, 1)
		free <- struct{}{}
		for {
			select {
			case <-d.quit:
				return
			case <-t.C:
			}
			select {
			case <-free:
				d.post(func() {
					f()
					free <- struct{}{}
				})
			default:
			}
		}
	}()
}

// resourceOf gives the resource with which to send events of rid, which must have a handler. For use by the group.
func resourceOf(svc *res.Service, rid string) res.Resource {
	r, err := svc.Resource(rid)
	if err != nil {
		panic(err)
	}
	return r
}

// serviceLog passes go-res's log lines on: its traces hold every message and its infos are of no interest to
// somebody who runs the demo, so both are for debugging.
type serviceLog struct{ log *slog.Logger }

func (l serviceLog) Infof(format string, v ...any) { l.log.Debug("demo: " + fmt.Sprintf(format, v...)) }
func (l serviceLog) Errorf(format string, v ...any) {
	l.log.Error("demo: " + fmt.Sprintf(format, v...))
}
func (l serviceLog) Tracef(string, ...any) {}
