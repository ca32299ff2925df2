//go:build linux

package loadtest

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"

	"sluice/loadtest/client"
	"sluice/loadtest/floor"
)

// service is the side that events come from and that requests are answered by.
// One goroutine publishes.
type service interface {
	publish(topic int, payload []byte) error
	flush() error // sends what publish gathered, if it gathers
	lost() error  // why it cannot serve any more; nil while it can
	close() error
}

const serviceTimeout = 10 * time.Second

// feedService writes to the feed of the floor and the servers of the comparison.
type feedService struct {
	conn net.Conn
	buf  []byte
}

func dialFeed(addr string) (*feedService, error) {
	c, err := net.DialTimeout("tcp", addr, serviceTimeout)
	if err != nil {
		return nil, err
	}
	return &feedService{conn: c}, nil
}

func (s *feedService) publish(topic int, payload []byte) error {
	s.buf = floor.AppendLine(s.buf, topic, payload)
	return nil
}

func (s *feedService) flush() error {
	_ = s.conn.SetWriteDeadline(time.Now().Add(serviceTimeout))
	_, err := s.conn.Write(s.buf)
	s.buf = s.buf[:0]
	return err
}

func (s *feedService) lost() error { return nil } // the next flush says so

func (s *feedService) close() error { return s.conn.Close() }

// natsService publishes on NATS: to subscribers as they are, or as a RES service.
type natsService struct {
	conn       *nats.Conn
	res        bool
	collection int // events are adds to a collection of this size
	subjects   []string
	buf        []byte
}

func dialNATS(url string, topics int, res bool, collection int) (*natsService, error) {
	conn, err := nats.Connect(url, nats.Name("load service"), nats.Timeout(serviceTimeout), nats.NoReconnect(), nats.ReconnectBufSize(-1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", Redact(url), err)
	}
	s := &natsService{conn: conn, res: res, collection: collection}
	for i := range topics {
		subject := client.Topic(i)
		if res && collection > 0 {
			subject = "event." + subject + ".add"
		} else if res {
			subject = "event." + subject + ".tick"
		}
		s.subjects = append(s.subjects, subject)
	}
	if res {
		if err := s.serve(); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return s, nil
}

var (
	accessAnswer = []byte(`{"result":{"get":true,"call":"*"}}`)
	callAnswer   = []byte(`{"result":{"value":42}}`)
	notFound     = []byte(`{"error":{"code":"system.notFound","message":"Not found"}}`)
)

// Leaves are what the churning clients' resources refer to.
const leaves = 100

// serve answers access, get and call requests for all the harness's resources.
func (s *natsService) serve() error {
	collection := []byte(nil)
	if s.collection > 0 {
		collection = append(collection, `{"result":{"collection":[`...)
		for i := range s.collection {
			if i > 0 {
				collection = append(collection, ',')
			}
			collection = strconv.AppendInt(collection, int64(i), 10)
		}
		collection = append(collection, `]}}`...)
	}
	get := func(name string) []byte {
		kind, number := name[:min(1, len(name))], name[min(1, len(name)):]
		i, err := strconv.Atoi(number)
		switch {
		case err != nil:
		case kind == "t" && collection != nil:
			return collection
		case kind == "t" || kind == "l":
			return []byte(`{"result":{"model":{"name":"` + name + `"}}}`)
		case kind == "m":
			ref := func(k int) string { return `{"rid":"load.l` + strconv.Itoa(k%leaves) + `"}` }
			return []byte(`{"result":{"model":{"name":"` + name + `","first":` + ref(i) + `,"second":` + ref(i*7+1) + `}}}`)
		}
		return notFound
	}
	_, err1 := s.conn.Subscribe("access.load.>", func(m *nats.Msg) { _ = m.Respond(accessAnswer) })
	_, err2 := s.conn.Subscribe("call.load.>", func(m *nats.Msg) { _ = m.Respond(callAnswer) })
	_, err3 := s.conn.Subscribe("get.load.*", func(m *nats.Msg) { _ = m.Respond(get(strings.TrimPrefix(m.Subject, "get.load."))) })
	return errors.Join(err1, err2, err3, s.conn.FlushTimeout(serviceTimeout))
}

func (s *natsService) publish(topic int, payload []byte) error {
	if s.collection > 0 {
		s.buf = append(s.buf[:0], `{"idx":`...)
		s.buf = strconv.AppendInt(s.buf, int64(s.collection/2), 10)
		s.buf = append(append(append(s.buf, `,"value":{"data":`...), payload...), `}}`...)
		payload = s.buf
	}
	return s.conn.Publish(s.subjects[topic], payload)
}

func (s *natsService) flush() error { return nil } // the library does, at once

func (s *natsService) lost() error {
	if s.conn.IsConnected() {
		return nil
	}
	return errors.New("the connection of the harness's service to NATS was lost")
}

func (s *natsService) close() error {
	s.conn.Close()
	return nil
}
