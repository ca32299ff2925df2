package netpoll

import "fmt"

// Flush is how loops write what their connections have queued.
type Flush string

const (
	FlushAuto  Flush = "auto"     // FlushURing if the system has it and allows it, else FlushWrite
	FlushWrite Flush = "write"    // a system call for each connection
	FlushURing Flush = "io_uring" // a system call for many connections; Engine.Start fails if that is refused
)

// uringFrom is from how many connections on io_uring is cheaper than a write for each. Tests change
// it before an engine starts.
var uringFrom = 2

// setFlushers gives the loops their flushers.
func (e *Engine) setFlushers() error {
	e.flush = FlushWrite // the flusher of newLoop
	if e.opts.Flush == FlushWrite {
		return nil
	}
	err := e.setURingFlushers()
	switch {
	case err == nil:
		e.flush = FlushURing
	case e.opts.Flush == FlushURing:
		return fmt.Errorf("netpoll: io_uring cannot be used: %w: allow it (sysctl kernel.io_uring_disabled, a container's seccomp profile), or choose the flush auto or write", err)
	default:
		e.log.Info("io_uring cannot be used: each client is written to by a system call of its own", "reason", err)
	}
	return nil
}

// closeFlushers closes the flushers. The loops have ended.
func (e *Engine) closeFlushers() {
	for _, l := range e.loops {
		if f, ok := l.output.flusher.(interface{ close() }); ok {
			f.close()
		}
	}
}

// Flush returns how loops write, FlushWrite or FlushURing; empty before Start.
func (e *Engine) Flush() Flush { return e.flush }
