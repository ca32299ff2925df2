//go:build linux

package soak

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"sluice/internal/resmodel"
	"sluice/loadtest/proc"
	"sluice/loadtest/soak/service"
)

// commandLimit bounds a service's reply to a command. A frozen service replies late.
const commandLimit = 30 * time.Second

// svc is a service's process. Its methods may be called from any goroutine.
type svc struct {
	cfg     service.Config
	command func() *exec.Cmd // a process that runs service.Worker
	log     *os.File

	mu      sync.Mutex // one command at a time
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies chan service.Reply // closed when the process has ended
	id      int
}

func newService(dir string, cfg service.Config, command func() *exec.Cmd) (*svc, error) {
	log, err := os.Create(filepath.Join(dir, fmt.Sprintf("service%d.log", cfg.Index)))
	return &svc{cfg: cfg, command: command, log: log}, err
}

// start starts the process, with another generation of its state, and waits until it serves.
func (s *svc) start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cfg.Gen++
	s.cmd = s.command()
	s.cmd.Stderr = s.log
	in, err := s.cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := proc.StartPinned(s.cmd, nil); err != nil {
		return err
	}
	s.in, s.replies = in, make(chan service.Reply, 16)
	go receive(s.cmd, out, s.replies)
	if err := json.NewEncoder(in).Encode(s.cfg); err != nil {
		return err
	}
	_, err = s.reply(0, patience)
	return err
}

// receive passes on a process's replies, and reaps it when it has ended.
func receive(cmd *exec.Cmd, out io.Reader, replies chan<- service.Reply) {
	d := json.NewDecoder(out)
	d.UseNumber()
	for {
		var r service.Reply
		if d.Decode(&r) != nil {
			break
		}
		replies <- r
	}
	_ = cmd.Wait()
	close(replies)
}

// do executes a command.
func (s *svc) do(c service.Command) (service.Reply, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id++
	c.ID = s.id
	if err := json.NewEncoder(s.in).Encode(c); err != nil {
		return service.Reply{}, err
	}
	return s.reply(c.ID, commandLimit)
}

// reply waits for the reply to a command.
func (s *svc) reply(id int, limit time.Duration) (service.Reply, error) {
	late := time.After(limit)
	for {
		select {
		case r, ok := <-s.replies:
			switch {
			case !ok:
				return r, fmt.Errorf("service %d has ended", s.cfg.Index)
			case r.ID != id: // to a command that was given up
			case r.Error != "":
				return r, errors.New(r.Error)
			default:
				return r, nil
			}
		case <-late:
			return service.Reply{}, fmt.Errorf("service %d does not reply", s.cfg.Index)
		}
	}
}

// crash lets the service die in the middle of replies, and waits for its end.
func (s *svc) crash() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := json.NewEncoder(s.in).Encode(service.Command{ID: -1, Do: service.Crash}); err != nil {
		return err
	}
	late := time.After(commandLimit)
	for {
		select {
		case _, ok := <-s.replies:
			if !ok {
				return nil
			}
		case <-late:
			return fmt.Errorf("service %d does not crash", s.cfg.Index)
		}
	}
}

// signal sends a signal to the process.
func (s *svc) signal(sig syscall.Signal) error { return s.cmd.Process.Signal(sig) }

// stop ends the process.
func (s *svc) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd != nil && s.cmd.Process != nil && s.replies != nil {
		_ = s.cmd.Process.Kill() // fails if it has ended
		for range s.replies {
		}
	}
	_ = s.log.Close()
}

// truth is what all services say is true. It is immutable.
type truth struct {
	store  *resmodel.Store
	values map[string][2]string // models and collections as JSON for newer and older clients
	gens   []uint64
	ticks  map[string]uint64
	states []*service.State
}

// olderVersion is what some of the clients state: soft references and data values look different to
// them.
const olderVersion = "1.2.0"

// truthOf asks all services.
func truthOf(services []*svc) (*truth, error) {
	t := &truth{store: resmodel.NewStore(), values: map[string][2]string{}, ticks: map[string]uint64{}}
	for _, s := range services {
		r, err := s.do(service.Command{Do: service.Tell})
		if err != nil {
			return nil, err
		}
		for rid, v := range r.State.Resources {
			t.store.Set(rid, v)
			t.values[rid] = [2]string{resmodel.Encode(resmodel.AsSeenBy(v, newerVersion)), resmodel.Encode(resmodel.AsSeenBy(v, olderVersion))}
		}
		for name, v := range r.State.Sliced {
			t.store.SetSliced(name, v)
		}
		for _, name := range r.State.Denied {
			t.store.Deny(name, true)
		}
		for feed, n := range r.State.Ticks {
			t.ticks[feed] = n
		}
		t.gens = append(t.gens, r.State.Gen)
		t.states = append(t.states, r.State)
	}
	return t, nil
}

// value returns a resource as JSON; ok is false if it does not exist.
func (t *truth) value(rid, version string) (json string, ok bool) {
	if v, ok := t.values[rid]; ok {
		if version == olderVersion {
			return v[1], true
		}
		return v[0], true
	}
	v, ok := t.store.Value(rid)
	return resmodel.Encode(resmodel.AsSeenBy(v, version)), ok
}
