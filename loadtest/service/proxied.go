//go:build linux

package service

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"
)

// Proxied is a service of gateways that take publications from NATS as they are, and ask over HTTP:
// whether a client may subscribe, and what a call returns. Centrifugo does so with its NATS broker
// in raw mode, and its subscribe and RPC proxies.
type Proxied struct {
	*NATS
	server *http.Server
}

var _ Service = (*Proxied)(nil)

// maxQuestion bounds the body of a gateway's request, in bytes.
const maxQuestion = 1 << 20

// DialProxied connects to NATS, and serves HTTP on an address.
func DialProxied(url string, topics int, addr string) (*Proxied, error) {
	bus, err := DialNATS(url, topics, false, 0, false)
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, errors.Join(err, bus.Close())
	}
	s := &Proxied{NATS: bus}
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: time.Minute}
	go func() { _ = s.server.Serve(l) }()
	return s, nil
}

// serve answers a gateway's request.
func (s *Proxied) serve(w http.ResponseWriter, r *http.Request) {
	var q struct{ Method, Channel string }
	body, err := io.ReadAll(io.LimitReader(r.Body, maxQuestion))
	if err != nil || json.Unmarshal(body, &q) != nil {
		http.Error(w, "the request is not understood", http.StatusBadRequest)
		return
	}
	reply, which := `{"result":{}}`, func(w *workshop) *atomic.Int64 { return &w.access }
	if q.Method != "" {
		reply, which = `{"result":{"data":{"value":42}}}`, func(w *workshop) *atomic.Int64 { return &w.calls }
	}
	if q.Method == "" {
		s.askedAccess(strings.TrimPrefix(q.Channel, "load."))
	}
	worked := make(chan struct{})
	s.answer(func() { close(worked) }, which)
	select {
	case <-worked:
		_, _ = io.WriteString(w, reply)
	case <-r.Context().Done():
	}
}

// Close implements Service.
func (s *Proxied) Close() error { return errors.Join(s.server.Close(), s.NATS.Close()) }
