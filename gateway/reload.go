package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/netip"
	"time"

	"sluice/internal/certs"
	"sluice/internal/memory"
	"sluice/internal/owner"
	"sluice/internal/reload"
	"sluice/netpoll"
)

// adjustWait bounds how long a reload waits for the owners to take the new settings. They take them
// in any case; beyond it the log says that one is late.
const adjustWait = 10 * time.Second

// newReloader returns what reloads the settings of a gateway. c has its defaults.
func (g *Gateway) newReloader(c Config) *reload.Reloader {
	read := c.Reread
	if read == nil {
		read = func() (Config, []string, error) {
			return Config{}, nil, errors.New("Config.Reread is nil: the settings cannot be read again")
		}
	}
	return reload.New(reload.Options{Running: c, Read: read, Prepare: g.prepare, Log: g.log})
}

// Reload reads the settings again, with Config.Reread, and applies what can change in a running
// gateway. The log has a line for each setting. After an error nothing has changed.
func (g *Gateway) Reload(ctx context.Context) error {
	_, err := g.reloader.Reload(ctx)
	return err
}

// reloadHandler returns the handler of POST /reload; nil if the settings cannot be read again.
func (g *Gateway) reloadHandler() http.Handler {
	if g.config.Reread == nil {
		return nil
	}
	return g.reloader
}

// StopWindow returns how long Stop may take by the settings in use, beside what the parts need to
// end.
func (g *Gateway) StopWindow() time.Duration {
	c := g.reloader.Running().WithDefaults()
	return max(c.ShutdownDelay, 0) + max(c.DrainTimeout, 0) + c.CloseTimeout
}

// prepare makes what new settings need and can fail, and returns what hands it to the owners
// (reload.Options.Prepare). Each owner replaces its own copy, so no path of an event reads what
// another goroutine writes.
func (g *Gateway) prepare(next Config) (commit func(context.Context), err error) {
	c := next.WithDefaults()
	networks, err := c.Networks()
	if err != nil {
		return nil, err
	}
	var store *certs.Store // nil: the files are the same
	if running := g.reloader.Running(); c.TLS && (c.TLSCert != running.TLSCert || c.TLSKey != running.TLSKey) {
		files, keys := c.CertificateFiles()
		store, err = certs.New(certs.Options{Certs: files, Keys: keys, Log: slog.New(slog.DiscardHandler), Clock: g.clock})
		if err != nil {
			return nil, err
		}
	}
	tokens, err := g.tokens.Prepare(context.Background(), c.JWT())
	if err != nil {
		return nil, err
	}
	port, err := g.admin.Prepare(&c)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) {
		tokens()
		port()
		if c.Level != nil {
			c.Level.Set(c.LogLevel())
		}
		if store != nil {
			g.certs.Replace(store)
		}
		g.elsewhere.Set(c.Alternates)
		g.resets.SetLimit(c.ResetThrottle)
		g.grace.SetLength(max(c.NATSGrace, 0))
		g.addresses.Adjust(c.AddressLimits(&networks))
		g.http.Adjust(g.httpOptions(&c, networks.Trusted))
		g.adjustOwners(ctx, &c, networks.Proxies)
	}, nil
}

// adjustOwners posts the settings to the loops and shards, and waits until they have taken them.
func (g *Gateway) adjustOwners(ctx context.Context, c *Config, proxies []netip.Prefix) {
	ctx, cancel := owner.Within(ctx, g.clock, adjustWait)
	defer cancel()
	budgets := memory.NewBudgets(c.CacheBytes, c.BacklogBytes)
	net := netpoll.Adjustable{Limits: c.NetLimits(httpExchange, budgets.Backlog), ResponseHeader: g.rest.Origins().Lines(), ProxyFrom: proxies}
	err := g.owners.Adjust(ctx, c, net, budgets.Cache)
	if err != nil {
		g.log.Warn("event loops or cache shards are late: they take the new settings when they come to it")
	}
}
