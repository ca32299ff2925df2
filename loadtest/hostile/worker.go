//go:build linux

package hostile

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// reply is what a process of attackers answers: when it has begun, and when it has ended.
type reply struct {
	Error  string `json:"error,omitempty"`
	Counts Counts `json:"counts"`
}

// Worker attacks as a process of its own, as the line of in says, until in ends.
func Worker(in io.Reader, out io.Writer) error {
	yield()
	r, w := bufio.NewReader(in), json.NewEncoder(out)
	var cfg Config
	line, err := r.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &cfg)
	}
	var a *Attack
	if err == nil {
		a, err = Begin(context.Background(), cfg)
	}
	if err != nil {
		return w.Encode(reply{Error: err.Error()})
	}
	if err := w.Encode(reply{}); err != nil {
		a.End()
		return err
	}
	_, _ = io.Copy(io.Discard, r)
	return w.Encode(reply{Counts: a.End()})
}

// yield lets the threads of this process, and those that they start, run after all others. Clients
// that share its cores would otherwise read late what the server has sent in time.
func yield() {
	for range 2 { // a thread may start another while the folder is read
		threads, err := os.ReadDir("/proc/self/task")
		if err != nil {
			return
		}
		for _, t := range threads {
			if tid, err := strconv.Atoi(t.Name()); err == nil {
				// Where this is not allowed, the clients' latencies are upper bounds.
				_ = unix.Setpriority(unix.PRIO_PROCESS, tid, lowest)
			}
		}
	}
}

const lowest = 19 // the nice value of a process that gets the least time

// Remote is an attack in another process, which runs Worker.
type Remote struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

// replyLimit bounds the wait for a process that has little time.
const replyLimit = 2 * time.Minute

// Start starts cmd, which must run Worker on its standard input and output, and has it attack. A
// start that is not nil replaces cmd.Start.
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
	r := &Remote{cmd: cmd, in: in, out: json.NewDecoder(out)}
	line, err := json.Marshal(cfg)
	if err == nil {
		_, err = in.Write(append(line, '\n'))
	}
	if err == nil {
		_, err = r.reply()
	}
	if err != nil {
		_, _ = r.End()
		return nil, err
	}
	return r, nil
}

// PID returns the process id.
func (r *Remote) PID() int { return r.cmd.Process.Pid }

// reply reads a reply. It kills the process at the limit.
func (r *Remote) reply() (Counts, error) {
	guard := time.AfterFunc(replyLimit, func() { _ = r.cmd.Process.Kill() })
	defer guard.Stop()
	var got reply
	if err := r.out.Decode(&got); err != nil {
		return Counts{}, fmt.Errorf("the process of attackers: %w", err)
	}
	if got.Error != "" {
		return Counts{}, errors.New(got.Error)
	}
	return got.Counts, nil
}

// End ends the attack and its process, and returns what it has done.
func (r *Remote) End() (Counts, error) {
	_ = r.in.Close()
	counts, err := r.reply()
	return counts, errors.Join(err, r.cmd.Wait())
}
