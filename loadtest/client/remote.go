//go:build linux

package client

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"runtime/debug"
	"time"
)

// command is a line of JSON to a client process.
type command struct {
	Op        string  `json:"op"`
	Config    *Config `json:"config,omitempty"`
	At        int64   `json:"at,omitempty"`
	Load      *Load   `json:"load,omitempty"`
	PerClient bool    `json:"perClient,omitempty"`
	Addr      string  `json:"addr,omitempty"`
}

// reply is the line of JSON that answers a command.
type reply struct {
	Error  string  `json:"error,omitempty"`
	Sample *Sample `json:"sample,omitempty"`
}

// Worker runs an Engine for the process at the other ends of in and out, until in ends. It
// is the main function of a client process.
func Worker(in io.Reader, out io.Writer) error {
	debug.SetGCPercent(400)
	commands, replies := json.NewDecoder(bufio.NewReader(in)), json.NewEncoder(out)
	var e *Engine
	defer func() {
		if e != nil {
			_ = e.Close()
		}
	}()
	for {
		var o command
		if err := commands.Decode(&o); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		var r reply
		if err := execute(&e, o, &r); err != nil {
			r.Error = err.Error()
		}
		if err := replies.Encode(r); err != nil {
			return err
		}
	}
}

// execute executes a command on the engine, which the command "setup" starts.
func execute(e **Engine, o command, r *reply) (err error) {
	if o.Op == "setup" {
		if *e != nil || o.Config == nil {
			return errors.New("set up twice, or without a configuration")
		}
		runtime.GOMAXPROCS(max(o.Config.Threads, 1) + 1) // the threads, and this goroutine
		*e, err = New(*o.Config)
		return err
	}
	if *e == nil {
		return errors.New("not set up")
	}
	switch o.Op {
	case "connect":
		return (*e).Connect()
	case "begin":
		return (*e).Begin(o.At)
	case "load":
		if o.Load == nil {
			return errors.New("no load given")
		}
		return (*e).Load(*o.Load)
	case "sample":
		s, err := (*e).Sample(o.PerClient)
		r.Sample = &s
		return err
	case "resume":
		return (*e).Resume()
	case "drop":
		return (*e).Drop()
	case "move":
		return (*e).Move(o.Addr)
	}
	return fmt.Errorf("unknown command %q", o.Op)
}

// Remote is a set of clients in another process, which runs Worker.
type Remote struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

var _ Clients = (*Remote)(nil)

// Start starts cmd, which must run Worker on its standard input and output, and sets up its
// clients. A start that is not nil replaces cmd.Start.
func Start(cmd *exec.Cmd, cfg Config, start func(*exec.Cmd) error) (*Remote, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if start == nil {
		start = (*exec.Cmd).Start
	}
	if err := start(cmd); err != nil {
		return nil, err
	}
	r := &Remote{cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReaderSize(out, 64<<10))}
	if _, err := r.do(command{Op: "setup", Config: &cfg}); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// PID returns the process id.
func (r *Remote) PID() int { return r.cmd.Process.Pid }

// replyLimit bounds the wait for a reply. A process replies to every command immediately,
// unless it is stuck or starved of CPU.
const replyLimit = 30 * time.Second

// do sends a command and waits for the reply. It kills the process at the limit.
func (r *Remote) do(o command) (reply, error) {
	guard := time.AfterFunc(replyLimit, func() { _ = r.cmd.Process.Kill() })
	defer guard.Stop()
	var got reply
	line, err := json.Marshal(o)
	if err == nil {
		_, err = r.in.Write(append(line, '\n'))
	}
	if err == nil {
		err = r.out.Decode(&got)
	}
	if err != nil {
		return got, fmt.Errorf("client process %d: %s: %w", r.PID(), o.Op, err)
	}
	if got.Error != "" {
		return got, errors.New(got.Error)
	}
	return got, nil
}

// Connect implements Clients.
func (r *Remote) Connect() error {
	_, err := r.do(command{Op: "connect"})
	return err
}

// Begin implements Clients.
func (r *Remote) Begin(at int64) error {
	_, err := r.do(command{Op: "begin", At: at})
	return err
}

// Load implements Clients.
func (r *Remote) Load(l Load) error {
	_, err := r.do(command{Op: "load", Load: &l})
	return err
}

// Sample implements Clients.
func (r *Remote) Sample(perClient bool) (Sample, error) {
	got, err := r.do(command{Op: "sample", PerClient: perClient})
	if err != nil || got.Sample == nil {
		return Sample{}, err
	}
	return *got.Sample, nil
}

// Resume implements Clients.
func (r *Remote) Resume() error {
	_, err := r.do(command{Op: "resume"})
	return err
}

// Drop implements Clients.
func (r *Remote) Drop() error {
	_, err := r.do(command{Op: "drop"})
	return err
}

// Move implements Clients.
func (r *Remote) Move(addr string) error {
	_, err := r.do(command{Op: "move", Addr: addr})
	return err
}

// Close implements Clients. The process ends when its input does.
func (r *Remote) Close() error {
	guard := time.AfterFunc(replyLimit, func() { _ = r.cmd.Process.Kill() })
	defer guard.Stop()
	_ = r.in.Close()
	return r.cmd.Wait()
}

// Group is a set of clients made of several.
type Group []Clients

var _ Clients = Group(nil)

// each calls f with each set in turn, until one fails.
func (g Group) each(f func(Clients) error) error {
	for _, c := range g {
		if err := f(c); err != nil {
			return err
		}
	}
	return nil
}

// Connect implements Clients.
func (g Group) Connect() error { return g.each(Clients.Connect) }

// Begin implements Clients.
func (g Group) Begin(at int64) error {
	return g.each(func(c Clients) error { return c.Begin(at) })
}

// Load implements Clients. The rate is that of all sets together.
func (g Group) Load(l Load) error {
	l.Rate /= float64(len(g))
	return g.each(func(c Clients) error { return c.Load(l) })
}

// Sample implements Clients.
func (g Group) Sample(perClient bool) (Sample, error) {
	var all Sample
	err := g.each(func(c Clients) error {
		s, err := c.Sample(perClient)
		all.Add(s)
		return err
	})
	return all, err
}

// Resume implements Clients.
func (g Group) Resume() error { return g.each(Clients.Resume) }

// Drop implements Clients.
func (g Group) Drop() error { return g.each(Clients.Drop) }

// Move implements Clients.
func (g Group) Move(addr string) error {
	return g.each(func(c Clients) error { return c.Move(addr) })
}

// Close implements Clients. It closes all sets, also after an error.
func (g Group) Close() error {
	var first error
	for _, c := range g {
		if err := c.Close(); err != nil && first == nil {
			first = err
		}
	}
	return first
}
