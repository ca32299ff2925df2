package docstest

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// limit bounds a command. Some build programs.
const limit = 4 * testkit.Patience

// session runs the blocks of pages in a folder of its own.
type session struct {
	t       *testing.T
	dir     string            // where commands run
	top     string            // where files are written
	env     map[string]string // what a command's environment has besides the test's
	replace map[string]string // addresses on the pages, and those in use
	procs   map[string]*process
	order   []string // names in procs, in the order of their start
}

// process is a background command.
type process struct {
	cmd    *exec.Cmd
	output testkit.Log
	ended  chan struct{}
}

func newSession(t *testing.T, bin string) *session {
	dir := t.TempDir()
	tree, err := filepath.Abs(root)
	if err != nil {
		t.Fatal(err)
	}
	s := &session{t: t, dir: dir, top: dir, procs: map[string]*process{}, replace: map[string]string{
		"../sluice/": tree + "/", "make build": ":", "make demo": "sluice demo", "./bin/sluice ": "sluice ",
		"--port 9000": "--port -1", "--metricsport 9100": "--metricsport -1", "--admin-port 8090": "--admin-port -1",
	}, env: map[string]string{
		"PATH": bin + ":" + os.Getenv("PATH"),
		// Free ports: the gateway's log says which.
		"SLUICE_ADDR": "127.0.0.1", "SLUICE_PORT": "-1", "SLUICE_EMBEDDED_NATS_LISTEN": "127.0.0.1:0", "SLUICE_DRAIN_TIMEOUT": "0",
		"GOFLAGS": "-ldflags=-w", "GOWORK": "off", "no_proxy": "*", "npm_config_prefer_offline": "true", "npm_config_update_notifier": "false", "PYTHONUNBUFFERED": "1",
	}}
	t.Cleanup(func() {
		for i := len(s.order) - 1; i >= 0; i-- {
			s.stop(s.order[i])
		}
	})
	return s
}

// do tests a block.
func (s *session) do(b block) {
	s.t.Helper()
	began := time.Now()
	defer func() { s.t.Logf("%s: %v", b, time.Since(began)) }()
	switch b.kind() {
	case "run":
		for _, st := range b.steps() {
			s.run(fmt.Sprintf("%s:%d", b.page, st.line), st)
		}
	case "background":
		s.background(b)
	case "file":
		path := filepath.Join(s.top, b.words["file"])
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(s.substitute(b.text)), 0o644); err != nil {
			s.t.Fatal(err)
		}
	case "nats":
		s.nats(b)
	case "settings":
		path := filepath.Join(s.t.TempDir(), "settings."+b.lang)
		if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
			s.t.Fatal(err)
		}
		if out, err := s.command("sluice check --strict --config " + path); err != nil {
			s.t.Errorf("%s: sluice check: %v\n%s", b, err, out)
		}
	}
}

// nats runs a NATS server with the configuration of a block.
func (s *session) nats(b block) {
	s.t.Helper()
	path := filepath.Join(s.t.TempDir(), "nats.conf")
	if err := os.WriteFile(path, []byte(b.text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	conf, err := server.ProcessConfigFile(path)
	if err != nil {
		s.t.Fatalf("%s: %v", b, err)
	}
	ns := natstest.Start(s.t, func(o *server.Options) { o.Users = conf.Users })
	s.setNATS(strings.TrimPrefix(ns.URL(), "nats://"))
}

// setNATS sets the address of the NATS server in use.
func (s *session) setNATS(addr string) {
	s.replace["localhost:4222"], s.replace["127.0.0.1:4222"] = addr, addr
	s.env["NATS_URL"] = "nats://" + addr
}

// substitute replaces the addresses that the pages use by those that are in use.
func (s *session) substitute(text string) string {
	for from, to := range s.replace {
		text = strings.ReplaceAll(text, from, to)
	}
	return text
}

func (s *session) environ() []string {
	env := os.Environ()
	for name, value := range maps.All(s.env) {
		env = append(env, name+"="+value)
	}
	return env
}

// command runs a command to its end and returns what it printed to stdout, or to both if it failed.
func (s *session) command(line string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-ec", s.substitute(line))
	cmd.Dir, cmd.Env = s.dir, s.environ()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		return stdout.String() + stderr.String(), err
	}
	return stdout.String(), nil
}

// change matches a curl command that changes something, so that it must not be repeated.
var change = regexp.MustCompile(`\s(-X|-d|--data|--json)\b`)

// run runs a step. A request that only reads is repeated until its response is the expected one:
// what other processes do, such as a service that starts, takes its time.
func (s *session) run(where string, st step) {
	s.t.Helper()
	if dir, ok := strings.CutPrefix(st.command, "cd "); ok && !strings.ContainsAny(dir, "&;|") {
		s.dir = filepath.Join(s.dir, dir)
		return
	}
	repeat := strings.HasPrefix(st.command, "curl ") && !change.MatchString(st.command)
	want := make([]string, len(st.output))
	for i, line := range st.output {
		want[i] = s.substitute(line)
	}
	deadline := time.Now().Add(testkit.Patience)
	for {
		out, err := s.command(st.command)
		switch {
		case err == nil && (st.output == nil || matchLines(want, lines(out))):
			return
		case repeat && time.Now().Before(deadline):
			continue
		case err != nil:
			s.t.Fatalf("%s: %s: %v\n%s%s", where, st.command, err, out, s.logs())
		}
		s.t.Fatalf("%s: %s\nprints\n%s\nand the page says\n%s\n%s", where, st.command, out, strings.Join(want, "\n"), s.logs())
	}
}

// lines returns the lines of a command's output, without spaces at their ends and empty lines at
// the end.
func lines(out string) []string {
	all := strings.Split(strings.TrimRight(out, " \r\n"), "\n")
	for i := range all {
		all[i] = strings.TrimRight(all[i], " \r")
	}
	return all
}

// matchLines reports whether output is what a page says.
func matchLines(want, got []string) bool {
	if len(want) == 0 {
		return len(got) == 0
	}
	if want[0] == "…" {
		return matchLines(want[1:], got) || len(got) > 0 && matchLines(want, got[1:])
	}
	return len(got) > 0 && matchLine(want[0], got[0]) && matchLines(want[1:], got[1:])
}

// matchLine reports whether a line is what a page says.
func matchLine(want, got string) bool {
	parts := strings.Split(want, "…")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	return regexp.MustCompile("^" + strings.Join(parts, ".*") + "$").MatchString(got)
}

var (
	runsSluice = regexp.MustCompile(`(^|\s)sluice(\s|$)`)
	listening  = regexp.MustCompile(`msg=listening addr=(\S+) .*nats=nats://(\S+)`)
	// others are further ports of a gateway, by their addresses on the pages.
	others = map[string]*regexp.Regexp{
		"8090": regexp.MustCompile(`msg="admin server listening" url=http://(\S+)/ `),
		"9100": regexp.MustCompile(`msg="metrics server listening" addr=(\S+)`),
	}
)

// background starts a block's command and waits until it has printed what the block says.
func (s *session) background(b block) {
	s.t.Helper()
	name := b.words["background"]
	if name == "" {
		name = b.String()
	}
	s.stop(name)
	p := &process{cmd: exec.Command("bash", "-c", s.substitute(b.text)), ended: make(chan struct{})}
	p.cmd.Dir, p.cmd.Env = s.dir, s.environ()
	p.cmd.Stdout, p.cmd.Stderr = &p.output, &p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := p.cmd.Start(); err != nil {
		s.t.Fatalf("%s: %v", b, err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.ended)
	}()
	s.procs[name] = p
	s.order = append(s.order, name)

	until := s.substitute(b.words["until"])
	gateway := until == "" && runsSluice.MatchString(s.substitute(b.text))
	if gateway {
		until = "msg=listening"
	}
	if until == "" {
		s.t.Fatalf("%s: say by until= what the command prints when it is ready", b)
	}
	deadline := time.Now().Add(limit)
	for !strings.Contains(p.output.String(), until) {
		select {
		case <-p.ended:
			// What it printed last may be what is waited for.
			if !strings.Contains(p.output.String(), until) {
				s.t.Fatalf("%s: %s ended:\n%s%s", b, b.text, &p.output, s.logs())
			}
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s: %s does not print %q:\n%s%s", b, b.text, until, &p.output, s.logs())
		}
	}
	if gateway {
		s.gateway(p)
	}
}

// gateway learns the addresses of a gateway that listens.
func (s *session) gateway(p *process) {
	s.t.Helper()
	var m []string
	testkit.Until(s.t, "the log line is complete", func() bool {
		m = listening.FindStringSubmatch(p.output.String())
		return m != nil
	})
	_, port, err := net.SplitHostPort(m[1])
	if err != nil {
		s.t.Fatal(err)
	}
	for number, re := range others {
		if m := re.FindStringSubmatch(p.output.String()); m != nil {
			s.replace["localhost:"+number], s.replace["127.0.0.1:"+number] = m[1], m[1]
		}
	}
	s.replace["localhost:8080"], s.replace["127.0.0.1:8080"] = "127.0.0.1:"+port, "127.0.0.1:"+port
	_, addr, ok := strings.Cut(m[2], "@") // behind a user that is not shown
	if !ok {
		addr = m[2]
	}
	s.setNATS(strings.Trim(addr, `"`))
}

// stop ends a background command and its children.
func (s *session) stop(name string) {
	p := s.procs[name]
	if p == nil {
		return
	}
	delete(s.procs, name)
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(testkit.Patience):
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // what is left of the group
	<-p.ended
}

// logs returns what the background commands have printed.
func (s *session) logs() string {
	var b strings.Builder
	for name, p := range s.procs {
		fmt.Fprintf(&b, "== %s\n%s\n", name, &p.output)
	}
	return b.String()
}
