package config

import (
	"math"
	"strings"
	"time"

	"sluice/internal/secret"
	"sluice/netpoll"
)

const (
	groupServer   = "Server options"
	groupNATS     = "NATS options"
	groupSecurity = "Security options"
	groupLimits   = "Limits"
	groupTuning   = "Tuning"
	groupLogs     = "Logging options"

	defaultAPIPath     = "/api"
	defaultAPIEncoding = "json"

	// MaxLoops is the highest number of event loops.
	MaxLoops = 256

	maxShards = 1024
	maxBuffer = 1 << 24
	kib       = 1 << 10
	mib       = 1 << 20
)

// settings is the table, in the order of the help and of a written file.
var settings = []setting{
	{key: "natsUrl", flag: "nats", short: "n", arg: "url", group: groupServer, help: "NATS server URL, or several separated by commas",
		more:   "Percent-encode what means something in a URL in user names, passwords and tokens: / as %2F, a comma as %2C, @ as %40.",
		traits: secretValue, value: text(func(c *Config) *secret.URLs { return &c.NATSURL }, DefaultNATSURL, valid(secret.URLs.Check))},
	{key: "addr", flag: "addr", short: "i", arg: "ip", group: groupServer, help: "IP address to listen on; empty: all, IPv4 and IPv6",
		traits: nullResets, value: text(func(c *Config) *string { return &c.Addr }, "0.0.0.0", valid(checkIP), zeroIs(AllAddresses))},
	{key: "port", flag: "port", short: "p", arg: "port", group: groupServer, help: "port for clients; -1: any free one",
		traits: zeroFlagIsNone, value: number(func(c *Config) *int { return &c.Port }, 8080, FreePort, 65535)},
	{key: "wsPath", flag: "wspath", short: "w", arg: "path", group: groupServer, help: "path of WebSocket clients",
		value: text(func(c *Config) *string { return &c.WSPath }, "/")},
	{key: "apiPath", flag: "apipath", short: "a", arg: "path", group: groupServer, help: "path of web resources",
		value: text(func(c *Config) *string { return &c.APIPath }, defaultAPIPath)},
	{key: "requestTimeout", flag: "reqtimeout", short: "r", arg: "ms", group: groupServer, help: "timeout of a request to a service, in milliseconds",
		value: duration(func(c *Config) *time.Duration { return &c.RequestTimeout }, 3*time.Second, time.Millisecond, 24*time.Hour, zeroIsDefault, longest(24*time.Hour), inMilliseconds)},
	{key: "headerAuth", flag: "headauth", short: "u", arg: "method", group: groupServer, help: "resource method that authenticates HTTP requests by their headers",
		traits: nullResets, value: text(func(c *Config) *string { return &c.HeaderAuth }, "", valid(checkResourceMethod))},
	{key: "wsHeaderAuth", flag: "wsheadauth", short: "t", arg: "method", group: groupServer, help: "resource method that authenticates WebSocket clients by their headers",
		traits: nullResets, value: text(func(c *Config) *string { return &c.WSHeaderAuth }, "", valid(checkResourceMethod))},
	{key: "metricsPort", flag: "metricsport", short: "m", arg: "port", group: groupServer, help: "port for metrics, /metrics for Prometheus; 0: off, -1: any free one",
		value: number(func(c *Config) *int { return &c.MetricsPort }, 0, FreePort, 65535)},
	{key: "profiles", flag: "profiles", group: groupServer, help: "serve profiles (/debug/pprof/) on the metrics port",
		value: toggle(func(c *Config) *bool { return &c.Profiles })},
	{key: "apiEncoding", flag: "apiencoding", arg: "name", group: groupServer, help: "encoding of web resources: json, jsonflat",
		value: text(func(c *Config) *string { return &c.APIEncoding }, defaultAPIEncoding, read(strings.ToLower), choice[string]("json", "jsonflat"))},
	{key: "putMethod", flag: "putmethod", arg: "method", group: groupServer, help: "call method that HTTP PUT stands for",
		traits: nullResets, value: text(func(c *Config) *string { return &c.PUTMethod }, "", valid(checkMethod))},
	{key: "deleteMethod", flag: "deletemethod", arg: "method", group: groupServer, help: "call method that HTTP DELETE stands for",
		traits: nullResets, value: text(func(c *Config) *string { return &c.DELETEMethod }, "", valid(checkMethod))},
	{key: "patchMethod", flag: "patchmethod", arg: "method", group: groupServer, help: "call method that HTTP PATCH stands for",
		traits: nullResets, value: text(func(c *Config) *string { return &c.PATCHMethod }, "", valid(checkMethod))},
	{key: "wsCompression", flag: "wscompression", group: groupServer, help: "compress WebSocket messages",
		value: toggle(func(c *Config) *bool { return &c.WSCompression })},
	{key: "resetThrottle", flag: "resetthrottle", arg: "n", group: groupServer, help: "parallel requests after a system reset; 0: no limit",
		more:  "Set it when a service restart causes more parallel requests than the services can handle.",
		value: number(func(c *Config) *int { return &c.ResetThrottle }, 0, 0, math.MaxInt, atLeast(0))},
	{key: "referenceThrottle", flag: "referencethrottle", arg: "n", group: groupServer, help: "parallel requests while loading one resource's references; 0: no limit",
		more:  "Set it when a large graph of references causes more parallel requests than the services can handle.",
		value: number(func(c *Config) *int { return &c.ReferenceThrottle }, 0, 0, math.MaxInt, atLeast(0))},

	{key: "embeddedNats", flag: "embedded-nats", group: groupNATS, help: "run a NATS server inside the process instead of connecting to one",
		value: toggle(func(c *Config) *bool { return &c.EmbeddedNATS })},
	{key: "embeddedNatsListen", flag: "embedded-nats-listen", arg: "host:port", group: groupNATS, help: "where services reach the embedded server; port 0: any free one",
		value: text(func(c *Config) *string { return &c.EmbeddedNATSListen }, "127.0.0.1:4222", valid(checkHostPort))},
	{key: "natsConnections", flag: "nats-connections", arg: "n", group: groupNATS, help: "connections to NATS",
		more:  "More than one helps when a single connection's dispatcher is the bottleneck.",
		value: number(func(c *Config) *int { return &c.NATSConnections }, 1, 1, 64)},
	{key: "natsTimeout", flag: "nats-timeout", arg: "duration", group: groupNATS, help: "end the start with an error after this time without NATS",
		more:  "The exit code is then 1.",
		value: duration(func(c *Config) *time.Duration { return &c.NATSTimeout }, 30*time.Second, 100*time.Millisecond, 24*time.Hour)},
	{key: "natsGrace", flag: "nats-grace", arg: "duration", group: groupNATS, help: "keep clients for this time while NATS is unreachable; 0: close them immediately",
		more:  "After it clients are closed with 1012, so that they reconnect to another gateway.",
		value: duration(func(c *Config) *time.Duration { return &c.NATSGrace }, time.Minute, 100*time.Millisecond, 24*time.Hour, zeroIs(Off))},
	{key: "natsClusterPing", flag: "nats-cluster-ping", arg: "duration", group: groupNATS, help: "interval of pings through the other servers of a NATS cluster; 0: none",
		more:  "NATS servers that lose each other cut no connection of a client, but events are lost: the log says so, and clients get the differences afterwards. An outage shorter than the interval is not noticed.",
		value: duration(func(c *Config) *time.Duration { return &c.NATSClusterPing }, time.Second, 10*time.Millisecond, time.Hour, zeroIs(Off))},
	{key: "natsLossExit", flag: "nats-loss-exit", group: groupNATS, help: "end the process with exit code 1 when NATS has not come back within nats-grace",
		more:  "Resgate ends at the first loss: with nats-grace 0 so does Sluice.",
		value: toggle(func(c *Config) *bool { return &c.NATSLossExit })},
	{key: "natsPing", flag: "nats-ping", arg: "duration", group: groupNATS, help: "interval of pings to NATS; reconnect after two without a pong",
		more:  "A frozen server is noticed after two to three intervals.",
		value: duration(func(c *Config) *time.Duration { return &c.NATSPing }, 10*time.Second, 100*time.Millisecond, time.Hour)},
	{key: "bufferSize", group: groupNATS, help: "queue of messages from NATS per connection, at least 65536",
		value: number(func(c *Config) *int { return &c.BufferSize }, 8192, 1, maxBuffer, zeroIsDefault, atMost(maxBuffer))},

	{key: "tls", flag: "tls", group: groupSecurity, help: "serve clients over TLS",
		value: toggle(func(c *Config) *bool { return &c.TLS })},
	{key: "tlsCert", aliases: []alias{{key: "certFile", deprecated: true}}, flag: "tlscert", arg: "file", group: groupSecurity, help: "certificate file for TLS; repeat or separate by ; for several, the first is the default",
		more:  "Several are chosen by server name. Changed files are read again at the next handshake.",
		value: text(func(c *Config) *string { return &c.TLSCert }, "", valid(checkFile), joinedBy(fileSeparator))},
	{key: "tlsKey", aliases: []alias{{key: "keyFile", deprecated: true}}, flag: "tlskey", arg: "file", group: groupSecurity, help: "private key file of the certificate; for several in the same order",
		value: text(func(c *Config) *string { return &c.TLSKey }, "", valid(checkFile), joinedBy(fileSeparator))},
	{key: "proxyProtocolFrom", flag: "proxy-protocol-from", arg: "network", group: groupSecurity, help: "proxies that send the PROXY protocol, such as 10.0.0.0/8; repeat for several",
		more:  "Only connections from these networks may begin with such a header.",
		value: list(func(c *Config) *[]string { return &c.ProxyProtocolFrom }, checkNetwork)},
	{key: "trustForwardedFrom", flag: "trust-forwarded-from", arg: "network", group: groupSecurity, help: "proxies whose Forwarded and X-Forwarded-For headers are trusted; repeat for several",
		more:  "They decide the address that services see as the client's.",
		value: list(func(c *Config) *[]string { return &c.TrustForwardedFrom }, checkNetwork)},
	{key: "natsCreds", flag: "creds", arg: "file", group: groupSecurity, help: "NATS user credentials file",
		value: text(func(c *Config) *string { return &c.NATSCreds }, "", valid(checkFile))},
	{key: "natsCert", flag: "natscert", arg: "file", group: groupSecurity, help: "NATS client certificate file",
		value: text(func(c *Config) *string { return &c.NATSCert }, "", valid(checkFile))},
	{key: "natsKey", flag: "natskey", arg: "file", group: groupSecurity, help: "private key file of the NATS client certificate",
		value: text(func(c *Config) *string { return &c.NATSKey }, "", valid(checkFile))},
	{key: "natsRootCAs", flag: "natsrootca", arg: "file", group: groupSecurity, help: "NATS root CA file; repeat for several",
		traits: nullResets, value: list(func(c *Config) *[]string { return &c.NATSRootCAs }, checkFile)},
	{key: "allowOrigin", flag: "alloworigin", arg: "origin", group: groupSecurity, help: "allowed origins: *, or <scheme>://<host>[:<port>]; repeat or separate by ; for several",
		traits: nullResets, value: text(func(c *Config) *string { return &c.AllowOrigin }, "*", valid(checkOrigins), joinedBy(";"), zeroIsWrong[string])},

	{key: "maxConnections", flag: "max-connections", arg: "n", group: groupLimits, help: "open client connections; 0: as many as the descriptor limit allows",
		more:  "Beyond it a client receives 503 and is closed.",
		value: number(func(c *Config) *int { return &c.MaxConnections }, 0, 0, 1<<24)},
	{key: "maxSubscriptions", flag: "max-subscriptions", arg: "n", group: groupLimits, help: "direct subscriptions per resource and client",
		value: number(func(c *Config) *int { return &c.MaxSubscriptions }, 256, 1, 1<<20)},
	{key: "maxResources", flag: "max-resources", arg: "n", group: groupLimits, help: "resources subscribed per client, directly or through references",
		value: number(func(c *Config) *int { return &c.MaxResources }, 1<<20, 1, 1<<30)},
	{key: "maxPending", flag: "max-pending", arg: "n", group: groupLimits, help: "requests in flight per client; more are read later",
		value: number(func(c *Config) *int { return &c.MaxPending }, 1024, 1, 1<<20)},
	{key: "maxMessage", flag: "max-message", arg: "bytes", group: groupLimits, help: "size of a client's message",
		more:  "A longer one closes the client with 1009.",
		value: number(func(c *Config) *int { return &c.MaxMessage }, mib, kib, 256*mib)},
	{key: "maxHead", flag: "max-head", arg: "bytes", group: groupLimits, help: "size of an HTTP request head",
		value: number(func(c *Config) *int { return &c.MaxHead }, 64*kib, kib, mib)},
	{key: "headTimeout", flag: "head-timeout", arg: "duration", group: groupLimits, help: "time to receive a request head",
		value: duration(func(c *Config) *time.Duration { return &c.HeadTimeout }, 10*time.Second, 100*time.Millisecond, time.Hour)},
	{key: "httpIdleTimeout", flag: "http-idle-timeout", arg: "duration", group: groupLimits, help: "close an HTTP connection that was idle for this time",
		more:  "It must be longer than the load balancer in front keeps its connections to the gateway; otherwise that sends requests on connections that are just being closed, and responds with 502.",
		value: duration(func(c *Config) *time.Duration { return &c.HTTPIdleTimeout }, 6*time.Minute, 100*time.Millisecond, 24*time.Hour)},
	{key: "maxBody", flag: "max-body", arg: "bytes", group: groupLimits, help: "size of an HTTP request's body",
		value: number(func(c *Config) *int { return &c.MaxBody }, mib, kib, 256*mib)},
	{key: "handshakeTimeout", flag: "handshake-timeout", arg: "duration", group: groupLimits, help: "time for a whole TLS handshake",
		value: duration(func(c *Config) *time.Duration { return &c.HandshakeTimeout }, 10*time.Second, 100*time.Millisecond, 10*time.Minute)},
	{key: "maxHandshakes", flag: "max-handshakes", arg: "n", group: groupLimits, help: "TLS handshakes in progress",
		value: number(func(c *Config) *int { return &c.MaxHandshakes }, 4096, 1, 1<<20)},
	{key: "outboxBytes", flag: "outbox-bytes", arg: "bytes", group: groupLimits, help: "write queue of one client; a client beyond it is closed",
		more:  "State events of a slow client are conflated, so only responses, custom events and bursts can reach it; the close code is 1013.",
		value: number(func(c *Config) *int { return &c.OutboxBytes }, 4*mib, 64*kib, 1<<30)},
	{key: "httpBacklogBytes", flag: "http-backlog-bytes", arg: "bytes", group: groupLimits, help: "HTTP responses of all clients waiting to be sent; beyond it large ones get 503",
		more:  "Large means 16 KiB or more of a GET; calls and short responses are served on.",
		value: number(func(c *Config) *int { return &c.HTTPBacklogBytes }, 256*mib, mib, 1<<40)},
	{key: "heldEvents", flag: "held-events", arg: "n", group: groupLimits, help: "events buffered per subscription while references load",
		value: number(func(c *Config) *int { return &c.HeldEvents }, 1024, 1, 1<<20)},

	{key: "maxResourceBytes", flag: "max-resource-bytes", arg: "bytes", group: groupLimits, help: "size of a resource; a larger one is not served",
		more:  "Of a longer one clients get system.internalError with the limit in its message, and the log names the resource. The same ends the subscriptions of one that events make grow beyond it.",
		value: number(func(c *Config) *int { return &c.MaxResourceBytes }, 16*mib, kib, 1<<30)},
	{key: "cacheBytes", flag: "cache-bytes", arg: "bytes", group: groupLimits, help: "cached resources without subscribers; 0: by the memory limit",
		more:  "They are cached for cacheEviction, but the least recently used go earlier when all of them hold more than this: by default an eighth of the memory limit.",
		value: number(func(c *Config) *int { return &c.CacheBytes }, 0, mib, 1<<46, zeroIsDefault)},
	{key: "memoryLimit", flag: "memory-limit", arg: "bytes", group: groupLimits, help: "as GOMEMLIMIT; 0: 80% of the control group's limit",
		more:  "It replaces GOMEMLIMIT. Without either it is 80% of the control group's limit (container, systemd), if there is one.",
		value: number(func(c *Config) *int { return &c.MemoryLimit }, 0, 16*mib, 1<<46, zeroIsDefault)},

	{key: "loops", flag: "loops", arg: "n", group: groupTuning, help: "event loops; 0: one per core",
		value: number(func(c *Config) *int { return &c.Loops }, 0, 0, MaxLoops)},
	{key: "shards", flag: "shards", arg: "n", group: groupTuning, help: "cache shards, a power of two; 0: by the number of cores",
		value: number(func(c *Config) *int { return &c.Shards }, 0, 0, maxShards, valid(checkPowerOfTwo))},
	{key: "flush", flag: "flush", arg: "name", group: groupTuning, help: "write: a system call per client, io_uring: one for many, auto: io_uring if allowed",
		more:  "The log shows the choice at start.",
		value: text(func(c *Config) *string { return &c.Flush }, string(netpoll.FlushAuto), choice[string](string(netpoll.FlushAuto), string(netpoll.FlushWrite), string(netpoll.FlushURing)))},
	{key: "cacheEviction", flag: "cache-eviction", arg: "duration", group: groupTuning, help: "cache a resource for this time after its last subscriber; 0: evict it immediately",
		value: duration(func(c *Config) *time.Duration { return &c.CacheEviction }, 5*time.Second, time.Millisecond, 24*time.Hour, zeroIs(Off))},
	{key: "pingInterval", flag: "ping-interval", arg: "duration", group: groupTuning, help: "ping a client that was idle for this time; 0: never",
		value: duration(func(c *Config) *time.Duration { return &c.PingInterval }, 30*time.Second, 100*time.Millisecond, time.Hour, zeroIs(Off))},
	{key: "heartbeatInterval", flag: "heartbeat-interval", arg: "duration", group: groupTuning, help: "send a comment on an event stream that was idle for this time; 0: never",
		value: duration(func(c *Config) *time.Duration { return &c.HeartbeatInterval }, 15*time.Second, 100*time.Millisecond, time.Hour, zeroIs(Off))},
	{key: "compressionThreshold", flag: "compression-threshold", arg: "bytes", group: groupTuning, help: "size from which WebSocket messages are compressed",
		value: number(func(c *Config) *int { return &c.CompressionThreshold }, 256, 1, 256*mib)},
	{key: "httpCompression", flag: "http-compression", arg: "bytes", group: groupTuning, help: "size from which HTTP responses are compressed; 0: never",
		value: number(func(c *Config) *int { return &c.HTTPCompression }, kib, 1, 256*mib, zeroIs(-1))},
	{key: "closeTimeout", flag: "close-timeout", arg: "duration", group: groupTuning, help: "wait this time for a client's close frame",
		value: duration(func(c *Config) *time.Duration { return &c.CloseTimeout }, 5*time.Second, 10*time.Millisecond, time.Minute)},
	{key: "shutdownDelay", flag: "shutdown-delay", arg: "duration", group: groupTuning, help: "when stopping, fail health checks for this time before listening ends",
		more:  "New clients are still served meanwhile: set it as long as the load balancer takes to notice.",
		value: duration(func(c *Config) *time.Duration { return &c.ShutdownDelay }, 0, 0, time.Hour, zeroIsDefault[time.Duration])},
	{key: "drainTimeout", flag: "drain-timeout", arg: "duration", group: groupTuning, help: "when stopping, spread the closing of clients over this time; 0: close all immediately",
		more:  "So they do not all reconnect at the same time.",
		value: duration(func(c *Config) *time.Duration { return &c.DrainTimeout }, 5*time.Second, 10*time.Millisecond, time.Hour, zeroIs(Off))},

	{key: "debug", flag: "debug", short: "D", group: groupLogs, help: "log debug messages",
		value: toggle(func(c *Config) *bool { return &c.Debug })},
	{key: "trace", flag: "trace", short: "V", group: groupLogs, help: "log every message of clients and services as well",
		value: toggle(func(c *Config) *bool { return &c.Trace })},
	{key: "logFormat", flag: "log-format", arg: "name", group: groupLogs, help: "text or json",
		value: text(func(c *Config) *string { return &c.LogFormat }, "text", choice[string]("text", "json"))},
}
