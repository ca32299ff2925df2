package livetrace

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"sluice/fanout"
	"sluice/internal/framing"
	"sluice/internal/metrics"
	"sluice/internal/owner"
	"sluice/internal/res"
	"sluice/wsproto"
)

// traced returns the lines of a trace to which add has added messages, without the first one, of
// the trace itself.
func traced(t *testing.T, bytes int, add func(tr *Trace)) []Line {
	t.Helper()
	clock := owner.NewManualClock()
	tr := New(Options{Target: Target{CID: "c"}, For: time.Second, Rate: 1000, Bytes: bytes, Clock: clock}, time.Unix(0, 0))
	add(tr)
	var lines []Line
	clock.AfterFunc(0, func() {})
	emit := func(l *Line) error {
		if len(lines) == 0 {
			defer clock.Advance(time.Second)
		}
		lines = append(lines, *l)
		return nil
	}
	if err := tr.Run(context.Background(), func() string { return "" }, emit); err != nil {
		t.Fatal(err)
	}
	if last := lines[len(lines)-1]; lines[0].Kind != Status || last.Kind != End || last.Reason != "its time is over" {
		t.Fatalf("%+v … %+v", lines[0], last)
	}
	return lines[1 : len(lines)-1]
}

// A trace shows the message itself, whatever form a client gets it in, also of several in one
// slice.
func TestSentForms(t *testing.T) {
	framers := framing.Framers(1, new(metrics.Counter))
	for _, size := range []int{2, 125, 126, 1000, 65535, 65536} {
		message := `{"event":"a.b.c.added","data":"` + strings.Repeat("x", size) + `"}`
		for form := range fanout.Forms {
			sent := framers[form](framers[form](nil, []byte(message)), []byte(`{"id":12,"result":{}}`))
			lines := traced(t, 200, func(tr *Trace) {
				tr.Sent("event loop 1", "c", sent, form == fanout.Stream, form == fanout.Deflated, false)
			})
			if len(lines) != 2 {
				t.Fatalf("form %d, %d bytes: %+v", form, size, lines)
			}
			a, b := lines[0], lines[1]
			if a.RID != "a.b.c" || a.Event != "added" || a.Payload != message[:min(200, len(message))] || a.Cut != (len(message) > 200) || a.Kind != Out {
				t.Errorf("form %d, %d bytes: %+v", form, size, a)
			}
			if b.ID != "12" || b.Payload != `{"id":12,"result":{}}` || b.Cut || a.Size+b.Size != len(sent) {
				t.Errorf("form %d, %d bytes: %+v", form, size, b)
			}
		}
	}
}

func TestLastID(t *testing.T) {
	for message, want := range map[string]string{
		`{"result":{"a":1},"id":7}`:            "7",
		`{"error":{"code":"x"},"id":1e3}`:      "1e3",
		`{"result":{"a":1,"id":7}}`:            "",
		`{"result":{"b":1,"id":6},"id":7}`:     "7",
		`{"event":"a.b","data":1,"id":7}`:      "",
		`{"result":",\"id\":7}","id":8}`:       "8",
		`{"result":null}`:                      "",
		`,"id":`:                               "",
		``:                                     "",
		`{"result":"` + longText + `","id":9}`: "9",
	} {
		if got := lastID([]byte(message)); got != want {
			t.Errorf("%.100s: %q, want %q", message, got, want)
		}
	}
}

var longText = strings.Repeat("x", 10_000)

// A message in two frames is shown as two.
func TestSentInFragments(t *testing.T) {
	head, rest := []byte(`{"id":1,"result":{`), []byte(`"models":{"a":{"password":"sesame","text":"`+strings.Repeat("y", 3000)+`"}}}}`)
	plain := wsproto.AppendLast(wsproto.AppendFirst(nil, wsproto.OpText, head), rest)
	packed := wsproto.AppendDeflatedLast(wsproto.AppendDeflatedFirst(nil, wsproto.OpText, head), rest)
	for compressed, sent := range map[bool][]byte{false: plain, true: packed} {
		lines := traced(t, 100, func(tr *Trace) { tr.Sent("", "c", sent, false, compressed, false) })
		if len(lines) != 2 || lines[0].ID != "1" || lines[0].Payload != string(head) ||
			!strings.HasPrefix(lines[1].Payload, `"models":{"a":{"password":"…","text":"yyyy`) || !lines[1].Cut {
			t.Errorf("compressed %v: %+v", compressed, lines)
		}
	}
}

// What has credentials is not shown: parameters of auth requests, the payloads of auth requests to
// services and of their replies, responses to clients that are marked as private, and messages
// that are no requests.
func TestSecrets(t *testing.T) {
	secret := []byte(`{"user":"SESAME"}`)
	lines := traced(t, 1000, func(tr *Trace) {
		tr.Received("", "c", res.Request{ID: "1", Type: res.Auth, RID: "login", Method: "enter", Params: secret}, nil)
		tr.Received("", "c", res.Request{ID: "2", Params: secret}, errors.New("not a request"))
		tr.Requested("", "c", "login", "auth.login.enter", secret)
		tr.Replied("", "c", "login", "auth.login.enter", 0, secret, nil)
		tr.Sent("", "c", wsproto.AppendFrame(nil, wsproto.OpText, secret), false, false, true)
	})
	if len(lines) != 5 {
		t.Fatalf("%+v", lines)
	}
	for i, l := range lines {
		if l.Payload != "" || l.Hidden == (l.Error != "") {
			t.Errorf("line %d: %+v", i, l)
		}
	}
	if lines[0].Method != "auth.enter" || lines[0].RID != "login" || lines[0].Size != len(secret) {
		t.Errorf("%+v", lines[0])
	}
}

// More messages than the rate allows are omitted, and lines that the reader does not take are lost.
// Both are counted, and neither keeps the owner waiting.
func TestBounds(t *testing.T) {
	clock := owner.NewManualClock()
	tr := New(Options{For: time.Minute, Rate: 1000, Clock: clock}, time.Unix(0, 0))
	add := func(n int) {
		for range n {
			tr.Arrived("", "a", "b", nil)
		}
	}
	add(1100)
	if s := tr.status(Status); s.Lines != 1000 || s.Omitted != 100 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	clock.Advance(100 * time.Millisecond)
	add(150)
	if s := tr.status(Status); s.Lines != 1000 || s.Omitted != 150 || s.Lost != 100 || s.LeftMs != 59_900 {
		t.Errorf("%+v", s)
	}
	slow := New(Options{For: time.Minute, Rate: 1, Clock: clock}, time.Unix(0, 0))
	for range 2 {
		slow.Arrived("", "a", "b", nil)
		slow.Arrived("", "a", "b", nil)
		clock.Advance(time.Second)
	}
	if s := slow.status(Status); s.Lines != 2 || s.Omitted != 2 {
		t.Errorf("one line a second: %+v", s)
	}
}

// A trace ends when its reader has gone, when check says so, and with the context.
func TestEnds(t *testing.T) {
	clock := owner.NewManualClock()
	gone := errors.New("gone")
	tr := New(Options{For: time.Minute, Rate: 1, Clock: clock}, time.Unix(0, 0))
	if err := tr.Run(context.Background(), nil, func(*Line) error { return gone }); err != gone {
		t.Errorf("%v", err)
	}
	var last Line
	emit := func(l *Line) error {
		if l.Kind == Status {
			clock.Advance(changed)
		}
		last = *l
		return nil
	}
	if err := tr.Run(context.Background(), func() string { return "closed" }, emit); err != nil || last.Kind != End || last.Reason != "closed" {
		t.Errorf("%v %+v", err, last)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := tr.Run(ctx, func() string { return "" }, func(*Line) error { return nil }); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

// Long names are cut, and invalid text does not break a line.
func TestLongNames(t *testing.T) {
	lines := traced(t, 10, func(tr *Trace) {
		tr.Arrived("", strings.Repeat("é", 5000), "x", bytes.Repeat([]byte{0xff}, 20))
	})
	if l := lines[0]; len(l.RID) > maxText+10 || len(l.Subject) > maxText+10 || l.Size != 20 || !l.Cut || strings.ToValidUTF8(l.RID+l.Payload, "") != l.RID+l.Payload {
		t.Errorf("%+v", l)
	}
}
