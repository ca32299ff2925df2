//go:build linux

package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// hub is what a publisher needs of a Mercure hub: the events that it takes go to got, as long as
// they are not "bad".
func hub(t *testing.T, got chan<- string) (addr string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method != http.MethodPost || r.URL.Path != "/.well-known/mercure" || r.Header.Get("Authorization") != "Bearer "+publisherToken("key"):
			http.Error(w, "Unauthorized", http.StatusUnauthorized)
		case r.PostFormValue("data") == "bad":
			http.Error(w, "it is bad", http.StatusBadRequest)
		default:
			got <- r.PostFormValue("topic") + " " + r.PostFormValue("data")
			_, _ = w.Write([]byte("urn:uuid:1"))
		}
	}))
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// The events of a topic are published in order, whatever is in them.
func TestMercurePublishes(t *testing.T) {
	const topics, events = 10, 50
	got := make(chan string, topics*events+1)
	s, err := DialMercure(hub(t, got), "key")
	if err != nil {
		t.Fatal(err)
	}
	if first := <-got; first != "load.none {}" {
		t.Errorf("first: %s", first)
	}
	payload := func(event int) string { return fmt.Sprintf(`{"due":%d,"pad":"&=+ %% ü"}`, event) }
	for event := range events {
		for topic := range topics {
			if err := s.Publish(topic, []byte(payload(event))); err != nil {
				t.Fatal(err)
			}
		}
		if err := s.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	next := map[string]int{}
	for range topics * events {
		topic, text, _ := strings.Cut(<-got, " ")
		if text != payload(next[topic]) {
			t.Fatalf("%s: %s, want event %d", topic, text, next[topic])
		}
		next[topic]++
	}
	if len(next) != topics || s.Lost() != nil {
		t.Errorf("%v, %v", next, s.Lost())
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Publish(0, []byte("{}")); err == nil {
		t.Error("a closed publisher publishes")
	}
}

// Something is published on each topic, or the error says why not.
func TestMercurePrimes(t *testing.T) {
	const topics = 50
	got := make(chan string, topics+1)
	s, err := DialMercure(hub(t, got), "key")
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if err := s.Prime(t.Context(), topics); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for range topics + 1 { // with that of DialMercure
		seen[<-got] = true
	}
	if len(seen) != topics+1 || !seen["load.t0 {}"] || !seen["load.t49 {}"] {
		t.Errorf("%v", seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Prime(ctx, topics); !errors.Is(err, context.Canceled) || s.Lost() != nil {
		t.Errorf("%v, %v", err, s.Lost())
	}
}

// A hub that takes no events is named, at the first and later.
func TestMercureRejections(t *testing.T) {
	addr := hub(t, make(chan string, 100))
	if _, err := DialMercure(addr, "other"); err == nil || !strings.Contains(err.Error(), "401 Unauthorized") {
		t.Errorf("%v", err)
	}
	s, err := DialMercure(addr, "key")
	if err != nil {
		t.Fatal(err)
	}
	for err == nil { // until the response is there
		err = s.Publish(1, []byte("bad"))
	}
	if s.Lost() == nil || !strings.Contains(err.Error(), "400 Bad Request: it is bad") {
		t.Errorf("%v", err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// The token is what a hub computes of the same key.
func TestPublisherToken(t *testing.T) {
	const want = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJtZXJjdXJlIjp7InB1Ymxpc2giOlsiKiJdfX0."
	if got := publisherToken("key"); !strings.HasPrefix(got, want) || len(got) != len(want)+43 {
		t.Errorf("%s", got)
	}
}
