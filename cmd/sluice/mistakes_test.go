package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A mistake in a setting, wherever it is set, is one error of "sluice check", which names the
// setting, its place and what to do. The exit code is 2, nothing is written, and the setting is
// shown with the value and the source that it has without the mistake. A start ends likewise.
func TestCheckNamesEveryMistake(t *testing.T) {
	const file = "$FILE" // the path of the file, in what is expected
	for name, tt := range map[string]struct {
		json, yaml string // the file's text; neither: none
		args       []string
		environ    []string
		want       string // the error
		shown      string // a line of the settings, without white space; empty: none is looked for
		starts     bool   // a start only warns
	}{
		"number without digits":       {args: []string{"--loops", "many"}, want: `--loops: "many" is not a whole number`, shown: "loops: 0 # default"},
		"number out of bounds":        {environ: []string{"SLUICE_MAX_HEAD=10"}, want: "maxHead: 10 is out of bounds: choose from 1024 to 1048576 (from SLUICE_MAX_HEAD)"},
		"number that cannot be 0":     {json: `{"natsConnections": 0}`, want: "config file " + file + ":1:21: natsConnections: must be at least 1; leave it out for the default (1)"},
		"number that is no power":     {args: []string{"--shards", "6"}, want: "shards: 6 is not a power of two: choose 4 or 8 (from --shards)"},
		"number as text":              {json: `{"wsPath": "/w", "port": "81"}`, want: "config file " + file + ":1:26: port: must be a whole number", shown: `wsPath: "/w" # ` + file + ":1"},
		"number in words":             {yaml: "wsPath: /w\nport: eighty\n", want: "config file " + file + ":2:7: port: must be a whole number"},
		"ratio":                       {yaml: "traceRatio: \"2\"\n", want: `traceRatio: "2" is not a number from 0 to 1: write it like 0.01 for every hundredth trace (from ` + file + ":1)"},
		"duration without a unit":     {environ: []string{"SLUICE_HEAD_TIMEOUT=soon"}, want: `SLUICE_HEAD_TIMEOUT: "soon" is not a duration: write it like 30s, or as milliseconds`, shown: `headTimeout: "10s" # default`},
		"duration below 0":            {args: []string{"--head-timeout", "-5s"}, want: `--head-timeout: "-5s" is negative: choose from 100ms to 1h`},
		"duration out of bounds":      {json: `{"pingInterval": "2h"}`, want: "pingInterval: 2h is out of bounds: choose from 100ms to 1h (from " + file + ":1)"},
		"duration of a wrong type":    {json: `{"drainTimeout": [1]}`, want: "config file " + file + `:1:18: drainTimeout: must be a duration like "30s", or a number of milliseconds`},
		"switch of a wrong type":      {yaml: "debug: on please\n", want: "config file " + file + ":1:8: debug: must be true or false"},
		"switch":                      {args: []string{"--debug=maybe"}, want: `--debug: "maybe" is neither true nor false`, shown: "debug: false # default"},
		"URL of NATS":                 {environ: []string{"SLUICE_NATS_URL=nats://h:port"}, want: "natsUrl: the address is not a NATS URL: write nats://host:port, or "},
		"URL of the collector":        {args: []string{"--otlp-endpoint", "collector"}, want: "otlpEndpoint: not a URL of the scheme http or https: write it like http://collector.example.com:4318 (from --otlp-endpoint)"},
		"origin":                      {json: `{"allowOrigin": "example.com"}`, want: `allowOrigin: "example.com" is not an origin: write * or <scheme>://<host>[:<port>], several separated by ; (from ` + file + ":1)"},
		"IP address":                  {args: []string{"--addr", "localhost"}, want: `addr: "localhost" is not an IP address: write one such as 127.0.0.1 or ::1, or leave it empty for all (from --addr)`},
		"network":                     {yaml: "limitExempt: [10.0.0.0/8, lan]\n", want: `limitExempt: "lan" is not a network: write it like 10.0.0.0/8 or fd00::/8, or a single address (from ` + file + ":1)"},
		"network with host bits":      {args: []string{"--proxy-protocol-from", "10.0.0.1/8"}, want: `proxyProtocolFrom: "10.0.0.1/8" has bits beyond its length: did you mean 10.0.0.0/8? (from --proxy-protocol-from)`},
		"word of a choice":            {yaml: "apiEncoding: xml\n", want: `apiEncoding: "xml" is unknown: choose json or jsonflat (from ` + file + ":1)"},
		"method":                      {args: []string{"--headauth", "login"}, want: `headerAuth: "login" is not a resource method: write it like auth.headers.login (from --headauth)`},
		"list of a wrong type":        {json: `{"natsRootCAs": "ca.pem"}`, want: "config file " + file + ":1:17: natsRootCAs: must be an array of strings"},
		"text of a wrong type":        {yaml: "port: 81\nwsPath: [a]\n", want: "config file " + file + ":2:9: wsPath: must be a string", shown: "port: 81 # " + file + ":1"},
		"missing certificate":         {args: []string{"--natsrootca", "/nowhere/ca.pem"}, want: "natsRootCAs: open /nowhere/ca.pem: no such file or directory: name a file that is there and may be read"},
		"missing credentials":         {yaml: "natsCreds: /nowhere/a.creds\n", want: "natsCreds: open /nowhere/a.creds: no such file or directory: name a file that is there and may be read"},
		"missing token file":          {yaml: "adminPort: -1\nadminTokenFile: /nowhere/t\n", want: "adminTokenFile: open /nowhere/t: no such file or directory: name a file that can be read"},
		"content in place of a file":  {environ: []string{"SLUICE_NATS_CREDS=-----BEGIN NATS USER JWT-----"}, want: "natsCreds: must be the name of a file, not its content (from SLUICE_NATS_CREDS)"},
		"one of two that exclude":     {args: []string{"--embedded-nats", "--nats", "nats://h:1"}, want: "embeddedNats and natsUrl (nats://h:1) exclude each other: leave one out; the address of a hub goes into natsLeaf"},
		"two kinds of credentials":    {args: []string{"--creds", "a", "--nats-nkey", "b"}, want: "natsCreds and natsNkey exclude each other: leave natsNkey out, a credentials file has a key, too"},
		"one of two that belong":      {yaml: "natsCert: a\n", want: "natsCert and natsKey belong together: set both or none"},
		"one that needs another":      {args: []string{"--tls"}, want: "tls needs tlsCert and tlsKey: set both, or leave tls off"},
		"the same port twice":         {environ: []string{"SLUICE_METRICS_PORT=8080"}, want: "metricsPort and port are both 8080: choose two different ports"},
		"unknown key":                 {json: `{"maxPendng": 5}`, want: "config file " + file + ":1:2: unknown key maxPendng: did you mean maxPending?", shown: "maxPending: 1024 # default", starts: true},
		"unknown key, nothing near":   {yaml: "port: 81\nzzzz: 5\n", want: "config file " + file + ":2:1: unknown key zzzz: remove it", starts: true},
		"unknown variable":            {environ: []string{"SLUICE_PROT=1"}, want: "unknown environment variable SLUICE_PROT: did you mean SLUICE_PORT?", starts: true},
		"unknown flag":                {args: []string{"--prot", "1"}, want: "unknown flag: --prot: did you mean --port?"},
		"key that is there twice":     {yaml: "port: 81\nport: 82\n", want: "config file " + file + ":2:1: port is there already in line 1: remove one of them", starts: true},
		"JSON with a trailing comma":  {json: `{"port": 81,}`, want: "config file " + file + ":1:13: invalid character looking for beginning of object key string: remove the comma before it: ", shown: "port: 8080 # default"},
		"YAML that is nested":         {yaml: "port: 81\n metricsPort: 82\n", want: "config file " + file + ":2:1: mapping values are not allowed in this context: keys are not nested; begin each at the start of a line"},
		"file that is no object":      {json: `[]`, want: "config file " + file + ":1:1: "},
		"file that is missing":        {args: []string{"-c", "/nowhere/s.yaml"}, want: "config file: /nowhere/s.yaml: no such file or directory: name a file that exists", starts: true},
		"value where file has others": {json: `{"maxPending": 7}`, args: []string{"--max-pending", "x"}, want: `--max-pending: "x" is not a whole number`, shown: "maxPending: 7 # " + file + ":1"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, text := filepath.Join(dir, "s.json"), tt.json
			if tt.yaml != "" {
				path, text = filepath.Join(dir, "s.yaml"), tt.yaml
			}
			args := tt.args
			if text != "" {
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				args = append([]string{"-c", path}, args...)
			}
			want, shown := strings.ReplaceAll(tt.want, file, path), strings.ReplaceAll(tt.shown, file, path)

			code, stdout, stderr := command(t, tt.environ, append([]string{"check"}, args...)...)
			message, found := strings.CutPrefix(stderr, "error: ")
			if code != 2 || !found || strings.Count(stderr, "error: ") != 1 || !strings.HasPrefix(message, want) {
				t.Errorf("exit code %d, want 2 and the error %q:\n%s", code, want, stderr)
			}
			if shown != "" {
				seen := false
				for line := range strings.Lines(stdout) {
					seen = seen || strings.Join(strings.Fields(line), " ") == shown
				}
				if !seen {
					t.Errorf("the settings have no line %q:\n%s", shown, stdout)
				}
			}
			if !tt.starts {
				if code, stdout, stderr := command(t, tt.environ, args...); code != 2 || stdout != "" || !strings.Contains(stderr, want) {
					t.Errorf("a start: exit code %d, want 2 and the error %q:\n%s%s", code, want, stdout, stderr)
				}
			}
			if now, err := os.ReadFile(path); text != "" && (err != nil || string(now) != text) {
				t.Errorf("the file has become %q: %v", now, err)
			}
			if all, err := os.ReadDir(dir); err != nil || len(all) > 1 {
				t.Errorf("files were written: %v %v", all, err)
			}
		})
	}
}
