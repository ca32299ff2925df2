package takeover

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/internal/testkit"
)

// asChild is the environment variable that makes the test binary a new process, and says how it
// behaves.
const asChild = "TAKEOVER_TEST"

func TestMain(m *testing.M) {
	if behaviour := os.Getenv(asChild); behaviour != "" {
		os.Exit(behave(behaviour))
	}
	os.Exit(m.Run())
}

// behave is a new process.
func behave(how string) int {
	if how == "gone at once" {
		return 7
	}
	if l, r := oddLink(how); l != nil {
		_, _ = l.conn.Write(r)
		_, _ = l.receive(testkit.Patience, kindCommit) // until the old process is fed up
		return 0
	}
	p, err := Inherit(os.Environ(), "v2")
	if err != nil {
		return 2
	}
	switch how {
	case "gone with the sockets":
		return 7
	case "fails":
		p.Fail(errors.New("the moon is full"))
	case "fails for no reason":
		p.Fail(nil)
	case "serves":
		l := p.Take(Clients, func(net.Addr) bool { return true })
		p.Step(fmt.Sprintf("%d for clients, %d others", len(l), len(p.Listeners)))
		if err := p.Ready(Plaintext, TLS13); err != nil {
			return 5
		}
		if p.Check {
			break
		}
		c, err := l[0].Accept()
		if err != nil {
			return 3
		}
		_, _ = c.Write([]byte("new"))
		if err := p.Receive(new(taker)); err != nil {
			return 4
		}
	}
	return 0
}

// oddLink returns the link of a new process that sends odd bytes first.
func oddLink(how string) (*link, []byte) {
	answers := map[string][]byte{
		"another protocol":  []byte("GET / HTTP/1.1\r\n\r\n"),
		"a large record":    append([]byte{'S', 'u', byte(kindHello), 0}, 0xff, 0xff, 0xff, 0xff),
		"files are missing": append([]byte{'S', 'u', byte(kindHello), 3}, 0, 0, 0, 0),
		"not due":           append([]byte{'S', 'u', byte(kindReady), 0}, 0, 0, 0, 0),
		"unknown":           append([]byte{'S', 'u', 99, 0}, 0, 0, 0, 0),
		"another version":   frame(kindHello, `{"Protocol":9,"Version":"v9"}`),
		"unknown member":    frame(kindHello, `{"Protocol":4,"Version":"v9","Quick":true}`),
	}
	b, ok := answers[how]
	if !ok {
		return nil, nil
	}
	l, err := newLink(os.NewFile(3, "link"))
	if err != nil {
		os.Exit(4)
	}
	return l, b
}

func frame(k kind, body string) []byte {
	b := binary.BigEndian.AppendUint32([]byte{'S', 'u', byte(k), 0}, uint32(len(body)))
	return append(b, body...)
}

// options start the test binary as a new process.
func options(how string, steps *[]string, sockets ...Socket) Options {
	return Options{
		Path: os.Args[0], Environ: append(os.Environ(), asChild+"="+how, "LISTEN_PID=1"), Version: "v1", Sockets: sockets,
		Within: testkit.Patience, Step: func(text string) { *steps = append(*steps, text) },
	}
}

func listen(t *testing.T) (*net.TCPListener, Socket) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	f, err := l.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return l.(*net.TCPListener), Socket{Clients, int(f.Fd())}
}

func TestTakeOver(t *testing.T) {
	l, socket := listen(t)
	_, metrics := listen(t)
	metrics.Role = Metrics
	var steps []string
	s, err := Start(context.Background(), options("serves", &steps, socket, metrics))
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"version v2 has started", "1 for clients, 1 others"}; fmt.Sprint(steps) != fmt.Sprint(want) {
		t.Errorf("steps %q", steps)
	}
	if fmt.Sprint(s.Takes) != "[plaintext tls1.3]" {
		t.Errorf("it takes %q", s.Takes)
	}
	if err := s.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := s.Give(); err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	b := make([]byte, 3)
	if _, err := c.Read(b); err != nil || string(b) != "new" {
		t.Errorf("%q, %v", b, err)
	}
	// More connections than fit one record. All are the same here; this test reads the other end.
	near, far, err := pair()
	if err != nil {
		t.Fatal(err)
	}
	client := netip.MustParseAddrPort("[2001:db8::1]:7")
	many := make([]Conn, 2*maxFiles+1)
	for i := range many {
		many[i] = Conn{FD: int(far.Fd()), Client: client, Idle: i%2 == 0, Keys: bytes.Repeat([]byte{'k'}, i%3)}
	}
	given := make(chan error, 1)
	go func() { given <- s.Give(many...) }()
	texts := bufio.NewReader(near)
	for i := range many {
		if got, err := texts.ReadString(' '); err != nil || got != fmt.Sprintf("%v,%v,%d ", client, i%2 == 0, i%3) {
			t.Fatalf("connection %d: %q, %v", i, got, err)
		}
	}
	if err := <-given; err != nil {
		t.Error(err)
	}
	// WebSockets, with a description that does not fit one record, as their resources do not.
	resources := make([]Resource, 3000)
	for i := range resources {
		resources[i] = Resource{strings.Repeat("r", 100), strings.Repeat("\x01", 100), "q"}
	}
	failed, err := s.Prepare(t.Context(), resources)
	if err != nil || fmt.Sprint(failed) != "[3000]" {
		t.Error(failed, err)
	}
	for _, size := range []int{0, 5, maxBody, maxBody + 1, 3 * maxBody} {
		if holds, err := s.Offer(make([]byte, size), make([]byte, size/1000), []int{int(far.Fd()), int(far.Fd())}); !holds || err != nil {
			t.Fatal(holds, err)
		}
		if err := s.Hand(); err != nil {
			t.Fatal(err)
		}
		lost, err := s.Served(t.Context())
		if err != nil || lost == nil || lost.Error() != "one is lost" {
			t.Error(lost, err)
		}
		for range 2 {
			if got, err := texts.ReadString(' '); err != nil || got != fmt.Sprintf("%d+%d ", size, size/1000) {
				t.Fatalf("%q, %v", got, err)
			}
		}
	}
	_, _ = near.Close(), far.Close()
}

// FuzzMove has an old process send anything after the new one serves. What is not of the protocol
// ends the take-over.
func FuzzMove(f *testing.F) {
	f.Add(frame(kindPrepare, `{"Resources":[{"RID":"a","Name":"b","Query":"c"}],"More":true}`))
	f.Add(append(frame(kindPart, `x`), frame(kindMove, `{}`)...))
	f.Add(append(frame(kindKeys, `keys`), frame(kindMove, `{}`)...))
	f.Add(append(frame(kindKeys, `keys`), frame(kindKeys, `again`)...))
	f.Add(append(append(frame(kindMove, `{}`), frame(kindBack, `{}`)...), frame(kindMove, `{}`)...))
	f.Add(frame(kindBack, `{}`))
	f.Add(frame(kindConns, `{"Conns":[{}]}`))
	f.Add(append(frame(kindKeys, `keys`), frame(kindConns, `{"Conns":[{"KeysLen":4}]}`)...))
	f.Add(append(frame(kindKeys, `keys`), frame(kindConns, `{"Conns":[{"KeysLen":-1}]}`)...))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<15 { // more, with the answers, than the socket's buffer would block
			return
		}
		a, b := twoLinks(t)
		_, _ = a.conn.Write(data)
		a.close()
		_ = (&Predecessor{link: b}).Receive(new(taker))
	})
}

// Keys are overwritten in memory when they are used, and when they are of no use.
func TestKeysAreWiped(t *testing.T) {
	for _, tc := range []struct {
		name  string
		kinds []kind
		fails bool
	}{{"used", []kind{kindKeys, kindMove}, false}, {"twice", []kind{kindKeys, kindKeys}, true}, {"not theirs", []kind{kindKeys, kindConns}, true}} {
		a, b := twoLinks(t)
		var state batch
		var bodies [][]byte
		var err error
		for _, k := range tc.kinds {
			r := record{kind: k, body: []byte("secret")}
			if k == kindKeys {
				bodies = append(bodies, r.body)
			}
			err = state.handle(b, &r, new(taker))
		}
		if (err != nil) != tc.fails {
			t.Errorf("%s: %v", tc.name, err)
		}
		state.wipe()
		for _, body := range bodies {
			if !bytes.Equal(body, make([]byte, len(body))) {
				t.Errorf("%s: %q is left", tc.name, body)
			}
		}
		a.close()
	}
	// A process of the version before does not know the record.
	a, b := twoLinks(t)
	if err := a.sendText(kindKeys, []byte("secret")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.receive(testkit.Patience, kindConns, kindMove); err == nil || err.Error() != `the record "keys" is not due` {
		t.Error(err)
	}
}

func TestCheck(t *testing.T) {
	_, socket := listen(t)
	var steps []string
	o := options("serves", &steps, socket)
	o.Check = true
	if s, err := Start(context.Background(), o); s != nil || err != nil {
		t.Error(s, err)
	}
}

// Whatever the new process does wrong, the old one learns why, and the new one is gone.
func TestNewProcessMisbehaves(t *testing.T) {
	for how, want := range map[string]string{
		"gone at once":          "the other process has ended",
		"gone with the sockets": "exit status 7",
		"fails":                 "the moon is full",
		"fails for no reason":   "stopped",
		"another protocol":      "another protocol",
		"a large record":        "4294967295 bytes is too large",
		"files are missing":     "lost on their way",
		"not due":               `"ready" is not due`,
		"unknown":               `"kind 99" is not due`,
		"another version":       "version 9 of the take-over protocol, this one 5",
		"unknown member":        `unknown field "Quick"`,
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			_, socket := listen(t)
			var steps []string
			if s, err := Start(context.Background(), options(how, &steps, socket)); s != nil || err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v, want %q", err, want)
			}
		})
	}
	t.Run("it does not exist", func(t *testing.T) {
		var steps []string
		o := options("", &steps)
		o.Path = filepath.Join(t.TempDir(), "none")
		if _, err := Start(context.Background(), o); err == nil || !strings.Contains(err.Error(), "cannot be started") {
			t.Error(err)
		}
	})
}

// A new process that does not come to serve is ended with the context.
func TestGivenUp(t *testing.T) {
	_, socket := listen(t)
	ctx, cancel := context.WithCancel(context.Background())
	var steps []string
	o := options("serves", &steps, socket)
	o.Step = func(string) { cancel() }
	if s, err := Start(ctx, o); s != nil || err == nil {
		t.Error(s, err)
	}
}

// twoLinks returns both ends of a connection.
func twoLinks(tb testing.TB) (a, b *link) {
	tb.Helper()
	x, y, err := pair()
	if err != nil {
		tb.Fatal(err)
	}
	if a, err = newLink(x); err != nil {
		tb.Fatal(err)
	}
	if b, err = newLink(y); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(a.close)
	tb.Cleanup(b.close)
	return a, b
}

func TestRecordsWithDescriptors(t *testing.T) {
	a, b := twoLinks(t)
	_, socket := listen(t)
	for _, n := range []int{0, 1, maxFiles} {
		fds := make([]int, n)
		for i := range fds {
			fds[i] = socket.FD
		}
		text := strings.Repeat("x", 1000*n)
		sent := make(chan error, 1)
		go func() { sent <- a.send(kindStep, step{text}, fds...) }() // it is longer than the socket's buffer
		r, err := b.receive(testkit.Patience, kindStep)
		if err := <-sent; err != nil {
			t.Fatal(err)
		}
		if err != nil || len(r.files) != n {
			t.Fatal(len(r.files), err)
		}
		var got step
		if err := r.decode(&got); err != nil || got.Text != text {
			t.Errorf("%d descriptors: %d bytes, %v", n, len(got.Text), err)
		}
		for _, f := range r.files {
			if is, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); is == 0 || err != nil {
				t.Error("not the socket that was sent", err)
			}
		}
		r.close()
	}
	if err := a.send(kindStep, step{}, make([]int, maxFiles+1)...); err == nil {
		t.Error("too many descriptors are sent")
	}
	if err := a.send(kindStep, step{strings.Repeat("x", maxBody)}); err == nil {
		t.Error("too long a body is sent")
	}
}

func TestOrders(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Error(info, err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another process listens") {
		t.Error(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Serve(l, func(o Order) error {
			o.Step(Progress{Text: "one"})
			o.Step(Progress{Clients: 1, Of: 2, Resources: 3})
			if o.Check {
				return errors.New("not today")
			}
			return nil
		})
	}()
	var steps []Progress
	if err := Ask(path, false, func(p Progress) { steps = append(steps, p) }); err != nil || fmt.Sprint(steps) != "[{one 0 0 0} { 1 2 3}]" {
		t.Error(steps, err)
	}
	if err := Ask(path, true, func(Progress) {}); err == nil || err.Error() != "not today" {
		t.Error(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("nonsense\n"))
	_ = c.SetDeadline(time.Now().Add(testkit.Patience))
	b := make([]byte, 100)
	if n, _ := c.Read(b); !strings.Contains(string(b[:n]), "malformed") {
		t.Errorf("%q", b[:n])
	}
	_ = c.Close()
	_ = l.Close()
	<-ended
	if err := Ask(path, false, func(Progress) {}); err == nil || !strings.Contains(err.Error(), "no gateway takes orders") {
		t.Error(err)
	}
	if l, err = Listen(path); err != nil { // the file is left over
		t.Error(err)
	} else {
		_ = l.Close()
	}
}

// One who gives an order and reads nothing does not hold the upgrade up.
func TestStoppedAudience(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		Serve(l, func(o Order) error {
			defer close(done)
			for i := range 100_000 { // more than a socket takes
				o.Step(Progress{Clients: i})
			}
			return nil
		})
	}()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("{}\n"))
	testkit.Await(t, done, "the end of the upgrade")
	_ = c.Close()
	_ = l.Close()
	<-ended
}

// An order that a process accepts when another one has just taken over is given to that one. It is
// not repeated for ever.
func TestOrderThatComesTooLate(t *testing.T) {
	for late, want := range map[int]error{1: nil, maxAsks - 1: nil, maxAsks: ErrSucceeded} {
		path := filepath.Join(t.TempDir(), "socket")
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		asks := make(chan struct{}, maxAsks+1)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Serve(l, func(Order) error {
				asks <- struct{}{}
				if len(asks) > late {
					return nil
				}
				return ErrSucceeded
			})
		}()
		if err := Ask(path, false, func(Progress) {}); fmt.Sprint(err) != fmt.Sprint(want) || len(asks) != min(late+1, maxAsks) {
			t.Errorf("%d processes that are too late: %d orders, %v", late, len(asks), err)
		}
		_ = l.Close()
		<-ended
	}
}

// A process that asks for it takes over, or learns why not.
func TestJoin(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	if p, err := Join(path, "v2"); p != nil || err != nil {
		t.Error("there is nobody:", p, err)
	}
	orders, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	attached := make(chan *Successor, 1)
	how := make(chan string, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		Serve(orders, func(o Order) error {
			version := "v1"
			switch now := <-how; now {
			case "refused":
				return errors.New("not today")
			case "given up":
				ctx, cancel := context.WithCancel(context.Background())
				cancel()
				_, err := Attach(ctx, o.Conn, Options{Version: version, Within: testkit.Patience, Step: func(string) {}})
				return err
			}
			_, socket := listen(t)
			s, err := Attach(context.Background(), o.Conn, Options{Version: version, Sockets: []Socket{socket}, Within: testkit.Patience, Step: func(string) {}})
			if err == nil {
				attached <- s
			}
			return err
		})
	}()
	how <- "refused"
	if _, err := Join(path, "v2"); err == nil || !strings.Contains(err.Error(), "not today") {
		t.Error(err)
	}
	how <- "given up"
	if _, err := Join(path, "v2"); err == nil || !strings.Contains(err.Error(), "canceled") {
		t.Error(err)
	}
	for _, in := range []string{"charge", "doubt"} {
		how <- in
		p, err := Join(path, "v2")
		if err != nil {
			t.Fatal(err)
		}
		l := p.Take(Clients, func(net.Addr) bool { return true })
		if p.Version != "v1" || len(l) != 1 {
			t.Errorf("it takes %d sockets over from %s", len(l), p.Version)
		}
		ready := make(chan error, 1)
		go func() { ready <- p.Ready(Plaintext) }()
		s := testkit.Await(t, attached, "the old process's consent")
		if s.PID != os.Getpid() || fmt.Sprint(s.Takes) != "[plaintext]" {
			t.Errorf("process %d takes %v", s.PID, s.Takes)
		}
		if in == "doubt" {
			s.Abandon()
			if err := testkit.Await(t, ready, "the end"); err == nil {
				t.Error("it is in charge, though the other one goes on")
			}
			continue
		}
		if err := errors.Join(s.Commit(), s.Give()); err != nil {
			t.Error(err)
		}
		if err := testkit.Await(t, ready, "the last word"); err != nil {
			t.Error(err)
		}
		s.link.close()
		if err := p.Receive(new(taker)); err != nil {
			t.Error(err)
		}
	}
	_ = orders.Close()
	<-ended
}

func TestNotInherited(t *testing.T) {
	if p, err := Inherit([]string{"X=" + variable}, "v"); p != nil || err != nil {
		t.Error(p, err)
	}
	for _, number := range []string{"x", "-1", "0", "99999"} {
		if _, err := Inherit([]string{variable + "=" + number}, "v"); err == nil {
			t.Errorf("%s is accepted", number)
		}
	}
	var none *Predecessor
	none.Step("")
	none.Fail(nil)
	_ = none.Ready()
	if l := none.Take(Clients, func(net.Addr) bool { return true }); l != nil {
		t.Error(l)
	}
}

// FuzzReceive has a peer send anything. What is received is a record of a kind that is due, and no
// more memory is used than the bytes are worth.
func FuzzReceive(f *testing.F) {
	f.Add(frame(kindHello, `{"Protocol":1}`))
	f.Add(frame(kindSockets, `{"Roles":["clients"]}`))
	f.Add(frame(kindFailed, `{"Reason":"x"}`)[:9])
	f.Add([]byte("Su\x01\x00\xff\xff\xff\xff"))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 1<<16 { // more than the socket's buffer would block
			return
		}
		a, b := twoLinks(t)
		_, _ = a.conn.Write(data)
		a.close()
		for {
			r, err := b.receive(testkit.Patience, kindHello, kindFailed)
			if err != nil {
				if r.files != nil || r.body != nil {
					t.Error("an error comes with a record")
				}
				return
			}
			if !bytes.Contains(data, r.body) || r.kind != kindHello && r.kind != kindFailed {
				t.Errorf("%v", r)
			}
			var h hello
			_ = r.decode(&h)
		}
	})
}

// taker writes what it gets to the connections.
type taker struct {
	size, keys int
	fds        []int
}

func (*taker) Conn(c Conn) {
	_, _ = unix.Write(c.FD, []byte(fmt.Sprintf("%v,%v,%d ", c.Client, c.Idle, len(c.Keys))))
}

func (*taker) Prepare(resources []Resource, done func(failed []int)) {
	done([]int{len(resources)})
}

func (t *taker) Hold(description, keys []byte, fds []int) error {
	t.size, t.keys, t.fds = len(description), len(keys), fds
	return nil
}

func (t *taker) Serve() (int, error) {
	n := len(t.fds)
	for _, fd := range t.fds {
		_, _ = unix.Write(fd, []byte(fmt.Sprintf("%d+%d ", t.size, t.keys)))
	}
	t.Drop()
	return n, errors.New("one is lost")
}

func (t *taker) Drop() {
	for _, fd := range t.fds {
		_ = unix.Close(fd)
	}
	t.fds = nil
}
