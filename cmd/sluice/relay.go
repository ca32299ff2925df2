package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"

	"sluice/cache"
	"sluice/gateway"
	"sluice/internal/collect"
	"sluice/internal/downlink"
	"sluice/internal/httpserver"
	"sluice/internal/limit"
	"sluice/internal/metrics"
	"sluice/internal/metricsserver"
	"sluice/internal/natsbus"
	"sluice/internal/relay"
)

// relayCacheBytes is the default of cacheBytes for a relay, whose cache is all that it has.
const relayCacheBytes = 256 << 20

// relayService is what "sluice relay" runs: a relay, and the metrics port if there is one.
type relayService struct {
	*relay.Relay
	config gateway.Config
	scrape *httpserver.Server // nil: no metrics port
	log    *slog.Logger
	failed chan error // of the metrics port
}

// relay builds the service of "sluice relay". It takes the settings of a gateway that have a
// meaning without clients.
func (p *process) relay(c gateway.Config) (service, error) {
	if c.Downstream == "" {
		return nil, errors.New("a relay needs downstream, the address of the gateways' NATS server; natsUrl is that of the services")
	}
	if c.EmbeddedNATS {
		return nil, errors.New("a relay connects to two NATS servers and embeds none: leave embeddedNats out")
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.WithDefaults()
	if err := readable(&c, true); err != nil {
		return nil, err
	}
	s := &relayService{config: c, log: c.Log, failed: make(chan error, 1)}
	registry := metrics.New(c.Version, gateway.Protocol)
	o := relay.Options{
		Home:       relay.Side{URL: c.NATSURL, Creds: c.NATSCreds, Nkey: c.NATSNkey, Cert: c.NATSCert, Key: c.NATSKey, RootCAs: c.NATSRootCAs},
		Edge:       relay.Side{URL: c.Downstream, Creds: c.DownstreamCreds, Nkey: c.DownstreamNkey, Cert: c.DownstreamCert, Key: c.DownstreamKey, RootCAs: c.DownstreamRootCAs},
		CacheBytes: cmp.Or(c.CacheBytes, relayCacheBytes), MaxResource: c.MaxResourceBytes, Rest: relay.DefaultRest,
		RequestTimeout: c.RequestTimeout, QueueTimeout: c.QueueTimeout, ResetThrottle: c.ResetThrottle,
		Grace: max(c.NATSGrace, 0), Lease: c.RelayLease, ConnectTimeout: c.NATSTimeout, Ping: c.NATSPing, Beat: c.NATSClusterPing,
		Log: c.Log, Registry: registry, Cache: new(cache.Metrics), Bus: new(natsbus.Metrics), Link: new(downlink.Metrics),
	}
	if c.MaxServiceRequests > 0 {
		o.Services = limit.NewTable(limit.Options{Max: c.MaxServiceRequests, Min: c.MinServiceRequests, Parts: c.ServiceNameParts})
	}
	err := collect.Upstream(registry, o.Cache, o.Bus)
	if err != nil {
		return nil, err
	}
	if s.Relay, err = relay.New(o); err != nil {
		return nil, err
	}
	if c.MetricsPort != 0 || c.MetricsListener != nil {
		host, _, _ := net.SplitHostPort(c.ListenAddr())
		s.scrape = metricsserver.New(metricsserver.Options{
			Addr:     net.JoinHostPort(host, strconv.Itoa(max(c.MetricsPort, 0))),
			Listener: c.MetricsListener,
			Registry: registry,
			Profiles: c.Profiles,
			NotFound: http.HandlerFunc(gateway.NotFound),
			Health:   s.health(),
			Log:      c.Log,
		})
	}
	return s, nil
}

// namedFiles are the files that a setting names.
type namedFiles struct {
	key   string
	files []string
}

// readable returns an error for each file that cannot be read of those that are shown to NATS
// servers, or say which of them to trust.
func readable(c *gateway.Config, relay bool) error {
	all := []namedFiles{
		{"natsCreds", []string{c.NATSCreds}}, {"natsNkey", []string{c.NATSNkey}}, {"natsCert", []string{c.NATSCert}},
		{"natsKey", []string{c.NATSKey}}, {"natsRootCAs", c.NATSRootCAs},
	}
	if relay {
		all = append(all, namedFiles{"downstreamCreds", []string{c.DownstreamCreds}}, namedFiles{"downstreamNkey", []string{c.DownstreamNkey}},
			namedFiles{"downstreamCert", []string{c.DownstreamCert}}, namedFiles{"downstreamKey", []string{c.DownstreamKey}},
			namedFiles{"downstreamRootCAs", c.DownstreamRootCAs})
	}
	var errs []error
	for _, f := range all {
		for _, name := range f.files {
			if name == "" {
				continue
			}
			file, err := os.Open(name)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w: name a file that is there and may be read", f.key, err))
				continue
			}
			_ = file.Close()
		}
	}
	return errors.Join(errs...)
}

// health answers health checks: 200 if the relay serves edges or could, else 503 with the reason.
func (s *relayService) health() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		state := "standby"
		if s.Active() {
			state = "active"
		}
		if err := s.Ready(); err != nil {
			state = err.Error()
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		fmt.Fprintln(w, state)
	})
}

// Start connects to both sides, and opens the metrics port.
func (s *relayService) Start(ctx context.Context) error {
	if s.scrape != nil {
		if err := s.scrape.Start(func(err error) { s.failed <- err }); err != nil {
			return err
		}
	}
	if err := s.Relay.Start(ctx); err != nil {
		if s.scrape != nil {
			_ = s.scrape.Stop() // the first error counts
		}
		return err
	}
	s.log.Info("relay started", "home", s.config.NATSURL, "edge", s.config.Downstream, "lease", s.config.RelayLease)
	return nil
}

// Stop ends the relay, then the metrics port.
func (s *relayService) Stop(ctx context.Context) error {
	err := s.Relay.Stop(ctx)
	if s.scrape != nil {
		err = errors.Join(err, s.scrape.Stop())
	}
	return err
}

// StopWindow returns how long requests in flight may take when the relay stops.
func (s *relayService) StopWindow() time.Duration { return s.config.RequestTimeout }

// Reload changes nothing: a relay is restarted for new settings, and a standby serves meanwhile.
func (s *relayService) Reload(context.Context) error {
	err := errors.New("a relay does not reload its settings: restart it")
	s.log.Warn("reload", "error", err)
	return err
}

// Done yields the error that ended the relay or its metrics port.
func (s *relayService) Done() <-chan error {
	done := make(chan error, 1)
	go func() {
		select {
		case err := <-s.Relay.Done():
			done <- err
		case err := <-s.failed:
			done <- err
		}
	}()
	return done
}
