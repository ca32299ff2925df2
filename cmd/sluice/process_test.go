package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/gateway"
	"sluice/internal/testkit"
)

// program is a run under test.
type program struct {
	stdout, stderr testkit.Log
	signals        chan os.Signal
	exit           chan int
}

// start runs the program with args.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	p := &program{signals: make(chan os.Signal, 2), exit: make(chan int, 1)}
	go func() {
		run := process{stdout: &p.stdout, stderr: &p.stderr, signals: p.signals}
		p.exit <- run.run(args)
	}()
	return p
}

// after waits until text is in one of the program's outputs and returns the word that follows it.
func (p *program) after(t *testing.T, o *testkit.Log, text string) string {
	t.Helper()
	return after(t, o, func() bool { return len(p.exit) > 0 }, text)
}

func TestHelpAndVersion(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"-h"}, "Usage: sluice"},
		{[]string{"demo", "--help"}, "Usage: sluice"},
		{[]string{"-v"}, "sluice " + version() + "\nprotocol v1.2.3\n"},
	} {
		p := start(t, tt.args...)
		if code := <-p.exit; code != 0 || !strings.HasPrefix(p.stdout.String(), tt.want) || p.stderr.String() != "" {
			t.Errorf("%q: exit code %d, output %q, %q", tt.args, code, &p.stdout, &p.stderr)
		}
	}
}

func TestBadUsage(t *testing.T) {
	bad := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(bad, []byte("{\n  oops\n}"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--nope"}, "unknown flag: --nope"},
		{[]string{"demo", "--nope"}, "unknown flag: --nope"},
		{[]string{"--port", "100000"}, "choose from -1 to 65535"},
		{[]string{"--tls", "--tlscert", "c", "--tlskey", "k"}, "tlsCert: open c: no such file"},
		{[]string{"-c", bad}, "bad.json:2:3: "},
	} {
		p := start(t, tt.args...)
		code := <-p.exit
		if code != 2 || !strings.Contains(p.stderr.String(), tt.want) || !strings.Contains(p.stderr.String(), "sluice -h") {
			t.Errorf("%q: exit code %d, %q", tt.args, code, &p.stderr)
		}
		if p.stdout.String() != "" {
			t.Errorf("%q: %q on stdout", tt.args, &p.stdout)
		}
	}
}

// scripted is a service whose steps the test controls.
type scripted struct {
	start    func(ctx context.Context) error
	stop     func(ctx context.Context) error
	alive    func(ctx context.Context) error // nil: it is
	done     chan error
	started  chan struct{} // closed when Start is called
	stopping chan struct{} // closed when Stop is called
}

func newScripted() *scripted {
	s := &scripted{done: make(chan error, 1), started: make(chan struct{}), stopping: make(chan struct{})}
	s.start = func(context.Context) error { return nil }
	s.stop = s.start
	return s
}

func (s *scripted) Start(ctx context.Context) error { close(s.started); return s.start(ctx) }
func (s *scripted) Stop(ctx context.Context) error  { close(s.stopping); return s.stop(ctx) }
func (s *scripted) Done() <-chan error              { return s.done }
func (s *scripted) StopWindow() time.Duration       { return time.Minute }
func (s *scripted) Reload(context.Context) error    { return nil }

func (s *scripted) Alive(ctx context.Context) error {
	if s.alive == nil {
		return nil
	}
	return s.alive(ctx)
}

// serve runs s as a process does; the test sends the signals.
func serve(s *scripted) (signals chan os.Signal, exit chan int, log *testkit.Log) {
	signals, exit, log = make(chan os.Signal, 2), make(chan int, 1), new(testkit.Log)
	p := process{stdout: io.Discard, stderr: io.Discard, signals: signals}
	go func() { exit <- p.serve(s, gateway.Config{}, nil, log.Logger()) }()
	return signals, exit, log
}

func forever(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }

func TestFirstSignalDrains(t *testing.T) {
	for _, sig := range []os.Signal{os.Interrupt, syscall.SIGTERM} {
		s := newScripted()
		s.stop = func(ctx context.Context) error {
			if _, bounded := ctx.Deadline(); !bounded {
				t.Error("the stop has no time limit")
			}
			return nil
		}
		signals, exit, log := serve(s)
		signals <- sig
		if code := <-exit; code != 0 {
			t.Errorf("exit code %d: %s", code, log)
		}
		<-s.stopping
	}
}

func TestSecondSignalLeavesAtOnce(t *testing.T) {
	s := newScripted()
	blocked := make(chan struct{})
	defer close(blocked)
	s.stop = func(context.Context) error { <-blocked; return nil }
	signals, exit, log := serve(s)
	signals <- os.Interrupt
	<-s.stopping
	signals <- os.Interrupt
	if code := <-exit; code != 1 || !strings.Contains(log.String(), "leaving at once") {
		t.Errorf("exit code %d: %s", code, log)
	}
}

func TestStartFails(t *testing.T) {
	s := newScripted()
	s.start = func(context.Context) error { return errors.New("no NATS server answers") }
	_, exit, log := serve(s)
	if code := <-exit; code != 1 || !strings.Contains(log.String(), "no NATS server answers") {
		t.Errorf("exit code %d: %s", code, log)
	}
}

func TestSignalDuringStartGivesUp(t *testing.T) {
	s := newScripted()
	s.start = forever
	signals, exit, log := serve(s)
	<-s.started
	signals <- os.Interrupt
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d: %s", code, log)
	}
}

func TestSignalDuringStartThatSucceedsDrains(t *testing.T) {
	s := newScripted()
	s.start = func(ctx context.Context) error { <-ctx.Done(); return nil }
	signals, exit, log := serve(s)
	<-s.started
	signals <- os.Interrupt
	<-s.stopping
	if code := <-exit; code != 0 {
		t.Errorf("exit code %d: %s", code, log)
	}
}

func TestSecondSignalDuringStart(t *testing.T) {
	s := newScripted()
	blocked := make(chan struct{})
	defer close(blocked)
	s.start = func(context.Context) error { <-blocked; return nil }
	signals, exit, _ := serve(s)
	<-s.started
	signals <- os.Interrupt
	signals <- os.Interrupt
	if code := <-exit; code != 1 {
		t.Errorf("exit code %d", code)
	}
}

func TestRuntimeFailureStopsTheRest(t *testing.T) {
	s := newScripted()
	s.done <- errors.New("the engine broke")
	_, exit, log := serve(s)
	if code := <-exit; code != 1 || !strings.Contains(log.String(), "the engine broke") {
		t.Errorf("exit code %d: %s", code, log)
	}
	<-s.stopping
}

func TestUncleanStop(t *testing.T) {
	s := newScripted()
	s.stop = func(context.Context) error { return errors.New("clients left over") }
	signals, exit, log := serve(s)
	signals <- os.Interrupt
	if code := <-exit; code != 1 || !strings.Contains(log.String(), "clients left over") {
		t.Errorf("exit code %d: %s", code, log)
	}
}

func TestLogLevelsAndFormats(t *testing.T) {
	for _, tt := range []struct {
		c          gateway.Config
		want, hide string
	}{
		{gateway.Config{}, "level=INFO msg=info", "debug"},
		{gateway.Config{Debug: true}, "level=DEBUG msg=debug", "trace"},
		{gateway.Config{Trace: true}, "level=TRACE msg=trace", "none"},
		{gateway.Config{LogFormat: "json", Trace: true}, `"level":"TRACE","msg":"trace"`, "level="},
	} {
		var out bytes.Buffer
		log, _ := newLog(&out, tt.c.WithDefaults())
		log.Info("info")
		log.Debug("debug")
		log.Log(context.Background(), gateway.LevelTrace, "trace")
		if s := out.String(); !strings.Contains(s, tt.want) || strings.Contains(s, tt.hide) {
			t.Errorf("%+v: %s", tt.c, s)
		}
	}
}
