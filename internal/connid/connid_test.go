package connid

import (
	"testing"

	"sluice/netpoll"
)

// Parse accepts exactly the texts that Conn and Request return.
func TestParse(t *testing.T) {
	m := New()
	h := netpoll.Handle(3<<54 | 7<<32 | 9)
	if id, ok := m.Parse(m.Conn(h)); !ok || id != (ID{Loop: h.Loop(), Conn: h}) {
		t.Errorf("%s: %+v, %v", m.Conn(h), id, ok)
	}
	if id, ok := m.Parse(m.Request(2, 40)); !ok || id != (ID{Loop: 2, Number: 40}) {
		t.Errorf("%s: %+v, %v", m.Request(2, 40), id, ok)
	}
	for _, rest := range []string{
		"", "H", "HH", "H0", "H0H", "H0H0", "HH1", "H0H1H", "H0H1H1", "H00H1", "H0H01", "HgggggH1", "H-1H1", "H+1H1", "H0H+1",
		"0H1", "01", "+1", "-1", "1 ", " 1", "A", "1.1", "zzzzzzzzzzzzz", "zzzzzzzzzzzzzz", "_", "é",
	} {
		if id, ok := m.Parse(m.prefix + rest); ok {
			t.Errorf("%q is accepted as %+v", rest, id)
		}
	}
	for _, text := range []string{"", m.prefix[1:] + "1", New().Conn(h)} {
		if id, ok := m.Parse(text); ok {
			t.Errorf("%q is accepted as %+v", text, id)
		}
	}
}

// Each connection keeps its ID, so it is no longer than a size class of 32 bytes.
func TestIDsAreShort(t *testing.T) {
	most := netpoll.Handle(255<<54 | (1<<22-1)<<32 | (1<<32 - 1))
	if id := New().Conn(most); len(id) > 32 {
		t.Errorf("%s has %d bytes", id, len(id))
	}
}
