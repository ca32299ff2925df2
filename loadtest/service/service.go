//go:build linux

package service

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/loadtest/client"
	"sluice/loadtest/floor"
)

// Service publishes events and answers requests. One goroutine may use it.
type Service interface {
	// Publish publishes an event on a topic. It may buffer it until Flush.
	Publish(topic int, payload []byte) error
	// Flush sends what Publish has buffered.
	Flush() error
	// Lost returns why the service cannot serve any more, nil while it can.
	Lost() error
	Close() error
}

// timeout bounds connects and writes.
const timeout = 10 * time.Second

// Feed publishes to the feed port of the floor.
type Feed struct {
	conn net.Conn
	buf  []byte // events since the last Flush
}

var _ Service = (*Feed)(nil)

// DialFeed connects to a feed port.
func DialFeed(addr string) (*Feed, error) {
	c, err := net.DialTimeout("tcp", addr, timeout)
	if err != nil {
		return nil, err
	}
	return &Feed{conn: c}, nil
}

// Publish implements Service.
func (s *Feed) Publish(topic int, payload []byte) error {
	s.buf = floor.AppendLine(s.buf, topic, payload)
	return nil
}

// Flush implements Service.
func (s *Feed) Flush() error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(timeout))
	_, err := s.conn.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

// Lost implements Service. The next Flush fails if the connection is lost.
func (s *Feed) Lost() error { return nil }

// Close implements Service.
func (s *Feed) Close() error { return s.conn.Close() }

// NATS publishes on NATS: payloads as they are, or as a RES service, which also answers
// the gateway's requests.
type NATS struct {
	conn       *nats.Conn
	url        string
	res        bool
	collection int      // events are adds to a collection of this size
	changes    bool     // events are changes of a model
	subjects   []string // of topics' events
	buf        []byte

	members atomic.Pointer[string] // more members of the topics' models, each after a comma; nil: none

	mu   sync.Mutex
	shop *workshop // nil: replies take no time
}

var _ Service = (*NATS)(nil)

// DialNATS connects to NATS. With res it is a RES service for the harness's resources.
// With a collection, whose size it is, topics are collections and events are adds; with changes,
// topics are models and events change them.
func DialNATS(url string, topics int, res bool, collection int, changes bool) (*NATS, error) {
	s := &NATS{url: url, res: res, collection: collection, changes: res && changes}
	for i := range topics {
		subject := client.Topic(i)
		if res && collection > 0 {
			subject = "event." + subject + ".add"
		} else if s.changes {
			subject = "event." + subject + ".change"
		} else if res {
			subject = "event." + subject + ".tick"
		}
		s.subjects = append(s.subjects, subject)
	}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

// connect connects to NATS, and serves the harness's resources if it is a RES service.
func (s *NATS) connect() (err error) {
	s.conn, err = nats.Connect(s.url, nats.Name("load service"), nats.Timeout(timeout), nats.NoReconnect(), nats.ReconnectBufSize(-1))
	if err != nil || !s.res {
		return err
	}
	if err := s.serve(); err != nil {
		s.conn.Close()
		return err
	}
	return nil
}

// Properties gives each topic's model as many properties, the first of which is its name.
func (s *NATS) Properties(n int) {
	members := ""
	for i := 1; i < n; i++ {
		members += `,"property` + strconv.Itoa(i) + `":"` + strings.Repeat("x", 10) + strconv.Itoa(i) + `"`
	}
	s.members.Store(&members)
}

// Restart ends the service and starts it again as a new version does: each topic's model has
// another state, which contains the event, and the service says that nothing is as it was.
func (s *NATS) Restart(event []byte) error {
	s.conn.Close()
	members := `,"state":{"data":` + string(event) + `}`
	s.members.Store(&members)
	if err := s.connect(); err != nil {
		return err
	}
	return errors.Join(s.conn.Publish("system.reset", []byte(`{"resources":["load.>"],"access":["load.>"]}`)), s.conn.FlushTimeout(timeout))
}

var (
	accessReply = []byte(`{"result":{"get":true,"call":"*"}}`)
	callReply   = []byte(`{"result":{"value":42}}`)
	notFound    = []byte(`{"error":{"code":"system.notFound","message":"Not found"}}`)
)

// leaves is the number of resources that the models of churning clients refer to.
const leaves = 100

// serve subscribes to access, get and call requests for the harness's resources.
func (s *NATS) serve() error {
	collection := s.collectionReply()
	_, err1 := s.conn.Subscribe("access.load.>", func(m *nats.Msg) {
		s.askedAccess(strings.TrimPrefix(m.Subject, "access.load."))
		s.answer(func() { _ = m.Respond(accessReply) }, func(w *workshop) *atomic.Int64 { return &w.access })
	})
	_, err2 := s.conn.Subscribe("call.load.>", func(m *nats.Msg) {
		s.answer(func() { _ = m.Respond(callReply) }, func(w *workshop) *atomic.Int64 { return &w.calls })
	})
	_, err3 := s.conn.Subscribe("get.load.*", func(m *nats.Msg) {
		name := strings.TrimPrefix(m.Subject, "get.load.")
		s.got(name)
		members := ""
		if more := s.members.Load(); more != nil {
			members = *more
		}
		_ = m.Respond(getReply(name, collection, members))
	})
	return errors.Join(err1, err2, err3, s.conn.FlushTimeout(timeout))
}

// collectionReply returns the reply for topics that are collections, nil if they are models.
func (s *NATS) collectionReply() []byte {
	if s.collection == 0 {
		return nil
	}
	b := []byte(`{"result":{"collection":[`)
	for i := range s.collection {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(b, int64(i), 10)
	}
	return append(b, `]}}`...)
}

// getReply returns the reply to a get request of load.<name>: a topic t<i> with more members, a
// model m<i> with two references, a leaf l<i> that models refer to, or a part of a page.
func getReply(name string, collection []byte, members string) []byte {
	kind, number := name[:min(1, len(name))], name[min(1, len(name)):]
	i, err := strconv.Atoi(number)
	switch {
	case strings.Contains("pabc", kind) && kind != "":
		return pageReply(name)
	case err != nil:
	case kind == "t" && collection != nil:
		return collection
	case kind == "t":
		return []byte(`{"result":{"model":{"name":"` + name + `"` + members + `}}}`)
	case kind == "l":
		return []byte(`{"result":{"model":{"name":"` + name + `"}}}`)
	case kind == "m":
		ref := func(k int) string { return `{"rid":"load.l` + strconv.Itoa(k%leaves) + `"}` }
		return []byte(`{"result":{"model":{"name":"` + name + `","first":` + ref(i) + `,"second":` + ref(i*7+1) + `}}}`)
	}
	return notFound
}

// Publish implements Service.
func (s *NATS) Publish(topic int, payload []byte) error {
	if s.collection > 0 {
		s.buf = append(s.buf[:0], `{"idx":`...)
		s.buf = strconv.AppendInt(s.buf, int64(s.collection/2), 10)
		s.buf = append(append(append(s.buf, `,"value":{"data":`...), payload...), `}}`...)
		payload = s.buf
	} else if s.changes {
		s.buf = append(append(append(s.buf[:0], `{"values":{"state":{"data":`...), payload...), `}}}`...)
		payload = s.buf
	}
	return s.conn.Publish(s.subjects[topic], payload)
}

// Request makes a request without a payload, as a gateway does, and waits for the reply.
func (s *NATS) Request(ctx context.Context, subject string) error {
	_, err := s.conn.RequestWithContext(ctx, subject, nil)
	return err
}

// Flush implements Service. The NATS library sends without it.
func (s *NATS) Flush() error { return nil }

// Lost implements Service.
func (s *NATS) Lost() error {
	if s.conn.IsConnected() {
		return nil
	}
	return errors.New("the connection of the harness's service to NATS was lost")
}

// Close implements Service.
func (s *NATS) Close() error {
	s.conn.Close()
	return nil
}
