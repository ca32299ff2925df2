// Package config owns the gateway's settings: Config, the table with a row for each setting, and
// how the configuration file, the environment and the command line fill a Config. It checks every
// value, and values that depend on each other.
//
// The table is typed rows with traits (setting.go, kinds.go, settings.go). The parsers, redaction,
// reload, the JSON Schema, the help and docs/configuration.md iterate over it and know no setting
// by name.
//
// It is our own code rather than koanf, viper or pflag, for three reasons:
//
//   - Whatever Resgate 1.8 starts with must mean the same here: 428 variants of files and command
//     lines are recorded in testdata/resgate.json and compared with the real program by "make
//     resgate-table". These are the rules of encoding/json and of package flag with Resgate's own
//     on top: keys in any case, null that cancels an earlier value, -DV, --port 0 that counts as
//     absent, repeated flags that add up. pflag reads -port 81 as -p with the value "ort"; viper
//     and koanf merge maps, in which duplicate keys, their order and null are gone.
//   - Each value has a source with file, line and column, for errors and for "sluice check". A map
//     of values has none.
//   - No message may quote what could be a credential. The libraries' parsers quote their input.
//
// It never opens a socket, and reads no file but the configuration file.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/internal/metrics"
	"sluice/internal/owner"
	"sluice/internal/secret"
)

const (
	// AllAddresses as Config.Addr listens on every address, IPv4 and IPv6.
	AllAddresses = "*"
	// FreePort as Config.Port lets the system choose a free port; Gateway.Addr
	// tells which.
	FreePort = -1
	// Off turns a duration off whose zero value means the default.
	Off time.Duration = -1
	// Protocol is the newest RES protocol version that the gateway speaks.
	Protocol = "1.2.3"
	// DefaultNATSURL is where NATS is looked for unless told otherwise.
	DefaultNATSURL = "nats://127.0.0.1:4222"

	// HealthPath is the path of health checks, unless Config.HideHealth is set.
	HealthPath = "/healthz"
	// ReadyPath is the path of readiness checks, likewise.
	ReadyPath = "/readyz"
	// LivePath is the path of liveness checks, likewise.
	LivePath = "/livez"
)

// Config is what a gateway is told at its start. It is plain data, never
// changed afterwards, and may be copied. The zero value of every field means
// its default, so Config{} is a complete configuration. The names, limits and
// defaults of the fields as users see them stand in settings.go; RES.md
// section 6 lists those that Resgate has too.
type Config struct {
	// Clients.
	Addr           string   // IP address to listen on, or AllAddresses; default 0.0.0.0
	Port           int      // TCP port, or FreePort; default 8080
	WSPath         string   // path of WebSocket upgrades
	AllowOrigin    string   // "*" or origins separated by ";"
	AcceptPace     int      // WebSocket clients per second and event loop that are taken in before others wait; 0: no limit
	AcceptRate     int      // new client connections per second; 0: no limit
	MaxConnections int      // open client connections; 0: as many as the descriptor limit allows
	Alternates     []string // WebSocket URLs of other gateways, for clients that this one cannot serve

	// Proxies in front of the gateway, whose word on a client's address counts.
	ProxyProtocolFrom  []string // networks whose connections begin with a PROXY protocol header
	TrustForwardedFrom []string // networks whose Forwarded or X-Forwarded-For headers are believed

	// What may come from one address: an IPv4 address or a /64 of IPv6; 0: no limit.
	MaxConnectionsPerIP int      // open connections
	HandshakeRatePerIP  int      // new connections per second
	RequestRatePerIP    int      // HTTP requests per second
	LimitExempt         []string // networks of clients without limits by address or rate

	// What one client may take; beyond each of them stands a defined verdict.
	MaxMessage       int           // bytes of one WebSocket message
	MaxHead          int           // bytes of a request head
	MaxBody          int           // bytes of an HTTP request's body
	HeadTimeout      time.Duration // time to send a whole request head
	HTTPIdleTimeout  time.Duration // an HTTP connection is kept open for so long after a response
	HandshakeTimeout time.Duration // time for a whole TLS handshake
	MaxHandshakes    int           // TLS handshakes in flight
	OutboxBytes      int           // bytes waiting to be sent
	SlowTimeout      time.Duration // without a byte taken while output waits; Off: any
	BacklogBytes     int           // bytes waiting to be sent to slow clients, of all; 0: by the memory limit
	HTTPBacklogBytes int           // bytes of HTTP responses waiting to be sent, of all clients
	MaxSubscriptions int           // direct subscriptions per resource
	MaxResources     int           // resources subscribed, directly or through references
	MaxPending       int           // requests in flight
	MessageRate      int           // messages per second; negative: no limit
	ByteRate         int           // bytes per second; negative: no limit
	HeldEvents       int           // events held per subscription while references load
	PingInterval     time.Duration // quiet time before a ping; Off: none
	CloseTimeout     time.Duration // wait for the peer's close frame
	ShutdownDelay    time.Duration // a stop goes on serving new clients for so long while health checks fail
	DrainTimeout     time.Duration // window over which a stop closes clients; Off: all at once

	// HeartbeatInterval is the quiet time before an event stream gets a comment,
	// so that nothing on the way takes it for dead; Off: none.
	HeartbeatInterval time.Duration

	// MemoryLimit is the bytes that the Go runtime may use; 0: what GOMEMLIMIT says, else a share
	// of the control group's limit. memory.Set applies it.
	MemoryLimit int

	MaxResourceBytes int // bytes of one resource
	CacheBytes       int // bytes of cached resources without subscribers; 0: by the memory limit

	// Tokens of clients (JSON Web Tokens) that the gateway verifies itself. It does if there is a
	// JWKS or a secret.
	JWTJWKS       string // URL or file of the public keys
	JWTSecret     secret.Key
	JWTSecretFile string
	JWTIssuer     string   // empty: any
	JWTAudience   []string // one of them; empty: any
	JWTAlgorithms []string // empty: all that the keys are for
	JWTClockSkew  time.Duration
	JWTCookie     string // cookie that may have the token; empty: none
	JWTQuery      string // query parameter that may have it; empty: none
	JWTAnonymous  string // never, missing or invalid
	JWTClaims     []string
	JWTTID        string        // claim that is the token ID; empty: none
	JWTRefresh    time.Duration // between fetches of the keys
	JWTMethod     string        // auth method that takes a token; empty: none

	// Metrics.
	MetricsPort int  // 0: off; or FreePort
	Profiles    bool // serve pprof on that port
	HideHealth  bool // answer health checks on that port only

	// Looking inside.
	AdminPort      int    // 0: off; or FreePort
	AdminAddr      string // IP address
	AdminTokenFile string // file with the token that requests need; empty: none
	AdminTLSCert   string // file of the certificate; empty: no TLS
	AdminTLSKey    string // file of its key
	AdminClientCA  string // file of the authorities of the certificates that clients need; empty: they need none

	// UpgradeSocket is the path of the Unix socket for "sluice upgrade"; empty: none. Only the
	// process uses it, not the gateway.
	UpgradeSocket string

	// Owners.
	Loops  int // event loops; 0: one per core
	Shards int // cache shards, a power of two; 0: by the number of cores

	Flush string // how clients are written to: auto, write or io_uring

	// Services.
	NATSURL            secret.URLs // one URL, or several separated by ","
	NATSCreds          string      // user credentials file
	NATSNkey           string      // file of a user's nkey seed
	NATSCert           string      // client certificate file
	NATSKey            string      // key file of NATSCert
	NATSRootCAs        []string
	NATSWildcards      []string // patterns of resource names whose events come by one subscription each
	NATSConnections    int
	NATSTimeout        time.Duration // give up connecting at start
	NATSGrace          time.Duration // keep clients while NATS is away; Off: close them at once
	NATSLossExit       bool          // fail when NATS has not come back within NATSGrace
	NATSClusterPing    time.Duration // between pings through the other servers of a cluster; Off: none
	NATSPing           time.Duration // between pings to NATS; two unanswered ones end the connection
	ConnectionEvents   bool          // tell services which clients are connected
	GatewayID          string        // of this gateway in connection events; empty: a random one
	GatewayHeartbeat   time.Duration // between heartbeats for services
	EmbeddedNATS       bool          // run a NATS server inside the process
	EmbeddedNATSListen string        // host:port where other services reach it; port 0: a free one
	NATSLeaf           secret.URLs   // leaf node ports of the hub that the embedded server is a leaf node of; empty: none

	// The embedded server.
	EmbeddedNATSConfig   string     // configuration file of nats-server; empty: none
	EmbeddedNATSInsecure bool       // listen beyond loopback without authentication
	EmbeddedNATSUsers    secret.Key // name:password, several separated by ";"
	EmbeddedNATSToken    secret.Key
	EmbeddedNATSNkeys    []string // public keys of users
	EmbeddedNATSTLSCert  string   // certificate file
	EmbeddedNATSTLSKey   string   // file of its key
	EmbeddedNATSClientCA string   // file of the authorities of the certificates that its clients need

	RequestTimeout     time.Duration // wait for a service's answer
	BufferSize         int           // messages from NATS waiting per connection
	MaxServiceRequests int           // in flight per service; negative: no limit
	MinServiceRequests int           // in flight that the slowest service gets
	ServiceNameParts   int           // leading parts of a resource name that name its service
	QueueTimeout       time.Duration // a request may be queued for its service for so long
	ResetThrottle      int           // parallel requests after a system reset; 0: no limit
	ReferenceThrottle  int           // parallel gets for one request's references; 0: no limit
	CacheEvictionMost  time.Duration // keep one that clients have come back to for so long at most; Off: CacheEviction
	CacheEviction      time.Duration // keep a resource nobody subscribes to; Off: drop at once

	// The other side of a relay; a gateway has none.
	Downstream        secret.URLs // one URL, or several separated by ","
	DownstreamCreds   string      // user credentials file
	DownstreamNkey    string      // file of a user's nkey seed
	DownstreamCert    string      // client certificate file
	DownstreamKey     string      // key file of DownstreamCert
	DownstreamRootCAs []string
	RelayLease        time.Duration // a standby takes over that long after the active relay was last heard

	// Logs.
	Debug     bool
	Trace     bool
	LogFormat string // "text" or "json"

	// HTTP, TLS and compression.
	APIPath       string
	APIEncoding   string
	HeaderAuth    string // empty: off
	WSHeaderAuth  string
	PUTMethod     string
	DELETEMethod  string
	PATCHMethod   string
	WSCompression bool
	TLS           bool
	TLSCert       string // file, or several separated by ";": the first is the default
	TLSKey        string // the files of their keys, in the same order

	CompressionThreshold int // bytes from which WebSocket messages are compressed, with WSCompression
	HTTPCompression      int // bytes from which HTTP answers are compressed; negative: never

	OTLPEndpoint    string     // URL of the collector of spans; empty: no traces
	OTLPHeaders     secret.Key // name=value,name=value
	TraceRatio      string     // a number from 0 to 1
	TraceService    string
	TraceAttributes []string // name=value

	// For programs that embed a gateway; no flag or key.
	Pages   http.Handler      // answers plain HTTP requests other than health checks; nil: 404
	Log     *slog.Logger      // nil: slog.Default()
	Metrics *metrics.Registry // nil: one of the gateway's own
	Version string            // shown in metrics and logs; empty: "devel"
	Clock   owner.Clock       // nil: the system's

	// Listeners are listening TCP sockets for clients that were passed to the process, used in
	// place of Addr and Port; MetricsListener likewise in place of MetricsPort, AdminListener in
	// place of AdminPort if that is not 0. The gateway takes them over.
	Listeners       []net.Listener
	MetricsListener net.Listener
	AdminListener   net.Listener

	// TakesOver says that a running gateway with the same GatewayID hands its clients over to this
	// one, and then stops.
	TakesOver bool

	// Level is the level of Log, which a reload sets to LogLevel; nil: a reload does not change it.
	Level *slog.LevelVar
	// Reread reads the settings again for a reload, with warnings for the user; nil: there are no
	// reloads.
	Reread func() (Config, []string, error)
}

// WithDefaults returns c with every zero field that has a default filled in.
// Fields whose zero means "by the machine" or "no limit" stay zero; a negative
// duration stays negative. Filling in twice changes nothing.
func (c Config) WithDefaults() Config {
	for i := range settings {
		settings[i].fill(&c)
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Version == "" {
		c.Version = "devel"
	}
	return c
}

// Validate reports everything that is wrong with c, one line per mistake, each
// naming the setting and saying what to do; nil if a gateway can be made of it.
// Defaults are filled in first. It looks at no file and no network.
func (c Config) Validate() error {
	return errors.Join(c.mistakes(func(*setting) string { return "" })...)
}

// mistakes returns what is wrong with c. source returns where a value comes from, for the message;
// empty: that is not known.
func (c Config) mistakes(source func(*setting) string) (errs []error) {
	c = c.WithDefaults()
	for i := range settings {
		s := &settings[i]
		if err := s.check(&c); err != nil {
			if from := source(s); from != "" {
				err = fmt.Errorf("%w (from %s)", err, from)
			}
			errs = append(errs, s.wrap(err))
		}
	}
	if len(errs) == 0 {
		errs = c.checkTogether()
	}
	return errs
}

// checkTogether holds the rules about more than one setting.
func (c Config) checkTogether() []error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.MetricsPort > 0 && c.MetricsPort == c.Port {
		fail("metricsPort and port are both %d: choose two different ports", c.Port)
	}
	if c.Profiles && c.MetricsPort == 0 {
		fail("profiles are served on the metrics port: set metricsPort, too")
	}
	errs = append(errs, c.checkAdmin()...)
	if (c.DownstreamCert == "") != (c.DownstreamKey == "") {
		fail("downstreamCert and downstreamKey belong together: set both or none")
	}
	if c.TLS {
		if err := checkFileLists(c.TLSCert, c.TLSKey); err != nil {
			errs = append(errs, err)
		}
	}
	errs = append(errs, c.checkJWT()...)
	return append(errs, c.checkNATS()...)
}

// Warnings returns what a user should know about a valid configuration: the
// risks it takes.
func (c Config) Warnings() []string {
	c = c.WithDefaults()
	var out []string
	if c.EmbeddedNATS && c.EmbeddedNATSInsecure && !loopback(c.EmbeddedNATSListen) && !c.embeddedAuth() {
		out = append(out, "the embedded NATS server listens on "+c.EmbeddedNATSListen+
			" without authentication (embeddedNatsInsecure): anyone who reaches it can act as a service")
	}
	if c.AdminPort != 0 && c.AdminTokenFile != "" && c.AdminTLSCert == "" && !loopback(c.AdminListenAddr()) {
		out = append(out, "the admin token is sent in clear text to "+c.AdminListenAddr()+": set adminTlsCert and adminTlsKey")
	}
	if n := c.NATSURL.OtherSchemes(); n > 0 {
		out = append(out, "natsUrl has a scheme that is not one of nats, tls, ws and wss: it is taken for nats")
	}
	if c.GatewayID != "" && !c.ConnectionEvents {
		out = append(out, "gatewayId has no effect without connectionEvents: set both")
	}
	out = append(out, c.jwtWarnings()...)
	for _, p := range []struct{ key, path, lost string }{
		{"wsPath", c.WSPath, "no client can open a WebSocket"}, {"apiPath", c.APIPath, "no resource is served over HTTP"},
	} {
		if !strings.HasPrefix(p.path, "/") {
			out = append(out, p.key+" does not begin with a slash, so no request has this path and "+p.lost+", as with Resgate: write a slash in front")
		}
	}
	return out
}

// ListenAddr is the address to listen on as host:port; the host is empty for
// AllAddresses, the port 0 for FreePort.
func (c Config) ListenAddr() string {
	c = c.WithDefaults()
	host := c.Addr
	if host == AllAddresses {
		host = ""
	}
	return net.JoinHostPort(host, strconv.Itoa(max(c.Port, 0)))
}

// LoopCount is the number of event loops: Loops, or one per core.
func (c Config) LoopCount() int {
	if c.Loops > 0 {
		return c.Loops
	}
	return min(Cores(), MaxLoops)
}

// ShardCount is the number of cache shards: Shards, or the power of two that
// is at least the number of cores.
func (c Config) ShardCount() int {
	if c.Shards > 0 {
		return c.Shards
	}
	n := 1
	for n < Cores() && n < maxShards {
		n *= 2
	}
	return n
}

// Cores returns how many cores the process may use, as it was at the first call:
// a program may raise GOMAXPROCS later.
var Cores = sync.OnceValue(func() int { return runtime.GOMAXPROCS(0) })

// CertificateFiles returns the files of TLSCert and of TLSKey. In a valid
// configuration with TLS there are as many of each, and at least one.
func (c Config) CertificateFiles() (certs, keys []string) {
	return splitFiles(c.TLSCert), splitFiles(c.TLSKey)
}

// LogLevel is the lowest level to log: LevelTrace with Trace, debug with Debug,
// else info.
func (c Config) LogLevel() slog.Level {
	switch {
	case c.Trace:
		return LevelTrace
	case c.Debug:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// LevelTrace is the level of single messages, below debug.
const LevelTrace = slog.LevelDebug - 4

func loopback(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}
