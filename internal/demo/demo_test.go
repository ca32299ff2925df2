package demo

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/secret"
)

func TestLifeCycle(t *testing.T) {
	srv := natstest.Start(t)
	p := newPeer(t, srv)
	p.hear("system.reset")
	d := runOn(t, srv, Options{})
	p.expect(`system.reset {"resources":["demo","demo.\u003e"],"access":["demo","demo.\u003e"]}`)
	p.want("get.demo.clients", `{}`, `{"result":{"model":{"connected":0,"signedIn":0}}}`) // served immediately
	if err := d.Start(); !errors.Is(err, ErrStarted) {
		t.Errorf("second Start: %v", err)
	}
	d.Stop()
	d.Stop()
	if _, err := p.nc.Request("get.demo.clients", nil, patience); !errors.Is(err, nats.ErrNoResponders) {
		t.Errorf("after Stop: %v", err)
	}
	if err := d.Start(); !errors.Is(err, ErrStarted) {
		t.Errorf("Start after Stop: %v", err)
	}
	never, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	never.Stop()
}

func TestStartSaysWhatIsWrong(t *testing.T) {
	d, err := New(Options{URL: secret.URLs(natstest.New(t).URL())})
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Start(); !errors.Is(err, nats.ErrNoServers) || !strings.Contains(err.Error(), "connect to NATS at") {
		t.Errorf("no server: %v", err)
	}
	for _, opt := range []Options{{WSPath: "ws"}, {Step: -1}, {Roll: -1}, {Books: -1}, {Clients: -1}} {
		if _, err := New(opt); err == nil {
			t.Errorf("New(%+v) took it", opt)
		}
	}
}

// Requests sent before Stop are answered, and Stop returns under any load.
func TestStopUnderLoad(t *testing.T) {
	srv := natstest.Start(t)
	p := newPeer(t, srv)
	for range 30 {
		d := runOn(t, srv, Options{Step: time.Millisecond, Roll: time.Millisecond})
		var asking sync.WaitGroup
		quit := make(chan struct{})
		begun := make(chan struct{}, 4)
		for i := range 4 {
			asking.Add(1)
			go func() {
				defer asking.Done()
				for n := 0; ; n++ {
					subject, params := "call.demo.books.new", fmt.Sprintf(`{"cid":"c","params":{"title":"%d","author":"%d"}}`, n, i)
					if n%2 == 1 {
						subject, params = "get.demo.tickers", `{}`
					}
					m, err := p.nc.Request(subject, []byte(params), patience)
					switch {
					case errors.Is(err, nats.ErrNoResponders):
						return
					case err != nil:
						t.Errorf("%s: %v", subject, err)
						return
					case len(m.Data) == 0:
						t.Errorf("%s: empty answer", subject)
					}
					if n == 10 {
						begun <- struct{}{}
					}
					select {
					case <-quit:
						return
					default:
					}
				}
			}()
		}
		<-begun
		d.Stop()
		close(quit)
		asking.Wait()
	}
}

// After a reconnect the service resets its resources and goes on.
func TestComesBackAfterCut(t *testing.T) {
	srv := natstest.Start(t)
	runOn(t, srv, Options{})
	p := newPeer(t, srv)
	p.hear("system.reset", "event.demo.books.*")
	if n := srv.Cut("sluice demo"); n != 1 {
		t.Fatalf("%d connections to cut", n)
	}
	p.expect(`system.reset {"resources":["demo","demo.\u003e"],"access":["demo","demo.\u003e"]}`)
	p.want("call.demo.books.new", `{"cid":"c","params":{"title":"Emma","author":"Jane Austen"}}`, `{"resource":{"rid":"demo.book.6"}}`)
	p.expect(`event.demo.books.add {"value":{"rid":"demo.book.6"},"idx":5}`)
}

func TestStopWhileNATSIsGone(t *testing.T) {
	srv := natstest.Start(t)
	d := runOn(t, srv, Options{Step: time.Millisecond, Roll: time.Millisecond})
	srv.Stop()
	d.Stop()
}
