package config

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/netpoll"
)

// setting is one line of the configuration: what it is called in the file, on
// the command line and in the environment, and the field it fills. Everything
// that reads, writes, checks or prints a configuration goes through this one
// table.
type setting struct {
	key     string   // in the file; the environment variable follows from it
	aliases []string // further keys in the file
	flag    string   // long flag; empty: none
	short   string   // one-letter flag
	arg     string   // what the help shows for the value; empty for a switch
	group   string   // heading in the help
	help    string
	field
}

// wrap says which setting an error is about.
func (s *setting) wrap(err error) error { return fmt.Errorf("%s: %w", s.key, err) }

// env is the setting's environment variable: natsRootCAs is SLUICE_NATS_ROOT_CAS.
func (s *setting) env() string {
	var b strings.Builder
	b.WriteString(envPrefix)
	lower := false
	for i, r := range s.key {
		upper := r >= 'A' && r <= 'Z'
		if upper && lower && i > 0 {
			b.WriteByte('_')
		}
		lower = !upper
		b.WriteRune(r)
	}
	return strings.ToUpper(b.String())
}

// field is how one kind of setting is read from text, filled, checked and shown.
type field interface {
	// set stores what a user wrote. Several texts come from a repeated flag.
	set(c *Config, texts []string) error
	// fill stores the default if the field is zero.
	fill(c *Config)
	// check reports whether the filled field is within its bounds.
	check(c *Config) error
	// fromJSON turns the file's value into the texts that set takes.
	fromJSON(raw json.RawMessage) ([]string, error)
	// toJSON returns the filled field for the file.
	toJSON(c *Config) any
}

const (
	envPrefix = "SLUICE_"

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
	kib       = 1 << 10
	mib       = 1 << 20
)

// settings is the table, in the order of the help and of a written file.
var settings = []setting{
	{key: "natsUrl", flag: "nats", short: "n", arg: "url", group: groupServer, help: "NATS server URL, or several separated by commas",
		field: &text{at: func(c *Config) *string { return &c.NATSURL }, def: DefaultNATSURL, valid: checkNATSURL}},
	{key: "addr", flag: "addr", short: "i", arg: "ip", group: groupServer, help: "IP address to listen on; empty: all, IPv4 and IPv6",
		field: &text{at: func(c *Config) *string { return &c.Addr }, def: "0.0.0.0", empty: AllAddresses, valid: checkIP}},
	{key: "port", flag: "port", short: "p", arg: "port", group: groupServer, help: "port for clients; -1: any free one",
		field: &number{at: func(c *Config) *int { return &c.Port }, def: 8080, min: FreePort, max: 65535}},
	{key: "wsPath", flag: "wspath", short: "w", arg: "path", group: groupServer, help: "path of WebSocket clients",
		field: &text{at: func(c *Config) *string { return &c.WSPath }, def: "/", valid: checkWSPath}},
	{key: "apiPath", flag: "apipath", short: "a", arg: "path", group: groupServer, help: "path of web resources",
		field: &text{at: func(c *Config) *string { return &c.APIPath }, def: defaultAPIPath, valid: checkPath}},
	{key: "requestTimeout", flag: "reqtimeout", short: "r", arg: "ms", group: groupServer, help: "how long to wait for a service's answer, in milliseconds",
		field: &duration{at: func(c *Config) *time.Duration { return &c.RequestTimeout }, def: 3 * time.Second, min: time.Millisecond, max: time.Hour, zero: zeroDefault, millis: true}},
	{key: "headerAuth", flag: "headauth", short: "u", arg: "method", group: groupServer, help: "resource method that authenticates HTTP requests by their headers",
		field: &text{at: func(c *Config) *string { return &c.HeaderAuth }, valid: checkResourceMethod}},
	{key: "wsHeaderAuth", flag: "wsheadauth", short: "t", arg: "method", group: groupServer, help: "resource method that authenticates WebSocket clients by their headers",
		field: &text{at: func(c *Config) *string { return &c.WSHeaderAuth }, valid: checkResourceMethod}},
	{key: "metricsPort", flag: "metricsport", short: "m", arg: "port", group: groupServer, help: "port for metrics, /metrics for Prometheus; 0: off, -1: any free one",
		field: &number{at: func(c *Config) *int { return &c.MetricsPort }, min: FreePort, max: 65535}},
	{key: "profiles", flag: "profiles", group: groupServer, help: "serve profiles (/debug/pprof/) on the metrics port",
		field: &boolean{at: func(c *Config) *bool { return &c.Profiles }}},
	{key: "apiEncoding", flag: "apiencoding", arg: "name", group: groupServer, help: "encoding of web resources: json, jsonflat",
		field: &text{at: func(c *Config) *string { return &c.APIEncoding }, def: defaultAPIEncoding, valid: oneOf("json", "jsonflat")}},
	{key: "putMethod", flag: "putmethod", arg: "method", group: groupServer, help: "call method that HTTP PUT stands for",
		field: &text{at: func(c *Config) *string { return &c.PUTMethod }, valid: checkMethod}},
	{key: "deleteMethod", flag: "deletemethod", arg: "method", group: groupServer, help: "call method that HTTP DELETE stands for",
		field: &text{at: func(c *Config) *string { return &c.DELETEMethod }, valid: checkMethod}},
	{key: "patchMethod", flag: "patchmethod", arg: "method", group: groupServer, help: "call method that HTTP PATCH stands for",
		field: &text{at: func(c *Config) *string { return &c.PATCHMethod }, valid: checkMethod}},
	{key: "wsCompression", flag: "wscompression", group: groupServer, help: "compress WebSocket messages",
		field: &boolean{at: func(c *Config) *bool { return &c.WSCompression }}},
	{key: "resetThrottle", flag: "resetthrottle", arg: "n", group: groupServer, help: "parallel requests after a system reset; 0: no limit",
		field: &number{at: func(c *Config) *int { return &c.ResetThrottle }, min: 0, max: 1 << 20}},
	{key: "referenceThrottle", flag: "referencethrottle", arg: "n", group: groupServer, help: "parallel requests when following one resource's references; 0: no limit",
		field: &number{at: func(c *Config) *int { return &c.ReferenceThrottle }, min: 0, max: 1 << 20}},

	{key: "embeddedNats", flag: "embedded-nats", group: groupNATS, help: "run a NATS server inside the process instead of connecting to one",
		field: &boolean{at: func(c *Config) *bool { return &c.EmbeddedNATS }}},
	{key: "embeddedNatsListen", flag: "embedded-nats-listen", arg: "host:port", group: groupNATS, help: "where services reach the embedded server; port 0: any free one",
		field: &text{at: func(c *Config) *string { return &c.EmbeddedNATSListen }, def: "127.0.0.1:4222", valid: checkHostPort}},
	{key: "natsConnections", flag: "nats-connections", arg: "n", group: groupNATS, help: "connections to NATS",
		field: &number{at: func(c *Config) *int { return &c.NATSConnections }, def: 1, min: 1, max: 64}},
	{key: "natsTimeout", flag: "nats-timeout", arg: "duration", group: groupNATS, help: "give up at start if NATS is not reachable for so long",
		field: &duration{at: func(c *Config) *time.Duration { return &c.NATSTimeout }, def: 30 * time.Second, min: 100 * time.Millisecond, max: 24 * time.Hour}},
	{key: "natsGrace", flag: "nats-grace", arg: "duration", group: groupNATS, help: "keep clients for so long while NATS is away; 0: close them at once",
		field: &duration{at: func(c *Config) *time.Duration { return &c.NATSGrace }, def: time.Minute, min: 100 * time.Millisecond, max: 24 * time.Hour, zero: zeroOff}},
	{key: "bufferSize", group: groupNATS, help: "messages from NATS that may wait per connection; less than 65536 counts as that",
		field: &number{at: func(c *Config) *int { return &c.BufferSize }, def: 8192, min: 64, max: 1 << 24}},

	{key: "tls", flag: "tls", group: groupSecurity, help: "serve clients over TLS",
		field: &boolean{at: func(c *Config) *bool { return &c.TLS }}},
	{key: "tlsCert", aliases: []string{"certFile"}, flag: "tlscert", arg: "file", group: groupSecurity, help: "certificate file for TLS; repeat or separate by ; for several, the first is the default",
		field: &text{at: func(c *Config) *string { return &c.TLSCert }, join: fileSeparator}},
	{key: "tlsKey", aliases: []string{"keyFile"}, flag: "tlskey", arg: "file", group: groupSecurity, help: "private key file of the certificate; for several in the same order",
		field: &text{at: func(c *Config) *string { return &c.TLSKey }, join: fileSeparator}},
	{key: "proxyProtocolFrom", flag: "proxy-protocol-from", arg: "network", group: groupSecurity, help: "proxies that send the PROXY protocol, such as 10.0.0.0/8; repeat for several",
		field: &list{at: func(c *Config) *[]string { return &c.ProxyProtocolFrom }, valid: checkNetwork}},
	{key: "trustForwardedFrom", flag: "trust-forwarded-from", arg: "network", group: groupSecurity, help: "proxies whose (X-)Forwarded(-For) headers count; repeat for several",
		field: &list{at: func(c *Config) *[]string { return &c.TrustForwardedFrom }, valid: checkNetwork}},
	{key: "natsCreds", flag: "creds", arg: "file", group: groupSecurity, help: "NATS user credentials file",
		field: &text{at: func(c *Config) *string { return &c.NATSCreds }}},
	{key: "natsCert", flag: "natscert", arg: "file", group: groupSecurity, help: "NATS client certificate file",
		field: &text{at: func(c *Config) *string { return &c.NATSCert }}},
	{key: "natsKey", flag: "natskey", arg: "file", group: groupSecurity, help: "private key file of the NATS client certificate",
		field: &text{at: func(c *Config) *string { return &c.NATSKey }}},
	{key: "natsRootCAs", flag: "natsrootca", arg: "file", group: groupSecurity, help: "NATS root CA file; repeat for several",
		field: &list{at: func(c *Config) *[]string { return &c.NATSRootCAs }}},
	{key: "allowOrigin", flag: "alloworigin", arg: "origin", group: groupSecurity, help: "allowed origins: *, or <scheme>://<host>[:<port>]; repeat or separate by ; for several",
		field: &text{at: func(c *Config) *string { return &c.AllowOrigin }, def: "*", join: ";", required: true, valid: checkOrigins}},

	{key: "maxConnections", flag: "max-connections", arg: "n", group: groupLimits, help: "open client connections; 0: as many as the descriptor limit allows",
		field: &number{at: func(c *Config) *int { return &c.MaxConnections }, min: 0, max: 1 << 24}},
	{key: "maxSubscriptions", flag: "max-subscriptions", arg: "n", group: groupLimits, help: "direct subscriptions per resource and client",
		field: &number{at: func(c *Config) *int { return &c.MaxSubscriptions }, def: 256, min: 1, max: 1 << 20}},
	{key: "maxResources", flag: "max-resources", arg: "n", group: groupLimits, help: "resources subscribed per client, directly or through references",
		field: &number{at: func(c *Config) *int { return &c.MaxResources }, def: 1 << 20, min: 1, max: 1 << 30}},
	{key: "maxPending", flag: "max-pending", arg: "n", group: groupLimits, help: "requests under way per client",
		field: &number{at: func(c *Config) *int { return &c.MaxPending }, def: 1 << 16, min: 1, max: 1 << 20}},
	{key: "maxMessage", flag: "max-message", arg: "bytes", group: groupLimits, help: "size of a client's message",
		field: &number{at: func(c *Config) *int { return &c.MaxMessage }, def: mib, min: kib, max: 256 * mib}},
	{key: "maxHead", flag: "max-head", arg: "bytes", group: groupLimits, help: "size of an HTTP request head",
		field: &number{at: func(c *Config) *int { return &c.MaxHead }, def: 16 * kib, min: kib, max: mib}},
	{key: "headTimeout", flag: "head-timeout", arg: "duration", group: groupLimits, help: "time for a client to send a request head",
		field: &duration{at: func(c *Config) *time.Duration { return &c.HeadTimeout }, def: 10 * time.Second, min: 100 * time.Millisecond, max: time.Hour}},
	{key: "maxBody", flag: "max-body", arg: "bytes", group: groupLimits, help: "size of an HTTP request's body",
		field: &number{at: func(c *Config) *int { return &c.MaxBody }, def: mib, min: kib, max: 256 * mib}},
	{key: "handshakeTimeout", flag: "handshake-timeout", arg: "duration", group: groupLimits, help: "time for a whole TLS handshake",
		field: &duration{at: func(c *Config) *time.Duration { return &c.HandshakeTimeout }, def: 10 * time.Second, min: 100 * time.Millisecond, max: 10 * time.Minute}},
	{key: "maxHandshakes", flag: "max-handshakes", arg: "n", group: groupLimits, help: "TLS handshakes under way",
		field: &number{at: func(c *Config) *int { return &c.MaxHandshakes }, def: 4096, min: 1, max: 1 << 20}},
	{key: "outboxBytes", flag: "outbox-bytes", arg: "bytes", group: groupLimits, help: "data waiting to be sent to one client; beyond it the client is closed",
		field: &number{at: func(c *Config) *int { return &c.OutboxBytes }, def: 4 * mib, min: 64 * kib, max: 1 << 30}},
	{key: "heldEvents", flag: "held-events", arg: "n", group: groupLimits, help: "events held per subscription while what they refer to is loaded",
		field: &number{at: func(c *Config) *int { return &c.HeldEvents }, def: 1024, min: 1, max: 1 << 20}},

	{key: "loops", flag: "loops", arg: "n", group: groupTuning, help: "event loops; 0: one per core",
		field: &number{at: func(c *Config) *int { return &c.Loops }, min: 0, max: MaxLoops}},
	{key: "shards", flag: "shards", arg: "n", group: groupTuning, help: "cache shards, a power of two; 0: by the number of cores",
		field: &number{at: func(c *Config) *int { return &c.Shards }, min: 0, max: maxShards, valid: checkPowerOfTwo}},
	{key: "flush", flag: "flush", arg: "name", group: groupTuning, help: "write: a system call per client, io_uring: one for many, auto: io_uring if allowed",
		field: &text{at: func(c *Config) *string { return &c.Flush }, def: string(netpoll.FlushAuto), valid: oneOf(string(netpoll.FlushAuto), string(netpoll.FlushWrite), string(netpoll.FlushURing))}},
	{key: "cacheEviction", flag: "cache-eviction", arg: "duration", group: groupTuning, help: "keep a resource cached for so long after its last subscriber; 0: not at all",
		field: &duration{at: func(c *Config) *time.Duration { return &c.CacheEviction }, def: 5 * time.Second, min: time.Millisecond, max: 24 * time.Hour, zero: zeroOff}},
	{key: "pingInterval", flag: "ping-interval", arg: "duration", group: groupTuning, help: "ping a client that was quiet for so long; 0: never",
		field: &duration{at: func(c *Config) *time.Duration { return &c.PingInterval }, def: 30 * time.Second, min: 100 * time.Millisecond, max: time.Hour, zero: zeroOff}},
	{key: "heartbeatInterval", flag: "heartbeat-interval", arg: "duration", group: groupTuning, help: "comment on an event stream that was quiet for so long; 0: never",
		field: &duration{at: func(c *Config) *time.Duration { return &c.HeartbeatInterval }, def: 15 * time.Second, min: 100 * time.Millisecond, max: time.Hour, zero: zeroOff}},
	{key: "compressionThreshold", flag: "compression-threshold", arg: "bytes", group: groupTuning, help: "size from which WebSocket messages are compressed",
		field: &number{at: func(c *Config) *int { return &c.CompressionThreshold }, def: 256, min: 1, max: 256 * mib}},
	{key: "httpCompression", flag: "http-compression", arg: "bytes", group: groupTuning, help: "size from which HTTP answers are compressed; 0: never",
		field: &number{at: func(c *Config) *int { return &c.HTTPCompression }, def: kib, min: 1, max: 256 * mib, off: true}},
	{key: "closeTimeout", flag: "close-timeout", arg: "duration", group: groupTuning, help: "wait so long for a client to confirm that it is closed",
		field: &duration{at: func(c *Config) *time.Duration { return &c.CloseTimeout }, def: 5 * time.Second, min: 10 * time.Millisecond, max: time.Minute}},
	{key: "drainTimeout", flag: "drain-timeout", arg: "duration", group: groupTuning, help: "spread the closing of clients over so long when stopping; 0: all at once",
		field: &duration{at: func(c *Config) *time.Duration { return &c.DrainTimeout }, def: 5 * time.Second, min: 10 * time.Millisecond, max: time.Hour, zero: zeroOff}},

	{key: "debug", flag: "debug", short: "D", group: groupLogs, help: "log what is useful to find a fault",
		field: &boolean{at: func(c *Config) *bool { return &c.Debug }}},
	{key: "trace", flag: "trace", short: "V", group: groupLogs, help: "log single messages too",
		field: &boolean{at: func(c *Config) *bool { return &c.Trace }}},
	{key: "logFormat", flag: "log-format", arg: "name", group: groupLogs, help: "text or json",
		field: &text{at: func(c *Config) *string { return &c.LogFormat }, def: "text", valid: oneOf("text", "json")}},
}

// text is a string setting.
type text struct {
	at       func(*Config) *string
	def      string
	empty    string // what an explicitly empty text means, if not the default
	join     string // not empty: repeated flags are joined by it
	required bool   // an explicitly empty text is a mistake
	valid    func(string) error
}

func (t *text) set(c *Config, texts []string) error {
	s := texts[len(texts)-1]
	if t.join != "" {
		s = strings.Join(texts, t.join)
	}
	if s == "" {
		if t.required {
			return errors.New("must not be empty: leave it out for the default (" + t.def + ")")
		}
		s = t.empty
	}
	*t.at(c) = s
	return nil
}

func (t *text) fill(c *Config) { *t.at(c) = cmp.Or(*t.at(c), t.def) }

func (t *text) check(c *Config) error {
	if s := *t.at(c); t.valid != nil && s != "" && s != t.empty {
		return t.valid(s)
	}
	return nil
}

func (t *text) fromJSON(raw json.RawMessage) ([]string, error) {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return nil, errors.New("must be a string")
	}
	return []string{s}, nil
}

// toJSON writes what is off as null, as Resgate does.
func (t *text) toJSON(c *Config) any {
	if s := *t.at(c); s == "" {
		return nil
	} else if s == t.empty {
		return ""
	} else {
		return s
	}
}

// number is a whole number within bounds.
type number struct {
	at       func(*Config) *int
	def      int
	min, max int
	off      bool // a user's 0 turns it off, which is negative in Config
	valid    func(int) error
}

func (n *number) set(c *Config, texts []string) error {
	v, err := strconv.Atoi(texts[len(texts)-1])
	if err != nil {
		return fmt.Errorf("%q is not a whole number", texts[len(texts)-1])
	}
	switch {
	case v == 0 && n.off:
		v = -1
	case v < 0 && n.off:
		return fmt.Errorf("%d is out of bounds: choose from %d to %d, or 0 for none", v, n.min, n.max)
	case v == 0 && n.min > 0:
		return fmt.Errorf("must be at least %d; leave it out for the default (%d)", n.min, n.def)
	}
	*n.at(c) = v
	return nil
}

func (n *number) fill(c *Config) { *n.at(c) = cmp.Or(*n.at(c), n.def) }

func (n *number) check(c *Config) error {
	v := *n.at(c)
	if v < 0 && n.off {
		return nil
	}
	if v < n.min || v > n.max {
		return fmt.Errorf("%d is out of bounds: choose from %d to %d", v, n.min, n.max)
	}
	if n.valid != nil {
		return n.valid(v)
	}
	return nil
}

func (n *number) fromJSON(raw json.RawMessage) ([]string, error) {
	var v int
	if json.Unmarshal(raw, &v) != nil {
		return nil, errors.New("must be a whole number")
	}
	return []string{strconv.Itoa(v)}, nil
}

func (n *number) toJSON(c *Config) any {
	if n.off {
		return max(*n.at(c), 0)
	}
	return *n.at(c)
}

// zeroMeans is what a user's 0 stands for; in Config itself it is always the
// default.
type zeroMeans uint8

const (
	zeroWrong zeroMeans = iota
	zeroDefault
	zeroOff
)

// duration is written like 30s or 1m30s; a bare number is milliseconds.
type duration struct {
	at       func(*Config) *time.Duration
	def      time.Duration
	min, max time.Duration
	zero     zeroMeans
	millis   bool // written to the file as a number of milliseconds
}

func (d *duration) set(c *Config, texts []string) error {
	s := texts[len(texts)-1]
	v, err := time.ParseDuration(s)
	if ms, numErr := strconv.ParseInt(s, 10, 32); numErr == nil {
		v, err = time.Duration(ms)*time.Millisecond, nil
	}
	switch {
	case err != nil:
		return fmt.Errorf("%q is not a duration: write it like 30s, or as milliseconds", s)
	case v < 0:
		return fmt.Errorf("%q is negative: choose from %s to %s", s, brief(d.min), brief(d.max))
	case v == 0 && d.zero == zeroOff:
		v = Off
	case v == 0 && d.zero == zeroWrong:
		return fmt.Errorf("must be at least %s; leave it out for the default (%s)", brief(d.min), brief(d.def))
	}
	*d.at(c) = v
	return nil
}

func (d *duration) fill(c *Config) { *d.at(c) = cmp.Or(*d.at(c), d.def) }

func (d *duration) check(c *Config) error {
	v := *d.at(c)
	if v < 0 && d.zero == zeroOff {
		return nil
	}
	if v < d.min || v > d.max {
		return fmt.Errorf("%v is out of bounds: choose from %s to %s", v, brief(d.min), brief(d.max))
	}
	return nil
}

func (d *duration) fromJSON(raw json.RawMessage) ([]string, error) {
	var s string
	if json.Unmarshal(raw, &s) == nil {
		return []string{s}, nil
	}
	var ms int32
	if json.Unmarshal(raw, &ms) != nil {
		return nil, errors.New(`must be a duration like "30s", or a number of milliseconds`)
	}
	return []string{strconv.Itoa(int(ms))}, nil
}

func (d *duration) toJSON(c *Config) any {
	v := max(*d.at(c), 0)
	if d.millis {
		return v.Milliseconds()
	}
	return brief(v)
}

// brief leaves out the zeros that Duration.String puts at the end: 1m, not 1m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// boolean is a switch, off by default.
type boolean struct{ at func(*Config) *bool }

func (b *boolean) set(c *Config, texts []string) error {
	v, err := strconv.ParseBool(texts[len(texts)-1])
	if err != nil {
		return fmt.Errorf("%q is neither true nor false", texts[len(texts)-1])
	}
	*b.at(c) = v
	return nil
}

func (b *boolean) fill(*Config)        {}
func (b *boolean) check(*Config) error { return nil }

func (b *boolean) fromJSON(raw json.RawMessage) ([]string, error) {
	var v bool
	if json.Unmarshal(raw, &v) != nil {
		return nil, errors.New("must be true or false")
	}
	return []string{strconv.FormatBool(v)}, nil
}

func (b *boolean) toJSON(c *Config) any { return *b.at(c) }

// list is several strings: a JSON array, a repeated flag, or an environment
// variable with the strings separated by semicolons.
type list struct {
	at    func(*Config) *[]string
	valid func(string) error
}

func (l *list) set(c *Config, texts []string) error {
	*l.at(c) = slices.Clone(texts)
	return nil
}

func (l *list) fill(*Config) {}

func (l *list) check(c *Config) error {
	if l.valid == nil {
		return nil
	}
	var errs []error
	for _, s := range *l.at(c) {
		errs = append(errs, l.valid(s))
	}
	return errors.Join(errs...)
}

func (l *list) fromJSON(raw json.RawMessage) ([]string, error) {
	var all []string
	if json.Unmarshal(raw, &all) != nil {
		return nil, errors.New("must be an array of strings")
	}
	return all, nil
}

func (l *list) toJSON(c *Config) any {
	if all := *l.at(c); all != nil {
		return all
	}
	return []string{}
}
