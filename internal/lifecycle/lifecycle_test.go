package lifecycle

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// script records what a group does with its parts.
type script struct {
	calls []string
	fail  map[string]func(error)
}

// part returns a part that records its start and stop.
func (s *script) part(name string) Part {
	return Part{
		Name: name,
		Start: func(_ context.Context, fail func(error)) error {
			s.calls = append(s.calls, "start "+name)
			s.fail[name] = fail
			return nil
		},
		Stop: func(context.Context) error {
			s.calls = append(s.calls, "stop "+name)
			return nil
		},
	}
}

func (s *script) want(t *testing.T, calls ...string) {
	t.Helper()
	if !slices.Equal(s.calls, calls) {
		t.Errorf("got %q, want %q", s.calls, calls)
	}
}

func newScript() *script { return &script{fail: map[string]func(error){}} }

func TestPartsStopInReverseOrder(t *testing.T) {
	s := newScript()
	off := s.part("off")
	off.Off = true
	g := New(s.part("a"), off, s.part("b"), s.part("c"))
	if err := g.Stop(context.Background()); err != nil {
		t.Errorf("before the start: %v", err)
	}
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := g.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	s.want(t, "start a", "start b", "start c", "stop c", "stop b", "stop a")
	if err, open := <-g.Done(); err != nil || open {
		t.Errorf("Done: %v, open %v", err, open)
	}
	if err := g.Start(context.Background()); err == nil {
		t.Error("started twice")
	}
}

func TestFailedStart(t *testing.T) {
	s := newScript()
	broken := s.part("b")
	broken.Start = func(context.Context, func(error)) error { return errors.New("no room") }
	g := New(s.part("a"), broken, s.part("c"))
	if err := g.Start(context.Background()); err == nil || err.Error() != "no room" {
		t.Errorf("got %v", err)
	}
	s.want(t, "start a", "stop a")
	if err := g.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err, open := <-g.Done(); err != nil || open {
		t.Errorf("Done: %v, open %v", err, open)
	}
}

func TestFailureStopsTheOthers(t *testing.T) {
	s := newScript()
	g := New(s.part("a"), s.part("b"))
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.fail["a"](errors.New("broke"))
	s.fail["b"](errors.New("broke as a consequence"))
	if err := <-g.Done(); err == nil || err.Error() != "a: broke" {
		t.Errorf("Done: %v", err)
	}
	if err, open := <-g.Done(); err != nil || open {
		t.Errorf("Done once all have stopped: %v, open %v", err, open)
	}
	if err := g.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	s.want(t, "start a", "start b", "stop b", "stop a")
}

func TestFailureDuringStart(t *testing.T) {
	s := newScript()
	waits := s.part("b")
	waits.Start = func(ctx context.Context, _ func(error)) error {
		s.fail["a"](errors.New("broke"))
		<-ctx.Done()
		return ctx.Err()
	}
	g := New(s.part("a"), waits)
	if err := g.Start(context.Background()); err == nil || err.Error() != "a: broke" {
		t.Errorf("got %v", err)
	}
	s.want(t, "start a", "stop a")
}

func TestStopDuringStart(t *testing.T) {
	s := newScript()
	waits := s.part("b")
	begun := make(chan struct{})
	waits.Start = func(ctx context.Context, _ func(error)) error {
		close(begun)
		<-ctx.Done()
		return ctx.Err()
	}
	g := New(s.part("a"), waits)
	started := make(chan error, 1)
	go func() { started <- g.Start(context.Background()) }()
	<-begun
	if err := g.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if err := <-started; !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v", err)
	}
	s.want(t, "start a", "stop a")
}

// The context of a later Stop ends a stop that is under way, one after a failure included.
func TestStopIsCutByItsContext(t *testing.T) {
	s := newScript()
	slow := s.part("slow")
	stopping := make(chan struct{})
	slow.Stop = func(ctx context.Context) error { close(stopping); <-ctx.Done(); return ctx.Err() }
	g := New(slow)
	if err := g.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	s.fail["slow"](nil)
	<-stopping
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Stop(ctx); !errors.Is(err, context.Canceled) || !strings.HasPrefix(err.Error(), "slow: ") {
		t.Errorf("got %v", err)
	}
	if err := <-g.Done(); err == nil || err.Error() != "slow: ended" {
		t.Errorf("Done: %v", err)
	}
}
