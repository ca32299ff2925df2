package natsbus

import (
	"log/slog"
	"slices"
	"testing"

	"sluice/internal/limit"
	"sluice/internal/owner"
)

// published is a Network that notes the subjects of requests, and where to reply.
type published struct{ subjects, replies []string }

func (p *published) Publish(_ int, subject, reply string, _ []byte) bool {
	if reply != "" {
		p.subjects, p.replies = append(p.subjects, subject), append(p.replies, reply)
	}
	return true
}
func (*published) Subscribe(int, string)   {}
func (*published) Unsubscribe(int, string) {}

// toCaller is a Receiver that gets replies only.
type toCaller struct {
	Receiver
	c **Caller
}

func (t toCaller) Reply(r Reply) { (*t.c).Deliver(r) }

// TestAbandonedKeepsItsPlace: a request that was sent keeps its place at its service when its
// client goes: also before the dispatcher has taken note that the connection is up, and if the
// service asks for more time, but not beyond the loss of that connection.
func TestAbandonedKeepsItsPlace(t *testing.T) {
	var sent published
	var c *Caller
	clock := owner.NewManualClock()
	d := NewDriven(Options{
		Log: slog.New(slog.DiscardHandler), Clock: clock, Receiver: toCaller{c: &c}, Signal: func(int, Signal) {}, Metrics: new(Metrics),
		Services: limit.NewTable(limit.Options{Max: 1, Min: 1, Parts: 1}),
	}, &sent)
	defer d.Close()
	k := d.Links[0]
	c = d.Bus.NewCaller(1, owner.NewWheel(1, clock.Now()), clock.Now)
	ask := func(subject string) *Group {
		g := new(Group)
		c.Request(Request{Name: "a.x", Subject: subject, Group: g}, func([]byte, error) {})
		c.Flush()
		for k.Publishing() {
			k.Publish()
		}
		return g
	}
	first := ask("call.a.x.first")
	c.Abandon(first)
	ask("call.a.x.second")
	if want := []string{"call.a.x.first"}; !slices.Equal(sent.subjects, want) {
		t.Errorf("the service gets %q, want %q", sent.subjects, want)
	}
	k.Deliver("replies", sent.replies[0], []byte(`timeout:"2000"`))
	for k.Dispatching() > 0 {
		k.Dispatch(0)
	}
	ask("call.a.x.third")
	if len(sent.subjects) != 1 {
		t.Errorf("after a pre-response the service gets %q", sent.subjects)
	}
	k.Lost()
	k.Restored()
	c.Cut(0)
	for k.Publishing() {
		k.Publish()
	}
	c.Flush()
	for k.Publishing() {
		k.Publish()
	}
	if want := []string{"call.a.x.first", "call.a.x.second"}; !slices.Equal(sent.subjects, want) {
		t.Errorf("after a cut the service gets %q, want %q", sent.subjects, want)
	}
}
