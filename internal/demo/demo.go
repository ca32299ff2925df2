// Package demo is the service and the page behind "sluice demo": a market whose prices move, a book
// list that many tabs edit together, a sign-in, and a count of connected clients.
//
// It owns that data, the rules for who may change it, and the embedded files of the page. It is
// also an example service to read first: it talks to the gateway only through the go-res library
// and NATS, as a separate process would. It never imports or calls the gateway, and knows a client
// only by the connection ID in a request.
//
// The resources:
//
//	demo.tickers         collection of references to demo.ticker.<symbol>
//	demo.ticker.<symbol> model: symbol, name, price, open, high, low
//	demo.books           collection of references to demo.book.<id>; methods new, remove;
//	                     event activity
//	demo.book.<id>       model: id, title, author; method set
//	demo.session.<cid>   model of one's own connection: name, canEdit; auth methods login,
//	                     logout
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

	"sluice/internal/secret"
)

// Options configure the demo. The zero value of each field means its default.
type Options struct {
	URL     secret.URLs   // NATS server; default nats.DefaultURL
	NATS    []nats.Option // appended to the demo's own options, for example nats.InProcessServer
	WSPath  string        // path of the gateway's WebSocket endpoint, for the page; default "/"
	Log     *slog.Logger  // default: discard
	Step    time.Duration // interval of price changes; default 400 ms
	Roll    time.Duration // interval of roll calls; default 1.5 s
	Seed    uint64        // seed of the market's random walk; default: random
	Books   int           // maximum number of books; default 100
	Clients int           // maximum number of counted connections; default 10,000

	// NotFound handles requests for paths that the page does not have; default http.NotFound.
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

// group is the go-res group of all handlers. go-res runs a group's callbacks one at a time, in
// order: the group is the single owner of the demo's state, so no lock is needed.
const group = "demo"

// Demo is the demo's service. Its methods are safe for concurrent use.
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
	served  chan struct{} // closed when go-res has returned from Serve
	quit    chan struct{} // closed to stop the pulses
	pulsing sync.WaitGroup

	// posting is read-locked while a function is posted to the group, and write-locked to stop
	// posting.
	posting sync.RWMutex
	closed  bool
}

type state uint8

const (
	idle state = iota
	running
	stopped
)

// ErrStarted is returned by a second call of Start.
var ErrStarted = errors.New("demo: already started")

// New returns a demo that is not connected yet.
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

// Start connects to NATS and serves. When it returns nil, the service answers requests and its data
// changes. It can be called once; after an error the demo cannot be used again.
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
		// After a reconnect it is unknown which events arrived. A reset makes every gateway
		// refetch.
		nats.ReconnectHandler(func(*nats.Conn) {
			d.log.Info("demo: connected to NATS again")
			d.post(d.svc.ResetAll)
		}),
	}, d.opt.NATS...)
	nc, err := nats.Connect(d.opt.URL.Reveal(), opts...)
	if err != nil {
		return fmt.Errorf("demo: connect to NATS at %s: %w", d.opt.URL, d.opt.URL.Error(err))
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
	// The server has the subscriptions once it answers a ping sent after them.
	if err := nc.FlushTimeout(5 * time.Second); err != nil {
		d.shutdown()
		return fmt.Errorf("demo: NATS at %s does not answer: %w", d.opt.URL, d.opt.URL.Error(err))
	}
	d.state = running
	d.pulse(d.opt.Step, d.market.move)
	d.pulse(d.opt.Roll, d.sessions.roll)
	return nil
}

// Stop answers pending requests, then disconnects from NATS. It returns when all goroutines of the
// demo have ended, and does nothing if the demo is not running.
func (d *Demo) Stop() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.state != running {
		return
	}
	d.state = stopped
	d.shutdown()
}

// shutdown stops the sources of work in order, each before its consumer: pulses, requests, the
// group, the connection. go-res may hang in Shutdown if work arrives during it, so none may arrive.
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

// post runs f on the group, unless the demo is stopping.
func (d *Demo) post(f func()) {
	d.posting.RLock()
	defer d.posting.RUnlock()
	if !d.closed {
		d.svc.WithGroup(group, func(*res.Service) { f() })
	}
}

// pulse runs f on the group every interval. It skips a beat while the previous one is still queued,
// so a slow group is not flooded.
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

// resourceOf returns the resource to send events of rid with; rid must have a handler. Only the
// group may call it.
func resourceOf(svc *res.Service, rid string) res.Resource {
	r, err := svc.Resource(rid)
	if err != nil {
		panic(err)
	}
	return r
}

// serviceLog forwards the log lines of go-res. Its trace lines contain every message, and its info
// lines do not concern a user of the demo: both are logged at debug level.
type serviceLog struct{ log *slog.Logger }

func (l serviceLog) Infof(format string, v ...any) { l.log.Debug("demo: " + fmt.Sprintf(format, v...)) }
func (l serviceLog) Errorf(format string, v ...any) {
	l.log.Error("demo: " + fmt.Sprintf(format, v...))
}
func (l serviceLog) Tracef(string, ...any) {}
