package netpoll

import "github.com/panjf2000/gnet/v2"

// step is a part of an iteration, or of what a callback of gnet adds to it. Each can be repeated:
// it takes its work from a queue before it does it, so after a panic the same step goes on with the
// rest. Only the input of a callback is not handled twice.
type step uint8

const (
	stepBegin   step = iota // timers
	stepInput               // the callback's own
	stepResume              // buffered input
	stepAckWake             // messages since the last wake need no iteration of their own
	stepWorkers             // results of handshakes and offloaded work
	stepHandler             // Handler.Iterate
	stepJudge               // deadlines
	stepDrain
	stepWrite // write, close, and notify the Handler of slow consumers
	stepEnd
)

// iteration runs the steps of a loop, and knows what they work on in case one panics (fault.go).
// Owned by the loop.
type iteration struct {
	loop *Loop // fixed
	open bool  // begun and not ended
	step step

	conn   *Conn   // the connection that is being worked for; nil: no single one
	in     input   // of the callback
	batch  []*Conn // is being written
	queued bool    // batch is from the write queue

	faulty bool // a step has panicked, and repair is due
	broken bool // Handler.Start has panicked: the loop does nothing
}

// input is the subject of a callback of gnet.
type input struct {
	do      func(*Loop, input)
	conn    *Conn     // receiveInput
	b       []byte    // receiveInput
	gc      gnet.Conn // acceptInput, adoptInput
	adopted *adopted  // adoptInput
}

func receiveInput(_ *Loop, in input) { in.conn.receive(in.b) }
func acceptInput(l *Loop, in input)  { l.acceptor.accept(in.gc) }
func adoptInput(l *Loop, in input)   { l.acceptor.adopt(in.gc, in.adopted) }

// handle handles the input of a callback.
func (i *iteration) handle(in input) {
	i.in = in
	i.run(stepInput, stepInput)
	i.in = input{}
}

// run runs the steps from first to last. A step that panics is run again, up to maxFaults times.
func (i *iteration) run(first, last step) {
	if i.broken {
		return
	}
	i.step = first
	for faults := 1; !i.steps(last); faults++ {
		if faults%maxFaults == 0 {
			i.step++
		}
	}
}

// steps runs the steps from the current one to last. It returns false after a panic.
func (i *iteration) steps(last step) (done bool) {
	defer i.contain()
	if i.faulty {
		i.faulty = false
		i.repair()
	}
	for ; i.step <= last; i.step++ {
		i.conn = nil
		i.do(i.step)
	}
	i.conn = nil
	return true
}

// do runs one step.
func (i *iteration) do(s step) {
	l := i.loop
	switch s {
	case stepBegin:
		i.open = true
		l.wait.callbacks = 0
		l.ackWake()
	case stepInput:
		in := i.in
		i.conn = in.conn
		in.do(l, in)
	case stepResume:
		// After the input: a connection that leaves for net/http in this step takes all input that
		// was read from it along.
		l.resumption.unpauseYielded()
		l.resumption.resume()
	case stepAckWake:
		if l.wait.scheduled.Load() {
			l.ackWake()
		}
	case stepWorkers:
		l.tls.drainHandshakes()
		l.inflater.drain()
	case stepHandler:
		l.behind = false
		l.engine.opts.Handler.Iterate(l)
	case stepJudge:
		if l.wheel.Overdue() && l.judge() {
			l.engine.opts.Handler.Iterate(l) // it may have requests to send
		}
	case stepDrain:
		l.drain.advance()
	case stepWrite:
		o := &l.output
		for first := true; first || len(o.dirty) > 0 || len(l.reaper.conns) > 0 || len(o.lagChanged) > 0; first = false {
			o.flush()
			l.reaper.reap()
			o.notifyLagging()
		}
		if l.timing.n > 0 {
			l.timing.written(l)
		}
	case stepEnd:
		l.drain.check()
		l.ticker.Rearm()
		l.stats.publish(l.engine.metrics)
		l.slow.publish()
		if len(l.resumption.yielded) > 0 {
			l.Wake() // the next iteration handles more of their input
		}
		i.open = false
	}
}
