package health

import (
	"errors"
	"strings"
	"testing"

	"sluice/internal/memory"
)

// Each check that fails gives the reason.
func TestReady(t *testing.T) {
	ok := func() Checks {
		return Checks{
			Started: func() bool { return true }, Lost: func() bool { return false }, NATS: func() error { return nil }, ID: func() error { return nil },
			Memory: func() memory.Level { return memory.Tight }, Connections: func() (int64, int64) { return 9, 10 },
		}
	}
	for want, change := range map[string]func(*Checks){
		"": func(*Checks) {},
		"the gateway is starting": func(c *Checks) {
			c.Started = func() bool { return false }
			c.NATS = nil // there is none yet
		},
		"natsGrace":       func(c *Checks) { c.Lost = func() bool { return true } },
		"no permission":   func(c *Checks) { c.NATS = func() error { return errors.New("no permission") } },
		"gatewayId":       func(c *Checks) { c.ID = func() error { return errors.New("gatewayId is taken") } },
		"memory is short": func(c *Checks) { c.Memory = func() memory.Level { return memory.Short } },
		"maxConnections":  func(c *Checks) { c.Connections = func() (int64, int64) { return 10, 10 } },
	} {
		c := ok()
		change(&c)
		switch err := c.Ready(); {
		case want == "" && err != nil:
			t.Errorf("not ready: %v", err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("got %v, want %q", err, want)
		}
	}
	c := ok()
	c.Connections = func() (int64, int64) { return 10, 0 }
	if err := c.Ready(); err != nil {
		t.Errorf("without a limit: %v", err)
	}
}
