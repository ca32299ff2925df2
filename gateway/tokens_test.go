package gateway

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/golang-jwt/jwt/v5"
	"github.com/nats-io/nats.go"

	"sluice/internal/owner"
	"sluice/internal/testkit"
)

const (
	tokenSecret  = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	tokenSecret2 = "another secret for the tests of reloads, 64 bytes long at the least"
	// esToken is signed with a key that testdata/jwks.json has, and ends in the year 2100.
	esToken = "eyJhbGciOiJFUzI1NiIsImtpZCI6InAyNTYiLCJ0eXAiOiJKV1QifQ.eyJzdWIiOiJhbGljZSIsImV4cCI6NDEwMjQ0NDgwMH0.5_L9sbmB9Vgtz96x97Qk_amPj_Db2pc3JEXAmpORKrAhGKav4YP4clBJZr04QNgEQBXGBd4n8LVrLboR6JwoZg"
)

// signed returns a token with HS256.
func signed(secret, payload string) string {
	encode := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	text := encode(`{"alg":"HS256"}`) + "." + encode(payload)
	signature, err := jwt.SigningMethodHS256.Sign(text, []byte(secret))
	if err != nil {
		panic(err)
	}
	return text + "." + encode(string(signature))
}

// endsIn returns a token that ends after d.
func endsIn(d time.Duration) string {
	return signed(tokenSecret, fmt.Sprintf(`{"sub":"ada","exp":%d}`, time.Now().Add(d).Unix()))
}

func useSecret(c *Config) { c.JWTSecret = tokenSecret }

func useSecretFile(suffix string) func(*Config) {
	return func(c *Config) { c.JWTSecretFile = "testdata/jwt-secret" + suffix }
}

// dialWith is dial for a client with a token.
func (g *live) dialWith(token string) *wsClient {
	g.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testkit.Patience)
	defer cancel()
	d := ws.Dialer{Header: ws.HandshakeHeaderString("Authorization: Bearer " + token + "\r\n")}
	conn, br, _, err := d.Dial(ctx, "ws://"+g.Addr().String()+"/")
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { _ = conn.Close() })
	if br == nil {
		br = bufio.NewReader(conn)
	}
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	return &wsClient{tb: g.tb, conn: conn, br: br}
}

// tokenRequest makes a GET with a header field, and returns the status and the head of the
// response.
func (g *live) tokenRequest(target, field string) (status int, head string) {
	g.tb.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(g.openStream(target, field)), nil)
	if err != nil {
		g.tb.Fatal(err)
	}
	var b strings.Builder
	_ = resp.Header.Write(&b)
	return resp.StatusCode, strings.ReplaceAll(b.String(), "\r\n", "\n")
}

// openStream sends a GET with header fields, and returns the connection.
func (g *live) openStream(target string, fields ...string) net.Conn {
	g.tb.Helper()
	conn, err := net.Dial("tcp", g.Addr().String())
	if err != nil {
		g.tb.Fatal(err)
	}
	g.tb.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(testkit.Patience))
	_, _ = io.WriteString(conn, "GET "+target+" HTTP/1.1\r\nHost: x\r\n"+strings.Join(fields, "\r\n")+"\r\n\r\n")
	return conn
}

// bearerGets proves that requests with a token get a status, over HTTP and WebSocket.
func bearerGets(token string, want int) func(*testing.T, *reloadable) {
	return func(t *testing.T, r *reloadable) {
		if status, head := r.tokenRequest("/api/test/a", "Authorization: Bearer "+token); status != want {
			t.Errorf("status %d, want %d\n%s", status, want, head)
		}
		if want == 200 {
			r.dialWith(token)
		}
	}
}

// serviceSees proves that access requests have a text.
func serviceSees(text string) func(*testing.T, *reloadable) {
	return func(t *testing.T, r *reloadable) {
		seen := make(chan string, 10)
		r.serve("access.seen.a", func(m *nats.Msg) string {
			seen <- string(m.Data)
			return `{"result":{"get":true}}`
		})
		r.dialWith(endsIn(time.Hour)).send(`{"id":1,"method":"subscribe.seen.a"}`)
		if got := testkit.Await(t, seen, "an access request"); !strings.Contains(got, text) {
			t.Error(got)
		}
	}
}

// tokenIDIs proves that the token ID of clients is that.
func tokenIDIs(tid string) func(*testing.T, *reloadable) {
	return func(t *testing.T, r *reloadable) {
		asked := make(chan string, 10)
		r.serve("auth.test.renew", func(m *nats.Msg) string {
			asked <- string(m.Data)
			return `{"result":null}`
		})
		r.dialWith(endsIn(time.Hour)).ask("version", "")
		r.publish("system.tokenReset", `{"tids":["`+tid+`"],"subject":"auth.test.renew"}`)
		testkit.Await(t, asked, "the auth request")
	}
}

// TestTokenEnds: when a token ends, it becomes null, and access is requested again.
func TestTokenEnds(t *testing.T) {
	clock := owner.NewManualClock()
	log := new(testkit.Log)
	g := startLive(t, func(c *Config) {
		c.Loops, c.Shards, c.Clock, c.Log = 1, 1, clock, log.Logger()
		c.JWTSecret, c.JWTMethod, c.JWTClaims = tokenSecret, "gateway.login", []string{"sub"}
		c.RequestTimeout = 24 * time.Hour // fake time passes, replies take real time
		c.PingInterval, c.HeartbeatInterval = Off, Off
	})
	asked := make(chan string, 100)
	g.serve("access.test.>", func(m *nats.Msg) string {
		asked <- string(m.Data)
		if strings.Contains(string(m.Data), `"token":null`) {
			return `{"error":{"code":"system.accessDenied","message":"Access denied"}}`
		}
		return `{"result":{"get":true}}`
	})
	g.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	expect := func(text string) {
		t.Helper()
		if got := testkit.Await(t, asked, "an access request"); !strings.Contains(got, text) {
			t.Errorf("asked %s, want %s", got, text)
		}
	}
	advance := func(d time.Duration) {
		t.Helper()
		testkit.Until(t, "the loops have handled the present time", clock.Handled)
		clock.Advance(d)
	}
	const skew = 30 * time.Second // the default

	// A WebSocket client renews its token, and then does not.
	first := endsIn(time.Hour)
	c := g.dialWith(first)
	if answer, _ := c.ask("subscribe.test.a", ""); !strings.Contains(answer, `"n":1`) {
		t.Fatal(answer)
	}
	expect(`"token":{"sub":"ada"}`)
	if answer, _ := c.ask("auth.gateway.login", `{"token":"`+endsIn(3*time.Hour)+`"}`); !strings.Contains(answer, `"payload":null`) && !strings.Contains(answer, `"result":null`) {
		t.Fatal(answer)
	}
	// Streams, on the loop and at net/http.
	short := "Authorization: Bearer " + first
	loop := g.openStream("/api/test/b", short, "Accept: text/event-stream")
	other := g.openStream("http://x/api/test/c", short, "Accept: text/event-stream")
	expect(`"token":{"sub":"ada"}`)
	expect(`"token":{"sub":"ada"}`)
	streams := []*bufio.Reader{bufio.NewReader(loop), bufio.NewReader(other)}
	for _, r := range streams {
		readTo(t, r, `{"rid":`)
	}
	advance(time.Hour + skew + time.Second)
	expect(`"token":null`)
	expect(`"token":null`)
	for _, r := range streams {
		readTo(t, r, "unsubscribe")
	}
	if answer, before := c.ask("get.test.a", ""); len(before) > 0 {
		t.Error("the renewed token has ended", answer, before)
	}
	if len(asked) > 0 {
		t.Errorf("asked %s", <-asked)
	}
	advance(2 * time.Hour)
	expect(`"token":null`)
	c.until("test.a.unsubscribe")
	if answer, _ := c.ask("subscribe.test.a", ""); !strings.Contains(answer, "accessDenied") {
		t.Error(answer)
	}
	expect(`"token":null`)
	// The same token again: it has expired.
	if answer, _ := c.ask("auth.gateway.login", `{"token":"`+first+`"}`); !strings.Contains(answer, "the token has expired") {
		t.Error(answer)
	}
	if strings.Contains(log.String(), first) {
		t.Error("the log has the token")
	}
}

// readTo reads lines to one that contains text.
func readTo(t *testing.T, r *bufio.Reader, text string) {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if strings.Contains(line, text) {
			return
		}
		if err != nil {
			t.Fatalf("%v before %q", err, text)
		}
	}
}

// TestServicesTokenDoesNotEnd: a token event replaces a verified token, with its end.
func TestServicesTokenDoesNotEnd(t *testing.T) {
	clock := owner.NewManualClock()
	g := startLive(t, func(c *Config) {
		c.Loops, c.Shards, c.Clock = 1, 1, clock
		c.JWTSecret, c.WSHeaderAuth = tokenSecret, "vault.login"
		c.RequestTimeout, c.PingInterval = 24*time.Hour, Off
	})
	g.serve("auth.vault.login", func(m *nats.Msg) string {
		_, rest, _ := strings.Cut(string(m.Data), `"cid":"`)
		cid, _, _ := strings.Cut(rest, `"`)
		g.publish("conn."+cid+".token", `{"token":"of the service"}`)
		return `{"result":null}`
	})
	asked := make(chan string, 100)
	g.serve("access.test.>", func(m *nats.Msg) string {
		asked <- string(m.Data)
		return `{"result":{"get":true}}`
	})
	g.serve("get.test.>", always(`{"result":{"model":{"n":1}}}`))
	c := g.dialWith(endsIn(time.Hour))
	for range 2 {
		c.ask("subscribe.test.a", "")
		if got := testkit.Await(t, asked, "an access request"); !strings.Contains(got, `"token":"of the service"`) {
			t.Error(got)
		}
		c.ask("unsubscribe.test.a", "")
		testkit.Until(t, "the loop has handled the present time", clock.Handled)
		clock.Advance(2 * time.Hour)
	}
}

// TestTokensWithoutKeys: a JWKS that cannot be had at the start makes clients wait; a file is an
// error.
func TestTokensWithoutKeys(t *testing.T) {
	g := startLive(t, func(c *Config) { c.JWTJWKS = "http://127.0.0.1:1/jwks.json" })
	status, head := g.tokenRequest("/api/test/a", "Authorization: Bearer "+esToken)
	if status != 503 || !strings.Contains(head, "Retry-After: 1\n") {
		t.Error(status, head)
	}
	bad := create(t, func(c *Config) { c.JWTJWKS = "testdata/none.json" })
	if err := bad.Start(context.Background()); err == nil || !strings.Contains(err.Error(), "none.json") {
		t.Error(err)
	}
	_ = bad.Stop(context.Background())
}

// BenchmarkTokenUpgrade is a WebSocket handshake with a verified token.
func BenchmarkTokenUpgrade(b *testing.B) {
	for name, change := range map[string]func(*Config){
		"none":  func(*Config) {},
		"HS256": useSecret,
		"ES256": func(c *Config) { c.JWTJWKS = "testdata/jwks.json" },
	} {
		b.Run(name, func(b *testing.B) {
			g := startLive(b, change)
			token := esToken
			if name == "HS256" {
				token = endsIn(time.Hour)
			}
			d := ws.Dialer{Header: ws.HandshakeHeaderString("Authorization: Bearer " + token + "\r\n")}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					conn, _, _, err := d.Dial(context.Background(), "ws://"+g.Addr().String()+"/")
					if err != nil {
						b.Error(err)
						return
					}
					_ = conn.Close()
				}
			})
		})
	}
}
