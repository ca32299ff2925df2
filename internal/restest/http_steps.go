package restest

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/gobwas/ws"

	"sluice/internal/resmodel"
	"sluice/internal/transcript"
)

var (
	headerLine = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*:(?: |$)`)
	absentLine = regexp.MustCompile(`^no ([A-Za-z][A-Za-z0-9-]*)$`)
)

// web are the HTTP connections of a session, and the WebSocket clients whose upgrade has no
// response yet.
type web struct {
	*shared
	sockets *sockets // where upgraded connections go

	https     map[string]*HTTP          // by name; the latest connection
	httpOrder []string                  // their names, oldest first
	opened    []*HTTP                   // all there ever were
	streams   map[string]*resmodel.View // the state of each client's stream; nil before the first message
	spoken    map[*HTTP]bool            // connections whose end the transcript has expected
	upgrading map[string]*HTTP          // WebSocket clients that wait for the response to their upgrade
	early     map[*HTTP][]string        // what they have sent already
}

func newWeb(s *shared, clients *sockets) *web {
	return &web{shared: s, sockets: clients, https: map[string]*HTTP{}, streams: map[string]*resmodel.View{},
		spoken: map[*HTTP]bool{}, upgrading: map[string]*HTTP{}, early: map[*HTTP][]string{}}
}

// cut resets all connections.
func (s *web) cut() {
	for _, h := range s.opened {
		h.Cut()
	}
}

// message is a request or response as a line has it: its first line with continuations, and header
// lines.
type message struct {
	text   string
	header []string
	absent []string
}

// message parses a step's lines and replaces variables.
func (s *session) message(st *transcript.Step) (m message, err error) {
	text := st.Arg
	for _, line := range st.More {
		switch absent := absentLine.FindStringSubmatch(line); {
		case absent != nil:
			m.absent = append(m.absent, absent[1])
		case headerLine.MatchString(line):
			if line, err = s.expand(line); err != nil {
				return m, err
			}
			m.header = append(m.header, line)
		default:
			text = strings.TrimSpace(text + " " + line)
		}
	}
	m.text, err = s.expand(text)
	return m, err
}

// http runs the lines of HTTP clients.
func (s *session) http(st *transcript.Step) error {
	m, err := s.message(st)
	if err != nil {
		return err
	}
	h := s.https[st.Actor]
	if st.Verb == "http >" {
		return s.request(st.Actor, h, m)
	}
	if h == nil {
		return fmt.Errorf("http %s has sent nothing", st.Actor)
	}
	switch st.Verb {
	case "http <":
		a, err := s.answer(h)
		if err != nil {
			return err
		}
		return m.matches(a)
	case "http <event":
		got, err := s.streamed(h)
		if err != nil {
			return err
		}
		if err := Match(m.text, got); err != nil {
			return fmt.Errorf("the message differs\n%w\ngot %s", err, got)
		}
		return nil
	case "http <comment":
		got, err := s.streamed(h)
		if err == nil && !strings.HasPrefix(got, ":") {
			err = fmt.Errorf("not a comment: %s", got)
		}
		return err
	case "http holds":
		return holds(s.streams[st.Actor], m.text)
	case "http closed":
		if !s.wait(h.Closed) {
			return errors.New("the connection is still open")
		}
		s.forget(h)
		return nil
	case "http disconnects":
		s.forget(h)
		h.Cut()
		s.wait(h.Closed)
		return nil
	}
	return errors.New("unknown http line")
}

// forget removes a connection whose end the transcript has expected.
func (s *web) forget(h *HTTP) { s.spoken[h] = true }

// request sends a request on the client's connection, or a new one if that is not open.
func (s *web) request(name string, h *HTTP, m message) error {
	method, rest, _ := strings.Cut(m.text, " ")
	target, body, _ := strings.Cut(rest, " ")
	s.note("http %s > %s %v", name, m.text, m.header)
	if h == nil || h.Closed() {
		if h != nil && len(s.leftOver(h)) > 0 {
			return fmt.Errorf("http %s is not done with its last connection", name)
		}
		var err error
		if h, err = s.dialHTTP(name); err != nil {
			return err
		}
		s.https[name], s.streams[name] = h, nil
		if !slices.Contains(s.httpOrder, name) {
			s.httpOrder = append(s.httpOrder, name)
		}
	}
	return h.Send(method, target, m.header, body)
}

func (s *web) dialHTTP(name string) (*HTTP, error) {
	u, err := url.Parse(s.gateway.URL())
	if err != nil {
		return nil, err
	}
	h, err := DialHTTP(name, u.Host, s.notify)
	if err == nil {
		s.opened = append(s.opened, h)
	}
	return h, err
}

// answer expects the next response on a connection.
func (s *web) answer(h *HTTP) (a *Answer, err error) {
	s.wait(func() bool { a = h.Next(); return a != nil || h.Closed() })
	if a == nil {
		if a = h.Next(); a == nil && h.Closed() {
			return nil, errors.New("the connection was closed")
		}
	}
	if a == nil {
		return nil, errors.New("no response was received")
	}
	s.note("http %s < %d %s", h.Name, a.Status, a.Body)
	return a, nil
}

// streamed expects the next message of a stream and folds it as a client does.
func (s *web) streamed(h *HTTP) (m string, err error) {
	var ok bool
	s.wait(func() bool { m, ok = h.NextMessage(); return ok || h.Closed() })
	if !ok {
		if m, ok = h.NextMessage(); !ok {
			if h.Closed() {
				return "", errors.New("the stream has ended")
			}
			return "", errors.New("no message was received")
		}
	}
	s.note("http %s < stream %s", h.Name, m)
	if strings.HasPrefix(m, ":") {
		return m, nil
	}
	if s.streams[h.Name] == nil {
		s.streams[h.Name] = resmodel.NewView()
		err = s.streams[h.Name].Begin(m)
	} else {
		err = s.streams[h.Name].Received(m)
	}
	if err != nil {
		return "", fmt.Errorf("a client cannot follow: %w\ngot %s", err, m)
	}
	return m, nil
}

// matches compares a response with what a line expects: "STATUS [BODY]" and header lines.
func (m message) matches(a *Answer) error {
	var diffs []string
	note := func(format string, v ...any) { diffs = append(diffs, fmt.Sprintf(format, v...)) }
	status, body, _ := strings.Cut(m.text, " ")
	if want, err := strconv.Atoi(status); err != nil || want != a.Status {
		note("want status %s, got %d", status, a.Status)
	}
	if a.Fault != nil {
		note("the response is malformed")
	}
	raw, isRaw := strings.CutPrefix(body, "raw ")
	switch {
	case (body == "stream") != a.Stream:
		note("want %s, got a stream: %t", body, a.Stream)
	case a.Stream || body == "$any":
	case body == "" && a.Body != "":
		note("want no body")
	case isRaw && a.Body != raw:
		note("want the body %q", raw)
	case body != "" && !isRaw:
		if err := Match(body, a.Body); err != nil {
			note("%v", err)
		}
	}
	want := http.Header{}
	for _, line := range m.header {
		name, value, _ := strings.Cut(line, ":")
		want.Add(name, strings.TrimSpace(value))
	}
	for name := range want {
		got := a.Header[name]
		if w, g := list(name, want[name]), list(name, got); len(got) == 0 || w != g && w != "$any" {
			note("header %s: want %q, got %q", name, w, g)
		}
	}
	for _, name := range m.absent {
		if got, ok := a.Header[http.CanonicalHeaderKey(name)]; ok {
			note("header %s is unexpected: %q", name, got)
		}
	}
	if len(diffs) == 0 {
		return nil
	}
	return fmt.Errorf("the response differs\n%s\ngot %s", strings.Join(diffs, "\n"), a)
}

// list joins the values of a field as RFC 9110 section 5.3 allows, except those of Set-Cookie.
func list(name string, values []string) string {
	if name == "Set-Cookie" {
		return strings.Join(values, "\n")
	}
	return strings.Join(values, ", ")
}

// leftOver lists what a connection received and no line expects, its end included.
func (s *web) leftOver(h *HTTP) []string {
	all := h.Waiting()
	for i := range all {
		all[i] = "http " + h.Name + " received " + all[i]
	}
	if h.Closed() && !s.spoken[h] && (h.Open() > 0 || s.streams[h.Name] != nil) {
		all = append(all, "http "+h.Name+" was closed")
	}
	return all
}

// unanswered fails if a request has no response.
func (s *web) unanswered() error {
	for _, name := range s.httpOrder {
		if h := s.https[name]; !s.spoken[h] && h.Open() > 0 {
			return fmt.Errorf("http %s has %d requests without a response", name, h.Open())
		}
	}
	return nil
}

// upgrade runs the lines of a client that waits for the response to its upgrade.
func (s *session) upgrade(st *transcript.Step) error {
	m, err := s.message(st)
	if err != nil {
		return err
	}
	h := s.upgrading[st.Actor]
	switch {
	case st.Verb == "client upgrades":
		return s.upgrades(st.Actor, m)
	case h == nil:
		return fmt.Errorf("client %s does not upgrade", st.Actor)
	case st.Verb == "client early":
		s.note("client %s early %s", st.Actor, m.text)
		s.early[h] = append(s.early[h], m.text)
		return ws.WriteFrame(h.conn, ws.MaskFrame(ws.NewTextFrame([]byte(m.text))))
	case st.Verb == "client leaves":
		delete(s.upgrading, st.Actor)
		h.Cut()
		s.wait(h.Closed)
		return nil
	}
	return s.upgraded(st, h, m)
}

// upgrades handles "client a upgrades [PATH] [on http NAME]": the request, whose response another
// line expects.
func (s *web) upgrades(name string, m message) error {
	if old := s.sockets.clients[name]; old != nil && !s.sockets.ended[name] || s.upgrading[name] != nil {
		return fmt.Errorf("client %s is connected", name)
	}
	var h *HTTP
	target, from, _ := strings.Cut(m.text, "on http ")
	if target = strings.TrimSpace(target); from != "" {
		if h = s.https[from]; h == nil || h.Closed() || h.Open() > 0 || len(h.Waiting()) > 0 {
			return fmt.Errorf("http %s has no connection that is free", from)
		}
		s.forget(h)
	} else {
		var err error
		if h, err = s.dialHTTP(name); err != nil {
			return err
		}
	}
	s.upgrading[name] = h
	if target == "" {
		u, err := url.Parse(s.gateway.URL())
		if err != nil {
			return err
		}
		target = u.Path
	}
	s.note("client %s upgrades %s %v", name, target, m.header)
	return h.Send(http.MethodGet, target, append([]string{"Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA=="}, m.header...), "")
}

// upgraded handles "client a accepted [VERSION]" and "client a refused STATUS [BODY]", with header
// lines.
func (s *web) upgraded(st *transcript.Step, h *HTTP, m message) error {
	name := st.Actor
	a, err := s.answer(h)
	if err != nil {
		return err
	}
	delete(s.upgrading, name)
	version := m.text
	if st.Verb == "client accepted" {
		m.text = "101"
	}
	if err := m.matches(a); err != nil || st.Verb == "client refused" {
		h.Cut()
		return err
	}
	if len(s.early[h]) > 0 && version != "raw" {
		return errors.New("a client that has sent something early states no version")
	}
	if err := s.sockets.welcome(newClient(name, h.conn, h.in, s.notify), version); err != nil {
		return err
	}
	for _, text := range s.early[h] {
		s.sockets.views[name].Sent(text)
	}
	return nil
}
