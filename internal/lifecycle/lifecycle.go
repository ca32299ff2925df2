// Package lifecycle starts a program's parts in order and stops them in the
// reverse order. Each Part has its start and its stop side by side. The first
// part that fails stops all others, and its error reaches Group.Done.
//
// It never decides how a part stops, or how long that may take.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
)

// Part is something that starts once and stops once.
type Part struct {
	Name string // for errors
	Off  bool   // the part is disabled: neither started nor stopped
	// Start returns when the part serves. After an error it has released everything, and Stop is
	// not called. It should return early when ctx ends, and must not use ctx later. A part that
	// fails later calls fail with the reason, on any goroutine.
	Start func(ctx context.Context, fail func(error)) error
	// Stop ends the part and returns when nothing of it runs. When ctx ends, it cuts what is left.
	// An error means that the stop was not orderly.
	Stop func(ctx context.Context) error
}

// The phases of a Group.
type phase int

const (
	idle     phase = iota // before Start
	starting              // parts start; ends with running or stopping
	running               // all parts serve; ends with stopping
	stopping              // parts stop; ends with stopped
	stopped               // nothing runs any more
)

// Group is an ordered list of parts. Its methods may be called from any goroutine.
type Group struct {
	parts []Part // fixed

	mu     sync.Mutex
	phase  phase
	served int                // parts that have started and not stopped
	giveUp context.CancelFunc // aborts a running start
	hurry  context.CancelFunc // makes a running stop cut what is left
	ending context.Context    // the context of a stop; hurry cancels it
	err    error              // the first failure

	ended   chan struct{} // closed when stopped
	stopErr error         // valid once ended is closed
	done    chan error
}

// New returns a group of parts, in the order in which they start.
func New(parts ...Part) *Group {
	g := &Group{parts: slices.DeleteFunc(parts, func(p Part) bool { return p.Off }), ended: make(chan struct{}), done: make(chan error, 1)}
	g.ending, g.hurry = context.WithCancel(context.Background())
	return g
}

// Start starts the parts in order. If one fails, or ctx ends, Start stops those that have started
// and returns the reason. A group can be started once.
func (g *Group) Start(ctx context.Context) error {
	ctx, giveUp := context.WithCancel(ctx)
	defer giveUp()
	g.mu.Lock()
	if g.phase != idle {
		g.mu.Unlock()
		return errors.New("started already")
	}
	g.phase, g.giveUp = starting, giveUp
	g.mu.Unlock()
	for i, p := range g.parts {
		err := ctx.Err()
		if err == nil {
			err = p.Start(ctx, func(err error) { g.fail(p.Name, err) })
		}
		g.mu.Lock()
		if err == nil {
			g.served = i + 1
			if err = g.err; err == nil {
				err = ctx.Err()
			}
		} else if g.err != nil {
			err = g.err // the cause of this part's error
		}
		if err != nil {
			g.phase = stopping
			g.mu.Unlock()
			g.hurry() // there are no clients to drain
			g.stop()
			return err
		}
		if i == len(g.parts)-1 {
			g.phase = running
		}
		g.mu.Unlock()
	}
	return nil
}

// fail handles the failure of a part.
func (g *Group) fail(part string, err error) {
	if err == nil {
		err = errors.New("ended")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil || g.phase >= stopping {
		return
	}
	g.err = fmt.Errorf("%s: %w", part, err)
	switch g.phase {
	case starting:
		g.giveUp()
	case running:
		g.done <- g.err
		g.phase = stopping
		go g.stop()
	}
}

// Stop stops all parts in the reverse order of their start, and aborts a running start. When ctx
// ends, the parts cut what is left. Stop returns when nothing runs, with the errors of the parts.
// On a group that was never started it does nothing.
func (g *Group) Stop(ctx context.Context) error {
	g.mu.Lock()
	if g.phase != idle && ctx.Err() != nil {
		g.hurry() // here, so that no part ends in order before it is cut
	}
	switch g.phase {
	case idle:
		g.mu.Unlock()
		return nil
	case starting:
		g.giveUp()
	case running:
		g.phase = stopping
		go g.stop()
	}
	g.mu.Unlock()
	defer context.AfterFunc(ctx, g.hurry)()
	<-g.ended
	return g.stopErr
}

// stop stops what has started. It is called once.
func (g *Group) stop() {
	g.mu.Lock()
	n := g.served
	g.mu.Unlock()
	var errs []error
	for i := n - 1; i >= 0; i-- {
		if err := g.parts[i].Stop(g.ending); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.parts[i].Name, err))
		}
	}
	g.stopErr = errors.Join(errs...)
	g.hurry()
	g.mu.Lock()
	g.phase = stopped
	g.mu.Unlock()
	close(g.ended)
	close(g.done)
}

// Done returns a channel that yields the error of the first part that fails, and is closed when all
// parts have stopped.
func (g *Group) Done() <-chan error { return g.done }
