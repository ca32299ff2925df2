package wsproto_test

import (
	"fmt"

	"sluice/wsproto"
)

// A server accepts a client's handshake, then parses frames in the bytes that follow. Each read
// appends to the input, and the server removes what was consumed.
func Example() {
	key := [4]byte{1, 2, 3, 4}
	input := []byte("GET /ws HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	input = wsproto.AppendMaskedFrame(input, true, wsproto.OpText, []byte("hello"), key)
	input = wsproto.AppendMaskedFrame(input, true, wsproto.OpClose, []byte{0x03, 0xe8}, key) // 1000

	// The opening handshake. n == 0 without an error: read more, and parse again.
	var scanner wsproto.HeadScanner
	var head wsproto.Head
	n, err := scanner.Parse(input, wsproto.DefaultMaxHead, &head)
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := wsproto.CheckUpgrade(&head); err != nil {
		fmt.Printf("%s", wsproto.AppendHTTPError(nil, err.Status, err.Header, err.Reason))
		return
	}
	response := wsproto.AppendUpgrade(nil, &head, nil)
	fmt.Printf("%s %q\n", head.Path(), response[:len("HTTP/1.1 101 Switching Protocols\r\n")])
	input = input[n:]

	// The frames. Next unmasks a payload in place.
	var p wsproto.Parser
	for {
		m, n, done, err := p.Next(input, wsproto.Limits{Message: 1 << 16})
		if err != nil {
			e := err.(*wsproto.CloseError)
			fmt.Println("send", wsproto.AppendClose(nil, e.Code, e.Reason))
			return
		}
		if n == 0 {
			return // no whole frame: read more
		}
		input = input[n:]
		if !done {
			continue // a fragment
		}
		switch m.Op {
		case wsproto.OpText:
			fmt.Printf("text %s; send %q\n", m.Payload, wsproto.AppendFrame(nil, wsproto.OpText, m.Payload))
		case wsproto.OpClose:
			fmt.Println("close", m.Code, "send", wsproto.AppendClose(nil, m.Code, ""))
		}
	}
	// Output:
	// /ws "HTTP/1.1 101 Switching Protocols\r\n"
	// text hello; send "\x81\x05hello"
	// close 1000 send [136 2 3 232]
}
