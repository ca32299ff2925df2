package main

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"sync"
	"testing"

	"github.com/gobwas/ws"
	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

var program string

func TestMain(m *testing.M) {
	testkit.Main(m, map[*string]string{&program: "sluice/cmd/sluice"})
}

// process is a gateway's.
type process struct {
	t    *testing.T
	id   string
	cmd  *exec.Cmd
	log  testkit.Log
	addr string
}

// start starts a gateway and waits until it listens.
func start(t *testing.T, url, id string) *process {
	t.Helper()
	p := &process{t: t, id: id}
	p.cmd = exec.Command(program, "--addr", "127.0.0.1", "--port", "-1", "--nats", url,
		"--connection-events", "--gateway-id", id, "--gateway-heartbeat", "300ms", "--drain-timeout", "0")
	p.cmd.Stderr = &p.log
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	addr := regexp.MustCompile(` addr=(127\.0\.0\.1:\d+)`)
	testkit.Until(t, "the gateway listens", func() bool {
		m := addr.FindStringSubmatch(p.log.String())
		if m != nil {
			p.addr = m[1]
		}
		return m != nil
	})
	return p
}

// kill ends the process as the kernel does when memory is out. Again, it does nothing.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// open connects a client that stays until the test ends.
func (p *process) open() net.Conn {
	p.t.Helper()
	c, err := p.dial()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (p *process) dial() (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	c, _, _, err := ws.Dial(ctx, "ws://"+p.addr+"/")
	return c, err
}

// churn has clients come and go until stop is closed or the gateway has gone.
func (p *process) churn(all *sync.WaitGroup, stop chan struct{}) {
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := p.dial()
				if err != nil {
					return
				}
				_ = c.Close()
			}
		})
	}
}

// watched is a list, and what it has told of changes.
type watched struct {
	*list
	here map[string]client // of the list's goroutine
}

func watch(t *testing.T, nc *nats.Conn) *watched {
	t.Helper()
	w := &watched{here: map[string]client{}}
	l, err := newList(nc, func(cid string, c *client) {
		if c == nil {
			delete(w.here, cid)
		} else {
			w.here[cid] = *c
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	w.list = l
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		l.run(stop)
		close(stopped)
	}()
	t.Cleanup(func() {
		close(stop)
		<-stopped
	})
	return w
}

// clients returns who is connected, as "gateway address", sorted.
func (w *watched) clients() []string {
	got := make(chan []string, 1)
	w.calls <- func() {
		var all []string
		for _, c := range w.here {
			all = append(all, fmt.Sprint(c.Gateway, " ", c.Address))
		}
		slices.Sort(all)
		got <- all
	}
	return <-got
}

// exact waits until the list has these connections and no other.
func (w *watched) exact(t *testing.T, what string, want map[net.Conn]*process) {
	t.Helper()
	var names []string
	for c, p := range want {
		names = append(names, fmt.Sprint(p.id, " ", c.LocalAddr()))
	}
	slices.Sort(names)
	testkit.Until(t, what, func() bool { return slices.Equal(w.clients(), names) })
}

// A service that keeps a list is exact again after one of two gateways was killed while clients
// come and go, and after the gateway has been started again.
func TestKill(t *testing.T) {
	s := natstest.Start(t)
	early := watch(t, s.Client())
	one, two := start(t, s.URL(), "one"), start(t, s.URL(), "two")
	stay := map[net.Conn]*process{}
	for range 20 {
		stay[one.open()], stay[two.open()] = one, two
	}
	early.exact(t, "all are listed", stay)

	var all sync.WaitGroup
	stop := make(chan struct{})
	one.churn(&all, stop)
	two.churn(&all, stop)
	late := watch(t, s.Client()) // reads the lists while they change
	testkit.Until(t, "the late list has both gateways' clients", func() bool {
		gateways := map[string]bool{}
		for _, c := range late.clients() {
			gateways[c[:3]] = true
		}
		return len(gateways) == 2
	})
	one.kill()
	maps.DeleteFunc(stay, func(_ net.Conn, p *process) bool { return p == one })
	for range 20 {
		stay[two.open()] = two
	}
	testkit.Until(t, "the clients of the gateway that was killed are forgotten", func() bool {
		return !slices.ContainsFunc(early.clients(), func(c string) bool { return c[:3] == "one" })
	})
	close(stop)
	all.Wait()
	early.exact(t, "the list is exact", stay)
	late.exact(t, "the late list is exact", stay)

	again := start(t, s.URL(), "one")
	for range 20 {
		stay[again.open()] = again
	}
	again.kill()
	maps.DeleteFunc(stay, func(_ net.Conn, p *process) bool { return p == again })
	third := start(t, s.URL(), "one") // before the one before counts as gone
	for range 20 {
		stay[third.open()] = third
	}
	early.exact(t, "the list is exact after two starts", stay)
	late.exact(t, "the late list is exact after two starts", stay)
}

// After the NATS server's restart, the lists have what has changed meanwhile.
func TestOutage(t *testing.T) {
	s := natstest.Start(t)
	w := watch(t, s.Client())
	one := start(t, s.URL(), "one")
	stay := map[net.Conn]*process{}
	goes := one.open()
	for range 10 {
		stay[one.open()] = one
	}
	stay[goes] = one
	w.exact(t, "all are listed", stay)
	s.Stop()
	_ = goes.Close()
	delete(stay, goes)
	stay[one.open()] = one
	s.Start()
	w.exact(t, "the list is exact", stay)
}
