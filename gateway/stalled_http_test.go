package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"sluice/internal/testkit"
)

// Clients at net/http that ask for much and read nothing count for backlogBytes: they are cut, over
// HTTP/2 and HTTP/1.1, and clients that read stay.
func TestStalledAtNetHTTP(t *testing.T) {
	for _, h2 := range []bool{true, false} {
		t.Run(map[bool]string{true: "HTTP/2", false: "HTTP/1.1"}[h2], func(t *testing.T) {
			g := startLive(t, func(c *Config) {
				useCertificate(1)(c)
				c.BacklogBytes, c.SlowTimeout = 4<<20, Off
			})
			serveLong(g)
			reads := g.dialTLS()
			reads.ask("version", "")

			const stalled = 5
			var bodies []io.ReadCloser
			for range stalled {
				transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, ForceAttemptHTTP2: h2, MaxResponseHeaderBytes: 1 << 16, ReadBufferSize: 1 << 12}
				defer transport.CloseIdleConnections()
				req, err := http.NewRequest(http.MethodGet, "https://"+g.Addr().String()+"/api/large/a", nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Add("Accept-Encoding", "identity")
				if !h2 { // a loop leaves an unusual head to net/http
					req.Body, req.ContentLength, req.TransferEncoding = io.NopCloser(strings.NewReader("x")), -1, []string{"chunked"}
				}
				resp, err := transport.RoundTrip(req)
				if err != nil && (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) {
					continue // cut before the head was read
				}
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Fatal(resp, err)
				}
				if (resp.ProtoMajor == 2) != h2 {
					t.Fatal(resp.Proto)
				}
				defer func() { _ = resp.Body.Close() }()
				bodies = append(bodies, resp.Body)
			}
			testkit.Until(t, "the stalled are cut", func() bool { return g.netMetrics.BacklogClosed.Load() == stalled })
			testkit.Until(t, "nothing waits", func() bool { return g.rest.Waiting() == 0 && g.restMetrics.Backlog.Load() == 0 })
			for _, body := range bodies {
				if n, err := io.Copy(io.Discard, body); err == nil {
					t.Errorf("a stalled client got all of its %d bytes", n)
				}
			}
			if answer, _ := reads.ask("version", ""); !strings.Contains(answer, "protocol") {
				t.Error(answer)
			}
			if status, _ := getTLS(t, g, "/healthz"); status != http.StatusOK {
				t.Errorf("status %d", status)
			}
		})
	}
}

// serveLong serves large.a, of which a response has 15 MB.
func serveLong(g *live) {
	g.serve("access.large.a", always(`{"result":{"get":true}}`))
	g.serve("get.part.>", always(`{"result":{"model":{"s":"`+strings.Repeat("x", 900<<10)+`"}}}`))
	var parts []string
	for i := range 16 {
		parts = append(parts, fmt.Sprintf(`{"rid":"part.%d"}`, i))
	}
	g.serve("get.large.a", always(`{"result":{"collection":[`+strings.Join(parts, ",")+`]}}`))
}

func getTLS(t *testing.T, g *live, path string) (status int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, Timeout: testkit.Patience}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + g.Addr().String() + path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}
