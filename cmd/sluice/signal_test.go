package main

import (
	"fmt"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"sluice/internal/testkit"
)

// withNATS makes the process run a NATS server of its own.
var withNATS = []string{"--embedded-nats", "--embedded-nats-listen", "127.0.0.1:0"}

// An incomplete body keeps neither the WebSockets from being closed in order, nor the process from
// an orderly end.
func TestSignalWithAnIncompleteBody(t *testing.T) {
	p := listening(t, append(withNATS, "--drain-timeout", "300ms", "--close-timeout", "300ms")...)
	var webSockets []chan uint16
	for range 20 {
		webSockets = append(webSockets, p.webSocket())
	}
	conn, r := p.dial("POST /api/test/model/set HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n")
	if line, err := r.ReadString('\n'); err != nil || !strings.Contains(line, " 100 ") { // the body is being read
		t.Fatalf("interim response: %q %v", line, err)
	}
	fmt.Fprint(conn, "1\r\n{\r\n")
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
	for i, c := range webSockets {
		if code := testkit.Await(t, c, "the close"); code != 1001 {
			t.Errorf("WebSocket %d was closed with %d, want 1001", i, code)
		}
	}
	if p.output.Count("connections cut") == 0 {
		t.Errorf("the log does not mention the cut connection:\n%s", &p.output)
	}
}

// Clients that connect while the load balancer has not yet noticed are served. A second signal ends
// the process.
func TestSignalsDuringTheShutdownDelay(t *testing.T) {
	p := listening(t, append(withNATS, "--shutdown-delay", "1h")...)
	p.signal(syscall.SIGTERM)
	p.after("msg=drain")
	p.webSocket()
	_, r := p.dial("GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
	if resp, err := http.ReadResponse(r, nil); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("health: %v %v", resp, err)
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(1)
}

func TestSignalBeforeNATSIsReachable(t *testing.T) {
	p := spawn(t, nil, "-p", "-1", "--nats", "nats://127.0.0.1:1", "--nats-timeout", "1h")
	p.after("NATS")
	p.signal(syscall.SIGTERM)
	p.wantExit(0)
}
