package netpoll

import "testing"

// TestLoopReads: a loop reads messages itself while clients come and go, for which it needs gnet.
func TestLoopReads(t *testing.T) {
	s := serve(t, nil)
	w := &s.Loops()[0].wait
	first, _ := s.connect()
	for range 3 {
		second, _ := s.connect()
		s.until("the loop waits", func() bool { return w.position.Load() == parked || w.parker.Load() == nil })
		first.text("a")
		first.wantText("a")
		second.text("b")
		second.wantText("b")
		_ = second.Close()
		s.until("the end of input is noticed", func() bool { return s.m.Open.Load() == 1 })
	}
	s.on(0, func(*Loop) {
		if w.buffer == nil && w.parker.Load() != nil {
			t.Error("the loop has read nothing itself")
		}
	})
}

// TestDescriptors: a table knows the latest slot of each number below its limit, and no other.
func TestDescriptors(t *testing.T) {
	d := newDescriptors(3*pageDescriptors - 1)
	for _, fd := range []int{0, 1, pageDescriptors, 3*pageDescriptors - 2} {
		if slot, ok := d.slot(fd); ok && slot != 0 {
			t.Errorf("%d has slot %d at first", fd, slot)
		}
		for _, want := range []uint32{7, 8} {
			d.set(fd, want)
			if slot, ok := d.slot(fd); !ok || slot != want {
				t.Errorf("%d has slot %d, %v, want %d", fd, slot, ok, want)
			}
		}
	}
	for _, fd := range []int{3 * pageDescriptors, maxDescriptors, maxDescriptors + 1} {
		d.set(fd, 1)
		if slot, ok := d.slot(fd); ok {
			t.Errorf("%d, above the limit, has slot %d", fd, slot)
		}
	}
	if huge := newDescriptors(1 << 30); len(huge.pages) != maxDescriptors/pageDescriptors {
		t.Errorf("%d pages", len(huge.pages))
	}
}
