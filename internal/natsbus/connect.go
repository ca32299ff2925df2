package natsbus

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	tryTimeout   = 5 * time.Second  // one try to connect
	pingInterval = 20 * time.Second // a server that answers two of them with nothing is gone
)

// connect tries until it succeeds, the reason is one that waiting does not remove, or ctx ends.
func (l *link) connect(ctx context.Context) (*nats.Conn, error) {
	settings := nats.GetDefaultOptions()
	settings.Servers = addresses(l.opts.URL)
	if err := l.configure(&settings); err != nil {
		return nil, fmt.Errorf("connecting to NATS: %w", err)
	}
	return retry(ctx, l.opts, func() (*nats.Conn, error) {
		nc, err := settings.Connect()
		if errors.Is(err, nats.ErrNoServers) && l.dialError != nil {
			err = l.dialError // nats.go hides why a connection was refused
		}
		return nc, err
	}, pause)
}

// retry is the loop of connect with its two effects, dialling and waiting, passed in.
func retry(ctx context.Context, o *Options, dial func() (*nats.Conn, error), wait func(context.Context, time.Duration) bool) (*nats.Conn, error) {
	var last error
	for tries := 1; ; tries++ {
		nc, err := dial()
		if err == nil {
			return nc, nil
		}
		if last != nil && ctx.Err() != nil {
			err = last // the end cut this try short, the one before says why
		}
		last = err
		if advice := permanent(err); advice != "" {
			return nil, fmt.Errorf("cannot connect to NATS at %s: %w; %s", redact(o.URL), scrub(err), advice)
		}
		d := backoff(tries, o.retryMin, o.retryMax)
		if ctx.Err() == nil {
			o.Log.Warn("NATS is not reachable, trying again", "url", redact(o.URL), "error", scrub(err), "try", tries, "pause", d)
		}
		if ctx.Err() != nil || !wait(ctx, d) {
			return nil, fmt.Errorf("cannot reach NATS at %s (tries: %d): %w; start a NATS server there, or set the address of a running one",
				redact(o.URL), tries, scrub(err))
		}
	}
}

// pause waits; false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// backoff doubles from least up to most and takes a random half off, so that gateways that lost the
// same server do not come back at the same moment. try counts from 1.
func backoff(try int, least, most time.Duration) time.Duration {
	d := most
	if shift := try - 1; shift < 30 && least<<shift < most {
		d = least << shift
	}
	return d - rand.N(d/2+1)
}

// permanent returns what to do about an error that trying again does not remove, or "".
func permanent(err error) string {
	var unknownCA x509.UnknownAuthorityError
	var badHost x509.HostnameError
	var badURL *url.Error
	var notTLS tls.RecordHeaderError
	var remote *net.OpError
	switch {
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked), errors.Is(err, nats.ErrAccountAuthExpired):
		return "check the user in the address or the credentials file"
	case errors.As(err, &unknownCA), errors.As(err, &badHost):
		return "check the root certificates and the name in the server's certificate"
	case errors.As(err, &notTLS), errors.Is(err, nats.ErrSecureConnWanted):
		return "the server does not speak TLS: use a nats:// address and no certificates"
	case errors.As(err, &remote) && remote.Op == "remote error":
		return "the server does not accept the TLS handshake: check the client certificate"
	case errors.As(err, &badURL):
		return "write the address as nats://host:port"
	}
	return ""
}

// inProcess adapts a function to what nats.go asks for.
type inProcess func() (net.Conn, error)

func (f inProcess) InProcessConn() (net.Conn, error) { return f() }

// Dial implements nats.CustomDialer.
func (l *link) Dial(network, address string) (net.Conn, error) {
	d := net.Dialer{Timeout: tryTimeout}
	c, err := d.DialContext(l.dials, network, address)
	l.dialError = err
	return l.keep(c, err)
}

func (l *link) keep(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	s := &strictConn{c}
	l.socket.Store(s)
	return s, nil
}

// configure sets nats.go's options. An error is one of the files named in ours.
func (l *link) configure(settings *nats.Options) error {
	o := l.opts
	if (o.Cert == "") != (o.Key == "") {
		return errors.New("a client certificate needs both its certificate and its key file")
	}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(tryTimeout),
		nats.SetCustomDialer(l),
		nats.FlusherTimeout(o.WriteTimeout),
		nats.ReconnectOnFlusherError(),
		nats.PingInterval(pingInterval),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a running gateway outlives a mistake in the server's accounts
		nats.CustomReconnectDelay(func(try int) time.Duration { return backoff(try, o.retryMin, o.retryMax) }),
		// Nothing is buffered while disconnected: the publisher waits instead, and leaves out the
		// requests nobody waits for any more.
		nats.ReconnectBufSize(-1),
		nats.NoCallbacksAfterClientClose(),
		nats.DisconnectErrHandler(l.onDisconnect),
		nats.ReconnectHandler(l.onReconnect),
		nats.ErrorHandler(l.onError),
	}
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(inProcess(func() (net.Conn, error) { return l.keep(o.InProcess()) })))
	}
	if o.Creds != "" {
		options = append(options, nats.UserCredentials(o.Creds))
	}
	if o.Cert != "" {
		options = append(options, nats.ClientCert(o.Cert, o.Key))
	}
	if len(o.RootCAs) > 0 {
		options = append(options, nats.RootCAs(o.RootCAs...))
	}
	for _, apply := range options {
		if err := apply(settings); err != nil {
			return err
		}
	}
	return nil
}

// addresses takes a comma-separated list apart.
func addresses(urls string) []string {
	var parts []string
	for p := range strings.SplitSeq(urls, ",") {
		if p = strings.TrimSpace(p); p != "" {
			parts = append(parts, p)
		}
	}
	return parts
}

// redact takes user and password out of an address or a comma-separated list of them.
func redact(urls string) string {
	parts := addresses(urls)
	for i, p := range parts {
		scheme, rest, found := strings.Cut(p, "://")
		if !found {
			scheme, rest = "", p
		} else {
			scheme += "://"
		}
		parts[i] = scheme + rest[strings.LastIndexByte(rest, '@')+1:]
	}
	return strings.Join(parts, ",")
}

// scrub replaces an error that quotes the address, or a piece of it: that may be a password.
func scrub(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		return errors.New("the address cannot be parsed")
	}
	return err
}
