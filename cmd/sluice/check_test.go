package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// command runs the program to its end with an environment.
func command(t *testing.T, environ []string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	p := process{environ: environ, stdout: &out, stderr: &errs}
	code = p.run(args)
	return code, out.String(), errs.String()
}

func TestCheck(t *testing.T) {
	file := filepath.Join(t.TempDir(), "s.yaml")
	if err := os.WriteFile(file, []byte("port: 81\nnatsUrl: nats://u:s3same@h:1\nwsPath: ws\ncertFile: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args, environ []string
		code          int
		stdout        []string
		stderr        []string
	}{
		{nil, nil, 0, []string{"port: 8080 ", "# default\n"}, nil},
		{[]string{"-c", file, "--max-pending", "9"}, []string{"SLUICE_DEBUG=1"}, 0,
			[]string{"port: 81 ", "# " + file + ":1\n", "…@h:1", "# --max-pending\n", "# SLUICE_DEBUG\n"},
			[]string{"note: config file " + file + ":4:1: the key certFile is deprecated: write tlsCert\n", "warning: wsPath does not begin with a slash"}},
		{[]string{"-r", "5"}, nil, 0, []string{"requestTimeout: 5000 "}, []string{"warning: requestTimeout 5 is taken as seconds"}},
		{[]string{"--embedded-nats", "--embedded-nats-listen", "0.0.0.0:0", "--embedded-nats-insecure"}, nil, 0, nil, []string{"warning: the embedded NATS server listens on 0.0.0.0:0 without authentication"}},
		{[]string{"--tls", "--tlscert", "none", "--tlskey", "none"}, nil, 2, []string{`tlsCert: "none"`},
			[]string{"error: tlsCert: open none: no such file or directory: name a file that is there\n", "error: tlsKey: open none: "}},
		{[]string{"--loops", "many", "--port", "99999"}, []string{"SLUICE_PROT=1"}, 2, nil,
			[]string{"error: --loops: \"many\" is not a whole number\n", "error: unknown environment variable SLUICE_PROT: did you mean SLUICE_PORT?\n"}},
		{[]string{"--prot", "1"}, nil, 2, nil, []string{"error: unknown flag: --prot: did you mean --port?\n"}},
		{[]string{"-c", "/nowhere/s.json"}, nil, 2, []string{"port: 8080"}, []string{"error: config file: /nowhere/s.json: no such file or directory: name a file that exists"}},
		{[]string{"-h"}, nil, 0, []string{"Usage: sluice"}, nil},
		{[]string{"-v"}, nil, 0, []string{"protocol v1.2.3"}, nil},
	} {
		code, stdout, stderr := command(t, tt.environ, append([]string{"check"}, tt.args...)...)
		if code != tt.code {
			t.Errorf("%q: exit code %d, want %d", tt.args, code, tt.code)
		}
		for _, want := range tt.stdout {
			if !strings.Contains(stdout, want) {
				t.Errorf("%q: %q is not in the output:\n%s", tt.args, want, stdout)
			}
		}
		for _, want := range tt.stderr {
			if !strings.Contains(stderr, want) {
				t.Errorf("%q: %q is not in the messages:\n%s", tt.args, want, stderr)
			}
		}
		if len(tt.stderr) == 0 && stderr != "" {
			t.Errorf("%q: messages:\n%s", tt.args, stderr)
		}
		if strings.Contains(stdout+stderr, "s3same") {
			t.Errorf("%q: a password is shown:\n%s%s", tt.args, stdout, stderr)
		}
	}
}

// "sluice check relay" holds the settings to what a relay needs and reads.
func TestCheckRelay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "relay.yaml")
	if err := os.WriteFile(file, []byte("natsUrl: nats://home:4222\ndownstream: nats://u:s3same@edge:4222\nport: 81\nwsPath: /ws\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	down := []string{"--downstream", "nats://edge:4222"}
	for _, tt := range []struct {
		args, environ []string
		code          int
		stdout        string
		stderr        []string
	}{
		{down, nil, 0, `downstream: "nats://edge:4222"`, nil},
		{[]string{"-c", file}, nil, 0, "relayLease: ", []string{"warning: port (from " + file + ":3) means nothing to a relay: remove it", "warning: wsPath (from " + file + ":4) means nothing"}},
		{nil, nil, 2, "natsUrl: ", []string{"error: a relay needs downstream"}},
		{append(down, "--embedded-nats"), nil, 2, "", []string{"error: a relay connects to two NATS servers and embeds none", "warning: embeddedNats (from --embedded-nats) means nothing"}},
		{append(down, "--relay-lease", "1ms"), nil, 2, "", []string{"error: relayLease: "}},
		{append(down, "--downstream-creds", "/nowhere/creds"), nil, 2, "", []string{"error: downstreamCreds: open /nowhere/creds: no such file or directory: name a file that is there"}},
		{down, []string{"SLUICE_DOWNSTREEM=x"}, 2, "", []string{"error: unknown environment variable SLUICE_DOWNSTREEM: did you mean SLUICE_DOWNSTREAM?"}},
		{append(down, "--relaylease", "9s"), nil, 2, "", []string{"error: unknown flag: --relaylease"}},
	} {
		code, stdout, stderr := command(t, tt.environ, append([]string{"check", "relay"}, tt.args...)...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || strings.Contains(stdout, "wsPath") || strings.Contains(stdout+stderr, "s3same") {
			t.Errorf("%q: exit code %d\n%s%s", tt.args, code, stdout, stderr)
		}
		for _, want := range tt.stderr {
			if !strings.Contains(stderr, want) {
				t.Errorf("%q: %q is not in the messages:\n%s", tt.args, want, stderr)
			}
		}
		if len(tt.stderr) == 0 && stderr != "" {
			t.Errorf("%q: messages:\n%s", tt.args, stderr)
		}
	}
	code, _, stderr := command(t, nil, append([]string{"check"}, down...)...)
	if code != 0 || !strings.Contains(stderr, "warning: downstream (from --downstream) is for sluice relay") {
		t.Errorf("of a gateway: exit code %d\n%s", code, stderr)
	}
}

// What "sluice config" prints is accepted by "sluice check" without a word.
func TestConfigIsCheckedClean(t *testing.T) {
	code, text, _ := command(t, nil, "config")
	file := filepath.Join(t.TempDir(), "s.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	if code, _, stderr := command(t, nil, "check", "--config", file); code != 0 || stderr != "" {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
	code, text, _ = command(t, nil, "config", "--schema")
	if code != 0 || !json.Valid([]byte(text)) || !strings.Contains(text, `"$schema"`) {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	if code, text, _ = command(t, nil, "config", "-h"); code != 0 || !strings.HasPrefix(text, "Usage: sluice") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
	if code, _, text = command(t, nil, "config", "more"); code != 2 || !strings.Contains(text, "no argument but --schema") {
		t.Errorf("exit code %d:\n%s", code, text)
	}
}

func TestCompletionAndMan(t *testing.T) {
	for _, tt := range []struct {
		args           []string
		code           int
		stdout, stderr string
	}{
		{[]string{"completion", "bash"}, 0, "complete -o filenames -F _sluice sluice", ""},
		{[]string{"completion", "zsh"}, 0, "#compdef sluice", ""},
		{[]string{"completion", "fish"}, 0, "complete -c sluice", ""},
		{[]string{"completion", "-h"}, 0, "Usage: sluice", ""},
		{[]string{"completion"}, 2, "", "name a shell: bash, zsh or fish"},
		{[]string{"completion", "csh"}, 2, "", "name a shell: bash, zsh or fish"},
		{[]string{"completion", "bash", "zsh"}, 2, "", "name a shell: bash, zsh or fish"},
		{[]string{"man"}, 0, `.TH "SLUICE" "1"`, ""},
		{[]string{"man", "1"}, 0, "Sluice " + version(), ""},
		{[]string{"man", "5"}, 0, `.TH "SLUICE.YAML" "5"`, ""},
		{[]string{"man", "8"}, 2, "", "the pages are 1, of the program, and 5, of its configuration file"},
	} {
		code, stdout, stderr := command(t, nil, tt.args...)
		if code != tt.code || !strings.Contains(stdout, tt.stdout) || !strings.Contains(stderr, tt.stderr) {
			t.Errorf("%q: exit code %d\n%s%s", tt.args, code, stdout, stderr)
		}
	}
}

// Each word that help and completions offer as a command is one: it knows --help, where another
// first argument would be ignored, and the start would fail on the environment.
func TestCommandsOfTheHelp(t *testing.T) {
	_, usage, _ := command(t, nil, "-h")
	usage, _, _ = strings.Cut(usage, "\n\n")
	count := 0
	for line := range strings.Lines(usage) {
		_, rest, _ := strings.Cut(line, "sluice ")
		word, _, _ := strings.Cut(rest, " ")
		if strings.HasPrefix(word, "[") {
			continue
		}
		count++
		code, stdout, stderr := command(t, []string{"SLUICE_PORT=none"}, word, "--help")
		if code != 0 || !strings.HasPrefix(stdout+stderr, "Usage") {
			t.Errorf("%s: exit code %d\n%s%s", word, code, stdout, stderr)
		}
	}
	if count < 5 {
		t.Errorf("only %d commands found in:\n%s", count, usage)
	}
}
