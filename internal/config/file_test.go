package config

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// writeAs writes a configuration file with a name.
func writeAs(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestYAML(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Config
	}{
		{"", Config{}},
		{"# nothing\n", Config{}},
		{"---\n", Config{}},
		{"null\n", Config{}},
		{"{}\n", Config{}},
		{"--- # start\nport: 81 # clients\n...\n", Config{Port: 81}},
		{"\xef\xbb\xbfport: 81\n", Config{Port: 81}},
		{"port: 81\r\nwsPath: /ws\r\n", Config{Port: 81, WSPath: "/ws"}},
		{`{"port": 81, "wsPath": "/ws", "natsRootCAs": ["a"]}`, Config{Port: 81, WSPath: "/ws", NATSRootCAs: []string{"a"}}},
		{"PORT: 81\nCertFile: c\n", Config{Port: 81, TLSCert: "c"}},
		{"natsRootCAs:\n- a\n- \"b: c\"\n", Config{NATSRootCAs: []string{"a", "b: c"}}},
		{"natsRootCAs: []\n", Config{}},
		{"headTimeout: 1500\npingInterval: 1m30s\ncloseTimeout: \"2s\"\n", Config{HeadTimeout: 1500 * time.Millisecond, PingInterval: 90 * time.Second, CloseTimeout: 2 * time.Second}},
		{"pingInterval: 0\nport: 0x51\nmaxPending: 1_000\n", Config{PingInterval: Off, Port: 81, MaxPending: 1000}},
		{"debug: true\ntls: false\nputMethod: on\npatchMethod: 'true'\n", Config{Debug: true, PUTMethod: "on", PATCHMethod: "true"}},
		{"headerAuth: ~\nwsPath: \"~\"\nport:\n", Config{WSPath: "~"}},
		{"wsPath: >-\n  /folded\n", Config{WSPath: "/folded"}},
		{"? port\n: 81\n", Config{Port: 81}},
	} {
		s := load(t, []string{"-c", writeAs(t, "sluice.yaml", tt.text)})
		if diff := cmp.Diff(tt.want, s.Config); diff != "" || len(s.Warnings) > 0 {
			t.Errorf("%q: warnings %q\n%s", tt.text, s.Warnings, diff)
		}
	}
}

// Each row is a file that ends a start. The message has the place, the key and what to do.
func TestYAMLMistakes(t *testing.T) {
	bomb := "a: &a [x,x]\n"
	for c := 'b'; c < 'z'; c++ {
		bomb += fmt.Sprintf("%c: &%c [*%c,*%c,*%c,*%c]\n", c, c, c-1, c-1, c-1, c-1)
	}
	for _, tt := range []struct{ text, want string }{
		{"port: eighty\n", ":1:7: port: must be a whole number"},
		{"wsPath: /\nport: \"81\"\n", ":2:7: port: must be a whole number"},
		{"port: 80.5\n", ":1:7: port: must be a whole number"},
		{"port: .inf\n", ":1:7: port: must be a whole number"},
		{"port: 99999999999999999999\n", ":1:7: port: must be a whole number"},
		{"port: [81]\n", ":1:7: port: must be a whole number"},
		{"port:\n  number: 81\n", ":2:3: port: must be a whole number"},
		{"debug: yes\n", ":1:8: debug: must be true or false"},
		{"wsPath: 1\n", ":1:9: wsPath: must be a string"},
		{"natsRootCAs: a\n", ":1:14: natsRootCAs: must be an array of strings"},
		{"natsRootCAs: [[a]]\n", ":1:14: natsRootCAs: must be an array of strings"},
		{"headTimeout: soon\n", `:1:14: headTimeout: "soon" is not a duration: write it like 30s`},
		{"port: 1\nport: 2\n", ":2:1: port is there already in line 1: remove one of them"},
		{"a b: 1\na b: 2\n", ":2:1: this key is there already in line 1"},
		{"port: &p 1\nmetricsPort: *p\n", ":1:7: anchors and aliases (& and *) are not supported: write the value itself"},
		{"port: *p\n", ":1:1: unknown anchor referenced: a text that begins with * or & needs quotes"},
		{bomb, ":1:4: anchors and aliases"},
		{"<<: {port: 1}\n", ":1:1: a key must be the name of a setting"},
		{"? [a]\n: 1\n", ":1:3: a key must be the name of a setting"},
		{"port: !!int 81\n", ":1:7: tags (!) are not supported"},
		{"port: !secret 81\n", ":1:7: tags (!) are not supported"},
		{"port: 1\n---\nport: 2\n", ":2:1: a second document begins here: remove it"},
		{"port: 1\n---\n\"\n", ":3:1: found unexpected end of stream"},
		{"- port\n", ":1:1: must be keys with values, such as port: 8080"},
		{"port 8080\n", ":1:1: must be keys with values"},
		{"port: 1: 2\n", ":1:1: mapping values are not allowed in this context: keys are not nested"},
		{"wsPath: /\n port: 1\n", ":2:1: mapping values are not allowed"},
		{"wsPath: /\n\tport: 1\n", ":2:1: found a tab character"},
		{"natsUrl: @x\n", ":1:1: found character that cannot start any token: a text that begins with a character such as @, ` or % needs quotes"},
		{"natsRootCAs: [a\nport: 1\n", ":2:1: did not find expected ',' or ']'"},
		{"debug: true\n\n\nport: }\n", ":4:1: did not find expected node content"},
		{"debug: true\n]\n", ":2:1: did not find expected key"},
		{"wsPath: \"/\nport: 1\n", ":3:1: found unexpected end of stream"},
		{"wsPath: \x01\n", ":1:9: control characters are not allowed"},
		{"port: 81\nwsPath: \xff\n", ":2:9: the file is not in UTF-8: save it as UTF-8"},
		{"\xff\xfep\x00o\x00", ":1:1: the file is in UTF-16: save it as UTF-8"},
		{"p\x00o\x00r\x00t\x00", ":1:1: the file is in UTF-16"},
		{strings.Repeat("[", maxFile), ":1:1: exceeded max depth"},
	} {
		_, err := Load([]string{"-c", writeAs(t, "sluice.yml", tt.text)}, nil)
		if err == nil || !strings.Contains(err.Error(), "sluice.yml"+tt.want) {
			t.Errorf("%.60q: error %v, want one with %q", tt.text, err, tt.want)
		}
	}
}

// A YAML file that was given the wrong name is told apart from a mistake in JSON.
func TestYAMLUnderAnotherName(t *testing.T) {
	for _, text := range []string{"# Sluice\nport: 1\n", "---\nport: 1\n", "port: 1\n"} {
		_, err := Load([]string{"-c", writeFile(t, text)}, nil)
		if err == nil || !strings.Contains(err.Error(), "for YAML the name of the file must end in .yaml or .yml") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// All mistakes of a file are reported together.
func TestEveryMistakeOfAFile(t *testing.T) {
	_, err := Load([]string{"-c", writeFile(t, "{\"port\": \"x\",\n\"debug\": 1}"), "--loops", "many"}, []string{"SLUICE_SHARDS=few"})
	for _, want := range []string{":1:10: port: must be a whole number", ":2:10: debug: must be true or false", "--loops: ", "SLUICE_SHARDS: "} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
	text := "{"
	for range 5000 {
		text += "\n\"port\": \"x\", \"nope\": 1,"
	}
	s, err := Load([]string{"-c", writeFile(t, text+"\n\"port\": 1}")}, nil)
	if n := strings.Count(err.Error(), "\n"); n > maxListed+1 || len(s.Warnings) > maxListed+1 {
		t.Errorf("%d lines of errors, %d warnings", n, len(s.Warnings))
	}
}

// What means nothing is warned of at a start, with the key that is probably meant, and is an error
// for a strict reader.
func TestStrict(t *testing.T) {
	for _, tt := range []struct{ text, what, advice string }{
		{`{"prot": 81}`, ":1:2: unknown key prot", "did you mean port?"},
		{`{"nats_url": "nats://h:1"}`, ":1:2: unknown key nats_url", "did you mean natsUrl?"},
		{`{"reqtimeout": 100}`, ":1:2: unknown key reqtimeout", "did you mean requestTimeout?"},
		{`{"certfiel": "c"}`, ":1:2: unknown key certfiel", "did you mean certFile?"},
		{`{"x": 1}`, ":1:2: unknown key x", "remove it"},
		{`{"": 1}`, ":1:2: unknown key", "remove it"},
		{`{"nats://u:p@h": 1}`, ":1:2: unknown key", "remove it"},
		{"{\n\"port\": 1,\n\"PORT\": 2}", ":3:1: port is there already in line 2", "remove one of them"},
		{"{\n\"tlsCert\": \"a\",\n\"certFile\": \"b\"}", ":3:1: tlsCert is there already in line 2", "remove one of them"},
	} {
		path := writeFile(t, tt.text)
		s := load(t, []string{"-c", path})
		if len(s.Warnings) != 1 || !strings.HasPrefix(s.Warnings[0], "config file "+path+tt.what) || !strings.HasSuffix(s.Warnings[0], tt.advice) {
			t.Errorf("%s: warnings %q", tt.text, s.Warnings)
		}
		want := "config file " + path + tt.what + ": " + tt.advice
		if _, err := Load([]string{"-c", path, "--strict"}, nil); err == nil || err.Error() != want {
			t.Errorf("%s, strict: %v, want %q", tt.text, err, want)
		}
		if _, err := Check([]string{"-c", path}, nil); err == nil || err.Error() != want {
			t.Errorf("%s, checked: %v, want %q", tt.text, err, want)
		}
	}
	_, err := Check([]string{"-D", "extra", "more"}, []string{"SLUICE_PROT=1", "SLUICE_PORT_1_TCP=tcp://h:1"})
	want := "unknown environment variable SLUICE_PROT: did you mean SLUICE_PORT?\nthe last arguments (2): flags end at the first argument that is none, as with Resgate"
	if err == nil || err.Error() != want {
		t.Errorf("%v, want %q", err, want)
	}
	for _, args := range [][]string{{"chekc"}, {"-D", "check"}} {
		want := "flags end at the first argument that is none, as with Resgate; for the command, begin with sluice check"
		if s := load(t, args); len(s.Warnings) != 1 || !strings.HasSuffix(s.Warnings[0], want) {
			t.Errorf("%q: warnings %q, want %q", args, s.Warnings, want)
		}
	}
}

// Nearest names: no guess is better than a wild one.
func TestNearest(t *testing.T) {
	for name, want := range map[string]string{
		"prot": "port", "port": "port", "maxConnection": "maxConnections", "ws-path": "wsPath", "metricPort": "metricsPort", "nats": "natsUrl",
		"alloworigins": "allowOrigin", "": "", "x": "", "ab": "", "database": "", "timeout": "", strings.Repeat("port", 100): "",
	} {
		if got := nearestKey(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if got := nearestVariable("SLUICE_NATSURL"); got != "SLUICE_NATS_URL" {
		t.Errorf("%q", got)
	}
	for _, tt := range []struct {
		a, b string
		want int
	}{{"", "", 0}, {"a", "", 1}, {"", "ab", 2}, {"prot", "port", 1}, {"abc", "abd", 1}, {"abc", "xabc", 1}, {"abcdef", "badcfe", 3}} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	huge := filepath.Join(dir, "huge.json")
	if err := os.WriteFile(huge, []byte("{}"+strings.Repeat(" ", maxFile)), 0o600); err != nil {
		t.Fatal(err)
	}
	closed := filepath.Join(dir, "closed", "f.json")
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ path, want string }{
		{dir, dir + " is a directory: name a file in it"},
		{huge, huge + " is longer than 1024 KiB: it is no configuration file"},
		{"/dev/zero", "/dev/zero is longer than 1024 KiB"},
		{closed, closed + ": no such file or directory: name a file that exists; \"sluice config\" prints one with the defaults"},
	} {
		if _, err := Check([]string{"-c", tt.path}, nil); err == nil || !strings.HasPrefix(err.Error(), "config file: "+tt.want) {
			t.Errorf("%v, want %q", err, tt.want)
		}
	}
	for _, path := range []string{pipe, "/dev/null"} {
		if _, err := Reload([]string{"-c", path}, nil); err == nil || !strings.Contains(err.Error(), "is not a regular file, so it cannot be read again") {
			t.Errorf("%s is read again: %v", path, err)
		}
	}
	if err := advise("f.json", &os.PathError{Op: "open", Path: "f.json", Err: syscall.EACCES}); err.Error() != "f.json: permission denied: let the user that runs Sluice read it" {
		t.Error(err)
	}
	// Neither Check nor Reload writes a file that is missing.
	for _, read := range []func([]string, []string) (Setup, error){Check, Reload} {
		path := filepath.Join(dir, "missing.json")
		if _, err := read([]string{"-c", path}, nil); err == nil {
			t.Error("no error")
		}
		if _, err := os.Stat(path); err == nil {
			t.Error("the file was written")
		}
	}
}

func TestSources(t *testing.T) {
	path := writeAs(t, "s.yaml", "port: 8080\nwsPath: /ws\nnatsUrl: nats://u:p@h:1\nmaxPending: 7\naddr: 127.0.0.1\n")
	s := load(t, []string{"-c", path, "--max-pending", "8", "--drain-timeout", "0"}, "SLUICE_WS_PATH=/env", "SLUICE_MAX_PENDING=9")
	text := string(s.Effective())
	for _, want := range []string{
		`(?m)^natsUrl: "nats://…@h:1" +# ` + path + `:3$`, `(?m)^port: 8080 +# ` + path + `:1$`, `(?m)^wsPath: "/env" +# SLUICE_WS_PATH$`,
		`(?m)^maxPending: 8 +# --max-pending$`, `(?m)^drainTimeout: "0s" +# --drain-timeout$`, `(?m)^apiPath: "/api" +# default$`, `(?m)^headerAuth: null +# default$`,
	} {
		if !regexp.MustCompile(want).MatchString(text) {
			t.Errorf("%s is missing:\n%s", want, text)
		}
	}
	// Each setting of a gateway has a line, and none of a relay.
	var keys []string
	for i := range settings {
		if settings[i].group != groupRelay {
			keys = append(keys, settings[i].key)
		}
	}
	var lines []string
	for line := range strings.Lines(text) {
		key, _, _ := strings.Cut(line, ":")
		lines = append(lines, key)
	}
	if diff := cmp.Diff(keys, lines); diff != "" {
		t.Error(diff)
	}
	// The output is a configuration with the same meaning, but for what is not shown.
	_, text, _ = strings.Cut(text, "\n") // without the address of NATS
	again := load(t, []string{"-c", writeAs(t, "again.yaml", text)})
	s.Config.NATSURL = ""
	if diff := cmp.Diff(s.Config, again.Config); diff != "" {
		t.Error(diff)
	}
}

// A credential that slipped into another setting is not shown.
func TestEffectiveShowsNoCredential(t *testing.T) {
	s, _ := Check([]string{"--wspath", "nats://u:s3same@h", "--natsrootca", "x@s3same", "--creds", "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"}, []string{"SLUICE_NATS_URL=tok3n@h:1"})
	if text := string(s.Effective()); strings.Contains(text, "s3same") || strings.Contains(text, "SUACS") || strings.Contains(text, "tok3n") {
		t.Error(text)
	}
}

// A message about the value of a setting says where the value is from.
func TestMistakesNameTheirSource(t *testing.T) {
	path := writeAs(t, "s.yaml", "\nport: 70000\n")
	_, err := Load([]string{"-c", path, "--shards", "3"}, []string{"SLUICE_LOG_FORMAT=xml"})
	for _, want := range []string{"port: 70000 is out of bounds: choose from -1 to 65535 (from " + path + ":2)", "choose 2 or 4 (from --shards)", "choose text or json (from SLUICE_LOG_FORMAT)"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

func TestDeprecatedKeys(t *testing.T) {
	path := writeFile(t, `{"certFile": "c", "keyFile": "", "tlsKey": "k"}`)
	s := load(t, []string{"-c", path})
	want := []string{"config file " + path + ":1:2: the key certFile is deprecated: write tlsCert"}
	if diff := cmp.Diff(want, s.Notes); diff != "" {
		t.Error(diff)
	}
}

// The commented file is read back as the defaults, and names every setting.
func TestCommented(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.yaml")
	if s := load(t, []string{"-c", path}); s.Created != path {
		t.Fatalf("created %q, warnings %q", s.Created, s.Warnings)
	}
	text, err := os.ReadFile(path)
	if err != nil || string(text) != string(Commented()) {
		t.Errorf("%v; the file is not the commented one", err)
	}
	s, err := Check([]string{"-c", path}, nil)
	if err != nil || len(s.sources) != len(settings) {
		t.Errorf("%v; %d of %d settings are there", err, len(s.sources), len(settings))
	}
	if diff := cmp.Diff(Config{}, s.Config); diff != "" {
		t.Error(diff)
	}
	for line := range strings.Lines(string(text)) {
		if len(line) > 101 {
			t.Errorf("too long: %s", line)
		}
	}
}

// faultForm matches the errors of a file.
var faultForm = regexp.MustCompile(`^:[1-9][0-9]*:[1-9][0-9]*: .`)

func fuzzFile(t *testing.T, text []byte, yaml bool) {
	var c Config
	all, err := entries(text, yaml)
	if err != nil {
		if !faultForm.MatchString(err.Error()) {
			t.Errorf("the error does not begin with a place: %v", err)
		}
		return
	}
	for _, e := range all {
		if !json.Valid(e.value) || e.keyAt.line < 1 || e.keyAt.column < 1 || e.at.line < e.keyAt.line {
			t.Errorf("%+v", e)
		}
	}
	if found := apply(&c, all); len(found.errs) > 0 || c.Validate() != nil {
		return
	}
	var again Config
	all, err = entries(encodeFile(c), yaml)
	if found := apply(&again, all); err != nil || len(found.errs) > 0 {
		t.Errorf("what was written cannot be read: %v, %v", err, found.errs)
	}
}

func FuzzConfigFile(f *testing.F) {
	f.Add([]byte(`{"port": 1, "natsRootCAs": ["a"], "x": [{}], "pingInterval": "0", "addr": null, "ADDR": ""}`))
	f.Add([]byte("{\n\"debug\": true,}"))
	f.Add([]byte("\xef\xbb\xbfnull"))
	f.Add([]byte("\xff\xfe{\x00}\x00"))
	f.Add([]byte(`{"natsUrl": "nats://u:p/w@h,ws://h", "requestTimeout": 9223372036854775807}`))
	f.Add(encodeFile(Config{}))
	f.Fuzz(func(t *testing.T, text []byte) { fuzzFile(t, text, false) })
}

func FuzzConfigYAML(f *testing.F) {
	f.Add([]byte("port: 1\nnatsRootCAs: [a]\n\"x\": {y: 1}\npingInterval: 0\n"))
	f.Add([]byte("port: &a 1\nx: *a\n"))
	f.Add([]byte("port: !!int 1.5\n---\n"))
	f.Add([]byte("\xef\xbb\xbfa: |\n b\n"))
	f.Add([]byte("a: 99999999999999999999\nb: .nan\nc: 2020-01-01\nd: 0o17\n"))
	f.Add(Commented())
	f.Fuzz(func(t *testing.T, text []byte) { fuzzFile(t, text, true) })
}
