// Package health decides whether a gateway is ready: whether it serves new clients in full.
//
// It owns no state: it asks the parts. It never answers a request, which httpedge does.
package health

import (
	"errors"
	"fmt"

	"sluice/internal/memory"
)

// Checks are what the parts report. All are required; any goroutine may call them at any time.
type Checks struct {
	Started     func() bool                // reports whether NATS has been reached
	Lost        func() bool                // reports whether NATS was unreachable for longer than the grace period
	NATS        func() error               // why NATS cannot be used; called only after Started
	ID          func() error               // why the gateway's ID is not its own
	Memory      func() memory.Level        // how short memory is
	Connections func() (open, limit int64) // of clients; limit 0: none
}

// Ready returns nil if new clients are served in full, otherwise the reason why not, with what to
// do.
func (c *Checks) Ready() error {
	if !c.Started() {
		return errors.New("the gateway is starting: NATS has not been reached yet")
	}
	if c.Lost() {
		return errors.New("clients are closed: NATS was unreachable for longer than the grace period (natsGrace)")
	}
	if err := c.NATS(); err != nil {
		return err
	}
	if err := c.ID(); err != nil {
		return err
	}
	if l := c.Memory(); l >= memory.Short {
		return fmt.Errorf("memory is %v: new clients get 503; raise memoryLimit, or add gateways", l)
	}
	if open, limit := c.Connections(); limit > 0 && open >= limit {
		return fmt.Errorf("%d clients are connected: new clients get 503; raise maxConnections, or add gateways", open)
	}
	return nil
}
