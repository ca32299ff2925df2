package config

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMerge(t *testing.T) {
	running := Config{Port: 81, MaxPending: 7, NATSURL: "nats://u:s3same@a:1", Version: "v1", AllowOrigin: "http://a"}
	next := Config{Port: 82, MaxPending: 8, NATSURL: "nats://u:s3same@b:1", HeldEvents: 1024}
	merged, d := Merge(running, next)
	if diff := cmp.Diff(Config{Port: 81, MaxPending: 8, NATSURL: "nats://u:s3same@a:1", Version: "v1"}, merged); diff != "" {
		t.Error(diff)
	}
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	want := `{"Changed":[{"setting":"allowOrigin","from":"http://a","to":"*"},{"setting":"maxPending","from":7,"to":8}],` +
		`"NeedsRestart":[{"setting":"natsUrl","from":"nats://…@a:1","to":"nats://…@b:1"},{"setting":"port","from":81,"to":82}]}`
	if got := string(text); len(got) != len(want) || strings.Contains(got, "s3same") {
		t.Errorf("%s, want %s", got, want)
	}
	if _, d := Merge(merged, next); len(d.Changed) != 0 || len(d.NeedsRestart) != 2 {
		t.Errorf("again: %+v", d)
	}
	// Only the password differs: that is a difference, too.
	if _, d := Merge(running, Config{Port: 81, MaxPending: 7, NATSURL: "nats://u:0pen@a:1", AllowOrigin: "http://a"}); len(d.NeedsRestart) != 1 {
		t.Errorf("a new password: %+v", d)
	}
}
