//go:build linux

package client

import (
	"net/netip"
	"testing"
	"time"
)

// paced is a thread whose clients are ready and have no sockets: a test makes its time and its
// server.
type paced struct {
	*Thread
	load *load
	dues []int64 // of the requests without a response
}

func newPaced(t *testing.T, clients int, gap, length time.Duration) *paced {
	t.Helper()
	th, err := newThread(Config{Protocol: ProtocolFloor, Addr: "127.0.0.1:1", Count: clients, Threads: 1, Topics: 1, PerClient: 1}, netip.AddrPort{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(th.release)
	p := &paced{Thread: th}
	th.phase = 0
	p.load = &load{t: th, kind: Call, gap: float64(gap), until: int64(length), window: 1, queue: make([]int32, clients)}
	th.load = p.load
	for i := range th.conns {
		th.conns[i].state = stateReady
		p.load.grant(&th.conns[i])
	}
	return p
}

// at lets the series make requests at a time.
func (p *paced) at(now time.Duration) {
	before := p.load.issued
	p.load.run(int64(now))
	for i := before; i < p.load.issued; i++ {
		p.dues = append(p.dues, p.load.start+int64(float64(i)*p.load.gap))
	}
}

// answer has the server respond to the n oldest requests.
func (p *paced) answer(now time.Duration, n int) {
	p.now = int64(now)
	for range n {
		for i := range p.conns {
			if c := &p.conns[i]; c.waiting > 0 {
				c.answered(Call, p.dues[0], true)
				break
			}
		}
		p.dues = p.dues[1:]
	}
}

// While a server stalls, requests become due all the same. They are made later, and their latencies
// count from when they were due, so the stall is in all of them. The last are made after the end.
func TestRequestsOfAStalledServer(t *testing.T) {
	const ms = time.Millisecond
	p := newPaced(t, 2, ms, 10*ms)
	p.at(0)
	p.at(ms)
	if p.count.Issued != 2 || p.load.size != 0 {
		t.Fatalf("%+v", p.count)
	}
	p.at(8 * ms) // both windows are full
	if p.count.Issued != 2 {
		t.Fatalf("%+v", p.count)
	}
	if at := p.load.wake(); at != int64(10*ms)+backlogLimit {
		t.Errorf("wakes at %v", time.Duration(at))
	}
	now := 20 * ms
	for p.load.issued < 10 {
		if p.load.over(int64(now)) {
			t.Fatalf("over after %d requests", p.load.issued)
		}
		p.answer(now, 1)
		p.at(now)
	}
	p.answer(now, 2)
	if !p.load.over(int64(now)) {
		t.Error("it goes on after the last request that was due")
	}
	p.load.finish()
	s := p.take(false)
	if s.Count.Issued != 10 || s.Count.Answers != 10 || s.Count.Unsent != 0 {
		t.Errorf("%+v", s.Count)
	}
	// Due at 0 to 9 ms, responses at 20 ms.
	for _, b := range s.Hists[Call.String()] {
		if b[0] < 10_900 || b[0] > 20_100 || b[1] != 1 {
			t.Errorf("%d latencies of %d µs", b[1], b[0])
		}
	}
}

// Requests that a server leaves no window for, a second after the end, are not made, and counted.
func TestRequestsThatAreNotMade(t *testing.T) {
	const ms = time.Millisecond
	p := newPaced(t, 2, ms, 10*ms)
	p.at(5 * ms)
	if end := int64(10 * ms); p.load.over(end) || !p.load.over(end+backlogLimit) {
		t.Error("the series does not end a second after its last request was due")
	}
	p.load.finish()
	if p.count.Issued != 2 || p.count.Unsent != 8 {
		t.Errorf("%+v", p.count)
	}
}

// What was due shortly before the end is made, though the thread wakes after it.
func TestLastRequestsAreMade(t *testing.T) {
	const ms = time.Millisecond
	p := newPaced(t, 20, ms, 10*ms)
	p.at(10*ms + 1)
	if p.load.finish(); p.count.Issued != 10 || p.count.Unsent != 0 || !p.load.over(int64(10*ms)) {
		t.Errorf("%+v", p.count)
	}
	// As fast as responses arrive, nothing is due after the end.
	p = newPaced(t, 2, 0, 10*ms)
	if p.at(10 * ms); p.count.Issued != 0 || !p.load.over(int64(10*ms)) || p.load.wake() != 0 {
		t.Errorf("%+v", p.count)
	}
}
