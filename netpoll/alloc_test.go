package netpoll

import (
	"testing"

	"golang.org/x/sys/unix"

	"sluice/wsproto"
)

// pairs returns n connections of l and the descriptors of their peers.
func pairs(t testing.TB, l *Loop, n int) (conns []*Conn, peers []int) {
	for range n {
		a, b := pair(t)
		conns, peers = append(conns, looseConn(l, a)), append(peers, b)
	}
	return conns, peers
}

// drainPeers empties the sockets of peers.
func drainPeers(t testing.TB, peers []int, buf []byte) {
	for _, fd := range peers {
		for {
			n, err := unix.Read(fd, buf)
			if err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
			if n < len(buf) {
				break
			}
		}
	}
}

// TestDeliveryDoesNotAllocate holds rule 7 of the design for whole iterations.
func TestDeliveryDoesNotAllocate(t *testing.T) {
	l := looseLoop(t, 1<<20)
	conns, peers := pairs(t, l, 10)
	buf := make([]byte, 64<<10)
	shared := make([][]byte, 8)
	for i := range shared {
		shared[i] = wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 50*(i+1)))
	}
	large := wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, smallCopy))
	text := masked(wsproto.OpText, "a message from the client")
	in := make([]byte, 0, 1000)
	for name, work := range map[string]func(){
		"one frame": func() {
			for _, c := range conns {
				c.Send(shared[0])
			}
		},
		"several frames": func() {
			for _, c := range conns {
				for _, f := range shared {
					c.Send(f)
				}
			}
		},
		"several frames, too large to be copied": func() {
			for _, c := range conns {
				c.Send(shared[0])
				c.Send(large)
			}
		},
		"adjacent frames": func() {
			for range 3 {
				b := l.arena.Begin()
				for range 100 {
					b = append(b, "0123456789"...)
				}
				f := l.arena.Commit(b)
				for _, c := range conns {
					c.Send(f)
				}
			}
		},
		"input": func() {
			for _, c := range conns {
				in = append(append(in[:0], text...), text...)
				c.receive(in)
			}
		},
		"input in pieces": func() {
			for _, c := range conns {
				in = append(in[:0], text...)
				c.receive(in[:9])
				c.receive(in[9:])
			}
		},
		"ping": func() {
			for _, c := range conns {
				c.push(ping)
			}
		},
	} {
		run := func() {
			l.begin()
			work()
			l.end()
			drainPeers(t, peers, buf)
		}
		run()
		if n := testing.AllocsPerRun(200, run); n > 0 && !(raceEnabled && name == "input in pieces") {
			// The race detector has pools drop buffers at random.
			t.Errorf("%s: %v allocations per iteration", name, n)
		}
	}
	for _, c := range conns {
		if c.Lagging() || c.Queued() > 0 {
			t.Error("a connection was not ready: the test does not show what it should")
		}
	}
}

// BenchmarkFlush is an iteration in which n connections get the same frame: the price of a
// delivery.
func BenchmarkFlush(b *testing.B) {
	for _, bc := range []struct {
		name        string
		conns, each int
	}{{"1x1", 1, 1}, {"1000x1", 1000, 1}, {"1000x4", 1000, 4}} {
		b.Run(bc.name, func(b *testing.B) {
			l := looseLoop(b, 1<<20)
			conns, peers := pairs(b, l, bc.conns)
			benchmarkIterations(b, l, conns, peers, bc.each)
		})
	}
}

// benchmarkIterations measures iterations that send each connection so many frames.
func benchmarkIterations(b *testing.B, l *Loop, conns []*Conn, peers []int, each int) {
	frames := make([][]byte, each)
	for i := range frames {
		frames[i] = wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 100))
	}
	buf := make([]byte, 64<<10)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.begin()
		for _, c := range conns {
			for _, f := range frames {
				c.Send(f)
			}
		}
		l.end()
		if i%16 == 15 {
			b.StopTimer()
			drainPeers(b, peers, buf)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(conns)), "ns/conn")
}

// BenchmarkBareWrite is the floor of BenchmarkFlush: the system calls alone.
func BenchmarkBareWrite(b *testing.B) {
	const n = 1000
	var fds, peers []int
	for range n {
		x, y := pair(b)
		fds, peers = append(fds, x), append(peers, y)
	}
	frame := wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 100))
	buf := make([]byte, 64<<10)
	for i := 0; b.Loop(); i++ {
		for _, fd := range fds {
			if _, err := unix.Write(fd, frame); err != nil {
				b.Fatal(err)
			}
		}
		if i%16 == 15 {
			b.StopTimer()
			drainPeers(b, peers, buf)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/conn")
}

// BenchmarkQueue is Send and the bookkeeping of a flush without system calls.
func BenchmarkQueue(b *testing.B) {
	l := looseLoop(b, 1<<20)
	l.output.flusher = acceptAllFlusher{}
	conns := make([]*Conn, 1000)
	for i := range conns {
		conns[i] = looseConn(l, -1)
	}
	frame := wsproto.AppendFrame(nil, wsproto.OpText, make([]byte, 100))
	b.ReportAllocs()
	for b.Loop() {
		l.begin()
		for _, c := range conns {
			c.Send(frame)
		}
		runQueue(l)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(conns)), "ns/conn")
}

type acceptAllFlusher struct{}

func (acceptAllFlusher) flush(_ *Loop, batch []*Conn) {
	for _, c := range batch {
		c.dequeue(int(c.queued), false)
	}
}

// BenchmarkReceive is a short message in one read.
func BenchmarkReceive(b *testing.B) {
	l := looseLoop(b, 1<<20)
	c := looseConn(l, -1)
	text := masked(wsproto.OpText, `{"id":1,"method":"call.some.model.set","params":{"a":1}}`)
	in := make([]byte, len(text))
	b.ReportAllocs()
	for b.Loop() {
		copy(in, text)
		c.receive(in)
	}
}
