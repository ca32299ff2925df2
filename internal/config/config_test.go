package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"sluice/internal/secret"
)

func load(t *testing.T, args []string, environ ...string) Setup {
	t.Helper()
	s, err := Load(args, environ)
	if err != nil {
		t.Fatalf("Load(%q, %q): %v", args, environ, err)
	}
	return s
}

func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sluice.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// The defaults, keys and flags of RES.md section 6, as Resgate's users know them.
func TestResgateDefaults(t *testing.T) {
	c := Config{}.WithDefaults()
	want := Config{
		NATSURL: "nats://127.0.0.1:4222", Addr: "0.0.0.0", Port: 8080, MetricsPort: 0,
		WSPath: "/", APIPath: "/api", RequestTimeout: 3 * time.Second, BufferSize: 8192,
		HeaderAuth: "", WSHeaderAuth: "", APIEncoding: "json",
		PUTMethod: "", DELETEMethod: "", PATCHMethod: "", WSCompression: false,
		ResetThrottle: 0, ReferenceThrottle: 0, TLS: false, AllowOrigin: "*",
		Debug: false, Trace: false,
	}
	own := cmpopts.IgnoreFields(Config{}, "MaxMessage", "MaxHead", "HeadTimeout", "HTTPIdleTimeout", "OutboxBytes", "HTTPBacklogBytes", "MaxSubscriptions",
		"MaxPending", "MaxResources", "HeldEvents", "PingInterval", "CloseTimeout", "DrainTimeout", "NATSConnections", "NATSTimeout",
		"NATSGrace", "GatewayHeartbeat", "NATSClusterPing", "NATSPing", "RelayLease", "EmbeddedNATSListen", "CacheEviction", "CacheEvictionMost", "LogFormat", "Log", "Version",
		"MaxServiceRequests", "MinServiceRequests", "ServiceNameParts", "QueueTimeout",
		"MaxBody", "HandshakeTimeout", "MaxHandshakes", "HeartbeatInterval", "CompressionThreshold", "HTTPCompression", "Flush", "MaxResourceBytes", "SlowTimeout",
		"MessageRate", "ByteRate", "AcceptPace", "AdminAddr", "JWTClockSkew", "JWTAnonymous", "JWTRefresh", "TraceRatio", "TraceService")
	if diff := cmp.Diff(want, c, own); diff != "" {
		t.Error(diff)
	}
	if c.MaxSubscriptions != 256 {
		t.Errorf("MaxSubscriptions = %d, want the protocol's 256", c.MaxSubscriptions)
	}
	if c.CacheEviction != 5*time.Second {
		t.Errorf("CacheEviction = %v, want the protocol's 5 s", c.CacheEviction)
	}
}

func TestDefaultsAreValidAndStable(t *testing.T) {
	if err := (Config{}).Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	if w := (Config{}).Warnings(); len(w) > 0 {
		t.Errorf("the defaults warn: %q", w)
	}
	off := Config{PingInterval: Off, Port: FreePort, Addr: AllAddresses}
	once := off.WithDefaults()
	if diff := cmp.Diff(once, once.WithDefaults(), cmpopts.IgnoreFields(Config{}, "Log")); diff != "" {
		t.Errorf("defaults filled in twice differ:\n%s", diff)
	}
	if once.PingInterval != Off {
		t.Errorf("PingInterval = %v, want Off", once.PingInterval)
	}
}

// Each row is a command line that works with Resgate, and what it must set.
func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		args string
		want Config
	}{
		{"-n nats://h:1", Config{NATSURL: "nats://h:1"}},
		{"--nats nats://h:1", Config{NATSURL: "nats://h:1"}},
		{"-nats nats://h:1", Config{NATSURL: "nats://h:1"}},
		{"-nats=nats://h:1", Config{NATSURL: "nats://h:1"}},
		{"-i 127.0.0.1", Config{Addr: "127.0.0.1"}},
		{"--addr ::1", Config{Addr: "::1"}},
		{"--addr=", Config{Addr: AllAddresses}},
		{"-p 81", Config{Port: 81}},
		{"--p 81", Config{Port: 81}},
		{"--port=81", Config{Port: 81}},
		{"-port 81", Config{Port: 81}},
		{"--port -1", Config{Port: FreePort}},
		{"-w /ws", Config{WSPath: "/ws"}},
		{"--wspath /ws", Config{WSPath: "/ws"}},
		{"-a /rest/", Config{APIPath: "/rest/"}},
		{"--apipath /rest", Config{APIPath: "/rest"}},
		{"-r 500", Config{RequestTimeout: 500 * time.Millisecond}},
		{"--reqtimeout 2s", Config{RequestTimeout: 2 * time.Second}},
		{"--apiencoding jsonflat", Config{APIEncoding: "jsonflat"}},
		{"--putmethod put --deletemethod delete --patchmethod patch", Config{PUTMethod: "put", DELETEMethod: "delete", PATCHMethod: "patch"}},
		{"--wscompression", Config{WSCompression: true}},
		{"--hide-health", Config{HideHealth: true}},
		{"--resetthrottle 3 --referencethrottle 4", Config{ResetThrottle: 3, ReferenceThrottle: 4}},
		{"--creds c --natscert a --natskey b", Config{NATSCreds: "c", NATSCert: "a", NATSKey: "b"}},
		{"--natsrootca a --natsrootca b", Config{NATSRootCAs: []string{"a", "b"}}},
		{"--alloworigin http://a --alloworigin https://b:1", Config{AllowOrigin: "http://a;https://b:1"}},
		{"--alloworigin http://a;http://b", Config{AllowOrigin: "http://a;http://b"}},
		{"-D", Config{Debug: true}},
		{"--debug", Config{Debug: true}},
		{"-V", Config{Trace: true}},
		{"--trace", Config{Trace: true}},
		{"-DV", Config{Debug: true, Trace: true}},
		{"--tls=false", Config{}},
		{"--port 1 --port 2", Config{Port: 2}},
		{"--", Config{}},
		{"--port 0x51", Config{Port: 81}},
		{"-D true --port 81", Config{Debug: true}}, // what is no flag ends them
		{"--resetthrottle -1 --referencethrottle -2", Config{}},
		{"--apiencoding jsonFlat", Config{APIEncoding: "jsonflat"}},
		{"--wspath ws --apipath /a?b", Config{WSPath: "ws", APIPath: "/a?b"}},

		{"--embedded-nats --embedded-nats-listen 127.0.0.1:0", Config{EmbeddedNATS: true, EmbeddedNATSListen: "127.0.0.1:0"}},
		{"--embedded-nats --nats-leaf tls://u:p@h:7422,nats://i --embedded-nats-insecure", Config{EmbeddedNATS: true, NATSLeaf: "tls://u:p@h:7422,nats://i", EmbeddedNATSInsecure: true}},
		{"--embedded-nats --embedded-nats-config f --nats-nkey n", Config{EmbeddedNATS: true, EmbeddedNATSConfig: "f", NATSNkey: "n"}},
		{"--embedded-nats --embedded-nats-tls-cert c --embedded-nats-tls-key k --embedded-nats-client-ca a", Config{EmbeddedNATS: true, EmbeddedNATSTLSCert: "c", EmbeddedNATSTLSKey: "k", EmbeddedNATSClientCA: "a"}},
		{"--embedded-nats --embedded-nats-nkey UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4", Config{EmbeddedNATS: true, EmbeddedNATSNkeys: []string{"UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"}}},
		{"--nats-wildcard > --nats-wildcard *", Config{NATSWildcards: []string{">", "*"}}},
		{"--nats-wildcard ticker.> --nats-wildcard a.*.b", Config{NATSWildcards: []string{"ticker.>", "a.*.b"}}},
		{"--loops 2 --shards 8", Config{Loops: 2, Shards: 8}},
		{"--flush io_uring", Config{Flush: "io_uring"}},
		{"--nats-connections 2 --nats-timeout 1m --nats-grace 0 --nats-ping 5s --nats-loss-exit --nats-cluster-ping 0", Config{NATSConnections: 2, NATSTimeout: time.Minute, NATSGrace: Off, NATSPing: 5 * time.Second, NATSLossExit: true, NATSClusterPing: Off}},
		{"--max-connections 9 --max-subscriptions 8 --max-pending 7 --held-events 6", Config{MaxConnections: 9, MaxSubscriptions: 8, MaxPending: 7, HeldEvents: 6}},
		{"--max-message 2048 --max-head 4096 --head-timeout 1500 --http-idle-timeout 7m --outbox-bytes 65536 --http-backlog-bytes 1048576", Config{MaxMessage: 2048, MaxHead: 4096, HeadTimeout: 1500 * time.Millisecond, HTTPIdleTimeout: 7 * time.Minute, OutboxBytes: 65536, HTTPBacklogBytes: 1 << 20}},
		{"--ping-interval 0s --close-timeout 1s --drain-timeout 0 --cache-eviction 0 --cache-eviction-most 0", Config{PingInterval: Off, CloseTimeout: time.Second, DrainTimeout: Off, CacheEviction: Off, CacheEvictionMost: Off}},
		{"--shutdown-delay 3s", Config{ShutdownDelay: 3 * time.Second}},
		{"--shutdown-delay 0", Config{}},
		{"--alternate wss://eu2.example.com/ --alternate wss://eu3.example.com/ws", Config{Alternates: []string{"wss://eu2.example.com/", "wss://eu3.example.com/ws"}}},
		{"--log-format json", Config{LogFormat: "json"}},
		{"--tlscert a --tlscert b;c --tlskey d;e --tlskey f", Config{TLSCert: "a;b;c", TLSKey: "d;e;f"}},
		{"--max-body 4096 --handshake-timeout 3s --max-handshakes 9", Config{MaxBody: 4096, HandshakeTimeout: 3 * time.Second, MaxHandshakes: 9}},
		{"--slow-timeout 0 --backlog-bytes 0x4000000", Config{SlowTimeout: Off, BacklogBytes: 64 << 20}},
		{"--message-rate 100 --byte-rate 0 --max-connections-per-ip 50 --handshake-rate-per-ip 5 --request-rate-per-ip 20 --limit-exempt 10.0.0.0/8 --limit-exempt ::1",
			Config{MessageRate: 100, ByteRate: -1, MaxConnectionsPerIP: 50, HandshakeRatePerIP: 5, RequestRatePerIP: 20, LimitExempt: []string{"10.0.0.0/8", "::1"}}},
		{"--memory-limit 1073741824 --max-resource-bytes 1048576 --cache-bytes 2097152", Config{MemoryLimit: 1 << 30, MaxResourceBytes: 1 << 20, CacheBytes: 2 << 20}},
		{"--heartbeat-interval 0 --compression-threshold 1 --http-compression 0", Config{HeartbeatInterval: Off, CompressionThreshold: 1, HTTPCompression: -1}},
		{"--heartbeat-interval 20s --http-compression 2048", Config{HeartbeatInterval: 20 * time.Second, HTTPCompression: 2048}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got := load(t, strings.Fields(tt.args))
			if diff := cmp.Diff(tt.want, got.Config); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHelpAndVersionReadNothingElse(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none.json")
	for _, arg := range []string{"-h", "--help", "-help", "-v", "--version", "-version"} {
		s := load(t, []string{arg, "-c", missing, "--port", "nonsense"})
		if s.Help == s.Version {
			t.Errorf("%s: Help=%v Version=%v", arg, s.Help, s.Version)
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a configuration file was written")
	}
}

// Each row is a mistake and the words that must lead the user out of it.
func TestMistakes(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"--prot 81", "unknown flag: --prot"},
		{"-x", "unknown flag: --x"},
		{"--maxpending 3", "did you mean --max-pending?"},
		{"--nats-url x", "did you mean --nats?"},
		{"--port", "flag needs an argument: --port"},
		{"--port eighty", `--port: "eighty" is not a whole number`},
		{"--port 65536", "port: 65536 is out of bounds: choose from -1 to 65535"},
		{"--metricsport -2", "metricsPort: -2 is out of bounds"},
		{"--metricsport 8080", "two different ports"},
		{"--addr localhost", "not an IP address: write one such as 127.0.0.1"},
		{"--apiencoding xml", "choose json or jsonflat"},
		{"--log-format xml", "choose text or json"},
		{"--headauth login", "write it like auth.headers.login"},
		{"--wsheadauth auth..login", "write it like auth.headers.login"},
		{"--putmethod a.b", "one word without dots"},
		{"--alloworigin=", "must not be empty"},
		{"--alloworigin *;http://a", "* already means every origin"},
		{"--alloworigin example.com", "<scheme>://<host>"},
		{"--alloworigin http://a/path", "<scheme>://<host>"},
		{"--alloworigin http://user@a", "<scheme>://<host>"},
		{"--nats nats://h:port", "write nats://host:port"},
		{"--creds SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", "the name of a file, not its content"},
		{"--natscert a", "set both or none"},
		{"--embedded-nats --nats nats://h:1", "exclude each other"},
		{"--embedded-nats-listen 4222", "write host:port"},
		{"--embedded-nats-listen h:http", "write host:port"},
		{"--embedded-nats --embedded-nats-listen 0.0.0.0:4222", "embeddedNatsInsecure"},
		{"--embedded-nats --nats-leaf h:7422", "write each address as nats://host:port"},
		{"--embedded-nats --embedded-nats-nkey SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY", "the first is U"},
		{"--embedded-nats --embedded-nats-tls-cert c", "set both or none"},
		{"--embedded-nats --embedded-nats-client-ca c", "needs TLS"},
		{"--nats-leaf nats://h", "natsLeaf is for the embedded server: set embeddedNats, too"},
		{"--embedded-nats-config f", "embeddedNatsConfig is for the embedded server"},
		{"--alternate eu2.example.com", "write one such as wss://eu2.example.com/"},
		{"--alternate wss://u:secret@example.com/", "user name or password"},
		{"--nats-wildcard ticker", "write one such as ticker.>"},
		{"--nats-wildcard a..>", "not a pattern"},
		{"--nats-wildcard a.>.b", "not a pattern"},
		{"--nats-wildcard a.b*", "not a pattern"},
		{"--nats-wildcard event.>,a.>?q", "not a pattern"},
		{"--creds a --nats-nkey b", "exclude each other"},
		{"--shards 6", "choose 4 or 8"},
		{"--loops 1000", "choose from 0 to 256"},
		{"--flush send", "choose auto or write or io_uring"},
		{"--nats-connections 0", "must be at least 1; leave it out for the default (1)"},
		{"--max-resources 0", "must be at least 1"},
		{"--max-message 10", "choose from 1024 to"},
		{"--head-timeout 0", "must be at least 100ms"},
		{"--head-timeout -5s", "is negative"},
		{"--head-timeout soon", "write it like 30s, or as milliseconds"},
		{"--ping-interval 2h", "choose from 100ms to 1h"},
		{"--debug=maybe", "neither true nor false"},
		{"--tls", "tls needs tlsCert and tlsKey"},
		{"--tls --tlscert a --tlscert b --tlskey c", "tlsCert names 2 files and tlsKey 1"},
		{"--proxy-protocol-from lan", `proxyProtocolFrom: "lan" is not a network: write it like 10.0.0.0/8`},
		{"--trust-forwarded-from 10.0.0.0/8 --trust-forwarded-from 10.0.0.1/8", "trustForwardedFrom: \"10.0.0.1/8\" has bits beyond its length: did you mean 10.0.0.0/8?"},
		{"--max-body 1", "choose from 1024 to"},
		{"--handshake-timeout 0", "must be at least 100ms"},
		{"--max-handshakes 0", "must be at least 1; leave it out for the default (4096)"},
		{"--compression-threshold 0", "must be at least 1"},
		{"--http-compression -2", "or 0 for none"},
		// Settings that must not be ignored in silence.
		{"--profiles", "profiles are served on the metrics port"},
		{"--admin-port 8080", "adminPort and port are both 8080"},
		{"--admin-port 9 --metricsport 9", "adminPort and metricsPort are both 9"},
		{"--admin-port 9 --admin-addr ::", "adminAddr :: can be reached from other machines: set adminTokenFile, or"},
		{"--admin-addr host", "not an IP address"},
		{"--admin-tls-cert a", "adminTlsCert and adminTlsKey belong together"},
		{"--admin-client-ca a", "adminClientCa needs TLS"},
	} {
		t.Run(tt.args, func(t *testing.T) {
			_, err := Load(strings.Fields(tt.args), nil)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want one with %q", err, tt.want)
			}
		})
	}
}

func TestValidateNamesEveryMistake(t *testing.T) {
	err := Config{Port: 70000, Shards: 3, LogFormat: "x"}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"port:", "shards:", "logFormat:"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not name %s", err, want)
		}
	}
	if err := (Config{HeadTimeout: Off}).Validate(); err == nil {
		t.Error("HeadTimeout: Off was accepted")
	}
}

func TestWarnings(t *testing.T) {
	for listen, warns := range map[string]bool{"127.0.0.1:1": false, "[::1]:1": false, "localhost:1": false, "0.0.0.0:1": true, ":1": true} {
		c := Config{EmbeddedNATS: true, EmbeddedNATSListen: listen}
		if got := c.Validate() != nil; got != warns {
			t.Errorf("embedded NATS on %s: refused %v, want %v", listen, got, warns)
		}
		c.EmbeddedNATSInsecure = true
		if got := len(c.Warnings()) > 0; got != warns || c.Validate() != nil {
			t.Errorf("insecure embedded NATS on %s: warned %v, want %v; %v", listen, got, warns, c.Validate())
		}
		c.EmbeddedNATSInsecure, c.EmbeddedNATSToken = false, "x"
		if w, err := c.Warnings(), c.Validate(); len(w) > 0 || err != nil {
			t.Errorf("embedded NATS with a token on %s: %v, %v", listen, w, err)
		}
	}
	clear := Config{AdminPort: 9, AdminAddr: "::", AdminTokenFile: "t"}
	if w := clear.Warnings(); len(w) != 1 || !strings.Contains(w[0], "clear text to [::]:9") {
		t.Errorf("a token in clear text: %q", w)
	}
	clear.AdminTLSCert, clear.AdminTLSKey = "c", "k"
	if w := clear.Warnings(); len(w) > 0 {
		t.Errorf("a token over TLS: %q", w)
	}
}

func TestPrecedence(t *testing.T) {
	path := writeFile(t, `{"port": 1, "wsPath": "/file", "debug": true, "resetThrottle": 1, "natsRootCAs": ["file"]}`)
	s := load(t, []string{"-c", path, "--port", "3", "--debug=false"},
		"SLUICE_PORT=2", "SLUICE_RESET_THROTTLE=2", "SLUICE_NATS_ROOT_CAS=a;b")
	want := Config{Port: 3, WSPath: "/file", ResetThrottle: 2, NATSRootCAs: []string{"a", "b"}}
	if diff := cmp.Diff(want, s.Config); diff != "" {
		t.Error(diff)
	}
}

func TestEnvironment(t *testing.T) {
	path := writeFile(t, `{"port": 1}`)
	// Kubernetes sets these for services called sluice, sluice-metrics and sluice-nats-url.
	var linked []string
	for _, service := range []string{"", "_METRICS", "_NATS_URL"} {
		for _, v := range []string{"_PORT=tcp://10.0.0.1:8080", "_PORT_8080_TCP=tcp://10.0.0.1:8080", "_PORT_8080_TCP_ADDR=10.0.0.1", "_PORT_8080_TCP_PORT=8080",
			"_PORT_8080_TCP_PROTO=tcp", "_PORT_53_UDP=udp://[fd00::1]:53", "_SERVICE_HOST=10.0.0.1", "_SERVICE_PORT=8080", "_SERVICE_PORT_HTTP=8080"} {
			linked = append(linked, "SLUICE"+service+v)
		}
	}
	s := load(t, nil, append(linked, "PATH=/bin", "SLUICE_CONFIG="+path, "SLUICE_WS_HEADER_AUTH=", "SLUICE_NATS_URL=h:1", "SLUICE_PROT=1")...)
	if diff := cmp.Diff(Config{Port: 1, NATSURL: "h:1"}, s.Config); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"unknown environment variable SLUICE_PROT, ignored: did you mean SLUICE_PORT?"}, s.Warnings); diff != "" {
		t.Error(diff)
	}
	if len(s.Notes) != 1 || !strings.Contains(s.Notes[0], "SLUICE_METRICS_PORT, ") || !strings.Contains(s.Notes[0], "and 7 more") {
		t.Errorf("notes %q", s.Notes)
	}
	// A setting's value that only looks like a link counts.
	if s := load(t, nil, "SLUICE_NATS_URL=tcp://10.0.0.1:4222", "SLUICE_METRICS_PORT=9100"); s.Config.NATSURL != "tcp://10.0.0.1:4222" || s.Config.MetricsPort != 9100 {
		t.Errorf("%+v", s.Config)
	}
	// An empty variable of a number, a duration or a switch leaves what the file says; one of a
	// text is the empty text.
	path = writeFile(t, `{"port": 1, "natsGrace": "7s", "debug": true, "addr": "::1", "natsRootCAs": ["file"]}`)
	empty := []string{"SLUICE_CONFIG=" + path}
	for i := range settings {
		if key := settings[i].key; key != "allowOrigin" { // an empty one is a mistake
			empty = append(empty, settings[i].env()+"=")
		}
	}
	if diff := cmp.Diff(Config{Port: 1, NATSGrace: 7 * time.Second, Debug: true, Addr: AllAddresses}, load(t, nil, empty...).Config, cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
	_, err := Load(nil, []string{"SLUICE_LOOPS=many"})
	if err == nil || !strings.HasPrefix(err.Error(), "SLUICE_LOOPS: ") {
		t.Errorf("error %v, want one that begins with the variable's name", err)
	}
}

func TestNamesAreUniqueAndRegular(t *testing.T) {
	seen := map[string]string{}
	for i := range settings {
		s := &settings[i]
		names := []string{"key " + strings.ToLower(s.key), "env " + s.env()}
		for _, a := range s.aliases {
			names = append(names, "key "+strings.ToLower(a.key))
		}
		if s.flag != "" {
			names = append(names, "flag "+s.flag)
		}
		if s.short != "" {
			names = append(names, "flag "+s.short)
		}
		for _, n := range names {
			if other := seen[n]; other != "" {
				t.Errorf("%s is both %s and %s", n, other, s.key)
			}
			seen[n] = s.key
		}
		if s.help == "" || s.group == "" {
			t.Errorf("%s has no help or group", s.key)
		}
		_, isURL := s.value.(*typed[secret.URLs])
		_, isKey := s.value.(*typed[secret.Key])
		if (isURL || isKey) != s.has(secretValue) {
			t.Errorf("%s: the trait secretValue belongs to the types of internal/secret", s.key)
		}
		if isSwitch := s.kind() == onOff; isSwitch != (s.arg == "") && s.flag != "" {
			t.Errorf("%s: only a switch has no argument", s.key)
		}
	}
}

// Resgate takes a request timeout of 10 or less for seconds.
func TestRequestTimeoutInSeconds(t *testing.T) {
	s := load(t, []string{"-r", "5"})
	if s.Config.RequestTimeout != 5*time.Second || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "write 5000") {
		t.Errorf("RequestTimeout %v, warnings %q", s.Config.RequestTimeout, s.Warnings)
	}
	if s := load(t, []string{"-r", "11"}); s.Config.RequestTimeout != 11*time.Millisecond {
		t.Errorf("11 became %v", s.Config.RequestTimeout)
	}
}

func TestBrief(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 10 * time.Second: "10s", time.Minute: "1m", 100 * time.Second: "1m40s", 70 * time.Minute: "1h10m",
		time.Hour: "1h", 24 * time.Hour: "24h", time.Hour + time.Second: "1h0m1s", 20 * time.Hour: "20h", 10 * time.Minute: "10m",
	} {
		if got := brief(d); got != want {
			t.Errorf("brief(%v) = %s, want %s", d, got, want)
		}
	}
}

func TestListenAddr(t *testing.T) {
	for _, tt := range []struct {
		c    Config
		want string
	}{
		{Config{}, "0.0.0.0:8080"},
		{Config{Addr: AllAddresses}, ":8080"},
		{Config{Addr: "::1", Port: 1}, "[::1]:1"},
		{Config{Addr: "127.0.0.1", Port: FreePort}, "127.0.0.1:0"},
	} {
		if got := tt.c.ListenAddr(); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}

func TestCounts(t *testing.T) {
	if n := (Config{}).LoopCount(); n < 1 || n > MaxLoops {
		t.Errorf("%d loops", n)
	}
	if n := (Config{}).ShardCount(); n < 1 || n&(n-1) != 0 {
		t.Errorf("%d shards", n)
	}
	c := Config{Loops: 3, Shards: 16}
	if c.LoopCount() != 3 || c.ShardCount() != 16 {
		t.Errorf("%d loops and %d shards, want 3 and 16", c.LoopCount(), c.ShardCount())
	}
}

func TestUsageNamesEveryFlagAndDefault(t *testing.T) {
	u := Usage()
	for i := range settings {
		s := &settings[i]
		if s.flag != "" && !strings.Contains(u, "--"+s.flag) {
			t.Errorf("--%s is missing", s.flag)
		}
		if s.flag != "" && !strings.Contains(u, s.help) {
			t.Errorf("the help of --%s is missing", s.flag)
		}
	}
	for _, want := range []string{"(default 8080)", "(default 3000)", "(default 30s)", "(default *)", "-c, --config <file>", "-h, --help", "sluice demo"} {
		if !strings.Contains(u, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for line := range strings.Lines(u) {
		if len(line) > 140 {
			t.Errorf("too long for a terminal: %s", line)
		}
	}
}

func TestFileOfResgate(t *testing.T) {
	// What Resgate 1.8 writes when its file is missing.
	path := writeFile(t, `{
	"natsUrl": "nats://127.0.0.1:4222",
	"natsCreds": "",
	"natsCert": "",
	"natsKey": "",
	"natsRootCAs": [],
	"requestTimeout": 3000,
	"bufferSize": 8192,
	"debug": false,
	"trace": false,
	"addr": "0.0.0.0",
	"port": 8080,
	"wsPath": "/",
	"apiPath": "/api",
	"metricsPort": 0,
	"apiEncoding": "json",
	"headerAuth": null,
	"wsHeaderAuth": null,
	"allowOrigin": "*",
	"putMethod": null,
	"deleteMethod": null,
	"patchMethod": null,
	"tls": false,
	"certFile": "",
	"keyFile": "",
	"wsCompression": false,
	"resetThrottle": 0,
	"referenceThrottle": 0
}`)
	s := load(t, []string{"-c", path})
	if len(s.Warnings) > 0 {
		t.Errorf("warnings: %q", s.Warnings)
	}
	if diff := cmp.Diff(Config{}.WithDefaults(), s.Config.WithDefaults(), cmpopts.IgnoreFields(Config{}, "Log"), cmpopts.EquateEmpty()); diff != "" {
		t.Error(diff)
	}
}

func TestFileIsWrittenOnceAndReadBack(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.json")
	s := load(t, []string{"-c", path, "--port", "81"})
	if s.Created != path || s.Config.Port != 81 {
		t.Errorf("Created %q, port %d", s.Created, s.Config.Port)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var keys map[string]any
	if err := json.Unmarshal(text, &keys); err != nil {
		t.Fatal(err)
	}
	if len(keys) != len(settings) || keys["port"] != 8080.0 || keys["headerAuth"] != nil || keys["pingInterval"] != "30s" || keys["requestTimeout"] != 3000.0 {
		t.Errorf("%d keys of %d settings:\n%s", len(keys), len(settings), text)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want one that keeps credentials to the owner", info.Mode(), err)
	}
	s = load(t, []string{"-c", path})
	if s.Created != "" || len(s.Warnings) > 0 {
		t.Errorf("read back: created %q, warnings %q", s.Created, s.Warnings)
	}
	again, err := os.ReadFile(path)
	if err != nil || string(again) != string(text) {
		t.Errorf("the file changed: %v", err)
	}
}

// What a configuration says survives the way through a file, off and empty included.
func TestFileRoundTrip(t *testing.T) {
	c := Config{Addr: AllAddresses, Port: FreePort, PingInterval: Off, NATSGrace: Off, CacheEviction: Off, CacheEvictionMost: Off,
		ProxyProtocolFrom: []string{"10.0.0.0/8", "::1"}, TrustForwardedFrom: []string{"192.0.2.1"}, HTTPCompression: -1, HeartbeatInterval: Off,
		TLSCert: "a;b", TLSKey: "c;d", NATSRootCAs: []string{"a;b", "c"}, AllowOrigin: "http://a;http://b", EmbeddedNATS: true, Shards: 4,
		RequestTimeout: 1500 * time.Millisecond, HeadTimeout: 1500 * time.Millisecond, LogFormat: "json"}.WithDefaults()
	var got Config
	all, err := entries(encodeFile(c), false)
	found := apply(&got, all)
	if err != nil || len(found.problems) > 0 || len(found.errs) > 0 {
		t.Fatalf("%v: %v, %v", err, found.problems, found.errs)
	}
	if diff := cmp.Diff(c, got.WithDefaults(), cmpopts.IgnoreFields(Config{}, "Log")); diff != "" {
		t.Error(diff)
	}
}

func TestFileKeys(t *testing.T) {
	path := writeFile(t, `{"PORT": 1, "CertFile": "c", "tlsKey": "k", "nope": {"a": [1]}, "other": 2, "headTimeout": 1500, "maxHead": null}`)
	s := load(t, []string{"-c", path})
	if diff := cmp.Diff(Config{Port: 1, TLSCert: "c", TLSKey: "k", HeadTimeout: 1500 * time.Millisecond}, s.Config); diff != "" {
		t.Error(diff)
	}
	want := []string{
		"config file " + path + ":1:45: unknown key nope, ignored: remove it",
		"config file " + path + ":1:65: unknown key other, ignored: remove it",
	}
	if diff := cmp.Diff(want, s.Warnings); diff != "" {
		t.Error(diff)
	}
}

func TestFileMistakesHaveAPosition(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ":1:1: unexpected end"},
		{"{", ":1:2: unexpected end"},
		{"{\n\t\"port\": 1\n", ":3:1: unexpected end"},
		{"[]", ":1:1: must be one JSON object"},
		{"3", ":1:1: must be one JSON object"},
		{"{\n\t\"port\": 80,\n}", ":3:1: "},
		{"{\n\t\"port\": 80\n\t\"wsPath\": \"/\"}", ":3:2: "},
		{"{\"port\": 0x10}", ":1:11: "},
		{"{port: 1}", ":1:2: "},
		{"{\"port\": \"80\"}", ":1:10: port: must be a whole number"},
		{"{\"port\": 80.5}", ":1:10: port: must be a whole number"},
		{"{\n  \"debug\":\n    1}", ":3:5: debug: must be true or false"},
		{"{\"natsUrl\": 1}", ":1:13: natsUrl: must be a string"},
		{"{\"natsRootCAs\": \"a\"}", ":1:17: natsRootCAs: must be an array of strings"},
		{"{\"headTimeout\": true}", ":1:17: headTimeout: must be a duration"},
		{"{\"headTimeout\": \"x\"}", ":1:17: headTimeout: \"x\" is not a duration"},
		{"{\"allowOrigin\": \"\"}", ":1:17: allowOrigin: must not be empty"},
		{"\xef\xbb\xbf{\n\"port\": x}", ":2:9: invalid character looking for beginning of value"},
		{"\xff\xfe{\x00}\x00", ":1:1: the file is in UTF-16: save it as UTF-8"},
		{"\xfe\xff\x00{\x00}", ":1:1: the file is in UTF-16"},
		{"{\x00}\x00", ":1:1: the file is in UTF-16"},
		{"{\"port\": 1,\n}", ":2:1: invalid character looking for beginning of object key string: remove the comma before it"},
		{"{\"natsRootCAs\": [\"a\", ]}", ":1:23: invalid character looking for beginning of value: remove the comma before it"},
		{"{} {}", ":1:4: "},
		{"{} x", ":1:4: "},
	} {
		_, err := Load([]string{"-c", writeFile(t, tt.text)}, nil)
		if err == nil || !strings.Contains(err.Error(), "sluice.json"+tt.want) {
			t.Errorf("%q: error %v, want one with %q", tt.text, err, tt.want)
		}
	}
}

func TestFileWithByteOrderMark(t *testing.T) {
	if s := load(t, []string{"-c", writeFile(t, "\xef\xbb\xbf{\"port\": 81}")}); s.Config.Port != 81 || len(s.Warnings) > 0 {
		t.Errorf("port %d, warnings %q", s.Config.Port, s.Warnings)
	}
}

func TestFileThatCannotBeRead(t *testing.T) {
	if _, err := Load([]string{"-c", t.TempDir()}, nil); err == nil || !strings.Contains(err.Error(), "config file") {
		t.Errorf("a folder: error %v", err)
	}
	missing := filepath.Join(t.TempDir(), "no", "folder.json")
	if s := load(t, []string{"-c", missing}); len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "cannot be written, the defaults are used") || s.Created != "" {
		t.Errorf("in a missing folder: created %q, warnings %q", s.Created, s.Warnings)
	}
}

func TestCertificateFiles(t *testing.T) {
	for _, tt := range []struct{ cert, key, want string }{
		{"", "", "tls needs tlsCert and tlsKey"},
		{"a", "", "tls needs tlsCert and tlsKey"},
		{"a;b", "c", "tlsCert names 2 files and tlsKey 1: name one key for each certificate"},
		{"a;", "c;d", "names no file before or after a ;"},
		{"a;b", ";d", "names no file before or after a ;"},
	} {
		err := Config{TLS: true, TLSCert: tt.cert, TLSKey: tt.key}.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s, %s: error %v, want one with %q", tt.cert, tt.key, err, tt.want)
		}
	}
	certs, keys := Config{TLSCert: "a;b", TLSKey: "c;d"}.CertificateFiles()
	if diff := cmp.Diff([][]string{{"a", "b"}, {"c", "d"}}, [][]string{certs, keys}); diff != "" {
		t.Error(diff)
	}
}

func TestNetworksThatAreNone(t *testing.T) {
	for in, want := range map[string]string{
		"":                  "write it like 10.0.0.0/8",
		"localhost":         "is not a network",
		"10.0.0.0/33":       "is not a network",
		"10.0.0/8":          "is not a network",
		"fe80::1%eth0":      "is not a network",
		"::ffff:1.2.3.0/96": "is not a network",
		"10.0.0.1/8":        "did you mean 10.0.0.0/8?",
		"fd00::1/8":         "did you mean fd00::/8?",
	} {
		if err := checkNetwork(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %v, want one with %q", in, err, want)
		}
	}
}
