//go:build linux

package soak

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sluice/loadtest/soak/service"
	"sluice/loadtest/wire"
)

// healLimit bounds the time until everything works again after a fault. It is generous, since the
// machine may be busy; reconnects with back-off take seconds.
const healLimit = 2 * time.Minute

// causeAll causes the planned faults of both lanes, and returns when they are over.
func (e *env) causeAll(ctx context.Context, heavy, light []fault) {
	began := time.Now()
	var lanes sync.WaitGroup
	for _, faults := range [][]fault{heavy, light} {
		lanes.Add(1)
		go func() {
			defer lanes.Done()
			for _, f := range faults {
				wait(ctx, time.Until(began.Add(f.at)))
				if ctx.Err() != nil {
					return
				}
				if err := e.cause(ctx, f); err != nil && ctx.Err() == nil {
					e.journal.fail("%s: %v", f.kind, err)
				}
			}
		}()
	}
	lanes.Wait()
}

// wait waits for a time, unless the context ends.
func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// until waits until a condition holds, for at most the limit; an error of the context ends it.
func until(ctx context.Context, limit time.Duration, holds func() bool) bool {
	for end := time.Now().Add(limit); ctx.Err() == nil; wait(ctx, 50*time.Millisecond) {
		if holds() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
	return false
}

// cause causes a fault, ends it, and waits until everything works again.
func (e *env) cause(ctx context.Context, f fault) error {
	switch f.kind {
	case natsKill, natsPause, natsPauseShort:
		return e.nodeFault(ctx, f)
	case cutOne, cutAll, cutLong:
		return e.cutFault(ctx, f)
	case gatewayPause, gatewayStop, gatewayKill, gatewayUpgrade:
		return e.gatewayFault(ctx, f)
	case servicePause, serviceCrash:
		return e.serviceFault(ctx, f)
	}
	return e.lightFault(ctx, f)
}

// healed waits until events of the services come through the gateways to clients that were
// published after now. It is a proof from outside: connections, subscriptions and caches are there
// again.
func (e *env) healed(ctx context.Context, s *span, gws, svcs []int) error {
	now := time.Now()
	e.journal.end(s)
	missing := ""
	ok := until(ctx, healLimit, func() bool {
		for _, g := range gws {
			for _, i := range svcs {
				if e.fresh[g][i].Load() <= now.UnixNano() {
					missing = fmt.Sprintf("no event of service %d came through gateway %s", i, gatewayNames[g])
					return false
				}
			}
		}
		return true
	})
	if !ok && ctx.Err() == nil {
		return fmt.Errorf("%s for %v after the fault had ended", missing, healLimit)
	}
	e.journal.heal(s)
	return nil
}

func allGateways() []int { return []int{plain, secured} }

func allServices() (all []int) {
	for i := range services {
		all = append(all, i)
	}
	return all
}

// nodeFault kills or freezes a NATS node.
func (e *env) nodeFault(ctx context.Context, f fault) error {
	n := e.cluster.nodes[f.target]
	var attached []*svc
	for _, s := range e.services {
		r, err := s.do(service.Command{Do: service.Tell})
		if err != nil {
			return err
		}
		if strings.HasSuffix(r.State.Node, n.addr) {
			attached = append(attached, s)
		}
	}
	s := e.journal.begin(&span{kind: string(f.kind), detail: fmt.Sprintf("(node %d, with %d services) for %v", f.target, len(attached), f.lasts), loses: true})
	switch f.kind {
	case natsKill:
		n.kill()
		wait(ctx, f.lasts)
		if err := n.start(); err != nil {
			return err
		}
	default:
		if err := n.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		wait(ctx, f.lasts)
		if err := n.signal(syscall.SIGCONT); err != nil {
			return err
		}
	}
	if err := e.healed(ctx, s, allGateways(), allServices()); err != nil {
		return err
	}
	// What a service sent to a node before it noticed may reach the gateways after what it sent
	// later through another node, or never. RES has no versions, so no gateway can tell: such a
	// service must reset once more. The others must not: gateways repair their own losses.
	for _, a := range attached {
		if _, err := a.do(service.Command{Do: service.Reset}); err != nil {
			return err
		}
	}
	return nil
}

// cutFault cuts a gateway off from one or all NATS nodes, without FIN.
func (e *env) cutFault(ctx context.Context, f fault) error {
	cut := []int{0, 1, 2}
	s := &span{kind: string(f.kind), detail: fmt.Sprintf("(gateway %s) for %v", gatewayNames[f.gateway], f.lasts), loses: true, gateways: []int{f.gateway},
		codes: []int{1012, wire.NoClose}} // beyond the grace, clients are to try another gateway; streams just end
	if f.kind == cutOne {
		cut, s.codes = []int{e.cluster.attached(f.gateway)}, nil
	}
	e.journal.begin(s)
	e.cluster.setCut(f.gateway, cut, true)
	wait(ctx, f.lasts)
	e.cluster.setCut(f.gateway, cut, false)
	return e.healed(ctx, s, []int{f.gateway}, allServices())
}

// gatewayFault freezes, restarts, kills or upgrades a gateway.
func (e *env) gatewayFault(ctx context.Context, f fault) error {
	g := e.gateways[f.gateway]
	s := &span{kind: string(f.kind), detail: fmt.Sprintf("(gateway %s)", gatewayNames[f.gateway]), loses: true, gateways: []int{f.gateway}}
	switch f.kind {
	case gatewayPause:
		s.detail += fmt.Sprintf(" for %v", f.lasts)
		e.journal.begin(s)
		if err := g.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		wait(ctx, f.lasts)
		if err := g.signal(syscall.SIGCONT); err != nil {
			return err
		}
	case gatewayStop:
		s.codes = []int{1001, wire.NoClose} // what is left at the end of the drain is cut
		e.journal.begin(s)
		if err := g.stop(); err != nil {
			e.journal.fail("%v", err)
			g.kill()
		}
		if err := g.start(); err != nil {
			return err
		}
	case gatewayKill:
		s.codes = []int{wire.NoClose}
		e.journal.begin(s)
		g.kill()
		wait(ctx, f.lasts)
		if err := g.start(); err != nil {
			return err
		}
	case gatewayUpgrade:
		s.loses = false // it explains nothing: no loss, and no close
		e.journal.begin(s)
		moved, err := g.upgrade(ctx)
		if err != nil {
			return err
		}
		e.journal.note("  %s", moved)
	}
	return e.healed(ctx, s, []int{f.gateway}, allServices())
}

// serviceFault freezes a service, or lets it die in the middle of replies.
func (e *env) serviceFault(ctx context.Context, f fault) error {
	v := e.services[f.target]
	s := e.journal.begin(&span{kind: string(f.kind), detail: fmt.Sprintf("(service %d) for %v", f.target, f.lasts), loses: true, services: []int{f.target}})
	if f.kind == servicePause {
		if err := v.signal(syscall.SIGSTOP); err != nil {
			return err
		}
		wait(ctx, f.lasts)
		if err := v.signal(syscall.SIGCONT); err != nil {
			return err
		}
		return e.healed(ctx, s, allGateways(), []int{f.target})
	}
	if err := v.crash(); err != nil {
		return err
	}
	wait(ctx, f.lasts)
	if err := v.start(); err != nil {
		return err
	}
	if _, err := v.do(service.Command{Do: service.Run}); err != nil {
		return err
	}
	return e.healed(ctx, s, allGateways(), []int{f.target})
}

// largeTicks is how many large events slow readers leave unread: more than socket buffers take and
// a gateway queues for a subscription, so that the bound and its count are part of the soak.
const (
	largeTicks = 3000
	fewerTicks = 1100 // so many are queued and delivered later
)

// lightFault causes what only a part of the clients notices.
func (e *env) lightFault(ctx context.Context, f fault) error {
	g := e.gateways[f.gateway]
	s := e.journal.begin(&span{kind: string(f.kind)})
	switch f.kind {
	case garbagePort, garbageFrames:
		e.sendGarbage(ctx, f)
	case certificate:
		if err := g.replaceCertificate(ctx); err != nil {
			return err
		}
	case settings:
		if err := g.reload(ctx); err != nil {
			return err
		}
	case slowReaders:
		e.still.Store(time.Now().Add(f.lasts).UnixNano())
		n := largeTicks
		if f.seed%2 == 0 {
			n = fewerTicks
		}
		for _, v := range e.services {
			if _, err := v.do(service.Command{Do: service.Large, N: n}); err != nil {
				e.journal.note("  not sent by a service: %v", err) // it is frozen or dead
			}
		}
		wait(ctx, f.lasts)
	case leaveTogether:
		e.storm.Add(1)
	case resetAll:
		for _, v := range e.services {
			if _, err := v.do(service.Command{Do: service.Beyond}); err != nil {
				e.journal.note("  not reset by a service: %v", err)
			}
		}
	}
	e.journal.end(s)
	e.journal.heal(s)
	return nil
}

// replaceCertificate writes another certificate, and waits until the gateway shows it.
func (g *gateway) replaceCertificate(ctx context.Context) error {
	if err := g.certify(); err != nil {
		return err
	}
	want, err := tls.LoadX509KeyPair(g.dir+"/cert.pem", g.dir+"/key.pem")
	if err != nil {
		return err
	}
	shown := until(ctx, healLimit, func() bool {
		ctx, cancel := context.WithTimeout(ctx, patience)
		defer cancel()
		c, err := g.dial(ctx)
		if err != nil { // the gateway may be down or frozen
			return false
		}
		defer c.Close()
		certs := c.(*tls.Conn).ConnectionState().PeerCertificates
		return len(certs) > 0 && slices.Equal(certs[0].Raw, want.Certificate[0])
	})
	if !shown && ctx.Err() == nil {
		return fmt.Errorf("gateway %s does not show its new certificate after %v", gatewayNames[g.index], healLimit)
	}
	return nil
}

// reload changes a setting in the file, sends SIGHUP and waits until the setting counts.
func (g *gateway) reload(ctx context.Context) error {
	if err := g.configure(); err != nil {
		return err
	}
	scheme := "http"
	if g.index == secured {
		scheme = "https"
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	origin := g.origin()
	counts := until(ctx, healLimit, func() bool {
		// It may be down or starting: then it reads the file anyway, and a signal would end it. If
		// it serves metrics after its process was read, either that process handles the signal, or
		// it is a former one, which has ended.
		p := g.proc.Load()
		if _, err := g.figures(); err != nil {
			return false
		}
		_ = p.Signal(syscall.SIGHUP)
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+g.addr+"/api/none", nil)
		if err != nil {
			return false
		}
		r.Header.Set("Origin", origin)
		response, err := client.Do(r)
		if err != nil {
			return false
		}
		_ = response.Body.Close()
		return response.Header.Get("Access-Control-Allow-Origin") == origin
	})
	if !counts && ctx.Err() == nil {
		return fmt.Errorf("gateway %s: a reloaded setting does not count after %v", gatewayNames[g.index], healLimit)
	}
	return nil
}
