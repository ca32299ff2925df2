//go:build linux

package differential

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
)

// Options say what to compare.
type Options struct {
	Targets []plan.Target // two gateways that speak RES: the one in question, and the reference
	NATS    string        // the program of a NATS server
	Seed    uint64        // of the first conversation; the others follow
	Count   int           // conversations; 0: as many as Time allows
	Time    time.Duration // after which no conversation begins; 0: any
	Steps   int           // of each conversation; 0: 60
	Say     func(line string)
}

// Result is what a comparison found.
type Result struct {
	Conversations int
	Steps         int
	Allowed       map[string]int // by the rule's name
	Found         []Difference
	Ended         int    // how often the reference ended
	Why           string // the last time
}

// Difference is the first step of a conversation with which the gateways differ.
type Difference struct {
	Seed   uint64
	Steps  []Step    // the last one makes the difference
	Before []Outcome // of the steps before, at the first gateway
	Got    Outcome
	Want   Outcome
}

const (
	parallel   = 8 // conversations at a time
	mostFound  = 10
	startLimit = time.Minute
	stopLimit  = 10 * time.Second
	dying      = 2 * time.Second          // from when a gateway closes connections until its process has ended
	endedFor   = settleLimit + startLimit // after the end of the reference other conversations may fail
)

// Check returns what is wrong with the options.
func (o *Options) Check() error {
	switch {
	case len(o.Targets) != 2:
		return fmt.Errorf("two gateways are compared, not %d", len(o.Targets))
	case o.Count <= 0 && o.Time <= 0:
		return errors.New("say how many conversations to hold, or for how long")
	}
	for _, t := range o.Targets {
		if t.Protocol != "res" {
			return fmt.Errorf("%s speaks %s; conversations are in RES", t.Name, t.Protocol)
		}
	}
	return nil
}

// place is where a gateway and its NATS server are.
type place struct {
	addr, nats string
	start      func() error // starts the gateway

	mu      sync.Mutex
	gateway *proc.Process
}

// Run compares two gateways. It returns an error if they cannot be run; differences are no error.
func Run(ctx context.Context, o Options) (*Result, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	if o.Steps == 0 {
		o.Steps = 60
	}
	c := comparison{options: &o, result: &Result{Allowed: map[string]int{}}}
	for i, t := range o.Targets {
		stop, p, err := start(t, o.NATS)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", t.Name, err)
		}
		defer stop()
		c.places[i] = p
	}
	err := c.run(ctx)
	return c.result, err
}

// start starts a gateway with a NATS server. stop ends both.
func start(t plan.Target, nats string) (stop func(), at *place, err error) {
	params := map[string]string{}
	for _, name := range []string{"port", "nats"} {
		port, err := proc.StablePort()
		if err != nil {
			return nil, nil, err
		}
		params[name] = strconv.Itoa(port)
	}
	at = &place{addr: "127.0.0.1:" + params["port"], nats: "nats://127.0.0.1:" + params["nats"]}
	run := func(name, line string, env []string, ready string) (*proc.Process, error) {
		line, err := proc.Fill(line, params)
		if err != nil {
			return nil, err
		}
		p, err := proc.Start(name, line, nil, env)
		if err != nil {
			return nil, err
		}
		if err := p.Ready(ready, startLimit); err != nil {
			return nil, errors.Join(err, p.Stop(stopLimit))
		}
		return p, nil
	}
	server, err := run("NATS server", nats+" -a 127.0.0.1 -p {nats}", nil, strings.TrimPrefix(at.nats, "nats://"))
	if err != nil {
		return nil, nil, err
	}
	at.start = func() (err error) {
		at.gateway, err = run(t.Name, t.Start, t.Env, at.addr)
		return err
	}
	if err := at.start(); err != nil {
		return nil, nil, errors.Join(err, server.Stop(stopLimit))
	}
	return func() {
		at.mu.Lock()
		defer at.mu.Unlock()
		if at.gateway != nil {
			_ = at.gateway.Stop(stopLimit)
		}
		_ = server.Stop(stopLimit)
	}, at, nil
}

// ended returns why a gateway does not run any more; nil if it runs. With again it is started anew.
func (p *place) ended(again bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gateway.Running() {
		return nil
	}
	why := fmt.Errorf("%s ended (%s): %s", p.gateway.Name, p.gateway.Exit(), p.gateway.Output())
	if again {
		if err := p.start(); err != nil {
			return err
		}
	}
	return why
}

// comparison is a run in progress.
type comparison struct {
	options *Options
	places  [2]*place
	names   atomic.Int64

	mu      sync.Mutex
	result  *Result
	next    uint64
	lastEnd time.Time // of the reference
}

func (c *comparison) run(ctx context.Context) error {
	began := time.Now()
	take := func() (seed uint64, ok bool) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch {
		case ctx.Err() != nil, c.options.Count > 0 && c.next >= uint64(c.options.Count), len(c.result.Found) >= mostFound,
			c.options.Time > 0 && time.Since(began) > c.options.Time:
			return 0, false
		}
		c.next++
		return c.options.Seed + c.next - 1, true
	}
	var wait sync.WaitGroup
	errs := make([]error, parallel)
	for i := range parallel {
		wait.Go(func() {
			for {
				seed, ok := take()
				if !ok {
					return
				}
				if errs[i] = c.converse(seed); errs[i] != nil {
					return
				}
			}
		})
	}
	wait.Wait()
	return errors.Join(append(errs, ctx.Err())...)
}

// converse holds the conversation of a seed.
func (c *comparison) converse(seed uint64) error {
	steps := Steps(seed, c.options.Steps)
	found, n, allowed, err := c.hold(steps)
	if err == nil && found != nil {
		if found, err = c.shrink(found); found != nil {
			found.Seed = seed
		}
	}
	if err != nil {
		pause(dying)
		if why := c.places[0].ended(false); why != nil {
			return fmt.Errorf("conversation %d: %w", seed, why)
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if why := c.places[1].ended(true); why != nil {
			c.result.Ended++
			c.lastEnd = time.Now()
			c.result.Why = why.Error()
		} else if time.Since(c.lastEnd) > endedFor {
			return fmt.Errorf("conversation %d: %w", seed, err)
		}
		return nil // the reference ends conversations
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.result.Conversations++
	c.result.Steps += n
	for _, name := range allowed {
		c.result.Allowed[name]++
	}
	if found != nil {
		c.result.Found = append(c.result.Found, *found)
		if c.options.Say != nil {
			c.options.Say(found.String())
		}
	}
	return nil
}

// hold does the steps at both gateways until they differ. allowed are the names of the rules that
// allowed a difference; after one of these that changes what clients hold, the conversation ends.
func (c *comparison) hold(steps []Step) (found *Difference, done int, allowed []string, err error) {
	name := fmt.Sprintf("d%07d", c.names.Add(1)) // both have the same length in all messages
	var sides [2]*side
	defer func() {
		for _, s := range sides {
			if s != nil {
				_ = s.close()
			}
		}
	}()
	for i, p := range c.places {
		if sides[i], err = newSide(p.addr, p.nats, name); err != nil {
			return nil, 0, nil, err
		}
	}
	var before []Outcome
	for i, step := range steps {
		var out [2]Outcome
		var errs [2]error
		var wait sync.WaitGroup
		for k, s := range sides {
			wait.Go(func() { out[k], errs[k] = s.do(step) })
		}
		wait.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			return nil, i, allowed, fmt.Errorf("%v: %w", step, err)
		}
		if reflect.DeepEqual(out[0], out[1]) {
			before = append(before, out[0])
			continue
		}
		names, ends, ok := allow(steps[:i+1], &out[0], &out[1])
		if !ok {
			return &Difference{Steps: steps[:i+1], Before: before, Got: out[0], Want: out[1]}, i + 1, allowed, nil
		}
		before = append(before, out[0])
		if allowed = append(allowed, names...); ends {
			return nil, i + 1, allowed, nil
		}
	}
	return nil, len(steps), allowed, nil
}

// shrinkLimit bounds the attempts to make a conversation shorter.
const shrinkLimit = 120

// shrink leaves out steps without which the last one still makes a difference.
func (c *comparison) shrink(d *Difference) (*Difference, error) {
	tries := 0
	for size := max(len(d.Steps)/2, 1); ; size /= 2 {
		for at := 0; at < len(d.Steps)-1 && tries < shrinkLimit; tries++ {
			steps := slices.Delete(slices.Clone(d.Steps), at, min(at+size, len(d.Steps)-1))
			shorter, _, _, err := c.hold(steps)
			if err != nil {
				return nil, err
			}
			if shorter != nil && len(shorter.Steps) == len(steps) {
				d = shorter
				continue
			}
			at += size
		}
		if size <= 1 || tries >= shrinkLimit {
			return d, nil
		}
	}
}

// String describes the difference: the steps with what came of them, and the lines that only one
// side has.
func (d *Difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "conversation %d, as short as possible:\n", d.Seed)
	for i, s := range d.Steps {
		fmt.Fprintf(&b, "  %v\n", s)
		if i < len(d.Before) {
			for _, l := range d.Before[i].lines() {
				fmt.Fprintf(&b, "    %s\n", l)
			}
		}
	}
	first, second := apart(&d.Got, &d.Want)
	for _, l := range first {
		fmt.Fprintf(&b, "  first only:  %s\n", l)
	}
	for _, l := range second {
		fmt.Fprintf(&b, "  second only: %s\n", l)
	}
	return b.String()
}

// lines returns all of an outcome, a message in each line.
func (o *Outcome) lines() (all []string) {
	for i, c := range o.Clients {
		add := func(kind, text string) { all = append(all, fmt.Sprintf("client %d %s %s", i, kind, text)) }
		for _, r := range c.Responses {
			add("response", r)
		}
		for _, events := range c.Events {
			for k, e := range events {
				add("event "+strconv.Itoa(k), e)
			}
		}
		for _, other := range c.Other {
			add("message", other)
		}
		for _, rid := range c.Stale {
			add("is stale:", rid)
		}
		if c.Broken != "" {
			add("cannot go on:", c.Broken)
		}
		if c.Ended != "" {
			add("connection", c.Ended)
		}
	}
	for _, l := range o.HTTP {
		all = append(all, "http "+l)
	}
	slices.Sort(all)
	return all
}
