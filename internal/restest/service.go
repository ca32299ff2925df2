package restest

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/nats-io/nats.go"
)

// The marks of the runner's own requests, to which the service replies without a line (see
// quiet.go).
const (
	quietMethod = "restest-quiet"
	quietQuery  = "restest-quiet="
	probe       = "restest-probe" // name of the runner's own client, which header authentication lets pass
)

// listens are the subjects on which a service receives requests.
var listens = []string{"access.>", "get.>", "call.>", "auth.>", "_EVENT_.>"}

// Service is a scripted service: it queues the requests it receives in the order of arrival, and
// replies only when Reply or Answer is called. It uses one connection, so its messages keep their
// order.
type Service struct {
	nc      *nats.Conn
	in      chan *nats.Msg
	arrived func()
	done    chan struct{}

	mu       sync.Mutex
	subs     map[string]*nats.Subscription
	requests []*Request
	cids     map[string]string // by the ID of the hidden request that asked for it
}

// Request is one request from the gateway. Its fields do not change, except as noted.
type Request struct {
	Subject, Data string
	Name          string // "as NAME" of the transcript; owned by the runner
	reply         string
	taken         bool // guarded by Service.mu
	answered      bool // guarded by Service.mu
}

// NewService connects to NATS and listens. arrived is called, from the receiving goroutine, after
// each request.
func NewService(url string, arrived func()) (*Service, error) {
	nc, err := nats.Connect(url, nats.Name("restest service"), nats.MaxReconnects(0))
	if err != nil {
		return nil, fmt.Errorf("service: %w", err)
	}
	s := &Service{nc: nc, in: make(chan *nats.Msg, 65536), arrived: arrived, done: make(chan struct{}),
		subs: map[string]*nats.Subscription{}, cids: map[string]string{}}
	for _, subject := range listens {
		if err := s.Listen(subject); err != nil {
			nc.Close()
			return nil, err
		}
	}
	go s.receive()
	return s, nil
}

// Listen subscribes to a subject, and returns once NATS has the subscription.
func (s *Service) Listen(subject string) error {
	sub, err := s.nc.ChanSubscribe(subject, s.in)
	if err != nil {
		return fmt.Errorf("service: %s: %w", subject, err)
	}
	s.mu.Lock()
	s.subs[subject] = sub
	s.mu.Unlock()
	return s.nc.Flush()
}

// Deaf ends a subscription of Listen, and returns once NATS has removed it.
func (s *Service) Deaf(subject string) error {
	s.mu.Lock()
	sub := s.subs[subject]
	delete(s.subs, subject)
	s.mu.Unlock()
	if sub == nil {
		return fmt.Errorf("service: does not listen on %s", subject)
	}
	if err := sub.Unsubscribe(); err != nil {
		return err
	}
	return s.nc.Flush()
}

func (s *Service) receive() {
	for {
		select {
		case <-s.done:
			return
		case m := <-s.in:
			if !s.hidden(m) {
				s.mu.Lock()
				s.requests = append(s.requests, &Request{Subject: m.Subject, Data: string(m.Data), reply: m.Reply})
				s.mu.Unlock()
			}
			s.arrived()
		}
	}
}

// hidden replies to one of the runner's own requests.
func (s *Service) hidden(m *nats.Msg) bool {
	kind, _, _ := strings.Cut(m.Subject, ".")
	var p struct {
		CID, Query string
		Header     map[string][]string
	}
	_ = json.Unmarshal(m.Data, &p)
	answer := ""
	switch {
	case kind == "auth" && strings.Contains(m.Subject, "."+quietMethod):
		_, id, _ := strings.Cut(m.Subject, "."+quietMethod)
		s.mu.Lock()
		s.cids[id] = p.CID
		s.mu.Unlock()
		answer = `{"result":null}`
	case kind == "auth" && len(p.Header["X-Client"]) == 1 && p.Header["X-Client"][0] == probe:
		answer = `{"result":null}`
	case kind == "access" && strings.HasPrefix(p.Query, quietQuery):
		answer = `{"result":{"get":true}}`
	case kind == "get" && strings.HasPrefix(p.Query, quietQuery):
		answer = `{"error":{"code":"restest.quiet","message":"Not kept"}}`
	default:
		return false
	}
	_ = s.nc.Publish(m.Reply, []byte(answer))
	return true
}

// cid returns the connection ID in a hidden auth request.
func (s *Service) cid(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.cids[id]
}

// Take dequeues the oldest request with the subject whose payload matches (nil: any). Without one
// it returns nil, and the payloads that did not match.
func (s *Service) Take(subject string, fits func(data string) error) (r *Request, misfits []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if r.taken || r.Subject != subject {
			continue
		}
		if fits != nil {
			if err := fits(r.Data); err != nil {
				misfits = append(misfits, r.Data+"\n"+err.Error())
				continue
			}
		}
		r.taken = true
		return r, nil
	}
	return nil, misfits
}

// TakeAny dequeues the oldest request whose subject has the prefix; nil if there is none.
func (s *Service) TakeAny(prefix string) *Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if !r.taken && strings.HasPrefix(r.Subject, prefix) {
			r.taken = true
			return r
		}
	}
	return nil
}

// Reply replies to the oldest dequeued request without a reply that has the name or subject.
func (s *Service) Reply(name, payload string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.requests {
		if !r.taken || r.answered || r.Name != name && (r.Name != "" || r.Subject != name) {
			continue
		}
		// A pre-response (RES.md 3.1) begins with a letter and leaves the request open.
		r.answered = payload == "" || !strings.ContainsAny(payload[:1], "abcdefghijklmnopqrstuvwxyz")
		return s.nc.Publish(r.reply, []byte(payload))
	}
	return fmt.Errorf("no open request %s to reply to", name)
}

// Answer replies to a request.
func (s *Service) Answer(r *Request, payload string) error {
	s.mu.Lock()
	r.answered = true
	s.mu.Unlock()
	return s.nc.Publish(r.reply, []byte(payload))
}

// Publish sends a message.
func (s *Service) Publish(subject, payload string) error {
	return s.nc.Publish(subject, []byte(payload))
}

// Waiting returns the queued requests.
func (s *Service) Waiting() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var w []string
	for _, r := range s.requests {
		if !r.taken {
			w = append(w, r.Subject+" "+r.Data)
		}
	}
	return w
}

// Flush returns when NATS has processed all messages sent.
func (s *Service) Flush() error { return s.nc.Flush() }

// Close ends the connection.
func (s *Service) Close() {
	close(s.done)
	s.nc.Close()
}
