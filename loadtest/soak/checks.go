//go:build linux

package soak

import (
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/loadtest/soak/service"
	"sluice/loadtest/wire"
)

const (
	// settleLimit bounds the time until all clients are exact.
	settleLimit = 5 * time.Minute
	// roundTime is how long the first round waits for clients that are not exact yet. Then another
	// one begins, with more time: a client that subscribed after the round's events needs the next
	// round's.
	roundTime = 5 * time.Second
	// calmTicks is how many custom events every subscriber must get in a round.
	calmTicks = 5
	// leastSlack is how late custom events may be, at least: a message may be published before a
	// fault and lost by it.
	leastSlack = 2 * time.Second
	// memoryGrowth bounds the memory at the end, as a multiple of that at the checkpoint. What it
	// may grow beyond that, memorySlack, is the noise of a small process.
	memoryGrowth = 1.10
	memorySlack  = 4 << 20
	// descriptorSlack and goroutineSlack are what a gateway may have beyond its connections.
	descriptorSlack = 8
	goroutineSlack  = 16
	// slowCode is with what a client is closed that does not read although its events were dropped.
	// The frame may be stuck behind what it has not read: then it sees only the end.
	slowCode = 1013
)

// settle ends all changes and waits until every client has exactly what the services say is true,
// and has received every custom event of the round.
func (e *env) settle(ctx context.Context) error {
	e.phase.Store(int32(calm))
	for _, s := range e.services {
		if _, err := s.do(service.Command{Do: service.Quiet}); err != nil {
			return err
		}
	}
	until(ctx, patience, func() bool { return e.connected.Load() == int64(e.opt.Clients) })
	wrong := ""
	limit := roundTime
	for end := time.Now().Add(settleLimit); ; limit = min(limit*2, 6*roundTime) {
		exact, text, err := e.roundOf(ctx, limit)
		switch {
		case err != nil:
			return err
		case exact:
			e.round.Store(nil)
			return nil
		}
		if wrong = text; time.Now().After(end) {
			break
		}
	}
	e.round.Store(nil)
	for _, c := range e.clients {
		if v := c.verdict.Load(); v != nil && v.text != "" {
			return fmt.Errorf("not exact after %v: %s\n    %s%s", settleLimit, wrong, v.text, v.story)
		}
	}
	return fmt.Errorf("not exact after %v: %s", settleLimit, wrong)
}

// roundOf publishes custom events, asks the services for the truth, and waits for the clients'
// verdicts, for at most the limit. text describes the clients that are not exact.
func (e *env) roundOf(ctx context.Context, limit time.Duration) (exact bool, text string, err error) {
	for _, s := range e.services {
		if _, err := s.do(service.Command{Do: service.Burst, N: calmTicks}); err != nil {
			return false, "", err
		}
	}
	t, err := truthOf(e.services)
	if err != nil {
		return false, "", err
	}
	e.rounds++
	e.round.Store(&round{e.rounds, t})
	began := time.Now()
	var wrong []string
	done := until(ctx, settleLimit, func() bool {
		missing, absent := 0, ""
		wrong = wrong[:0]
		for _, c := range e.clients {
			switch v := c.verdict.Load(); {
			case v == nil || v.round != e.rounds:
				missing++
				absent = fmt.Sprint(c.name(), " ", c.wants)
			case v.text != "":
				wrong = append(wrong, v.text)
			}
		}
		if missing > 0 {
			wrong = append(wrong, fmt.Sprintf("%d clients are not connected, or did not compare yet, such as %s", missing, absent))
		}
		return len(wrong) == 0 || time.Since(began) > limit
	})
	if ctx.Err() != nil {
		return false, "", ctx.Err()
	}
	if len(wrong) > 0 || !done {
		text = fmt.Sprintf("%d clients; the first: %s", len(wrong), wrong[0])
		if len(wrong) > 1 {
			text += "\n    and: " + wrong[1]
		}
		e.journal.note("  not exact yet: %s", text)
		return false, text, nil
	}
	e.last = t
	return true, "", nil
}

// footprint is what a gateway uses.
type footprint struct {
	rss, live, descriptors, goroutines, connections float64 // live: bytes in use after a collection
	life                                            int64
}

// weigh measures a gateway after a garbage collection.
func (g *gateway) weigh() (footprint, error) {
	if err := g.collect(); err != nil {
		return footprint{}, err
	}
	f, err := g.figures()
	return footprint{f["process_resident_memory_bytes"], f["go_memstats_heap_alloc_bytes"] + f["go_memstats_stack_inuse_bytes"],
		f["process_open_fds"], f["go_goroutines"], f["sluice_connections"], g.life.Load()}, err
}

// weighAll measures all gateways.
func (e *env) weighAll() ([]footprint, error) {
	var all []footprint
	for _, g := range e.gateways {
		f, err := g.weigh()
		if err != nil {
			return nil, err
		}
		all = append(all, f)
	}
	return all, nil
}

// checkMemory waits until no gateway uses more memory than at the checkpoint. A gateway that was
// started since then is not compared.
func (e *env) checkMemory(ctx context.Context) {
	for i, g := range e.gateways {
		was := e.reference[i]
		if was.life != g.life.Load() {
			continue
		}
		var now footprint
		grown := func() string {
			switch {
			case now.live > was.live*memoryGrowth+memorySlack:
				return fmt.Sprintf("in use after a garbage collection: %.1f MB at the checkpoint, %.1f MB at the end", was.live/1e6, now.live/1e6)
			case e.opt.long() && now.rss > was.rss*memoryGrowth+memorySlack:
				return fmt.Sprintf("RSS: %.1f MB at the checkpoint, %.1f MB at the end", was.rss/1e6, now.rss/1e6)
			}
			return ""
		}
		// The runtime gives memory back in the background, over minutes.
		ok := until(ctx, settleLimit, func() bool {
			var err error
			now, err = g.weigh()
			return err == nil && grown() == ""
		})
		e.result.Memory = append(e.result.Memory, memoryLine{gatewayNames[i], was, now})
		if !ok && ctx.Err() == nil {
			e.journal.fail("gateway %s has grown by more than %.0f %%: %s", gatewayNames[i], (memoryGrowth-1)*100, grown())
		}
	}
}

// checkLeaks waits until each gateway has only the descriptors and goroutines that its connections
// explain. perConnection is how many goroutines a connection may have.
func (e *env) checkLeaks(ctx context.Context, when string, perConnection float64) {
	for i, g := range e.gateways {
		base := e.base[i]
		var now footprint
		ok := until(ctx, settleLimit, func() bool {
			var err error
			now, err = g.weigh()
			return err == nil && now.descriptors <= base.descriptors+now.connections+descriptorSlack &&
				now.goroutines <= base.goroutines+now.connections*perConnection+goroutineSlack
		})
		e.result.Leaks = append(e.result.Leaks, leakLine{gatewayNames[i], when, base, now})
		if !ok && ctx.Err() == nil {
			e.journal.fail("gateway %s, %s: %.0f descriptors and %.0f goroutines with %.0f connections; without any it began with %.0f and %.0f",
				gatewayNames[i], when, now.descriptors, now.goroutines, now.connections, base.descriptors, base.goroutines)
		}
	}
}

// losses are the custom events that clients did not get, by why.
type losses struct {
	Explained   uint64 // lost by NATS while a fault lasted
	Slow        uint64 // dropped by the gateway for clients that did not read
	Delayed     uint64 // delivered late by NATS
	Unexplained uint64
}

// judgeGaps explains the gaps by the faults. It runs on the journal's goroutine, or after its end.
func (j *journal) judgeGaps() (l losses, wrong []string) {
	slack := max(leastSlack, 2*time.Duration(j.lateness.Load()))
	for _, g := range j.gaps {
		explained := slices.ContainsFunc(j.spans, func(s *span) bool { return s.covers(g.gateway, g.service, g.from, g.until, slack) })
		switch {
		case explained && g.late:
			l.Delayed++
		case explained:
			l.Explained += g.count
		case g.slow && !g.late:
			l.Slow += g.count
		default:
			l.Unexplained += max(g.count, 1)
			wrong = append(wrong, fmt.Sprintf("%s: %d custom events are missing, published between %.2f and %.2f s; no fault explains that (late: %t)",
				g.who, g.count, j.seconds(g.from), j.seconds(g.until), g.late))
		}
	}
	return l, wrong
}

// judgeCloses explains closed connections by the faults.
func (j *journal) judgeCloses() (wrong []string) {
	for _, c := range j.closes {
		explained := slices.ContainsFunc(j.spans, func(s *span) bool {
			return slices.Contains(s.gateways, c.gateway) && slices.Contains(s.codes, c.code) &&
				!c.closed.Before(s.from) && (s.healed.IsZero() || c.opened.Before(s.healed))
		})
		if !explained && !(c.slow && (c.code == slowCode || c.code == wire.NoClose)) {
			wrong = append(wrong, fmt.Sprintf("%s was closed with %d at %.2f s, for no stated reason", c.who, c.code, j.seconds(c.closed)))
		}
	}
	return wrong
}
