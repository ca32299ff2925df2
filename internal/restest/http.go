package restest

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/andybalholm/brotli"
)

// HTTP is a scripted HTTP connection: it sends requests byte by byte as written, may pipeline them,
// and queues the responses. It repairs nothing, so a request can be as malformed as a test needs.
// It is safe for concurrent use.
type HTTP struct {
	Name    string
	conn    net.Conn
	in      *bufio.Reader // owned by the reading goroutine until an upgrade was answered with 101
	arrived func()        // called after every arrival; must not block

	mu       sync.Mutex
	methods  []string // of the requests that were not answered yet, oldest first
	answers  []*Answer
	messages []string        // of a stream, not yet taken: data of events, or comments with their colon
	hidden   map[string]bool // the runner's own events that were received, by name
	streams  bool            // a stream is open
	rid      string          // of the stream, once its set was received
	closed   bool
}

// Answer is an HTTP response. That of a stream has no body: NextMessage returns its messages. It is
// immutable.
type Answer struct {
	Status int
	Header http.Header
	Body   string // decoded
	Stream bool
	Fault  error // the input is not an HTTP response
}

// DialHTTP opens a connection. arrived is called, from the reading goroutine, after each response
// or message and at the end of the connection; nil for none.
func DialHTTP(name, addr string, arrived func()) (*HTTP, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("http %s: %w", name, err)
	}
	if arrived == nil {
		arrived = func() {}
	}
	h := &HTTP{Name: name, conn: conn, in: bufio.NewReader(conn), arrived: arrived, hidden: map[string]bool{}}
	go h.read()
	return h, nil
}

// Send sends a request. The lines of header are complete. Send adds Host and Content-Length unless
// header has them, and chunks the body if header says so.
func (h *HTTP) Send(method, target string, header []string, body string) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\n", method, target)
	said := map[string]string{}
	for _, line := range header {
		name, value, _ := strings.Cut(line, ":")
		said[http.CanonicalHeaderKey(name)] = strings.TrimSpace(value)
		b.WriteString(line + "\r\n")
	}
	if _, ok := said["Host"]; !ok {
		b.WriteString("Host: " + h.conn.RemoteAddr().String() + "\r\n")
	}
	_, measured := said["Content-Length"]
	switch {
	case said["Transfer-Encoding"] == "chunked":
		body = strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n0\r\n\r\n"
	case !measured && (body != "" || method == "POST" || method == "PUT" || method == "PATCH"):
		fmt.Fprintf(&b, "Content-Length: %d\r\n", len(body))
	}
	b.WriteString("\r\n" + body)
	h.mu.Lock()
	h.methods = append(h.methods, method)
	h.mu.Unlock()
	_, err := io.WriteString(h.conn, b.String())
	return err
}

func (h *HTTP) read() {
	for h.answer() {
	}
}

// answer reads one response. It returns false if the connection has ended or is now a WebSocket.
func (h *HTTP) answer() bool {
	if _, err := h.in.Peek(1); err != nil {
		h.end()
		return false
	}
	h.mu.Lock()
	request := &http.Request{Method: http.MethodGet}
	if len(h.methods) > 0 {
		request.Method = h.methods[0]
	}
	h.mu.Unlock()
	r, err := http.ReadResponse(h.in, request)
	if err != nil {
		h.take(&Answer{Fault: err})
		h.end()
		return false
	}
	a := &Answer{Status: r.StatusCode, Header: r.Header}
	if r.Close && r.ProtoMinor == 1 {
		a.Header.Set("Connection", "close") // which net/http takes for itself
	}
	switch {
	case a.Status == http.StatusContinue:
		return true
	case a.Status == http.StatusSwitchingProtocols:
		h.take(a)
		return false
	case strings.HasPrefix(a.Header.Get("Content-Type"), "text/event-stream"):
		a.Stream = true
		h.take(a)
		h.follow(r.Body)
		_ = h.conn.Close()
		h.end()
		return false
	}
	a.Body, a.Fault = content(r)
	_ = r.Body.Close()
	h.take(a)
	if a.Fault != nil || r.Close {
		// Bytes after a response that ends the connection are an error.
		if extra, _ := io.ReadAll(h.in); len(extra) > 0 {
			h.take(&Answer{Fault: fmt.Errorf("%q comes after the last answer", extra)})
		}
		h.end()
		return false
	}
	return true
}

// content reads and decodes a body.
func content(r *http.Response) (string, error) {
	var from io.Reader = r.Body
	if r.Request.Method != http.MethodHead && r.StatusCode != http.StatusNotModified {
		switch r.Header.Get("Content-Encoding") {
		case "gzip":
			z, err := gzip.NewReader(r.Body)
			if err != nil {
				return "", err
			}
			from = z
		case "br":
			from = brotli.NewReader(r.Body)
		}
	}
	b, err := io.ReadAll(from)
	return string(b), err
}

// follow reads a stream of server-sent events (WHATWG HTML section 9.2).
func (h *HTTP) follow(body io.Reader) {
	in := bufio.NewReader(body)
	var fields []string
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimSuffix(line, "\n")
		switch data, isData := strings.CutPrefix(line, "data: "); {
		case strings.HasPrefix(line, ":"):
			h.message(line)
		case line == "" && len(fields) > 0:
			h.message(strings.Join(fields, "\n"))
			fields = fields[:0]
		case line == "": // the end of a comment
		case isData:
			fields = append(fields, data)
		default:
			fields = append(fields, "field "+line)
		}
	}
}

// message queues one message of a stream.
func (h *HTTP) message(m string) {
	h.mu.Lock()
	if event := hiddenEvent(m); event != "" {
		h.hidden[event] = true
	} else {
		if h.rid == "" {
			var first struct{ RID string }
			_ = json.Unmarshal([]byte(m), &first)
			h.rid = first.RID
		}
		h.messages = append(h.messages, m)
	}
	h.mu.Unlock()
	h.arrived()
}

// hiddenEvent returns the name of an event that the runner sent for itself, else "".
func hiddenEvent(m string) string {
	if !strings.Contains(m, "."+quietMethod) {
		return ""
	}
	var e struct{ Event string }
	if json.Unmarshal([]byte(m), &e) != nil || !strings.Contains(e.Event, "."+quietMethod) {
		return ""
	}
	return e.Event
}

func (h *HTTP) take(a *Answer) {
	h.mu.Lock()
	h.answers = append(h.answers, a)
	h.streams = a.Stream
	if len(h.methods) > 0 {
		h.methods = h.methods[1:]
	}
	h.mu.Unlock()
	h.arrived()
}

func (h *HTTP) end() {
	h.mu.Lock()
	h.closed, h.streams = true, false
	h.mu.Unlock()
	_ = h.conn.Close()
	h.arrived()
}

// Shrink is Client.Shrink.
func (h *HTTP) Shrink() error { return shrink(h.conn) }

// Cut ends the connection.
func (h *HTTP) Cut() {
	// With a reset: a FIN alone does not mean that the client has stopped reading.
	if tcp, ok := h.conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = h.conn.Close()
}

// Next dequeues the oldest response; nil if there is none.
func (h *HTTP) Next() *Answer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.answers) == 0 {
		return nil
	}
	a := h.answers[0]
	h.answers = h.answers[1:]
	return a
}

// NextMessage dequeues the oldest message of the stream.
func (h *HTTP) NextMessage() (m string, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.messages) == 0 {
		return "", false
	}
	m = h.messages[0]
	h.messages = h.messages[1:]
	return m, true
}

// Closed reports whether the connection has ended.
func (h *HTTP) Closed() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.closed
}

// Open returns the number of requests without a response.
func (h *HTTP) Open() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.methods)
}

// Streaming returns the resource ID of the open stream; "" without one, or before its first
// message.
func (h *HTTP) Streaming() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.streams {
		return ""
	}
	return h.rid
}

// saw reports, once, whether the runner's own event was received, or the stream has ended.
func (h *HTTP) saw(event string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	ok := h.hidden[event] || h.closed
	delete(h.hidden, event)
	return ok
}

// Waiting lists the queued responses and messages.
func (h *HTTP) Waiting() (all []string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.answers {
		all = append(all, a.String())
	}
	for _, m := range h.messages {
		all = append(all, "on its stream "+m)
	}
	return all
}

// String describes the response in an error text.
func (a *Answer) String() string {
	if a.Fault != nil {
		return fmt.Sprintf("%d, which is faulty: %v", a.Status, a.Fault)
	}
	var b strings.Builder
	_ = a.Header.Write(&b)
	return fmt.Sprintf("%d %s\n%s", a.Status, a.Body, strings.ReplaceAll(b.String(), "\r\n", "\n"))
}
