//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/internal/natstest"
	"sluice/internal/testkit"
)

// lineage is a gateway and the processes that take over from it, all with one log.
type lineage struct {
	t       *testing.T
	first   *exec.Cmd
	environ []string      // variables that it has beside the usual ones
	exited  chan struct{} // closed when the first has ended
	path    string        // of the log
	socket  string
	file    string // of the settings
	addr    string
	nats    string // its URL
}

// startLineage starts a gateway with a settings file that has the given lines, too, and with more
// variables in its environment.
func startLineage(t *testing.T, settings string, environ ...string) *lineage {
	t.Helper()
	nats := natstest.Start(t)
	dir := t.TempDir()
	l := &lineage{t: t, nats: nats.URL(), exited: make(chan struct{}), path: filepath.Join(dir, "log"), socket: filepath.Join(dir, "socket"), file: filepath.Join(dir, "sluice.yaml")}
	l.write(fmt.Sprintf("natsUrl: %s\naddr: 127.0.0.1\nport: -1\nmetricsPort: -1\nadminPort: -1\nupgradeSocket: %s\ndrainTimeout: 100ms\ncloseTimeout: 1s\n%s", nats.URL(), l.socket, settings))
	l.environ = environ
	l.run("-c", l.file)
	return l
}

// run runs the first program with its arguments, until the test ends, or another one when all have
// ended.
func (l *lineage) run(args ...string) {
	l.t.Helper()
	l.start(exec.Command(os.Args[0], args...))
}

func (l *lineage) start(cmd *exec.Cmd) {
	l.t.Helper()
	log, err := os.OpenFile(l.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	if l.first == nil {
		l.t.Cleanup(func() {
			for _, pid := range l.pids() {
				_ = syscall.Kill(pid, syscall.SIGKILL)
			}
			if l.t.Failed() {
				l.t.Log(l.log())
			}
		})
	}
	before := len(l.log())
	exited := make(chan struct{})
	cmd.Env = append([]string{asProgram + "=1", "PATH=" + os.Getenv("PATH")}, l.environ...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		l.t.Fatal(err)
	}
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	l.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	l.first, l.exited = cmd, exited
	testkit.Until(l.t, "it listens", func() bool {
		l.addr = value(l.log()[before:], "msg=listening addr=")
		return l.addr != ""
	})
}

func (l *lineage) write(settings string) {
	l.t.Helper()
	if err := os.WriteFile(l.file, []byte(settings), 0o600); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lineage) log() string {
	text, err := os.ReadFile(l.path)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(text)
}

// until waits until the log has text n times.
func (l *lineage) until(text string, n int) {
	l.t.Helper()
	testkit.Until(l.t, fmt.Sprintf("%q is logged %d times", text, n), func() bool { return strings.Count(l.log(), text) >= n })
}

// value returns the word that follows text in a log.
func value(log, text string) string {
	_, rest, _ := strings.Cut(log, text)
	return rest[:max(strings.IndexAny(rest, " \n\""), 0)]
}

// pids returns the processes that have taken over, in their order.
func (l *lineage) pids() (all []int) {
	for _, part := range strings.Split(l.log(), `msg="upgrade done" pid=`)[1:] {
		pid, _ := strconv.Atoi(part[:strings.IndexAny(part, " \n")])
		all = append(all, pid)
	}
	return all
}

// upgrade runs "sluice upgrade".
func (l *lineage) upgrade(args ...string) (code int, stdout, stderr string) {
	l.t.Helper()
	var out, errs testkit.Log
	p := process{stdout: &out, stderr: &errs}
	code = p.run(append(append([]string{"upgrade"}, args...), "-c", l.file))
	return code, out.String(), errs.String()
}

// healthy returns the status of a health check on a connection of its own.
func (l *lineage) healthy() (int, error) {
	r, err := http.NewRequest(http.MethodGet, "http://"+l.addr+"/healthz", nil)
	if err != nil {
		return 0, err
	}
	r.Close = true
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err
	}
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// While processes take over from each other, every new connection is served, as healthy.
func TestUpgrade(t *testing.T) {
	l := startLineage(t, "")
	var served, failed atomic.Int64
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
			}
			if status, err := l.healthy(); status != http.StatusOK {
				failed.Add(1)
				t.Errorf("status %d: %v", status, err)
			}
			served.Add(1)
		}
	}()
	before := func() {
		t.Helper()
		n := served.Load()
		testkit.Until(t, "clients are served", func() bool { return served.Load() > n+20 || failed.Load() > 0 })
	}
	before()
	code, stdout, stderr := l.upgrade()
	if code != 0 || !strings.Contains(stdout, "serves new clients") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	testkit.Await(t, l.exited, "the end of the first process")
	if code := l.first.ProcessState.ExitCode(); code != 0 {
		t.Errorf("the first process ends with exit code %d", code)
	}
	before()
	// The next one, by a signal to the process that is in charge.
	if err := syscall.Kill(l.pids()[0], syscall.SIGUSR2); err != nil {
		t.Fatal(err)
	}
	l.until(`msg="upgrade done"`, 2)
	l.until("msg=stopped", 2)
	before()
	if code, _, stderr := l.upgrade("--check"); code != 0 {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	before()
	close(end)
	testkit.Await(t, ended, "the last client")
	if err := syscall.Kill(l.pids()[1], syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	l.until("msg=stopped", 3)
	if code, _, stderr := l.upgrade(); code != 1 || !strings.Contains(stderr, "no gateway takes orders") {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// The next order is for the new process, also while the old ones drain.
func TestUpgradesFollowEachOther(t *testing.T) {
	l := startLineage(t, "")
	for round := range 5 {
		if code, stdout, stderr := l.upgrade(); code != 0 {
			t.Fatalf("round %d: exit code %d\n%s%s", round, code, stdout, stderr)
		}
	}
	l.until("msg=stopped", 5)
	if n := len(l.pids()); n != 5 {
		t.Errorf("%d processes have taken over", n)
	}
}

// httpClient is a connection for HTTP requests.
type httpClient struct {
	net.Conn
	r *bufio.Reader
}

func (l *lineage) client() *httpClient {
	l.t.Helper()
	return l.clientOver(func() (net.Conn, error) { return net.Dial("tcp", l.addr) })
}

func (l *lineage) clientOver(dial func() (net.Conn, error)) *httpClient {
	l.t.Helper()
	c, err := dial()
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	return &httpClient{c, bufio.NewReader(c)}
}

// get makes a request, and returns the status.
func (c *httpClient) get(path string) (int, error) {
	return c.do("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n")
}

// post makes a request that net/http answers, because of its chunked body. path tells requests
// apart.
func (c *httpClient) post(path string) (int, error) {
	return c.do("POST " + path + " HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnull\r\n0\r\n\r\n")
}

// do sends a request, and returns the status of its response.
func (c *httpClient) do(request string) (int, error) {
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	if _, err := io.WriteString(c, request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}

// Connections at rest, with and without a request before, go on in each new process.
func TestConnectionsAtRestAreKept(t *testing.T) {
	t.Run("plaintext", func(t *testing.T) {
		l := startLineage(t, "")
		connectionsAreKept(t, l, l.client)
	})
	t.Run("TLS", func(t *testing.T) {
		settings, roots := secureSettings(t)
		l := startLineage(t, settings)
		connectionsAreKept(t, l, func() *httpClient {
			return l.clientOver(func() (net.Conn, error) { return tls.Dial("tcp", l.addr, &tls.Config{RootCAs: roots}) })
		})
	})
}

func connectionsAreKept(t *testing.T, l *lineage, connect func() *httpClient) {
	var used, fresh, posting []*httpClient
	for range 300 { // more than fit one record
		c := connect()
		if status, err := c.get("/api/none"); status != http.StatusNotFound {
			t.Fatal(status, err)
		}
		used = append(used, c)
	}
	for range 50 {
		posting = append(posting, connect())
	}
	for round := range 3 {
		fresh = append(fresh, connect())
		for i, c := range posting { // the loops have those of the round before
			if status, err := c.post("/api/none/call"); status != http.StatusNotFound {
				t.Fatalf("round %d: connection %d at net/http: status %d, %v", round, i, status, err)
			}
		}
		if code, _, stderr := l.upgrade(); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		l.until("msg=stopped", round+1)
		for i, c := range slices.Concat(used, fresh, posting) {
			if status, err := c.get("/api/none"); status != http.StatusNotFound {
				t.Fatalf("round %d: connection %d: status %d, %v", round, i, status, err)
			}
		}
	}
}

// Clients that net/http serves make one request after the other, while processes take over from
// each other: each is called and answered once, on one connection.
func TestConnectionsOfNetHTTPAreKeptUnderLoad(t *testing.T) {
	l := startLineage(t, "")
	nc, err := nats.Connect(l.nats)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(nc.Close)
	var mu sync.Mutex
	calls := make(map[string]int)
	for subject, answer := range map[string]string{"access.>": `{"result":{"get":true,"call":"*"}}`, "call.>": `{"result":null}`} {
		if _, err := nc.Subscribe(subject, func(m *nats.Msg) {
			mu.Lock()
			calls[m.Subject]++
			mu.Unlock()
			_ = m.Respond([]byte(answer))
		}); err != nil {
			t.Fatal(err)
		}
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
	const clients = 20
	end, ended := make(chan struct{}), make(chan error, clients)
	var served atomic.Int64
	made := make([]int, clients)
	for i := range clients {
		c := l.client()
		go func() {
			ended <- func() error {
				for {
					select {
					case <-end:
						return nil
					default:
					}
					status, err := c.post(fmt.Sprintf("/api/test/c%d/n%d", i, made[i]))
					if err != nil || status != http.StatusNoContent {
						return fmt.Errorf("client %d, request %d: status %d, %w", i, made[i], status, err)
					}
					made[i]++
					served.Add(1)
				}
			}()
		}()
	}
	for round := range 3 {
		n := served.Load()
		testkit.Until(t, "requests are served", func() bool { return served.Load() > n+10*clients || len(ended) > 0 })
		if code, _, stderr := l.upgrade(); code != 0 {
			t.Fatalf("exit code %d: %s", code, stderr)
		}
		l.until("msg=stopped", round+1)
	}
	close(end)
	for range clients {
		if err := testkit.Await(t, ended, "the end of a client"); err != nil {
			t.Error(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	for i, n := range made {
		for j := range n {
			if subject := fmt.Sprintf("call.test.c%d.n%d", i, j); calls[subject] != 1 {
				t.Errorf("%d calls of %s", calls[subject], subject)
			}
		}
	}
}

// A new process that cannot start changes nothing.
func TestUpgradeFails(t *testing.T) {
	l := startLineage(t, "")
	good, err := os.ReadFile(l.file)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ settings, want string }{
		{string(good) + "maxMessage: 1\n", "maxMessage"},
		{strings.Replace(string(good), "natsUrl: nats://127.0.0.1:", "natsTimeout: 200ms\nnatsUrl: nats://127.0.0.2:", 1), "NATS"},
		{string(good) + "unreadable", "could not find expected"},
	} {
		l.write(tt.settings)
		code, stdout, stderr := func() (int, string, string) {
			var out, errs testkit.Log
			p := process{stdout: &out, stderr: &errs}
			return p.run([]string{"upgrade", "--upgrade-socket", l.socket}), out.String(), errs.String()
		}()
		if code != 1 || !strings.Contains(stderr, "nothing has changed") || !strings.Contains(stderr, tt.want) {
			t.Errorf("%s: exit code %d\n%s%s", tt.settings, code, stdout, stderr)
		}
		if status, err := l.healthy(); status != http.StatusOK {
			t.Errorf("status %d: %v", status, err)
		}
	}
	l.write(string(good))
	if code, _, stderr := l.upgrade(); code != 0 {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	testkit.Await(t, l.exited, "the end of the first process")
	if status, err := l.healthy(); status != http.StatusOK {
		t.Errorf("status %d: %v", status, err)
	}
}
