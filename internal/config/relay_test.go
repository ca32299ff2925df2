package config

import (
	"os"
	"strings"
	"testing"
)

// What a relay does not read is named with its place, unless it is the default; so is what only a
// relay reads.
func TestUnused(t *testing.T) {
	for _, tt := range []struct {
		relay   bool
		args    []string
		environ []string
		want    []string // beginnings of the warnings
	}{
		{true, []string{"--downstream", "nats://h:1", "--nats", "nats://g:1", "--debug"}, nil, nil},
		{true, []string{"--port", "8080"}, nil, nil},
		{true, []string{"--port", "81"}, []string{"SLUICE_WS_PATH=/ws"}, []string{"port (from --port) means nothing to a relay", "wsPath (from SLUICE_WS_PATH) means"}},
		{false, []string{"--port", "81"}, nil, nil},
		{false, []string{"--downstream", "nats://h:1"}, []string{"SLUICE_RELAY_LEASE=5s"}, []string{"downstream (from --downstream) is for sluice relay"}},
	} {
		setup, err := Check(tt.args, tt.environ)
		if err != nil {
			t.Fatal(err)
		}
		setup.Relay = tt.relay
		got := setup.Unused()
		if len(got) != len(tt.want) {
			t.Errorf("%q: %q", tt.args, got)
			continue
		}
		for i, w := range tt.want {
			if !strings.HasPrefix(got[i], w) {
				t.Errorf("%q: %q, want %q", tt.args, got[i], w)
			}
		}
		text := string(setup.Effective())
		if strings.Contains(text, "\nwsPath:") == tt.relay || strings.Contains(text, "\ndownstream:") != tt.relay || !strings.HasPrefix(text, "natsUrl:") {
			t.Errorf("%q: the settings are\n%s", tt.args, text)
		}
	}
}

// docs/relay.md lists the settings that a relay reads, and each of them exists.
func TestRelaySettingsAreListed(t *testing.T) {
	page, err := os.ReadFile("../../docs/relay.md")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(page), "\n## Settings\n")
	list, _, _ = strings.Cut(list, "\n## ")
	for _, key := range relayToo {
		if s, _ := settingByKey(key); s == nil || s.key != key {
			t.Errorf("%s is no setting", key)
		}
	}
	for i := range settings {
		if s := &settings[i]; strings.Contains(list, "`"+s.key+"`") != s.concerns(true) {
			t.Errorf("%s: a relay reads it: %v; docs/relay.md says the opposite", s.key, s.concerns(true))
		}
	}
}
