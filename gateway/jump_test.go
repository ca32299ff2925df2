package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
	"sluice/internal/testkit"
)

// TestClockJumps: the machine's clock is set by hours, in both directions, while clients are
// connected. Only what has a date notices: new tokens are judged by the new time of day, and the
// Date of responses follows. No connection, request or limit does, and a connection's token ends
// after the time that it had when it was verified.
func TestClockJumps(t *testing.T) {
	clock := owner.NewManualClock()
	g := startLive(t, func(c *Config) {
		c.Loops, c.Shards, c.Clock = 1, 1, clock
		c.JWTSecret, c.JWTClaims = tokenSecret, []string{"sub"}
		c.RequestTimeout = 24 * time.Hour // fake time passes, replies take real time
		c.PingInterval = Off
	})
	asked := make(chan string, 100)
	g.serve("access.test.model", func(m *nats.Msg) string {
		asked <- string(m.Data)
		return `{"result":{"get":true}}`
	})
	g.serve("access.test.other", always(`{"result":{"get":true}}`))
	g.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	start := clock.Wall()
	token := func(from, to time.Duration) string {
		return signed(tokenSecret, fmt.Sprintf(`{"sub":"ada","nbf":%d,"exp":%d}`, start.Add(from).Unix(), start.Add(to).Unix()))
	}
	early, late := token(-time.Hour, time.Hour), token(2*time.Hour, 4*time.Hour)
	c := g.dialWith(early)
	c.ask("subscribe.test.model", "")
	if got := testkit.Await(t, asked, "an access request"); !strings.Contains(got, `"token":{"sub":"ada"}`) {
		t.Error(got)
	}
	var at time.Duration
	for _, step := range []struct {
		at          time.Duration // since start, by the machine's clock
		early, late int           // what new clients get
	}{
		{0, http.StatusOK, http.StatusUnauthorized},
		{3 * time.Hour, http.StatusUnauthorized, http.StatusOK},
		{-5 * time.Hour, http.StatusUnauthorized, http.StatusUnauthorized},
		{0, http.StatusOK, http.StatusUnauthorized},
		{48 * time.Hour, http.StatusUnauthorized, http.StatusUnauthorized},
	} {
		clock.Jump(step.at - at)
		at = step.at
		testkit.Advance(t, clock, time.Second) // the date is formatted again
		for i, want := range []int{step.early, step.late} {
			status, head := g.tokenRequest("/api/test/other", "Authorization: Bearer "+[]string{early, late}[i])
			if status != want {
				t.Errorf("after the clock was set to %v: token %d gets %d, want %d", step.at, i, status, want)
			}
			if date := clock.Wall().UTC().Format(http.TimeFormat); !strings.Contains(head, "Date: "+date+"\n") {
				t.Errorf("want Date %s in\n%s", date, head)
			}
		}
		if status, body := g.get("/readyz"); status != http.StatusOK {
			t.Errorf("after the clock was set to %v: %d %s", step.at, status, body)
		}
		if answer, before := c.ask("get.test.model", ""); !strings.Contains(answer, `"result"`) || len(before) > 0 {
			t.Errorf("after the clock was set to %v: %s after %s", step.at, answer, before)
		}
	}
	n := &g.netMetrics
	if closed := n.SlowClosed.Load() + n.BacklogClosed.Load() + n.PingLost.Load(); closed != 0 || len(asked) > 0 {
		t.Errorf("%d connections were closed, %d access requests were made", closed, len(asked))
	}
	testkit.Advance(t, clock, time.Hour+time.Minute)
	if got := testkit.Await(t, asked, "an access request"); !strings.Contains(got, `"token":null`) {
		t.Error(got)
	}
}
