//go:build linux

package run

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/internal/testkit"
	"sluice/loadtest/client"
	"sluice/loadtest/hist"
	"sluice/loadtest/plan"
	"sluice/loadtest/proc"
)

// The test binary acts as a server that is to hand over to another process, and as that process.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "server" {
		os.Exit(serve(os.Args[2]))
	}
	os.Exit(m.Run())
}

// serve waits for SIGUSR2, and does then what its role says. It returns an exit code.
func serve(role string) int {
	if role == "successor" {
		fmt.Println("the successor serves")
		select {}
	}
	upgrades := make(chan os.Signal, 1)
	signal.Notify(upgrades, syscall.SIGUSR2)
	fmt.Println("ready")
	<-upgrades
	fmt.Println("it is to hand over")
	begin := func(role string) *exec.Cmd {
		c := exec.Command(os.Args[0], "server", role)
		c.Stdout, c.Stderr = os.Stdout, os.Stderr
		if err := c.Start(); err != nil {
			fmt.Println(err)
		}
		return c
	}
	switch role {
	case "hands-over":
		begin("successor")
		return 0
	case "tries-twice":
		_ = begin("nothing").Process.Kill()
		begin("successor")
		return 0
	case "fails":
		begin("successor")
		return 4
	case "dies":
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {}
	case "goes-on":
		_ = begin("successor").Wait() // the test kills it
		fmt.Println("it goes on")
		select {}
	}
	return 0
}

// A server hands over to its child on SIGUSR2, or it is said what it did instead.
func TestReplaceBySignal(t *testing.T) {
	for role, want := range map[string]string{
		"hands-over":  "",
		"tries-twice": "",
		"fails":       "did not hand over (exit status 4)",
		"alone":       "did not hand over (exit status 0): ready\nit is to hand over",
		"dies":        "did not hand over (signal: killed)",
		"goes-on":     "has no process that takes over",
	} {
		t.Run(role, func(t *testing.T) {
			log, err := os.CreateTemp(t.TempDir(), "log")
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			old, err := proc.StartLogged("server", os.Args[0]+" server "+role, nil, nil, log)
			if err != nil {
				t.Fatal(err)
			}
			defer old.KillAll()
			testkit.Until(t, "server", func() bool { return strings.Contains(old.Output(), "ready") })
			st := &stage{target: plan.Target{Upgrade: plan.UpgradeSignal}, server: old}
			if role == "goes-on" {
				go func() {
					testkit.Until(t, "child", func() bool { return st.heir.Load() != 0 })
					_ = syscall.Kill(int(st.heir.Load()), syscall.SIGKILL)
				}()
			}
			next, err := replacer{st}.replace(t.Context())
			if want != "" {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %s", err, want)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			testkit.Until(t, "successor", func() bool { return strings.HasSuffix(next.Output(), "the successor serves") })
			if old.Running() || !next.Running() || int(st.heir.Load()) != next.PID() {
				t.Errorf("process %d, of which %d is known", next.PID(), st.heir.Load())
			}
			next.Kill()
		})
	}
}

// New clients are served, rejected, cut off, or refused.
func TestProbe(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan string, 1)
	answers <- "HTTP/1.1 101 Switching Protocols\r\n\r\n"
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			answer := <-answers
			answers <- answer
			_, _ = c.Read(make([]byte, 1<<10))
			_, _ = c.Write([]byte(answer))
			_ = c.Close()
		}
	}()
	p, err := startProbe(client.Config{Protocol: client.ProtocolRES, Addr: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.end()
	counts := func() (served, refused, failed int) {
		all, refused, failed := p.counts()
		return all - refused - failed, refused, failed
	}
	testkit.Until(t, "client that is served", func() bool { served, _, _ := counts(); return served > 0 })
	if h := hist.From(p.take()); h.Count() == 0 {
		t.Error("it has no latency")
	}
	for _, answer := range []string{"HTTP/1.1 503 Service Unavailable\r\n\r\n", "HTTP/1.1 1"} {
		_, _, before := counts()
		<-answers
		answers <- answer
		testkit.Until(t, "failure", func() bool { _, _, failed := counts(); return failed > before+1 })
	}
	if _, refused, _ := counts(); refused != 0 {
		t.Errorf("%d were refused", refused)
	}
	p.end()
	all, _, _ := p.counts()
	p.end() // has no effect
	if again, _, _ := p.counts(); again != all {
		t.Error("it goes on after its end")
	}
}

func TestPausesBeyondTheUsual(t *testing.T) {
	h := hist.New()
	for _, ms := range []int64{1, 3, 200} {
		h.Record(ms * int64(time.Millisecond))
	}
	got := beyond(h, 2000).Summary()
	if got.Count != 3 || got.P50 < 990 || got.P50 > 1010 || got.Max < 197_000 || got.Max > 199_000 {
		t.Errorf("%+v", got)
	}
}
