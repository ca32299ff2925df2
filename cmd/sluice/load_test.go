//go:build linux

package main

import (
	"net/http"
	"sync"
	"testing"

	"sluice/internal/testkit"
)

// Upgrades follow each other while events come, clients subscribe, unsubscribe and call, new ones
// connect, and requests follow each other on plain HTTP connections. No client is closed or
// refused, no custom event is lost or comes twice, and access is asked again for no client that
// asks for nothing.
func TestUpgradesUnderLoad(t *testing.T) {
	upgrades, clients := 2, 30
	if *long {
		upgrades, clients = 10, 400
	}
	w := newWorld(t, "loops: 2\n")
	w.begin()
	all := rids()
	for i := range clients {
		w.client(all[i%len(all)], all[(i*5+3)%len(all)])
	}
	busy := w.clients[:clients/3] // the others only listen
	quiet := map[string]int{}
	for _, f := range w.clients[len(busy):] {
		quiet[f.cid] = w.askedBy(f.cid)
	}
	end := make(chan struct{})
	var ended sync.WaitGroup
	each := func(what string, f func() (int, error)) {
		ended.Go(func() {
			for {
				select {
				case <-end:
					return
				default:
				}
				if status, err := f(); status != http.StatusOK || err != nil {
					t.Errorf("%s: status %d, %v", what, status, err)
					return
				}
			}
		})
	}
	for range 4 {
		c := w.l.client()
		each("a kept connection", func() (int, error) { return c.get("/api/test/m0") })
	}
	each("a new connection", w.l.healthy)
	for round := range upgrades {
		type result struct {
			code           int
			stdout, stderr string
		}
		done := make(chan result, 1)
		go func() {
			var r result
			r.code, r.stdout, r.stderr = w.l.upgrade()
			done <- r
		}()
		for i := 0; ; i++ {
			f := busy[i%len(busy)]
			w.until(f, "all is answered", func() bool { return f.view.Pending() == 0 })
			other := all[(i/len(busy)*7+i)%len(all)]
			if !f.direct(other) {
				f.ask(t, "subscribe."+other, "")
				f.ask(t, "unsubscribe."+other, "")
			}
			f.ask(t, "call."+f.rids[0]+".set", "")
			select {
			case r := <-done:
				if r.code != 0 {
					t.Fatalf("exit code %d\n%s%s", r.code, r.stdout, r.stderr)
				}
			default:
				continue
			}
			break
		}
		w.l.until("msg=stopped", round+1)
		for _, f := range w.clients {
			w.fold(f)
		}
	}
	close(end)
	ended.Wait()
	for _, f := range busy {
		w.until(f, "all is answered", func() bool { return f.view.Pending() == 0 })
	}
	w.rest()
	for cid, n := range quiet {
		if again := w.askedBy(cid) - n; again != 0 {
			t.Errorf("%d access requests for a client that asks for nothing", again)
		}
	}
	testkit.Until(t, "all processes but the last have ended", func() bool { return len(w.l.pids()) == upgrades })
}

// askedBy returns how many access requests there were for a client.
func (w *world) askedBy(cid string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.asks[cid]
}
