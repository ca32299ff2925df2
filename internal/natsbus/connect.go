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
	"os"
	"slices"
	"time"

	"github.com/nats-io/nats.go"
)

// missedPings is how many pings without a pong end a connection.
const missedPings = 2

// connect makes the first connection. It retries until it succeeds, ctx ends, or the error is
// permanent.
func (p *publisher) connect(ctx context.Context) error {
	p.settings = nats.GetDefaultOptions()
	p.settings.Servers = p.opts.URL.List()
	if err := p.configure(&p.settings); err != nil {
		return fmt.Errorf("connecting to NATS: %w", err)
	}
	return retry(ctx, p.opts, func() error { return p.dial(ctx) }, pause)
}

// reopen replaces a connection that nats.go has closed, however long that takes. It returns false
// if the link closes first. Only the publisher calls it, after it has received from lost.
func (p *publisher) reopen() bool {
	ctx, cancel := context.WithCancel(p.dials)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-p.closing:
			cancel()
			p.cancel()
		case <-stop:
		}
	}()
	for try := int(p.flaps.Load()); p.nc.Load().IsClosed(); try++ {
		d := backoff(max(try, 1), p.opts.retryMin, p.opts.retryMax)
		p.opts.Log.Info("reopening the NATS connection", "connection", p.number, "url", p.opts.URL, "pause", d)
		if !pause(ctx, d) {
			return false
		}
		if err := p.dial(ctx); err != nil {
			p.opts.Log.Warn("NATS connection failed, retrying", "connection", p.number, "error", p.opts.scrub(err))
			continue
		}
		p.opts.Metrics.Reconnects.Inc()
		poke(p.back) // probes
		break        // if it is closed already, onClosed is about to signal lost
	}
	return ctx.Err() == nil
}

// dial makes a connection and repeats all subscriptions on it. If that fails, the connection is
// closed and all its callbacks have returned.
func (p *publisher) dial(ctx context.Context) error {
	made, err := p.settings.Connect()
	if err != nil {
		if errors.Is(err, nats.ErrNoServers) && p.dialError != nil {
			err = p.dialError // nats.go hides why a connection was refused
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && p.dialError == nil {
			err = fmt.Errorf("%w: it accepts connections but does not speak as a NATS server", err)
		}
		return err
	}
	nc := natsConn{made}
	p.nc.Store(nc)
	if err = p.furnish(nc); err == nil {
		confirm, cancel := context.WithTimeout(ctx, p.opts.tryTimeout)
		err = nc.FlushWithContext(confirm)
		cancel()
		if err == nil || ctx.Err() == nil && !nc.IsClosed() {
			return nil // with an error it is lost, and nats.go is about to restore it
		}
	}
	if ctx.Err() != nil {
		nc.Close()
		return fmt.Errorf("NATS at %s does not confirm subscriptions: %w", p.opts.URL, err)
	}
	select { // nats.go has closed it
	case <-p.lost:
	case <-ctx.Done():
	}
	if last := nc.LastError(); last != nil {
		err = last
	}
	return err
}

// furnish repeats all subscriptions on a new connection. It fails only if nats.go has closed it.
func (p *publisher) furnish(nc Conn) error {
	if err := p.subscribeBase(nc); err != nil {
		return err
	}
	for _, in := range slices.Clone(p.subs.List()) {
		name := in.Key()
		if subscribeLine(name) > int(p.lineLimit.Load()) {
			continue // the server would drop the connection; nor can the resource be fetched
		}
		if err := p.ask(nc, name); err != nil {
			return err
		}
	}
	return nil
}

// absent is what to do if no server answers.
const absent = "start a NATS server there, set the address of a running one (natsUrl), or run one inside (--embedded-nats)"

// retry is the loop of connect. Its two effects, dialling and waiting, are parameters for tests.
func retry(ctx context.Context, o *Options, dial func() error, wait func(context.Context, time.Duration) bool) error {
	var last error
	for tries := 1; ; tries++ {
		err := dial()
		if err == nil {
			return nil
		}
		if last != nil && ctx.Err() != nil {
			err = last // ctx ended this attempt; the one before has the cause
		}
		last = err
		if advice := permanent(err); advice != "" {
			return fmt.Errorf("cannot connect to NATS at %s: %w; %s", o.URL, o.scrub(err), advice)
		}
		d := backoff(tries, o.retryMin, o.retryMax)
		if ctx.Err() == nil {
			attrs := []any{"url", o.URL, "error", o.scrub(err), "try", tries, "pause", d}
			if tries == 1 {
				attrs = append(attrs, "advice", absent)
			}
			o.Log.Warn("NATS is not reachable, retrying", attrs...)
		}
		if ctx.Err() != nil || !wait(ctx, d) {
			return fmt.Errorf("cannot reach NATS at %s (tries: %d): %w; %s", o.URL, tries, o.scrub(err), absent)
		}
	}
}

// pause waits for d. It returns false if ctx ends first.
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

// backoff doubles from least up to most and subtracts up to a random half, so that gateways that
// lost the same server do not reconnect at the same moment. try counts from 1.
func backoff(try int, least, most time.Duration) time.Duration {
	d := most
	if shift := try - 1; shift < 30 && least<<shift < most {
		d = least << shift
	}
	return d - rand.N(d/2+1)
}

// permanent returns what to do about an error that retrying does not remove, or "".
func permanent(err error) string {
	var unknownCA x509.UnknownAuthorityError
	var badHost x509.HostnameError
	var badURL *url.Error
	var notTLS tls.RecordHeaderError
	var remote *net.OpError
	var advised interface{ Advice() string }
	switch {
	case errors.As(err, &advised):
		return advised.Advice()
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
	d := net.Dialer{Timeout: l.opts.tryTimeout}
	c, err := d.DialContext(l.dials, network, address)
	l.dialError = err
	return l.keep(c, err)
}

func (l *link) dialInProcess() (net.Conn, error) {
	c, err := l.opts.InProcess(l.dials)
	l.dialError = err
	return l.keep(c, err)
}

func (l *link) keep(c net.Conn, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	s := newStrictConn(direct(c), l.opts.WriteTimeout)
	if old := l.socket.Swap(s); old != nil {
		_ = old.Close() // nats.go forgets one whose server has accepted it and does not reply
	}
	return s, nil
}

// configure sets nats.go's options. An error is one of the files named in ours.
func (l *link) configure(settings *nats.Options) error {
	o := l.opts
	credentials, err := Credentials(o.Creds, o.Nkey, o.Cert, o.Key, o.RootCAs)
	if err != nil {
		return err
	}
	options := []nats.Option{
		nats.Name(o.Name),
		nats.Timeout(o.tryTimeout),
		nats.SetCustomDialer(l),
		nats.FlusherTimeout(o.WriteTimeout),
		nats.ReconnectOnFlusherError(),
		nats.PingInterval(o.Ping),
		nats.MaxPingsOutstanding(missedPings),
		nats.MaxReconnects(-1),
		nats.IgnoreAuthErrorAbort(), // a running gateway outlives a mistake in the server's accounts
		nats.CustomReconnectDelay(func(try int) time.Duration {
			// A short-lived connection counts as a failed attempt, too.
			return backoff(try+max(int(l.flaps.Load())-1, 0), o.retryMin, o.retryMax)
		}),
		// Nothing is buffered while disconnected: the publisher waits instead, and skips requests
		// that have ended by then.
		nats.ReconnectBufSize(-1),
		nats.NoCallbacksAfterClientClose(),
		nats.ConnectHandler(func(nc *nats.Conn) { contained(l, func() { l.onConnect(natsConn{nc}) }) }),
		nats.DisconnectErrHandler(func(nc *nats.Conn, err error) { contained(l, func() { l.onDisconnect(natsConn{nc}, err) }) }),
		nats.ReconnectHandler(func(nc *nats.Conn) { contained(l, func() { l.onReconnect(natsConn{nc}) }) }),
		nats.ErrorHandler(func(_ *nats.Conn, sub *nats.Subscription, err error) {
			contained(l, func() { l.onError(sub, err) })
		}),
		nats.LameDuckModeHandler(func(*nats.Conn) { contained(l, l.onLameDuck) }),
		nats.ClosedHandler(func(nc *nats.Conn) { contained(l, func() { l.onClosed(natsConn{nc}) }) }),
	}
	if o.InProcess != nil {
		options = append(options, nats.InProcessServer(inProcess(l.dialInProcess)))
	}
	if o.UserKey != "" {
		options = append(options, nats.Nkey(o.UserKey, o.Sign))
	}
	for _, apply := range append(options, credentials...) {
		if err := apply(settings); err != nil {
			return err
		}
	}
	return nil
}

// scrub removes the address's credentials from an error. A parse error is replaced, because it
// quotes the address or a part of it.
func (o *Options) scrub(err error) error {
	if u := new(url.Error); errors.As(err, &u) {
		return errors.New("the address cannot be parsed")
	}
	return o.URL.Error(err)
}
