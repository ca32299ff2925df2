//go:build linux

package soak

import (
	"errors"
	"os/exec"
	"time"
)

// services is the number of services.
const services = 4

// Options say how to run.
type Options struct {
	Time    time.Duration // for which faults happen; each kind happens once, whatever it is
	Clients int
	Seed    uint64
	Out     string // folder of logs and report
	Gateway string // the program sluice
	NATS    string // the program nats-server

	// Service returns a process that runs service.Worker.
	Service func() *exec.Cmd
	// Say gets lines for the terminal, from one goroutine at a time; nil for none.
	Say func(line string)
}

// check returns what is wrong with the options, as the command names them.
func (o *Options) check() error {
	switch {
	case o.Time <= 0:
		return errors.New("-time must be positive")
	case o.Clients < 20:
		return errors.New("-clients must be at least 20: one of each kind for each gateway")
	case o.Seed == 0:
		return errors.New("-seed must not be 0")
	}
	if o.Say == nil {
		o.Say = func(string) {}
	}
	return nil
}

// long reports whether there is time to compare memory after a tenth of the time.
func (o *Options) long() bool { return o.Time >= 5*time.Minute }

// feeds is the number of feeds of each service.
func (o *Options) feeds() int { return 3 }

// groups is the number of groups of each service. A resource has some dozens of clients.
func (o *Options) groups() int { return min(max(o.Clients/100, 3), 40) }
