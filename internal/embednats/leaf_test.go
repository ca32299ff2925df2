package embednats

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sluice/internal/natstest"
	"sluice/internal/secret"
	"sluice/internal/selfsigned"
	"sluice/internal/testkit"
)

// site is an embedded server, with its log.
type site struct {
	*Server
	t   *testing.T
	log *testkit.Log
	m   Metrics
}

func startSite(t *testing.T, leaf string, change ...func(*Options)) *site {
	t.Helper()
	s := &site{t: t, log: new(testkit.Log)}
	o := Options{Listen: "127.0.0.1:0", Leaf: Leaf{URLs: secret.URLs(leaf)}, Ping: 200 * time.Millisecond, Metrics: &s.m, Log: s.log.Logger()}
	for _, f := range change {
		f(&o)
	}
	e, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Stop)
	s.Server = e
	return s
}

// link waits for an in-process connection.
func (s *site) link() net.Conn {
	s.t.Helper()
	deadline, cancel := context.WithTimeout(s.t.Context(), testkit.Patience)
	defer cancel()
	for {
		c, err := s.InProcessConn(deadline)
		if err == nil {
			s.t.Cleanup(func() { c.Close() })
			return c
		}
		if deadline.Err() != nil {
			s.t.Fatalf("no link: %v\n%s", err, s.log)
		}
	}
}

// provider is a connection as nats.go takes it.
type provider struct{ net.Conn }

func (p provider) InProcessConn() (net.Conn, error) { return p.Conn, nil }

// client is the gateway's connection. It ends with the link.
func (s *site) client() (nc *nats.Conn, lost chan error) {
	s.t.Helper()
	lost = make(chan error, 1)
	options := []nats.Option{nats.InProcessServer(provider{s.link()}), nats.NoReconnect(),
		nats.DisconnectErrHandler(func(nc *nats.Conn, _ error) { lost <- nc.LastError() })}
	if key := s.UserKey(); key != "" {
		options = append(options, nats.Nkey(key, s.Sign))
	}
	nc, err := nats.Connect("", options...)
	if err != nil {
		s.t.Fatalf("the gateway's connection: %v\n%s", err, s.log)
	}
	s.t.Cleanup(nc.Close)
	return nc, lost
}

// asks requests what a service at the hub answers. It is asked once: a first "no responders" is a
// failure.
func asks(t *testing.T, nc *nats.Conn) {
	t.Helper()
	m, err := nc.Request("get.test", nil, testkit.Patience)
	if err != nil || string(m.Data) != "here" {
		t.Fatalf("the request: %v, %v", m, err)
	}
}

func serve(t *testing.T, nc *nats.Conn) {
	t.Helper()
	if _, err := nc.Subscribe("get.test", func(m *nats.Msg) { _ = m.Respond([]byte("here")) }); err != nil {
		t.Fatal(err)
	}
	if err := nc.Flush(); err != nil {
		t.Fatal(err)
	}
}

// Whatever ends the link ends the gateway's connection, with a reason. The next one is there when
// the link is usable again: the first request on it is answered.
func TestLeafLinkIsTheConnection(t *testing.T) {
	port := natstest.NewLeafPort(t)
	hub := natstest.Start(t, port.Open)
	serve(t, hub.Client())
	s := startSite(t, "nats://"+port.Addr())
	for _, fault := range []struct {
		name      string
		cut, mend func()
	}{
		{"the hub restarts", hub.Stop, hub.Start},
		{"the link is cut", port.Cut, port.Restore},
		{"all packets are lost", port.Freeze, port.Thaw},
		{"the link flaps", func() { port.Cut(); port.Restore() }, func() {}},
	} {
		nc, lost := s.client()
		asks(t, nc)
		if n := s.m.Links.Load(); n != 1 {
			t.Errorf("%s: %d links", fault.name, n)
		}
		fault.cut()
		if err := testkit.Await(t, lost, fault.name); err == nil || !strings.Contains(err.Error(), "the leaf link is lost: ") {
			t.Errorf("%s: the connection was lost with %v", fault.name, err)
		}
		fault.mend()
		if fault.name == "the hub restarts" {
			serve(t, hub.Client())
		}
	}
	nc, _ := s.client()
	asks(t, nc)
	if ups, losses := s.m.Ups.Load(), s.m.Losses.Load(); losses < 4 || ups != losses+1 {
		t.Errorf("%d times up, %d losses", ups, losses)
	}
}

// The server says that a link has ended before it removes what the hub subscribes to. From then on
// the gateway reads nothing: not that there is no service.
func TestNoFalseReplyWhenTheLinkEnds(t *testing.T) {
	port := natstest.NewLeafPort(t)
	hub := natstest.Start(t, port.Open)
	serve(t, hub.Client())
	s := startSite(t, "nats://"+port.Addr())
	for range 5 {
		nc, lost := s.client()
		asks(t, nc)
		var false503 error
		end := make(chan struct{})
		go func() {
			defer close(end)
			for {
				_, err := nc.Request("get.test", nil, testkit.Patience)
				if errors.Is(err, nats.ErrNoResponders) {
					false503 = err
				}
				if err != nil {
					return
				}
			}
		}()
		port.Cut()
		testkit.Await(t, lost, "the end of the link")
		testkit.Await(t, end, "the end of the requests")
		port.Restore()
		if false503 != nil {
			t.Fatalf("a request got %v while a service is there", false503)
		}
	}
}

// serverTLS has a certificate that no one knows.
func serverTLS(t *testing.T) *tls.Config {
	t.Helper()
	pair, err := selfsigned.New("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

// What no waiting mends fails immediately, and says what to do.
func TestLeafLinkErrors(t *testing.T) {
	port := natstest.NewLeafPort(t)
	hub := natstest.Start(t, port.Open, func(o *server.Options) {
		o.LeafNode.Username, o.LeafNode.Password = "site", "right"
	})
	web, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { web.Close() })
	go func() {
		for {
			c, err := web.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
				c.Close()
			}()
		}
	}()
	secure, err := tls.Listen("tcp", "127.0.0.1:0", serverTLS(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { secure.Close() })
	go func() {
		for {
			c, err := secure.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.(*tls.Conn).HandshakeContext(t.Context()) // waits for the client's first record
				c.Close()
			}()
		}
	}()
	private := natstest.NewLeafPort(t)
	natstest.Start(t, private.Open, func(o *server.Options) { o.LeafNode.TLSConfig, o.LeafNode.TLSTimeout = serverTLS(t), 5 })
	for _, c := range []struct{ name, url, cause, fix string }{
		{"wrong password", "nats://site:wrong-secret@" + port.Addr(), "Authorization Violation", "natsCreds"},
		{"no password", "nats://" + port.Addr(), "Authorization Violation", "natsCreds"},
		{"the port for clients", hub.URL(), "wrong port", "7422"},
		{"another server", "nats://" + web.Addr().String(), "", ""},
		{"a port that begins with TLS", "nats://" + secure.Addr().String(), "", ""},
		{"an unknown certificate", "nats://" + private.Addr(), "x509", "natsRootCAs"},
		{"TLS where there is none", "tls://" + port.Addr(), "TLS Handshake Failure", ""},
		{"no server", "nats://127.0.0.1:1", "connection refused", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startSite(t, c.url)
			_, err := s.InProcessConn(t.Context())
			var why *LinkError
			if !errors.As(err, &why) {
				t.Fatal(err)
			}
			if !strings.Contains(why.Cause, c.cause) || !strings.Contains(why.Advice(), c.fix) || (c.fix == "") != (why.Advice() == "") {
				t.Errorf("%v; advice: %q\n%s", err, why.Advice(), s.log)
			}
			if advised := err.Error() + why.Advice(); !strings.Contains(advised, "natsLeaf must be the port for leaf nodes") && !strings.Contains(advised, "use a nats:// address") && c.fix != "natsCreds" && c.fix != "natsRootCAs" {
				t.Errorf("it does not say what to do: %s", advised)
			}
			if strings.Contains(err.Error(), "secret") || strings.Contains(s.log.String(), "secret") {
				t.Errorf("the password is shown: %v\n%s", err, s.log)
			}
		})
	}
	s := startSite(t, "nats://site:right@"+port.Addr())
	s.client()
}

// Two sites whose configuration files have one name push each other out; both say so.
func TestTwoSitesWithOneName(t *testing.T) {
	port := natstest.NewLeafPort(t)
	natstest.Start(t, port.Open)
	file := filepath.Join(t.TempDir(), "nats.conf")
	if err := os.WriteFile(file, []byte("server_name: shop\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	named := func(o *Options) { o.File = file }
	first := startSite(t, "nats://"+port.Addr(), named)
	first.client()
	second := startSite(t, "nats://"+port.Addr(), named)
	for _, s := range []*site{first, second} {
		testkit.Until(t, "it says that the name is taken", func() bool { return strings.Contains(s.log.String(), "same server_name") })
	}
}

// A client of the embedded server needs what the settings say. The gateway needs nothing, and is a
// leaf node all the same.
func TestWhoMayConnect(t *testing.T) {
	port := natstest.NewLeafPort(t)
	hub := natstest.Start(t, port.Open)
	serve(t, hub.Client())
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	key, err := user.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "nats.conf")
	conf := "accounts { SHOP { users: [{user: till, password: horse}] } }\nleafnodes { remotes: [{url: \"nats://" + port.Addr() + "\", account: SHOP}] }\n"
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change func(*Options)
		admit  nats.Option
	}{
		{"users", func(o *Options) { o.Users = "a:b;till:horse" }, nats.UserInfo("till", "horse")},
		{"token", func(o *Options) { o.Token = "horse" }, nats.Token("horse")},
		{"nkeys", func(o *Options) { o.Nkeys = []string{key} }, nats.Nkey(key, user.Sign)},
		{"users and token", func(o *Options) { o.Users, o.Token = "till:horse", "horse" }, nats.Token("horse")},
		{"file", func(o *Options) { o.File, o.Leaf.URLs = file, "" }, nats.UserInfo("till", "horse")},
	} {
		s := startSite(t, "nats://"+port.Addr(), c.change)
		nc, _ := s.client()
		asks(t, nc)
		if stranger, err := nats.Connect(s.URL()); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: a stranger connects: %v", c.name, err)
			stranger.Close()
		}
		service, err := nats.Connect(s.URL(), c.admit)
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		asks(t, service)
		service.Close()
		s.Stop()
	}
}

// The server does not start where anyone could act as a service.
func TestRefusesToBeOpen(t *testing.T) {
	dir := t.TempDir()
	file := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, c := range []struct {
		name string
		o    Options
		want string // in the error; empty: it starts
	}{
		{"loopback", Options{Listen: "[::1]:0"}, ""},
		{"all addresses", Options{Listen: "0.0.0.0:0"}, "port for clients"},
		{"no address", Options{Listen: ":0"}, "embeddedNatsInsecure"},
		{"said so", Options{Listen: "0.0.0.0:0", Insecure: true}, ""},
		{"users", Options{Listen: "0.0.0.0:0", Users: "a:b"}, ""},
		{"malformed users", Options{Listen: "127.0.0.1:0", Users: "s3cret"}, "name:password"},
		{"malformed nkey", Options{Listen: "127.0.0.1:0", Nkeys: []string{"s3cret"}}, "begins with U"},
		{"file without", Options{Listen: "127.0.0.1:0", File: file("a", "listen: 0.0.0.0:-1\n")}, "port for clients"},
		{"file with token", Options{Listen: "127.0.0.1:0", File: file("b", "listen: 0.0.0.0:-1\nauthorization { token: horse }\n")}, ""},
		{"file with anyone", Options{Listen: "127.0.0.1:0", File: file("c", "listen: 0.0.0.0:-1\nno_auth_user: a\nauthorization { users: [{user: a, password: b}] }\n")}, "port for clients"},
		{"file with leaf nodes", Options{Listen: "127.0.0.1:0", File: file("d", "leafnodes { listen: 0.0.0.0:-1 }\n")}, "port for leaf nodes"},
		{"file with routes", Options{Listen: "127.0.0.1:0", File: file("e", "cluster { name: x, listen: 0.0.0.0:-1 }\n")}, "port for routes"},
		{"two authorizations", Options{Listen: "127.0.0.1:0", Token: "x", File: file("f", "authorization { token: horse }\n")}, "of its own"},
		{"malformed file", Options{Listen: "127.0.0.1:0", File: file("g", "authorization { token: $s3cret }\n")}, "embeddedNatsConfig"},
		{"no file", Options{Listen: "127.0.0.1:0", File: filepath.Join(dir, "none")}, "embeddedNatsConfig"},
		{"certificate without key", Options{Listen: "127.0.0.1:0", Cert: file("h", "")}, "embeddedNatsTlsCert"},
		{"no certificate of the hub's authority", Options{Listen: "127.0.0.1:0", Leaf: Leaf{URLs: "nats://h", RootCAs: []string{file("i", "")}}}, "natsRootCAs"},
		{"no seed", Options{Listen: "127.0.0.1:0", Leaf: Leaf{URLs: "nats://h", Nkey: file("j", "s3cret")}}, "begins with SU"},
		{"no address of the hub", Options{Listen: "127.0.0.1:0", Leaf: Leaf{URLs: "h:s3cret"}}, "natsLeaf"},
	} {
		c.o.Log = slog.New(slog.DiscardHandler)
		e, err := Start(t.Context(), c.o)
		switch {
		case err == nil:
			if c.want != "" {
				t.Errorf("%s: it starts", c.name)
			}
			if z, err := e.srv.Varz(nil); err != nil || z.JetStream.Config != nil {
				t.Errorf("%s: JetStream is on: %v, %v", c.name, z.JetStream.Config, err)
			}
			e.Stop()
		case c.want == "" || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret"):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}
