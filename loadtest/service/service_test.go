//go:build linux

package service

import (
	"encoding/json"
	"net"
	"strings"
	"testing"

	"sluice/loadtest/floor"
)

// Each resource of the harness has a reply that is valid JSON, and others are not found.
func TestGetReplies(t *testing.T) {
	collection := (&NATS{collection: 3}).collectionReply()
	for _, c := range []struct {
		name       string
		collection []byte
		want       string
	}{
		{"t0", nil, `{"model":{"name":"t0"}}`},
		{"t0", collection, `{"collection":[0,1,2]}`},
		{"l99", collection, `{"model":{"name":"l99"}}`},
		{"m5", nil, `"first":{"rid":"load.l5"},"second":{"rid":"load.l36"}`},
		{"m99", nil, `"second":{"rid":"load.l94"}`},
		{"p7", nil, `"part4":{"rid":"load.a7-4"}`},
		{"a7-1", nil, `"part2":{"rid":"load.b7-5"}`},
		{"b7-14", nil, `"part1":{"rid":"load.c7-29"}`},
		{"c7-29", nil, `{"model":{"name":"c7-29","title":"A part of page 7"}}`},
		{"p", nil, "system.notFound"},
		{"p7-1", nil, "system.notFound"},
		{"a7", nil, "system.notFound"},
		{"a7-x", nil, "system.notFound"},
		{"", nil, "system.notFound"},
		{"t", nil, "system.notFound"},
		{"x1", nil, "system.notFound"},
	} {
		got := getReply(c.name, c.collection, "")
		if !json.Valid(got) || !strings.Contains(string(got), c.want) {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
	if (&NATS{}).collectionReply() != nil {
		t.Error("topics are collections without a size")
	}
}

// A page leads to as many models as its name promises, each of them once.
func TestPage(t *testing.T) {
	seen, todo := map[string]bool{}, []string{"p3"}
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		reply := string(getReply(name, nil, ""))
		for _, part := range strings.Split(reply, `{"rid":"load.`)[1:] {
			child, _, _ := strings.Cut(part, `"`)
			if seen[child] {
				t.Errorf("%s: a second time", child)
			}
			seen[child], todo = true, append(todo, child)
		}
	}
	if len(seen) != PageReferences || PageReferences != 50 {
		t.Errorf("%d models", len(seen))
	}
}

// Topics' models have more members when the service says so.
func TestProperties(t *testing.T) {
	var s NATS
	s.Properties(4)
	var got struct {
		Result struct{ Model map[string]string }
	}
	if err := json.Unmarshal(getReply("t7", nil, *s.members.Load()), &got); err != nil || len(got.Result.Model) != 4 || got.Result.Model["name"] != "t7" {
		t.Errorf("%+v, %v", got, err)
	}
}

// Events are buffered until Flush, which sends them in one write.
func TestFeedSendsOnFlush(t *testing.T) {
	near, far := net.Pipe()
	defer far.Close()
	s := &Feed{conn: near}
	for topic, payload := range []string{`{"a":1}`, `{"b":2}`} {
		if err := s.Publish(topic, []byte(payload)); err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan string)
	go func() {
		b := make([]byte, 100)
		n, _ := far.Read(b)
		sent <- string(b[:n])
	}()
	if err := s.Flush(); err != nil {
		t.Fatal(err)
	}
	want := floor.AppendLine(floor.AppendLine(nil, 0, []byte(`{"a":1}`)), 1, []byte(`{"b":2}`))
	if got := <-sent; got != string(want) {
		t.Errorf("%q, want %q", got, want)
	}
	if err := s.Close(); err != nil || s.Lost() != nil {
		t.Error(err, s.Lost())
	}
	if err := s.Flush(); err == nil {
		t.Error("a closed feed sends")
	}
}
