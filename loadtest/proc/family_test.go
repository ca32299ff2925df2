//go:build linux

package proc

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// A process is among its parent's children until it has ended, and then it is known what it used.
func TestChildrenAndUsed(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	script := fifo + ".sh"
	if err := os.WriteFile(script, []byte("mkfifo "+fifo+"\nread x <"+fifo+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := Start("script", "sh "+script, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.KillAll)
	if !slices.Contains(Children(os.Getpid()), p.PID()) {
		t.Errorf("%v are the children, not %d", Children(os.Getpid()), p.PID())
	}
	if !Alive(p.PID()) {
		t.Error("it is not alive")
	}
	if u, err := p.Used(); err == nil {
		t.Errorf("a process that runs has used %+v in the end", u)
	}
	p.Kill()
	<-p.Ended()
	if u, err := p.Used(); err != nil || u.CPU <= 0 || u.Switches < 0 || u.Writes != -1 {
		t.Errorf("it has used %+v, %v", u, err)
	}
	if slices.Contains(Children(os.Getpid()), p.PID()) || Alive(p.PID()) {
		t.Error("it is still a child")
	}
}

func TestAddOfUnknownFields(t *testing.T) {
	if sum := (Usage{CPU: 1, User: 2, Sys: 3, Switches: 5, Writes: -1}).Add(Usage{CPU: 1, User: 1, Sys: 1, Switches: 2, Writes: 3}); sum != (Usage{CPU: 2, User: 3, Sys: 4, Switches: 7, Writes: -1}) {
		t.Errorf("%+v", sum)
	}
}
