package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"sluice/internal/natstest"
)

// The parts of credentials in this file. None may be found anywhere.
var sesame = regexp.MustCompile(`(?i)s3same|0pen|SUACSSL3|eyJhbGciOi`)

// credentials are addresses' parts before the @, and whether NATS can be given
// them as they are.
var credentials = []struct {
	name, before string
	user, pass   string
	valid        bool
}{
	{"password", "s3sameUser:s3same0pen", "s3sameUser", "s3same0pen", true},
	{"token", "s3same0penToken", "", "s3same0penToken", true},
	{"encoded", "s3sameUser:s3same%2F0pen%2Cs3same%400pen%25s3same", "s3sameUser", "s3same/0pen,s3same@0pen%s3same", true},
	{"colon", "s3sameUser:s3same:0pen", "s3sameUser", "s3same:0pen", true},
	{"at", "s3sameUser:s3same@0pen", "s3sameUser", "s3same@0pen", true},
	{"comma", "s3sameUser:s3same,0pen,s3same", "", "", false},
	{"slash", "s3sameUser:s3same/0pen", "", "", false},
	{"percent", "s3sameUser:s3same%0pen", "", "", false},
	{"hash", "s3sameUser:s3same#0pen", "", "", false},
	{"question", "s3sameUser:s3same?0pen", "", "", false},
	{"space", "s3sameUser:s3same 0pen", "", "", false},
	{"bracket", "s3sameUser:s3same[0pen", "", "", false},
	{"token with slash", "s3same/0pen", "", "", false},
}

// settingNATS gives an address to the program in every way there is.
func settingNATS(t *testing.T, url string) map[string][2][]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "s.json")
	if err := os.WriteFile(file, fmt.Appendf(nil, "{\"natsUrl\": %q}", url), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string][2][]string{
		"flag": {{"--nats", url}, nil},
		"env":  {nil, {"SLUICE_NATS_URL=" + url}},
		"file": {{"-c", file}, nil},
	}
}

// all are the loudest logs, and a metrics port.
var all = []string{"-i", "127.0.0.1", "-p", "-1", "-DV", "--metricsport", "-1", "--profiles", "--drain-timeout", "0"}

// hasty gives up soon where no NATS server answers.
var hasty = []string{"--nats-timeout", "150ms"}

func noSecretIn(t *testing.T, what, text string) {
	t.Helper()
	if m := sesame.FindStringIndex(text); m != nil {
		t.Errorf("%s shows a part of a credential: …%s…", what, text[max(0, m[0]-120):min(len(text), m[1]+60)])
	}
}

// A start that fails, or works, shows no part of a credential: in the log, in
// errors, in metrics, in profiles.
func TestNoCredentialIsShown(t *testing.T) {
	for _, cr := range credentials {
		t.Run(cr.name, func(t *testing.T) {
			t.Parallel()
			for _, address := range []string{"nats://%s@127.0.0.1:1", "%s@127.0.0.1:1", "nats://127.0.0.1:1,tls://%s@127.0.0.1:2", "http://%s@127.0.0.1:1"} {
				url := fmt.Sprintf(address, cr.before)
				for way, s := range settingNATS(t, url) {
					p := spawn(t, s[1], slices.Concat(s[0], all, hasty)...)
					code, text := p.exitCode(), p.output.String()
					noSecretIn(t, way+" "+address, text)
					if want := map[bool]int{true: 1, false: 2}[cr.valid]; code != want {
						t.Errorf("%s %s: exit code %d, want %d:\n%s", way, address, code, want, text)
					}
					if !cr.valid && !strings.Contains(text, "percent-encoded") {
						t.Errorf("%s %s: no advice:\n%s", way, address, text)
					}
				}
			}
			if !cr.valid {
				return
			}
			ns := natstest.Start(t, func(o *server.Options) {
				if cr.user == "" {
					o.Authorization = cr.pass
				} else {
					o.Username, o.Password = cr.user, cr.pass
				}
			})
			for _, right := range []bool{true, false} {
				before := cr.before
				if !right {
					before += "0pen"
				}
				url := strings.Replace(ns.URL(), "nats://", "nats://"+before+"@", 1)
				for _, demo := range []bool{false, true} {
					args := append([]string{"--nats", url}, all...)
					if demo {
						args = append([]string{"demo"}, args...)
					}
					p := spawn(t, nil, args...)
					if !right {
						p.exitCode()
						noSecretIn(t, "a start that NATS refuses", p.output.String())
						if !strings.Contains(p.output.String(), "Authorization Violation") {
							t.Errorf("not rejected:\n%s", &p.output)
						}
						continue
					}
					if p.after("msg=listening addr="); demo {
						p.after("Services can join at ")
					}
					metrics := "http://" + p.after(`msg="metrics server listening" addr=`)
					noSecretIn(t, "metrics", body(t, metrics+"/metrics"))
					noSecretIn(t, "the command line", body(t, metrics+"/debug/pprof/cmdline"))
					noSecretIn(t, "a list of goroutines", body(t, metrics+"/debug/pprof/goroutine?debug=2"))
					ns.Stop() // the connection is lost, and found again
					p.after("NATS connection lost")
					ns.Start()
					p.signal(os.Interrupt)
					p.exitCode()
					noSecretIn(t, "a start that works", p.output.String())
				}
			}
		})
	}
}

func body(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("%s: %d, %v", url, resp.StatusCode, err)
	}
	return string(text)
}

// Other mistakes that could show a credential.
func TestNoCredentialIsQuoted(t *testing.T) {
	const seed = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
	const jwt = "eyJhbGciOiJlZDI1NTE5In0.s3same.0pen"
	creds := filepath.Join(t.TempDir(), "s.creds")
	broken := "-----BEGIN NATS USER JWT-----\n" + jwt + "\n------END NATS USER JWT------\n-----BEGIN USER NKEY SEED-----\n" + seed + "x\n------END USER NKEY SEED------\n"
	if err := os.WriteFile(creds, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "s.json")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and sends nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()
	for _, tt := range []struct{ args, environ []string }{
		{[]string{"-nats://u:s3same@h"}, nil},
		{[]string{"--nats://u:s3same@h=1"}, nil},
		{[]string{"--nats", "nats://u:s3same", "0pen@127.0.0.1:1"}, nil},
		{[]string{"--nats", "nats://127.0.0.1:1", "s3same"}, nil},
		{[]string{"--nats", "nats://s3sameUser:s3same0pen"}, nil},
		{[]string{"--nats", "nats://s3sameUser:0pen@127.0.0.1:1", "--embedded-nats"}, nil},
		{[]string{"--addr", "nats://u:s3same@h"}, nil},
		{[]string{"--port", "nats://u:s3same@h"}, nil},
		{[]string{"--debug=nats://u:s3same@h"}, nil},
		{[]string{"--head-timeout", "nats://u:s3same@h"}, nil},
		{[]string{"--wspath", "nats://u:s3same@h", "--nats", "nats://127.0.0.1:1"}, nil},
		{[]string{"--alloworigin", "nats://u:s3same@h"}, nil},
		{[]string{"--proxy-protocol-from", "u:s3same@h"}, nil},
		{[]string{"--creds", seed}, nil},
		{[]string{"--creds", jwt}, nil},
		{[]string{"--creds", broken}, nil},
		{[]string{"--creds", creds, "--nats", "nats://" + silent.Addr().String()}, nil},
		{[]string{"--creds", creds, "--nats", natstest.Start(t).URL()}, nil},
		{[]string{"--natskey", broken, "--natscert", "x"}, nil},
		{[]string{"--tls", "--tlscert", broken, "--tlskey", broken}, nil},
		{[]string{"-c", broken}, nil},
		{[]string{"-c", file(`{"natsUrl": "nats://u:s3same"0pen@h"}`)}, nil},
		{[]string{"-c", file(`{"natsUrl": ["nats://u:s3same@h"]}`)}, nil},
		{[]string{"-c", file(`{"nats://u:s3same@h": 1, "natsUrl": "nats://127.0.0.1:1"}`)}, nil},
		{[]string{"-c", file(`{"port": "nats://u:s3same@h"}`)}, nil},
		{[]string{"-c", file(`{"addr": "nats://u:s3same@h"}`)}, nil},
		{[]string{"-c", file(`{"natsCreds": "` + seed + `"}`)}, nil},
		{nil, []string{"SLUICE_PORT=nats://u:s3same@h"}},
		{nil, []string{"SLUICE_NATS_CREDS=" + seed}},
		{nil, []string{"SLUICE_NATS_URL=nats://u:s3same@h:0pen"}},
		{nil, []string{"SLUICE_CONFIG=" + jwt}},
		{nil, []string{"SLUICE_NATS=nats://u:s3same@h", "SLUICE_NATS_URL=nats://127.0.0.1:1"}},
	} {
		p := spawn(t, tt.environ, slices.Concat(all, hasty, tt.args)...)
		if code := p.exitCode(); code == 0 {
			t.Errorf("%q %q: exit code %d:\n%s", tt.args, tt.environ, code, &p.output)
		}
		noSecretIn(t, strings.Join(append(tt.args, tt.environ...), " "), p.output.String())
		if p.output.Count("\n") == 0 {
			t.Errorf("%q: no output", tt.args)
		}
	}
}
