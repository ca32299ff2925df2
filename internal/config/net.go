package config

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/internal/httpapi"
	"sluice/internal/limit"
	"sluice/internal/ratelimit"
	"sluice/internal/session"
	"sluice/netpoll"
)

// NetLimits returns the limits of the event loops. exchange bounds the time of a request's body and
// of reading its response, backlog is that of all clients in bytes. c has its defaults.
func (c *Config) NetLimits(exchange time.Duration, backlog int) netpoll.Limits {
	return netpoll.Limits{
		MessageRate:      ratelimit.Rate(max(c.MessageRate, 0)),
		ByteRate:         ratelimit.Rate(max(c.ByteRate, 0)),
		MaxConns:         c.MaxConnections,
		AcceptRate:       c.AcceptRate,
		AcceptPace:       c.AcceptPace,
		MaxHead:          c.MaxHead,
		MaxMessage:       c.MaxMessage,
		HeadTimeout:      c.HeadTimeout,
		OutboxBytes:      c.OutboxBytes,
		BacklogBytes:     backlog,
		SlowTimeout:      c.SlowTimeout,
		PingInterval:     c.PingInterval,
		CloseTimeout:     c.CloseTimeout,
		DrainWindow:      c.DrainTimeout,
		IdleTimeout:      c.HTTPIdleTimeout,
		BodyTimeout:      exchange,
		ReadTimeout:      exchange,
		HandshakeTimeout: c.HandshakeTimeout,
		MaxHandshakes:    c.MaxHandshakes,
	}
}

// SessionLimits returns the limits of the sessions. c has its defaults.
func (c *Config) SessionLimits() session.Limits {
	return session.Limits{
		DirectPerRID:  c.MaxSubscriptions,
		Subscriptions: c.MaxResources,
		Requests:      c.MaxPending,
		HeldEvents:    c.HeldEvents,
		References:    c.ReferenceThrottle,
	}
}

// HTTPOptions returns the options of the HTTP API of resources, but for what the gateway makes. c
// has its defaults.
func (c *Config) HTTPOptions() httpapi.Options {
	return httpapi.Options{
		APIPath:       c.APIPath,
		Encoding:      c.APIEncoding,
		PUT:           c.PUTMethod,
		DELETE:        c.DELETEMethod,
		PATCH:         c.PATCHMethod,
		AllowOrigin:   strings.Split(c.AllowOrigin, ";"),
		HeaderAuth:    c.HeaderAuth != "",
		Cookies:       c.JWTCookie != "",
		MaxBody:       c.MaxBody,
		MaxBacklog:    c.HTTPBacklogBytes,
		CompressAbove: c.HTTPCompression,
		Heartbeat:     c.HeartbeatInterval,
		StreamBytes:   c.OutboxBytes,
	}
}

// AddressLimits returns the limits by address, and what is exempt from them. c has its defaults.
func (c *Config) AddressLimits(n *Networks) ratelimit.Options {
	return ratelimit.Options{
		Connections: c.MaxConnectionsPerIP,
		Handshakes:  ratelimit.Rate(c.HandshakeRatePerIP),
		Requests:    ratelimit.Rate(c.RequestRatePerIP),
		Exempt:      n.Exempt,
		Proxies:     slices.Concat(n.Proxies, n.Trusted), // whose addresses are not those of clients
	}
}

// ServiceLimits returns the bounds of the limits of requests at services. c has its defaults.
func (c *Config) ServiceLimits() limit.Options {
	return limit.Options{Max: max(c.MaxServiceRequests, 0), Min: c.MinServiceRequests, Parts: c.ServiceNameParts}
}

// Networks are the settings that are lists of networks.
type Networks struct {
	Trusted []netip.Prefix // TrustForwardedFrom
	Proxies []netip.Prefix // ProxyProtocolFrom
	Exempt  []netip.Prefix // LimitExempt
}

// Networks parses the lists of networks.
func (c *Config) Networks() (n Networks, err error) {
	for _, list := range []struct {
		texts []string
		to    *[]netip.Prefix
	}{{c.TrustForwardedFrom, &n.Trusted}, {c.ProxyProtocolFrom, &n.Proxies}, {c.LimitExempt, &n.Exempt}} {
		if *list.to, err = ParseNetworks(list.texts); err != nil {
			return Networks{}, err
		}
	}
	return n, nil
}

// ListeningOn returns the address for the log: the host as configured (addr has [::] for 0.0.0.0),
// and the port of addr, which is in use.
func (c *Config) ListeningOn(addr net.Addr) string {
	host, _, err := net.SplitHostPort(c.ListenAddr())
	if err != nil || host == "" || len(c.Listeners) > 0 {
		return addr.String()
	}
	_, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return net.JoinHostPort(host, port)
}
