//go:build linux

package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sluice/internal/resmodel"
	"sluice/loadtest/soak/service"
	"sluice/loadtest/wire"
)

// path returns the path of a resource ID.
func path(rid string) string {
	name, query, ok := strings.Cut(rid, "?")
	p := "/api/" + strings.ReplaceAll(name, ".", "/")
	if ok {
		p += "?" + query
	}
	return p
}

// open opens a connection for HTTP.
func (c *client) open(ctx context.Context) (net.Conn, *bufio.Reader, error) {
	conn, err := c.env.gateways[c.gateway].dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	c.env.journal.connects.Add(1)
	return conn, bufio.NewReader(conn), nil
}

// stream lives as a client of server-sent events until the stream ends.
func (c *client) stream(ctx context.Context) {
	rid := c.wants[0]
	conn, in, err := c.open(ctx)
	if err != nil {
		return
	}
	defer wire.Reset(raw(conn))
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, "GET "+path(rid)+" HTTP/1.1\r\nHost: soak\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
		return
	}
	c.env.journal.requests.Add(1)
	r, err := http.ReadResponse(in, &http.Request{Method: http.MethodGet})
	if err != nil {
		return
	}
	// The body is not closed: that would read it to its end, which a stream does not have.
	if r.StatusCode != http.StatusOK {
		c.streamless(ctx, rid, r)
		return
	}
	_ = conn.SetDeadline(time.Time{})
	messages, stop := make(chan string), make(chan struct{})
	defer close(stop)
	go events(r.Body, messages, stop)
	timer := time.NewTimer(actInterval)
	defer timer.Stop()
	ending := false // it was told why the stream will end
	for {
		select {
		case m, ok := <-messages:
			switch {
			case !ok:
				if !ending {
					c.env.journal.closed(kindNames[c.kind], closing{gateway: c.gateway, code: wire.NoClose, opened: c.opened, closed: time.Now(), who: c.name()})
				}
				return
			case len(c.view.Held()) == 0:
				if !c.fold(m, c.view.Begin) {
					return
				}
				c.setComplete(true)
			case !c.fold(m, c.view.Received):
				return
			}
			ending = ending || strings.HasPrefix(m, `{"event":"`+rid+`.unsubscribe"`)
		case <-timer.C:
			if !c.streaming() {
				return
			}
			timer.Reset(actInterval)
		case <-ctx.Done():
			return
		}
	}
}

// streaming does what a stream's client does in a phase. It returns false to end the stream.
func (c *client) streaming() bool {
	switch phase(c.env.phase.Load()) {
	case acting:
		if n := c.env.storm.Load(); n != c.stormed {
			if c.stormed = n; c.rng.IntN(2) == 0 {
				return false
			}
		}
		return c.rng.IntN(200) > 0
	case calm:
		r := c.env.round.Load()
		if r == nil {
			return true
		}
		c.judge(r, "", c.compare)
		for _, rid := range c.view.Held() {
			if _, ok := r.truth.value(rid, c.version); ok && c.view.Failed(rid) {
				c.env.journal.reloads.Add(1)
				return false // it holds an error of what is there: only another stream gets it
			}
		}
	case leaving:
		return false
	}
	return true
}

// streamless handles a response that is no stream: an error. While everything is calm that is right
// if access is denied or the resource does not exist.
func (c *client) streamless(ctx context.Context, rid string, r *http.Response) {
	c.env.journal.unusual.Add(1)
	c.setComplete(true)
	for range 3 {
		if round := c.env.round.Load(); round != nil && c.env.in(calm) {
			c.judge(round, "", func(t *truth) string { return unavailable(t, rid, r.StatusCode) })
		}
		c.pause(ctx, actInterval/2)
	}
}

// unavailable says what is wrong with a status that is not 200.
func unavailable(t *truth, rid string, status int) string {
	name, _, _ := strings.Cut(rid, "?")
	_, exists := t.store.Value(rid)
	switch {
	case t.store.Denied(name) && status == http.StatusUnauthorized, !exists && status == http.StatusNotFound:
		return ""
	case t.store.Denied(name), !exists:
		return fmt.Sprintf("status %d for %s, which does not exist or is denied", status, rid)
	}
	return fmt.Sprintf("status %d for %s, which is there", status, rid)
}

// events passes on the data of server-sent events (WHATWG HTML section 9.2), and closes the channel
// at their end.
func events(body io.Reader, out chan<- string, stop <-chan struct{}) {
	defer close(out)
	in := bufio.NewReader(body)
	var data []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		if part, ok := strings.CutPrefix(line, "data:"); ok {
			data = append(data, strings.TrimPrefix(part, " "))
		}
		if line != "" || len(data) == 0 {
			continue
		}
		select {
		case out <- strings.Join(data, "\n"):
		case <-stop:
			return
		}
		data = data[:0]
	}
}

// requests lives as a client of GET or POST requests, on one connection while that lasts.
func (c *client) requests(ctx context.Context) {
	conn, in, err := c.open(ctx)
	if err != nil {
		return
	}
	defer wire.Reset(raw(conn))
	h := httpConn{c, conn, in}
	for ctx.Err() == nil {
		switch p := phase(c.env.phase.Load()); {
		case p == leaving:
			return
		case p == calm && c.env.round.Load() != nil:
			if !h.check(c.env.round.Load()) {
				return
			}
		case c.kind == caller:
			if p == acting && !h.call() {
				return
			}
		default:
			if status, _, ok := h.exchange(http.MethodGet, path(c.anything()), ""); !ok || p == acting && c.rng.IntN(100) == 0 {
				return
			} else if status != http.StatusOK {
				c.env.journal.unusual.Add(1)
			}
		}
		c.setComplete(true)
		c.pause(ctx, time.Duration(float64(2*actInterval)*(0.5+c.rng.Float64())))
	}
}

// httpConn is a client's connection for requests.
type httpConn struct {
	*client
	conn net.Conn
	in   *bufio.Reader
}

// exchange sends a request and reads its response. ok is false if the connection has ended.
func (h httpConn) exchange(method, target, body string) (status int, text string, ok bool) {
	_ = h.conn.SetDeadline(time.Now().Add(patience))
	length := ""
	if body != "" {
		length = "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	if h.rng.IntN(3) == 0 {
		length += "Accept-Encoding: identity\r\n"
	}
	began := time.Now()
	h.env.journal.requests.Add(1)
	if _, err := io.WriteString(h.conn, method+" "+target+" HTTP/1.1\r\nHost: soak\r\n"+length+"\r\n"+body); err != nil {
		return 0, "", false
	}
	r, err := http.ReadResponse(h.in, &http.Request{Method: method})
	if err == nil {
		defer r.Body.Close()
		var b []byte
		if b, err = io.ReadAll(r.Body); err == nil {
			h.env.journal.polled.Add(1)
			return r.StatusCode, string(b), true
		}
	}
	if time.Since(began) >= patience {
		h.fail("no response to %s %s within %v", method, target, patience)
	}
	return 0, "", false
}

// call makes a call, and checks that the result is that of the call.
func (h httpConn) call() bool {
	h.called++
	call := service.Call{Client: h.id, N: h.called}
	b, err := json.Marshal(call)
	if err != nil {
		panic(err)
	}
	status, text, ok := h.exchange(http.MethodPost, path(service.Counter(h.service()))+"/add", string(b))
	var got service.Call
	switch {
	case !ok:
		return false
	case status != http.StatusOK:
		h.env.journal.unusual.Add(1)
	case json.Unmarshal([]byte(text), &got) != nil || got != call:
		h.fail("call %d got the response %.200s", call.N, text)
	}
	return true
}

// check compares what the gateway responds with the truth.
func (h httpConn) check(r *round) bool {
	if v := h.verdict.Load(); v != nil && v.round == r.n && v.text == "" {
		return true
	}
	if h.kind == caller {
		h.judge(r, "", func(*truth) string { return "" })
		return true
	}
	for _, rid := range h.wants {
		status, text, ok := h.exchange(http.MethodGet, path(rid), "")
		if !ok {
			return false
		}
		if wrong := differs(r.truth, rid, status, text); wrong != "" {
			h.judge(r, wrong, nil)
			return true
		}
	}
	h.judge(r, "", func(*truth) string { return "" })
	return true
}

// differs says how a response to a GET request differs from the truth.
func differs(t *truth, rid string, status int, text string) string {
	name, _, _ := strings.Cut(rid, "?")
	if _, exists := t.store.Value(rid); status != http.StatusOK || !exists || t.store.Denied(name) {
		return unavailable(t, rid, status)
	}
	got, err := resmodel.Decode(text)
	if err != nil {
		return fmt.Sprintf("GET %s: no JSON: %.200s", rid, text)
	}
	if want := resmodel.Encode(t.nested(rid, nil)); resmodel.Encode(got) != want {
		return fmt.Sprintf("GET %s is\n      %s, want\n      %s", rid, resmodel.Encode(got), want)
	}
	return ""
}

// nested returns a resource as HTTP shows it in the encoding json (RES.md section 4). within are
// the resources that it is part of.
func (t *truth) nested(rid string, within []string) any {
	value, _ := t.store.Value(rid)
	within = append(within, rid)
	one := func(v any) any {
		m, ok := v.(map[string]any)
		if !ok {
			return v
		}
		if data, ok := m["data"]; ok {
			return data
		}
		ref, ok := m["rid"].(string)
		if !ok {
			return v
		}
		shown := map[string]any{"href": path(ref)}
		if m["soft"] == true {
			return shown
		}
		for _, outer := range within {
			if outer == ref {
				return shown
			}
		}
		switch inner, ok := t.store.Value(ref); inner.(type) {
		case []any:
			shown["collection"] = t.nested(ref, within)
		default:
			if shown["model"] = t.nested(ref, within); !ok {
				delete(shown, "model")
				shown["error"] = map[string]any{"code": "system.notFound", "message": "Not found"}
			}
		}
		return shown
	}
	switch v := value.(type) {
	case map[string]any:
		shown := map[string]any{}
		for k, e := range v {
			shown[k] = one(e)
		}
		return shown
	case []any:
		shown := make([]any, len(v))
		for i, e := range v {
			shown[i] = one(e)
		}
		return shown
	}
	return nil
}
