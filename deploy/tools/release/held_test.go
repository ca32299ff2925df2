package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/nats-io/nats.go"
)

// asClient is the environment variable that makes the test binary the client of a gateway, for
// testdata/systemd.sh.
const asClient = "HOLD_CONNECTIONS_TO"

// heldWait bounds each answer of the gateway.
const heldWait = time.Minute

// held is a client with connections that stay open, and the service behind them.
type held struct {
	nc     *nats.Conn
	socket net.Conn // a WebSocket that has subscribed
	kept   net.Conn // for HTTP
	n      int      // of the newest event
}

// hold opens connections to a gateway, and uses them for each line of standard input. It prints a
// line each time, and ends with the input.
func hold(addr string) error {
	h, err := open(addr)
	for lines := bufio.NewScanner(os.Stdin); err == nil; err = h.use() {
		fmt.Println("ok")
		if !lines.Scan() {
			return lines.Err()
		}
	}
	fmt.Println(err)
	return err
}

func open(addr string) (h *held, err error) {
	h = &held{}
	if h.nc, err = nats.Connect(nats.DefaultURL); err != nil {
		return nil, err
	}
	for subject, answer := range map[string]string{
		"access.test.model": `{"result":{"get":true}}`, "get.test.model": `{"result":{"model":{"n":0}}}`,
	} {
		if _, err = h.nc.Subscribe(subject, func(m *nats.Msg) { _ = m.Respond([]byte(answer)) }); err != nil {
			return nil, err
		}
	}
	if err = h.nc.Flush(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), heldWait)
	defer cancel()
	if h.socket, _, _, err = ws.Dial(ctx, "ws://"+addr+"/"); err != nil {
		return nil, err
	}
	if h.kept, err = net.Dial("tcp", addr); err != nil {
		return nil, err
	}
	if err = wsutil.WriteClientText(h.socket, []byte(`{"id":1,"method":"subscribe.test.model"}`)); err != nil {
		return nil, err
	}
	if err = h.until(func(m message) bool { return m.ID == 1 && m.Result != nil }); err != nil {
		return nil, err
	}
	return h, h.use()
}

// message is one that a client gets.
type message struct {
	ID     int
	Result json.RawMessage
	Event  string
	Data   struct{ Values struct{ N int } }
}

// until reads the WebSocket until a message is the one.
func (h *held) until(is func(m message) bool) error {
	_ = h.socket.SetReadDeadline(time.Now().Add(heldWait))
	for {
		text, err := wsutil.ReadServerText(h.socket)
		var m message
		if err == nil {
			err = json.Unmarshal(text, &m)
		}
		if err != nil {
			return fmt.Errorf("the WebSocket: %w", err)
		}
		if is(m) {
			return nil
		}
	}
}

// use makes a request on the HTTP connection, and has the service send an event to the WebSocket.
func (h *held) use() error {
	_ = h.kept.SetDeadline(time.Now().Add(heldWait))
	if _, err := io.WriteString(h.kept, "GET /api/test/model HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(h.kept), nil)
	if err != nil {
		return fmt.Errorf("the HTTP connection: %w", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the HTTP connection: %s, %w", resp.Status, err)
	}
	h.n++
	if err := h.nc.Publish("event.test.model.change", fmt.Appendf(nil, `{"values":{"n":%d}}`, h.n)); err != nil {
		return err
	}
	return h.until(func(m message) bool { return m.Event == "test.model.change" && m.Data.Values.N == h.n })
}
