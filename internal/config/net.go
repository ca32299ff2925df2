package config

import (
	"net/netip"
	"time"

	"sluice/internal/ratelimit"
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

// NetAdjustable returns the options of the event loops that a reload may change. header has the
// field lines of every response. c has its defaults.
func (c *Config) NetAdjustable(proxies []netip.Prefix, header string) netpoll.Adjustable {
	return netpoll.Adjustable{
		MessageRate:    ratelimit.Rate(max(c.MessageRate, 0)),
		ByteRate:       ratelimit.Rate(max(c.ByteRate, 0)),
		MaxConns:       c.MaxConnections,
		MaxMessage:     c.MaxMessage,
		OutboxBytes:    c.OutboxBytes,
		DrainWindow:    c.DrainTimeout,
		ResponseHeader: header,
		ProxyFrom:      proxies,
	}
}
