package netpoll

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"time"

	"github.com/panjf2000/gnet/v2"
)

// events is the Engine as gnet sees it. OnOpen, OnTraffic and OnClose are called on event loops.
type events Engine

// waker is the context of the connection whose other end wakes a loop.
type waker struct{ outer net.Conn }

// OnBoot implements gnet.EventHandler.
func (ev *events) OnBoot(g gnet.Engine) gnet.Action {
	e := (*Engine)(ev)
	e.mu.Lock()
	e.ending.Store(false)
	e.gnet, e.down = g, make(chan struct{})
	e.mu.Unlock()
	return gnet.None
}

// OnTick implements gnet.EventHandler. gnet calls it once, when all event loops run, on a goroutine
// of its own.
func (ev *events) OnTick() (time.Duration, gnet.Action) {
	e := (*Engine)(ev)
	err := e.bind()
	if err == nil && e.broken.Load() {
		err = errors.New("netpoll: the start of an event loop panicked: see the log for the stack")
	}
	if err != nil {
		e.log.Error("the event loops cannot be bound", "error", err)
	}
	select {
	case <-e.begun: // a later start
	default:
		if err == nil {
			close(e.begun)
		}
		select {
		case e.ready <- err:
		default: // Start has received the first error
		}
	}
	if err != nil || e.quitting.Load() {
		return math.MaxInt64, gnet.Shutdown
	}
	return math.MaxInt64, gnet.None
}

// OnShutdown is called when gnet begins to end.
//
// It wakes the loops, because gnet may not: a loop that has parked in the task that attached it
// (attach) has not ended gnet's round of tasks, and gnet signals new tasks, such as the shutdown
// of the loop, only between rounds.
func (ev *events) OnShutdown(gnet.Engine) {
	e := (*Engine)(ev)
	e.ending.Store(true)
	e.mu.Lock()
	close(e.down)
	e.mu.Unlock()
	for _, l := range e.loops {
		l.Wake()
	}
}

// OnOpen is called for each connection that was accepted or registered.
func (ev *events) OnOpen(gc gnet.Conn) (out []byte, action gnet.Action) {
	e := (*Engine)(ev)
	l := e.loopOf(gc.EventLoop())
	switch value := gc.Context().(type) {
	case *waker:
		l.wait.attach(gc, value)
	case *adopted:
		l.wait.enter()
		l.iter.handle(input{do: adoptInput, gc: gc, adopted: value})
		l.wait.leave()
	default:
		l.wait.enter()
		l.iter.handle(input{do: acceptInput, gc: gc})
		l.wait.leave()
	}
	return nil, gnet.None
}

// OnTraffic is called when bytes of a connection have been read.
func (ev *events) OnTraffic(gc gnet.Conn) gnet.Action {
	b, _ := gc.Next(-1) // cannot fail: it takes what there is
	switch c := gc.Context().(type) {
	case *waker:
		e := (*Engine)(ev)
		e.loopOf(gc.EventLoop()).wait.woken()
		if e.quitting.Load() {
			return gnet.Shutdown
		}
	case *Conn:
		l := c.loop
		l.wait.enter()
		l.iter.handle(input{do: receiveInput, conn: c, b: b})
		l.wait.leave()
	}
	return gnet.None
}

// OnClose is called before a connection's descriptor is closed, for whatever reason.
func (ev *events) OnClose(gc gnet.Conn, err error) gnet.Action {
	c, ok := gc.Context().(*Conn)
	if !ok {
		return gnet.None
	}
	if l := c.loop; l.reaper.closing {
		c.ending().finalizeSafely()
	} else {
		l.wait.closed(c, err)
	}
	return gnet.None
}

// gnetLog passes gnet's log on. Its errors concern single sockets, or its end, which the engine
// logs itself.
type gnetLog struct{ e *Engine }

func (g gnetLog) Debugf(format string, args ...any) {
	g.e.log.Debug("gnet: " + fmt.Sprintf(format, args...))
}
func (g gnetLog) Infof(format string, args ...any) {
	g.e.log.Debug("gnet: " + fmt.Sprintf(format, args...))
}
func (g gnetLog) Warnf(format string, args ...any) {
	g.e.logGnet.Log(g.e.log, slog.LevelWarn, g.e.opts.Clock.Now(), warnEvery, "gnet: "+fmt.Sprintf(format, args...))
}
func (g gnetLog) Errorf(format string, args ...any) {
	g.e.logGnet.Log(g.e.log, slog.LevelWarn, g.e.opts.Clock.Now(), warnEvery, "gnet: "+fmt.Sprintf(format, args...))
}
func (g gnetLog) Fatalf(format string, args ...any) {
	g.e.log.Error("gnet: " + fmt.Sprintf(format, args...))
}
