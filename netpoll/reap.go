package netpoll

// reaper closes the connections of a loop that are scheduled for it. Connections are closed at the
// end of an iteration only, so that no caller finds one closed that it still works with. Owned by
// the loop.
type reaper struct {
	loop    *Loop // fixed
	conns   []*Conn
	closing bool // gnet calls OnClose because of reap
}

// scheduleClose has the connection closed at the end of the iteration.
func (c *Conn) scheduleClose() {
	if c.state < stateReap {
		c.to(stateReap)
		r := &c.loop.reaper
		r.conns = append(r.conns, c)
	}
}

// reap closes the scheduled connections. Handler.Closed may send to others, and schedule more.
func (r *reaper) reap() {
	for i := 0; i < len(r.conns); i++ {
		c := r.conns[i]
		r.conns[i] = nil
		if c == nil { // letGo has closed it, or a panic interrupted its end
			continue
		}
		if c.gc != nil {
			r.close(c)
		} else if c.state != stateClosed {
			if c.link() != nil {
				c.tls().sendCloseNotify()
			}
			c.ending().closeHalf()
		}
	}
	r.conns = r.conns[:0]
}

// letGo closes those of the connections that another owner goes on with. It is for an iteration
// that stays open: gnet must not read them once more.
func (r *reaper) letGo() {
	for i := 0; i < len(r.conns); i++ {
		if c := r.conns[i]; c != nil && c.gc != nil && c.ending().goesOn() {
			r.conns[i] = nil
			r.close(c)
		}
	}
}

func (r *reaper) close(c *Conn) {
	if c.link() != nil {
		c.tls().sendCloseNotify()
	}
	r.closing = true
	_ = r.loop.el.Close(c.gc) // calls finalize; gnet has logged an error
	r.closing = false
}

// goesOn reports whether net/http or another process goes on with the connection.
func (c endingConn) goesOn() bool { return c.movedOn() || c.flags&flagKeepOpen != 0 }
