package memory

import (
	"log/slog"
	"runtime"
	"sync"
	"testing"

	"sluice/internal/owner"
)

// trimmed is a Trim of a heap that the test sets.
type trimmed struct {
	*Trim
	clock *owner.ManualClock
	begun chan struct{} // receives when a trim begins
	end   chan struct{} // ends it

	mu   sync.Mutex
	heap Heap
}

func newTrimmed() *trimmed {
	tt := &trimmed{clock: owner.NewManualClock(), begun: make(chan struct{}, 1), end: make(chan struct{})}
	tt.Trim = &Trim{
		clock: tt.clock,
		log:   slog.New(slog.DiscardHandler),
		read: func() Heap {
			tt.mu.Lock()
			defer tt.mu.Unlock()
			return tt.heap
		},
		free: func() {
			tt.begun <- struct{}{}
			<-tt.end
		},
	}
	tt.start()
	return tt
}

// pass lets a second pass in which the process allocates so many bytes.
func (tt *trimmed) pass(seconds int, allocated int64) {
	for range seconds {
		tt.mu.Lock()
		tt.heap.Allocated += allocated
		tt.mu.Unlock()
		tt.clock.Advance(trimInterval)
	}
}

func (tt *trimmed) set(live, objects, free int64) {
	tt.mu.Lock()
	defer tt.mu.Unlock()
	tt.heap.Live, tt.heap.Objects, tt.heap.Free = live, objects, free
}

func (tt *trimmed) begins() bool { return tt.busy.Load() }

const mib = 1 << 20

func TestTrimWhenQuiet(t *testing.T) {
	tt := newTrimmed()
	tt.set(100*mib, 150*mib, 20*mib)
	tt.pass(10, quietBytes)
	if tt.begins() {
		t.Fatal("memory is given back while the process allocates")
	}
	tt.pass(quietLooks-1, 1000)
	if tt.begins() {
		t.Fatal("memory is given back before the process has been quiet for long enough")
	}
	tt.pass(1, 1000)
	<-tt.begun
	tt.pass(10, 0)
	if len(tt.begun) > 0 {
		t.Fatal("a second trim begins while the first one goes on")
	}
	tt.set(100*mib, 101*mib, 0)
	tt.end <- struct{}{}
	for tt.busy.Load() {
		runtime.Gosched()
	}
	tt.pass(20, 1000)
	if tt.begins() {
		t.Fatal("memory is given back although there is hardly any")
	}
	tt.set(100*mib, 101*mib, 12*mib)
	tt.pass(1, 1000)
	<-tt.begun
	close(tt.end)
}

func TestTrimMustPay(t *testing.T) {
	for _, c := range []struct {
		name                string
		live, objects, free int64
		off                 bool
		want                bool
	}{
		{"garbage", 8 * mib, 10 * mib, 0, false, true},
		{"free pages", 8 * mib, 8 * mib, 2 * mib, false, true},
		{"too little", 8 * mib, 9*mib - 1, mib, false, false},
		{"less than an eighth", 800 * mib, 850 * mib, 49 * mib, false, false},
		{"an eighth", 800 * mib, 850 * mib, 50 * mib, false, true},
		{"no collections", 8 * mib, 20 * mib, 0, true, false},
	} {
		tt := newTrimmed()
		tt.heap.Off = c.off
		tt.set(c.live, c.objects, c.free)
		tt.pass(quietLooks, 0)
		if tt.begins() != c.want {
			t.Errorf("%s: trimmed is %v, want %v", c.name, tt.begins(), c.want)
		}
		close(tt.end)
	}
}

// The more a process allocates, the more a trim must give back.
func TestTrimPaysForItsRate(t *testing.T) {
	for rate, want := range map[int64]int64{0: 10, 1: 10, 2: 20, 3: 30, 7: 70} {
		tt := newTrimmed()
		tt.set(80*mib, 80*mib+want*mib-1, 0)
		tt.pass(quietLooks-1, 0)
		tt.pass(1, rate*mib)
		tt.pass(1, 0)
		if tt.begins() {
			t.Errorf("at %d MiB/s less than %d MiB are enough", rate, want)
		}
		tt.set(80*mib, 80*mib+want*mib, 0)
		tt.pass(1, 0)
		if !tt.begins() {
			t.Errorf("at %d MiB/s %d MiB are not enough", rate, want)
		}
		close(tt.end)
	}
}

// What owners have dropped counts until a collection has found it.
func TestTrimDropped(t *testing.T) {
	tt := newTrimmed()
	drop := func(bytes, cycles int64) {
		tt.mu.Lock()
		defer tt.mu.Unlock()
		tt.heap.Dropped += bytes
		tt.heap.Cycles += cycles
	}
	tt.set(80*mib, 80*mib, 0)
	tt.pass(quietLooks, 0)
	drop(9*mib, 0)
	tt.pass(1, 0)
	if tt.begins() {
		t.Fatal("memory is given back although there is hardly any")
	}
	drop(0, 1)
	tt.pass(1, 0)
	drop(9*mib, 0)
	tt.pass(1, 0)
	if tt.begins() {
		t.Fatal("what a collection has found counts")
	}
	drop(mib, 0)
	tt.pass(1, 0)
	<-tt.begun
	drop(0, 1)
	tt.end <- struct{}{}
	for tt.busy.Load() {
		runtime.Gosched()
	}
	tt.pass(20, 0)
	if tt.begins() {
		t.Fatal("what a trim has found counts")
	}
}

// What is noted is read.
func TestDropped(t *testing.T) {
	before := ReadHeap()
	Dropped(1000)
	runtime.GC()
	if after := ReadHeap(); after.Dropped != before.Dropped+1000 || after.Cycles <= before.Cycles {
		t.Errorf("%+v after %+v", after, before)
	}
}

func TestTrimStops(t *testing.T) {
	tt := newTrimmed()
	tt.set(8*mib, 20*mib, 0)
	tt.Stop()
	tt.pass(2*quietLooks, 0)
	if tt.begins() {
		t.Error("memory is given back after Stop")
	}
}

// Collections find the heap that ReadHeap tells, and a trim returns it to the system.
func TestReadHeap(t *testing.T) {
	before := func() Heap {
		kept := make([]byte, 32*mib)
		defer runtime.KeepAlive(kept)
		return ReadHeap()
	}()
	if before.Allocated < 32*mib || before.Objects < 32*mib || before.Off {
		t.Errorf("with 32 MiB in use the heap is %+v", before)
	}
	trim := StartTrim(owner.NewManualClock(), slog.New(slog.DiscardHandler))
	defer trim.Stop()
	trim.free()
	if after := ReadHeap(); after.Objects+after.Free > before.Objects+before.Free-16*mib {
		t.Errorf("a trim changed the heap from %+v to %+v", before, after)
	}
}
