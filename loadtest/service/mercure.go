//go:build linux

package service

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"sluice/loadtest/client"
)

// Mercure publishes on a Mercure hub, in POST requests over connections that are kept. A topic's
// events are published one after the other, so that they arrive in order; different topics share
// publishers connections. Publish waits if the hub is too far behind, so the harness is late then.
type Mercure struct {
	hub    string // URL
	token  string // of a publisher
	client *http.Client
	ctx    context.Context // done: no request is made any more
	cancel context.CancelFunc
	done   sync.WaitGroup
	queues [publishers]chan string   // bodies of requests; a topic's are in one of them
	lost   atomic.Pointer[lostError] // nil: all were published
}

var _ Service = (*Mercure)(nil)

type lostError struct{ err error }

const (
	publishers = 8  // connections, and requests in flight at most
	published  = 16 // events that wait for each connection at most
)

// DialMercure returns a publisher at the hub of an address, whose publishers' tokens are signed
// with a key (HS256). It publishes an event that no client gets: an error says that the hub takes
// none.
func DialMercure(addr, key string) (*Mercure, error) {
	s := &Mercure{
		hub: "http://" + addr + "/.well-known/mercure", token: publisherToken(key),
		client: &http.Client{Timeout: publishTimeout, Transport: &http.Transport{MaxIdleConnsPerHost: publishers, DisableCompression: true}},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.post(s.ctx, update("load.none", noEvent)); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	for i := range s.queues {
		s.queues[i] = make(chan string, published)
		s.done.Go(func() { s.publish(s.queues[i]) })
	}
	return s, nil
}

// publishTimeout bounds a publication: a hub that is overloaded responds late.
const publishTimeout = 6 * timeout

// publisherToken returns a JSON Web Token (RFC 7519) of a publisher on all topics.
func publisherToken(key string) string {
	encode := base64.RawURLEncoding.EncodeToString
	text := encode([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + encode([]byte(`{"mercure":{"publish":["*"]}}`))
	sum := hmac.New(sha256.New, []byte(key))
	sum.Write([]byte(text))
	return text + "." + encode(sum.Sum(nil))
}

// update returns the body of a request that publishes.
func update(topic string, payload []byte) string {
	return "topic=" + url.QueryEscape(topic) + "&data=" + url.QueryEscape(string(payload))
}

// publish makes the requests of a queue, until Close. After an error it drops them.
func (s *Mercure) publish(queue <-chan string) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case body := <-queue:
			if s.lost.Load() != nil {
				continue
			}
			if err := s.post(s.ctx, body); err != nil {
				s.lost.CompareAndSwap(nil, &lostError{err})
			}
		}
	}
}

// noEvent is the payload of what is published for the hub's sake: without a due time, clients do
// not count it.
var noEvent = []byte("{}")

// Prime publishes something on each topic, and returns when the hub has taken it all. A hub matches
// the first event of a topic with all its clients one by one, and the next ones with what it has
// found then.
func (s *Mercure) Prime(ctx context.Context, topics int) error {
	var next atomic.Int64
	errs := make(chan error, publishers)
	for range publishers {
		go func() {
			var err error
			for err == nil {
				topic := int(next.Add(1)) - 1
				if topic >= topics {
					break
				}
				err = s.post(ctx, update(client.Topic(topic), noEvent))
			}
			errs <- err
		}()
	}
	var all []error
	for range publishers {
		all = append(all, <-errs)
	}
	return errors.Join(all...)
}

// post makes a request.
func (s *Mercure) post(ctx context.Context, body string) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.hub, strings.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Authorization", "Bearer "+s.token)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w, err := s.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = w.Body.Close() }()
	text, err := io.ReadAll(io.LimitReader(w.Body, 1<<10)) // the event's id, or what is wrong
	if err == nil && w.StatusCode != http.StatusOK {
		err = fmt.Errorf("the hub rejected an event: %s: %s", w.Status, strings.TrimSpace(string(text)))
	}
	return err
}

// Publish implements Service.
func (s *Mercure) Publish(topic int, payload []byte) error {
	if err := s.ctx.Err(); err != nil {
		return err
	}
	select {
	case s.queues[topic%publishers] <- update(client.Topic(topic), payload):
		return s.Lost()
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// Flush implements Service. Requests are made without it.
func (s *Mercure) Flush() error { return nil }

// Lost implements Service.
func (s *Mercure) Lost() error {
	if lost := s.lost.Load(); lost != nil {
		return lost.err
	}
	return nil
}

// Close implements Service. Events that were not published yet are not published any more.
func (s *Mercure) Close() error {
	s.cancel()
	s.done.Wait()
	s.client.CloseIdleConnections()
	return nil
}
