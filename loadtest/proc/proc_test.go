//go:build linux

package proc

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// CPU time grows by at least the work done.
func TestUsageGrowsWithWork(t *testing.T) {
	before, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	x := 1.0
	for self, err := ReadUsage(os.Getpid()); self.CPU-before.CPU < 20*time.Millisecond; self, err = ReadUsage(os.Getpid()) {
		if err != nil {
			t.Fatal(err)
		}
		for range 100_000 {
			x = x*1.0000001 + 1e-9
		}
	}
	after, err := ReadUsage(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	d := after.Sub(before)
	if d.CPU < 20*time.Millisecond || d.User < 0 || d.Sys < 0 || (d.User+d.Sys != 0 && d.User+d.Sys != d.CPU) || x == 0 {
		t.Errorf("%+v", d)
	}
	m, err := ReadMemory(os.Getpid())
	if err != nil || m.RSS <= 0 {
		t.Errorf("%+v, %v", m, err)
	}
	if _, err := ReadMachine(); err != nil {
		t.Error(err)
	}
}

func TestSubOfUnknownFields(t *testing.T) {
	d := Usage{Switches: 5, Writes: -1}.Sub(Usage{Switches: -1, Writes: 3})
	if d.Switches != -1 || d.Writes != -1 {
		t.Errorf("%+v", d)
	}
	if _, err := ReadUsage(1 << 30); err == nil {
		t.Error("a process that does not exist has a usage")
	}
}

func TestStartPinned(t *testing.T) {
	cores := Cores()
	if len(cores) == 0 {
		t.Fatal("no cores")
	}
	want := cores[len(cores)-1:]
	cmd := exec.Command("cat", "/proc/self/status")
	var out strings.Builder
	cmd.Stdout = &out
	if err := StartPinned(cmd, want); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "Cpus_allowed_list:\t"+strconv.Itoa(want[0])+"\n") {
		t.Errorf("the child has other cores than %v:\n%s", want, out.String())
	}
	if now := Cores(); !slices.Equal(now, cores) {
		t.Errorf("pinning a child pinned us: %v", now)
	}
}

func TestStop(t *testing.T) {
	p, err := Start("sleeper", "sleep 60", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !p.Running() {
		t.Error("it does not run")
	}
	if err := p.Stop(10 * time.Second); err != nil {
		t.Fatal(err)
	}
	if p.Running() {
		t.Error("it runs after Stop")
	}
	if err := p.Stop(time.Second); err != nil {
		t.Errorf("second stop: %v", err)
	}
}

func TestReadyReportsTheOutput(t *testing.T) {
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	p, err := Start("failing", "cat /there/is/no/such/file", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Ready(net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), 10*time.Second); err == nil || !strings.Contains(err.Error(), "No such file") {
		t.Errorf("%v", err)
	}
	if _, err := Start("empty", " ", nil, nil); err == nil {
		t.Error("an empty command line is accepted")
	}
}

func TestFill(t *testing.T) {
	got, err := Fill("x --port {port} {nats}", map[string]string{"port": "1", "nats": "2"})
	if err != nil || got != "x --port 1 2" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := Fill("{what}", nil); err == nil {
		t.Error("an unknown placeholder is accepted")
	}
}

// The CPU time of some cores is that of their lines.
func TestCores(t *testing.T) {
	const stat = "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 1 2 4 8 16 32 64 128 0 0\ncpu1 1 0 0 0 0 0 2 0 0 0\ncpu10 5 0 0 0 0 0 0 0 0 0\nintr 7\n"
	const tick = 10 * time.Millisecond
	for _, c := range []struct {
		cores []int
		want  CoreUsage
	}{
		{[]int{0}, CoreUsage{103 * tick, 64 * tick}},
		{[]int{0, 1}, CoreUsage{106 * tick, 66 * tick}},
		{[]int{10}, CoreUsage{5 * tick, 0}},
	} {
		if got, err := coresOf(stat, c.cores); err != nil || got != c.want {
			t.Errorf("%v: %+v, %v", c.cores, got, err)
		}
	}
	if _, err := coresOf(stat, []int{0, 2}); err == nil {
		t.Error("a core that is not there has a usage")
	}
	u, err := ReadCores(Cores())
	if err != nil || u.Busy == 0 || u.Sub(u) != (CoreUsage{}) {
		t.Errorf("this machine: %+v, %v", u, err)
	}
}

func TestDroppedPackets(t *testing.T) {
	if n, err := droppedOf("081a621e 00016d06 0000000d\n0988cbf2 00001698 0000000f\n"); err != nil || n != 0x16d06+0x1698 {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := droppedOf("1 x"); err == nil {
		t.Error("no error")
	}
	if n, err := DroppedPackets(); err != nil || n < 0 {
		t.Errorf("this machine: %d, %v", n, err)
	}
}

// A process that another one has started goes on when that has ended, and its exit code is known.
func TestSuccessor(t *testing.T) {
	if err := AdoptOrphans(); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	script, allowed := filepath.Join(dir, "script"), filepath.Join(dir, "allowed")
	text := fmt.Sprintf("sh -c 'while [ ! -e %s ]; do sleep 0.02; done; echo done; exit 7' &\necho $!\nexit 3\n", allowed)
	if err := os.WriteFile(script, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	p, err := StartLogged("script", "sh "+script, nil, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer p.KillAll()
	if code, err := p.Wait(time.Minute); err != nil || code != 3 {
		t.Fatal(code, err)
	}
	pid, err := strconv.Atoi(p.Output())
	if err != nil {
		t.Fatal(err)
	}
	s, err := p.Successor(pid)
	if err != nil {
		t.Fatal(err)
	}
	if !s.Running() || s.PID() != pid {
		t.Errorf("process %d does not run as %d", pid, s.PID())
	}
	if err := os.WriteFile(allowed, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, err := s.Wait(time.Minute); err != nil || code != 7 {
		t.Error(code, err)
	}
	if !strings.HasSuffix(s.Output(), "done") {
		t.Error(s.Output())
	}
}
