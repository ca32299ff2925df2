package natsbus

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"

	"sluice/internal/natstest"
	"sluice/internal/secret"
	"sluice/internal/selfsigned"
)

func TestRetryUntilNATSIsThere(t *testing.T) {
	o := Options{URL: "nats://u:secret@host:1"}.withDefaults()
	var pauses []time.Duration
	tries := 0
	err := retry(context.Background(), &o,
		func() error {
			if tries++; tries < 12 {
				return &net.OpError{Op: "dial", Err: errors.New("connection refused")}
			}
			return nil
		},
		func(_ context.Context, d time.Duration) bool {
			pauses = append(pauses, d)
			return true
		})
	if err != nil || len(pauses) != 11 {
		t.Fatalf("got %v after pauses %v", err, pauses)
	}
	for i, d := range pauses {
		most := min(100*time.Millisecond<<i, 2*time.Second)
		if d > most || d < most/2 {
			t.Errorf("pause %d is %v, want between %v and %v", i, d, most/2, most)
		}
	}
}

func TestBackoffIsJitteredAndBounded(t *testing.T) {
	seen := make(map[time.Duration]bool)
	for try := 1; try < 100; try++ {
		d := backoff(try, time.Second, time.Minute)
		if d < time.Second/2 || d > time.Minute {
			t.Fatalf("try %d: %v", try, d)
		}
		seen[d] = true
	}
	if len(seen) < 50 {
		t.Fatalf("only %d different pauses", len(seen))
	}
}

func TestGivingUpSaysWhereAndWhat(t *testing.T) {
	s := natstest.New(t) // nothing listens
	u := strings.Replace(s.URL(), "nats://", "nats://user:secret@", 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	log := &endsAt{text: "is not reachable, retrying", end: cancel}
	_, err := Connect(ctx, Options{
		URL: secret.URLs(u), Receiver: &harness{}, Log: slog.New(slog.NewTextHandler(log, nil)),
		retryMin: time.Millisecond, retryMax: 2 * time.Millisecond,
	})
	if err == nil {
		t.Fatal("connected to nothing")
	}
	for _, part := range []string{strings.TrimPrefix(s.URL(), "nats://"), "start a NATS server", "--embedded-nats", "tries", "connection refused"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in %q", part, err)
		}
	}
	if n := strings.Count(log.String(), "--embedded-nats"); n != 1 {
		t.Errorf("%d lines of the log say what to do: %s", n, log)
	}
	if strings.Contains(err.Error()+log.String(), "secret") {
		t.Errorf("the password is told: %v %s", err, log)
	}
}

// endsAt is a log that calls end when text is written for the second time.
type endsAt struct {
	bytes.Buffer
	text string
	end  func()
}

func (l *endsAt) Write(p []byte) (int, error) {
	n, err := l.Buffer.Write(p)
	if strings.Count(l.String(), l.text) == 2 {
		l.end()
	}
	return n, err
}

func TestConnectEndsWithItsContext(t *testing.T) {
	s := natstest.New(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Connect(ctx, Options{URL: secret.URLs(s.URL()), Receiver: &harness{}}); err == nil {
		t.Fatal("connected to nothing")
	}
}

func TestConnectWaitsForNATS(t *testing.T) {
	h := &harness{t: t, nats: natstest.New(t)}
	refused := make(chan struct{})
	go func() {
		<-refused
		h.nats.Start()
	}()
	h.connect(func(_ *harness, o *Options) {
		o.Log = slog.New(&onRecord{Handler: slog.NewTextHandler(new(bytes.Buffer), nil), message: "is not reachable, retrying", found: refused})
	})
	h.sync()
}

func TestSeveralAddresses(t *testing.T) {
	dead := natstest.New(t)
	h := &harness{t: t, nats: natstest.Start(t)}
	h.connect(func(h *harness, o *Options) { o.URL = secret.URLs(dead.URL() + ", " + h.nats.URL() + ",") })
	h.sync()
	// When one server goes, the connection moves to the other.
	dead.Start()
	h.nats.Stop()
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")
	h.nats = dead
	h.sync()
}

// onRecord closes found at the first record whose message has a text in it.
type onRecord struct {
	slog.Handler
	message string
	found   chan struct{}
	done    bool
}

func (o *onRecord) Handle(_ context.Context, r slog.Record) error {
	if !o.done && strings.Contains(r.Message, o.message) {
		o.done = true
		close(o.found)
	}
	return nil
}

func TestPermanentErrorsFailAtOnce(t *testing.T) {
	s := natstest.Start(t, func(o *server.Options) { o.Username, o.Password = "right", "horse" })
	withUser := func(user string) secret.URLs {
		return secret.URLs(strings.Replace(s.URL(), "nats://", "nats://"+user+"@", 1))
	}
	for _, c := range []struct {
		name   string
		o      Options
		is     error
		advice string
	}{
		{"wrong user", Options{URL: withUser("wrong:secret")}, nats.ErrAuthorization, "credentials"},
		{"no user", Options{URL: secret.URLs(s.URL())}, nats.ErrAuthorization, "credentials"},
		{"creds missing", Options{URL: secret.URLs(s.URL()), Creds: "/nonexistent/secretly.creds"}, fs.ErrNotExist, "/nonexistent/secretly.creds"},
		{"CA missing", Options{URL: secret.URLs(s.URL()), RootCAs: []string{"/nonexistent/ca.pem"}}, fs.ErrNotExist, "/nonexistent/ca.pem"},
		{"cert without key", Options{URL: secret.URLs(s.URL()), Cert: "cert.pem"}, nil, "both"},
		{"bad port", Options{URL: "nats://user:secret@host:port"}, nil, "nats://host:port"},
		{"bad escape", Options{URL: "nats://user:secret%zz@host:1"}, nil, "nats://host:port"},
		{"password with a slash", Options{URL: "nats://user:se/cret@host:1"}, nil, "nats://host:port"},
	} {
		c.o.Receiver = &harness{}
		_, err := Connect(context.Background(), c.o) // with the default, 30 s of trying: the test would notice
		if err == nil {
			t.Fatalf("%s: connected", c.name)
		}
		if !strings.Contains(err.Error(), c.advice) || c.is != nil && !errors.Is(err, c.is) {
			t.Errorf("%s: got %q", c.name, err)
		}
		if strings.Contains(err.Error(), "secret") && c.o.Creds == "" || strings.Contains(err.Error(), "cret@") {
			t.Errorf("%s: the password is told: %v", c.name, err)
		}
		if strings.Contains(err.Error(), "tries") {
			t.Errorf("%s: was tried again: %v", c.name, err)
		}
	}
	h := &harness{t: t, nats: s}
	h.connect(func(_ *harness, o *Options) { o.URL = withUser("right:horse") })
}

func TestInProcess(t *testing.T) {
	h := &harness{t: t, nats: natstest.Start(t)}
	h.connect(func(h *harness, o *Options) {
		o.InProcess = func(context.Context) (net.Conn, error) { return h.nats.InProcess() }
		o.URL = "nats://nowhere.invalid:1"
	})
	if err := h.caller.Subscribe("a"); err != nil {
		t.Fatal(err)
	}
	h.caller.Flush()
	h.sync()
	h.publish(h.nats.Client(), "event.a.e", "1")
	h.want("event", "event a.e 1")
	h.nats.Cut("sluice")
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")
	h.want("signal", "signal 0 gap")
	h.sync()
}

func TestTLSWithClientCertificate(t *testing.T) {
	serverCert, serverKey := newCertificate(t)
	clientCert, clientKey := newCertificate(t)
	s := natstest.Start(t, func(o *server.Options) {
		conf, err := server.GenTLSConfig(&server.TLSConfigOpts{CertFile: serverCert, KeyFile: serverKey, CaFile: clientCert, Verify: true})
		if err != nil {
			t.Fatal(err)
		}
		o.TLS, o.TLSVerify, o.TLSConfig, o.TLSTimeout = true, true, conf, 10
	})
	h := &harness{t: t}
	h.connect(func(_ *harness, o *Options) {
		o.URL, o.Cert, o.Key, o.RootCAs = secret.URLs(s.URL()), clientCert, clientKey, []string{serverCert}
	})
	h.caller.Request(Request{Name: "a", Subject: "get.a"}, func(_ []byte, err error) {
		if err != ErrNoResponders {
			t.Errorf("over TLS: %v", err)
		}
	})
	h.caller.Flush()
	h.next("reply")
	s.Restart()
	h.want("signal", "signal 0 disconnected")
	h.want("signal", "signal 0 connected")

	strangerCert, strangerKey := newCertificate(t)
	for name, o := range map[string]Options{
		"server not trusted":   {Cert: clientCert, Key: clientKey, RootCAs: []string{strangerCert}},
		"client not trusted":   {Cert: strangerCert, Key: strangerKey, RootCAs: []string{serverCert}},
		"key of another":       {Cert: clientCert, Key: strangerKey, RootCAs: []string{serverCert}},
		"no certificate":       {RootCAs: []string{serverCert}},
		"CA file without a CA": {RootCAs: []string{clientKey}},
		"server without trust": {Cert: clientCert, Key: clientKey},
	} {
		o.URL, o.Receiver = secret.URLs(s.URL()), &harness{}
		_, err := Connect(context.Background(), o)
		if err == nil {
			t.Errorf("%s: connected", name)
		} else if strings.Contains(err.Error(), "tries") {
			t.Errorf("%s: was tried again: %v", name, err)
		}
	}
}

// newCertificate makes files of a certificate that its peers have as a root.
func newCertificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pair, err := selfsigned.New("127.0.0.1")
	if err == nil {
		err = pair.Write(certFile, keyFile)
	}
	if err != nil {
		t.Fatal(err)
	}
	return certFile, keyFile
}

// A server in operator mode knows its users by signed tokens; the credentials file has one and its
// key.
func TestCredentialsFile(t *testing.T) {
	operator, operatorKey := newKey(t, nkeys.CreateOperator)
	account, accountKey := newKey(t, nkeys.CreateAccount)
	user, userKey := newKey(t, nkeys.CreateUser)
	accountToken, err := jwt.NewAccountClaims(accountKey).Encode(operator)
	if err != nil {
		t.Fatal(err)
	}
	userToken, err := jwt.NewUserClaims(userKey).Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	seed, err := user.Seed()
	if err != nil {
		t.Fatal(err)
	}
	creds, err := jwt.FormatUserConfig(userToken, seed)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "user.creds")
	if err := os.WriteFile(file, creds, 0o600); err != nil {
		t.Fatal(err)
	}
	s := natstest.Start(t, func(o *server.Options) {
		resolver := &server.MemAccResolver{}
		if err := resolver.Store(accountKey, accountToken); err != nil {
			t.Fatal(err)
		}
		o.TrustedKeys, o.AccountResolver = []string{operatorKey}, resolver
	})
	if _, err := Connect(context.Background(), Options{URL: secret.URLs(s.URL()), Receiver: &harness{}}); !errors.Is(err, nats.ErrAuthorization) {
		t.Fatalf("without credentials: %v", err)
	}
	h := &harness{t: t, nats: s}
	h.connect(func(_ *harness, o *Options) { o.Creds = file })
}

func newKey(t *testing.T, create func() (nkeys.KeyPair, error)) (nkeys.KeyPair, string) {
	t.Helper()
	pair, err := create()
	if err != nil {
		t.Fatal(err)
	}
	public, err := pair.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return pair, public
}

func TestNoReceiver(t *testing.T) {
	if _, err := Connect(context.Background(), Options{}); err == nil {
		t.Fatal("accepted")
	}
}
