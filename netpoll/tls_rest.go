package netpoll

import (
	"time"

	"sluice/internal/memory"
	"sluice/internal/owner"
	"sluice/netpoll/tlskeys"
	"sluice/netpoll/tlsrecord"
)

// After a handshake of TLS 1.3 the loop takes the records out of crypto/tls: nothing of the
// handshake is kept, and a connection costs what its keys take. The ciphers made of these are
// larger, and most connections are idle. So the loop drops those that have not been used for
// restAfter. The next record makes one again, in some microseconds.
//
// Where tlskeys cannot take them out (tlskeys.Check), all goes on in crypto/tls.

const (
	// restAfter is how long ciphers are kept without use, at least; twice this at most.
	restAfter = 3 * time.Second
	// restBatch bounds the connections that are checked at a time.
	restBatch = 1024
)

// resting drops the ciphers of connections that are idle. Owned by the loop.
type resting struct {
	loop  *Loop
	awake []*tlsLink  // with ciphers
	next  int         // those before it are still to be checked in this pass
	timer owner.Timer // armed while there are any
}

// note notes that t has used its ciphers.
func (r *resting) note(t *tlsLink) {
	t.used = true
	if t.place == 0 {
		r.awake = append(r.awake, t)
		t.place = int32(len(r.awake))
		if !r.timer.Armed() {
			r.loop.wheel.Schedule(&r.timer, r.loop.now+restAfter, r)
		}
	}
}

// forget removes t, which may belong to another owner from now on.
func (r *resting) forget(t *tlsLink) {
	if t.place == 0 {
		return
	}
	last := len(r.awake) - 1
	moved := r.awake[last]
	r.awake[t.place-1] = moved
	moved.place = t.place
	r.awake[last] = nil
	r.awake = r.awake[:last]
	t.place = 0
	if last == 0 {
		r.awake = nil
		r.loop.wheel.Cancel(&r.timer)
	}
}

// Expire is called by the wheel when connections are to be checked. It goes from the end to the
// beginning, because forget moves the last one.
func (r *resting) Expire(time.Duration) {
	if r.next == 0 {
		r.next = len(r.awake)
	}
	bytes := 0
	for n := 0; n < restBatch && r.next > 0; n++ {
		if r.next--; r.next >= len(r.awake) {
			continue
		}
		t := r.awake[r.next]
		if !t.used {
			bytes += t.records.Rest()
			r.loop.engine.metrics.TLSRests.Add(1)
			r.forget(t)
			continue
		}
		t.used = false
	}
	memory.Dropped(bytes)
	wait := restAfter
	if r.next > 0 {
		wait = tick
	}
	if len(r.awake) > 0 {
		r.loop.wheel.Schedule(&r.timer, r.loop.now+wait, r)
	}
}

// takeRecords has the loop go on with a connection of TLS 1.3 without crypto/tls, if it can.
func (c tlsConn) takeRecords() {
	t := c.link()
	records, raw := tlskeys.Take(t.conn)
	if records == nil {
		return
	}
	t.records, t.conn, t.pos = records, nil, tlsrecord.Position{}
	t.in.add(raw)
}

// returnRecords gives the records to crypto/tls, which net/http uses.
func (t *tlsLink) returnRecords(e *Engine) (err error) {
	if t.records == nil {
		return nil
	}
	t.conn, err = t.records.Return(t, e.handshakes.config)
	t.records = nil
	return err
}

// openOwn is openRecord for a connection whose records the loop has.
func (c tlsConn) openOwn() bool {
	t, s := c.link(), c.loop.tls
	if len(s.src) == 0 {
		return true
	}
	var data []byte
	var err error
	data, s.sink, err = t.records.Open(s.plain[:0], s.src, s.sink)
	s.src = nil
	s.note(t)
	c.collect()
	if len(data) > 0 {
		c.take(data)
		if c.link() != t || c.state >= stateLinger {
			return false
		}
	}
	if err != nil {
		c.recordsEnded(err)
	}
	return err == nil
}
