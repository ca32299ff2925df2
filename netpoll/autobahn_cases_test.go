//go:build !race

package netpoll

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"unicode/utf8"

	"sluice/wsproto"
)

// autobahnCase is a case by its number in the Autobahn test suite for WebSocket: what a client
// sends, and what comes back from a server that echoes messages.
type autobahnCase struct {
	number, title string
	send          []byte
	chop          int             // bytes of each write; 0: all in one, or at cuts
	cuts          []int           // where writes end
	offer         string          // Sec-WebSocket-Extensions; "": none
	want          []autobahnReply // before the end of the connection
	code          uint16          // of the server's close frame; 0: the client closes with 1000, and gets that
}

// autobahnReply is a message, or a pong.
type autobahnReply struct {
	op      wsproto.Op // OpPong, or OpText for messages
	payload string
}

const hello = "Hello, world!"

// The operations by the names that the table uses.
const (
	opMore  = wsproto.OpContinuation
	opText  = wsproto.OpText
	opBin   = wsproto.OpBinary
	opClose = wsproto.OpClose
	opPing  = wsproto.OpPing
	opPong  = wsproto.OpPong
)

// writes collects a client's frames.
type writes struct {
	b    []byte
	cuts []int
}

func (w *writes) frame(op wsproto.Op, fin bool, rsv byte, payload string) *writes {
	at := len(w.b)
	w.b = wsproto.AppendMaskedFrame(w.b, fin, op, []byte(payload), [4]byte{0x37, 0xfa, 0x21, 0x3d})
	w.b[at] |= rsv << 4
	w.cuts = append(w.cuts, len(w.b))
	return w
}

func (w *writes) whole(op wsproto.Op, payload string) *writes { return w.frame(op, true, 0, payload) }
func (w *writes) part(op wsproto.Op, payload string) *writes  { return w.frame(op, false, 0, payload) }

// fragments sends a message in frames of so many bytes; 0: in one.
func (w *writes) fragments(op wsproto.Op, payload string, size int, rsv byte) *writes {
	if size == 0 || size > len(payload) {
		size = max(len(payload), 1)
	}
	for first := true; first || len(payload) > 0; first = false {
		n := min(size, len(payload))
		w.frame(op, n == len(payload), rsv, payload[:n])
		payload, op, rsv = payload[n:], opMore, 0
	}
	return w
}

func closing(code uint16, reason string) string {
	return string(binary.BigEndian.AppendUint16(nil, code)) + reason
}

// autobahn is the table under construction.
type autobahn []autobahnCase

// add adds a case, and returns it for what is unusual about it.
func (a *autobahn) add(number, title string, w *writes, code uint16, want ...autobahnReply) *autobahnCase {
	*a = append(*a, autobahnCase{number: number, title: title, send: w.b, want: want, code: code})
	return &(*a)[len(*a)-1]
}

func message(payload string) autobahnReply { return autobahnReply{opText, payload} }
func pong(payload string) autobahnReply    { return autobahnReply{opPong, payload} }

// chops adds a case thrice: in one write, in one for each frame, and in one for each byte.
func (a *autobahn) chops(group string, first int, title string, w *writes, code uint16, want ...autobahnReply) {
	a.add(fmt.Sprintf("%s%d", group, first), title, w, code, want...)
	a.add(fmt.Sprintf("%s%d", group, first+1), title+", a write for each frame", w, code, want...).cuts = w.cuts
	a.add(fmt.Sprintf("%s%d", group, first+2), title+", a write for each byte", w, code, want...).chop = 1
}

// autobahnGroups returns the table, part by part, as some parts are large.
func autobahnGroups() (all []func(*autobahn)) {
	all = []func(*autobahn){(*autobahn).framing, (*autobahn).pings, (*autobahn).reserved, (*autobahn).fragmentation, (*autobahn).text, (*autobahn).closes}
	for part := range 4 {
		for _, kind := range autobahnKinds {
			all = append(all, func(a *autobahn) { a.sizes(1+2*part, kind) })
		}
	}
	all = append(all, (*autobahn).automatic)
	for i := range 12 {
		all = append(all, func(a *autobahn) { a.compression(i) })
	}
	return all
}

// framing is 1.x.
func (a *autobahn) framing() {
	for k, op := range []wsproto.Op{opText, opBin} {
		fill := []string{"*", "\xfe"}[k]
		for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536, 65536} {
			payload := strings.Repeat(fill, n)
			c := a.add(fmt.Sprintf("1.%d.%d", k+1, i+1), fmt.Sprintf("%s message of %d bytes", []string{"text", "binary"}[k], n), new(writes).whole(op, payload), 0, message(payload))
			if i == 7 {
				c.title, c.chop = c.title+", in writes of 997", 997
			}
		}
	}
}

// pings is 2.x.
func (a *autobahn) pings() {
	long := strings.Repeat("\xfe", 125)
	a.add("2.1", "ping without payload", new(writes).whole(opPing, ""), 0, pong(""))
	a.add("2.2", "ping with text", new(writes).whole(opPing, hello), 0, pong(hello))
	a.add("2.3", "ping with bytes that are no text", new(writes).whole(opPing, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), 0, pong("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))
	a.add("2.4", "ping of 125 bytes", new(writes).whole(opPing, long), 0, pong(long))
	a.add("2.5", "ping of 126 bytes", new(writes).whole(opPing, long+"\xfe"), 1002)
	a.add("2.6", "ping of 125 bytes, a write for each byte", new(writes).whole(opPing, long), 0, pong(long)).chop = 1
	a.add("2.7", "unsolicited pong without payload", new(writes).whole(opPong, ""), 0)
	a.add("2.8", "unsolicited pong with payload", new(writes).whole(opPong, "unsolicited"), 0)
	a.add("2.9", "unsolicited pong, then a ping", new(writes).whole(opPong, "unsolicited").whole(opPing, "ping"), 0, pong("ping"))
	ten, pongs := new(writes), []autobahnReply(nil)
	for i := range 10 {
		payload := fmt.Sprintf("payload-%d", i)
		ten.whole(opPing, payload)
		pongs = append(pongs, pong(payload))
	}
	a.add("2.10", "ten pings", ten, 0, pongs...)
	a.add("2.11", "ten pings, a write for each byte", ten, 0, pongs...).chop = 1
}

// reserved is 3.x and 4.x.
func (a *autobahn) reserved() {
	a.add("3.1", "text with RSV = 1", new(writes).frame(opText, true, 1, hello), 1002)
	after := func(rsv byte) *writes {
		return new(writes).whole(opText, hello).frame(opText, true, rsv, hello).whole(opPing, "")
	}
	a.add("3.2", "text, text with RSV = 2, ping", after(2), 1002, message(hello))
	a.add("3.3", "text, text with RSV = 3, ping; a write for each frame", after(3), 1002, message(hello)).cuts = after(3).cuts
	a.add("3.4", "text, text with RSV = 4, ping; a write for each byte", after(4), 1002, message(hello)).chop = 1
	a.add("3.5", "binary with RSV = 5", new(writes).frame(opBin, true, 5, "\x00\xff\xfe\xfd\xfc\xfb\x00\xff"), 1002)
	a.add("3.6", "ping with RSV = 6", new(writes).frame(opPing, true, 6, hello), 1002)
	a.add("3.7", "close with RSV = 7", new(writes).frame(opClose, true, 7, closing(1000, "")), 1002)
	for i, ops := range [][]wsproto.Op{{3, 4, 5, 6, 7}, {11, 12, 13, 14, 15}} {
		kind := []string{"data", "control"}[i]
		for k, op := range ops {
			payload, w, want := "", new(writes), []autobahnReply(nil)
			title := fmt.Sprintf("reserved %s opcode %d", kind, op)
			if k%2 == 1 || k == 4 {
				payload, title = hello, title+" with payload"
			}
			if k > 1 {
				w.whole(opText, hello)
				want, title = []autobahnReply{message(hello)}, "text, "+title
			}
			w.whole(op, payload).whole(opPing, "")
			c := a.add(fmt.Sprintf("4.%d.%d", i+1, k+1), title+", ping", w, 1002, want...)
			if k == 4 {
				c.title, c.chop = c.title+"; a write for each byte", 1
			}
		}
	}
}

// fragmentation is 5.x.
func (a *autobahn) fragmentation() {
	two := func() *writes { return new(writes).part(opText, "fragment1") }
	a.add("5.1", "ping in two fragments", new(writes).part(opPing, "fragment1").whole(opMore, "fragment2"), 1002)
	a.add("5.2", "pong in two fragments", new(writes).part(opPong, "fragment1").whole(opMore, "fragment2"), 1002)
	a.chops("5.", 3, "text in two fragments", two().whole(opMore, "fragment2"), 0, message("fragment1fragment2"))
	a.chops("5.", 6, "text in two fragments with a ping in between", two().whole(opPing, "ping payload").whole(opMore, "fragment2"), 0, pong("ping payload"), message("fragment1fragment2"))
	a.chops("5.", 9, "continuation of nothing, final; text", new(writes).whole(opMore, "non-continuation payload").whole(opText, hello), 1002)
	a.chops("5.", 12, "continuation of nothing, not final; text", new(writes).part(opMore, "non-continuation payload").whole(opText, hello), 1002)
	a.add("5.15", "text in two fragments; continuation of nothing; text", two().whole(opMore, "fragment2").part(opMore, "fragment3").whole(opText, "fragment4"), 1002, message("fragment1fragment2"))
	for i, fin := range []bool{false, true} {
		w := new(writes)
		for range 2 {
			w.frame(opMore, fin, 0, "fragment1").part(opText, "fragment2").whole(opMore, "fragment3")
		}
		a.add(fmt.Sprintf("5.%d", 16+i), fmt.Sprintf("twice: continuation of nothing (final: %v), text in two fragments", fin), w, 1002)
	}
	a.add("5.18", "text in two fragments, the second one a text frame, too", two().whole(opText, "fragment2"), 1002)
	five := two().part(opMore, "fragment2").whole(opPing, "pongme 1!").part(opMore, "fragment3").part(opMore, "fragment4").whole(opPing, "pongme 2!").whole(opMore, "fragment5")
	want := []autobahnReply{pong("pongme 1!"), pong("pongme 2!"), message("fragment1fragment2fragment3fragment4fragment5")}
	a.add("5.19", "text in five fragments with two pings in between", five, 0, want...)
	a.add("5.20", "text in five fragments with two pings in between, a write for each frame", five, 0, want...).cuts = five.cuts
}

// text is 6.x.
func (a *autobahn) text() {
	a.add("6.1.1", "text without payload", new(writes).whole(opText, ""), 0, message(""))
	a.add("6.1.2", "text in three empty fragments", new(writes).part(opText, "").part(opMore, "").whole(opMore, ""), 0, message(""))
	a.add("6.1.3", "text in three fragments, the first and the last empty", new(writes).part(opText, "").part(opMore, "middle frame payload").whole(opMore, ""), 0, message("middle frame payload"))
	const greeting = "Hello-µ@ßöäüàá-UTF-8!!"
	const half = len("Hello-µ@ßöä")
	const greek = "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
	a.add("6.2.1", "UTF-8 in one frame", new(writes).whole(opText, greeting), 0, message(greeting))
	a.add("6.2.2", "UTF-8 in two fragments between characters", new(writes).part(opText, greeting[:half]).whole(opMore, greeting[half:]), 0, message(greeting))
	a.add("6.2.3", "UTF-8 in fragments of one byte", new(writes).fragments(opText, greeting, 1, 0), 0, message(greeting))
	a.add("6.2.4", "UTF-8 in fragments of one byte", new(writes).fragments(opText, greek, 1, 0), 0, message(greek))
	surrogate := greek + "\xed\xa0\x80" + "edited"
	a.add("6.3.1", "invalid UTF-8 in one frame", new(writes).whole(opText, surrogate), 1007)
	a.add("6.3.2", "invalid UTF-8 in fragments of one byte", new(writes).fragments(opText, surrogate, 1, 0), 1007)
	// The end is not sent: the server must not wait for it.
	beyond := greek + "\xf4\x90\x80\x80"
	a.add("6.4.1", "a fragment makes UTF-8 invalid; the message is not complete", new(writes).part(opText, greek).part(opMore, beyond[len(greek):]), 1007)
	a.add("6.4.2", "a fragment of one byte makes UTF-8 invalid; the message is not complete", new(writes).part(opText, beyond[:12]).part(opMore, beyond[12:13]), 1007)
	for i, n := range []int{len(beyond), 13} {
		w := new(writes).whole(opText, beyond+"edited")
		c := a.add(fmt.Sprintf("6.4.%d", 3+i), "a part of a frame makes UTF-8 invalid; the frame is not complete", w, 1007)
		header := len(c.send) - len(beyond+"edited")
		c.send, c.cuts = c.send[:header+n], []int{header + 12, header + n}
	}
	for i, group := range autobahnUTF8 {
		for k, s := range group.sequences {
			title, code, want := group.title, uint16(1007), []autobahnReply(nil)
			if utf8.ValidString(s) {
				title, code, want = title+" (valid)", 0, []autobahnReply{message(s)}
			}
			a.add(fmt.Sprintf("6.%d.%d", 5+i, k+1), title, new(writes).whole(opText, s), code, want...)
		}
	}
}

// closes is 7.x.
func (a *autobahn) closes() {
	normal := closing(1000, "")
	large := strings.Repeat("BAsd7&jh23", 256<<10/10+1)[:256<<10]
	a.add("7.1.1", "text, close", new(writes).whole(opText, hello).whole(opClose, normal), 1000, message(hello))
	a.add("7.1.2", "two close frames", new(writes).whole(opClose, normal).whole(opClose, normal), 1000)
	a.add("7.1.3", "close, ping", new(writes).whole(opClose, normal).whole(opPing, ""), 1000)
	a.add("7.1.4", "close, text", new(writes).whole(opClose, normal).whole(opText, hello), 1000)
	a.add("7.1.5", "first fragment, close, last fragment", new(writes).part(opText, "fragment1").whole(opClose, normal).whole(opMore, "fragment2"), 1000)
	a.add("7.1.6", "text of 256 KiB, text, close, ping", new(writes).whole(opText, large).whole(opText, hello).whole(opClose, normal).whole(opPing, ""), 1000, message(large), message(hello))
	a.add("7.3.1", "close without payload", new(writes).whole(opClose, ""), noCode)
	a.add("7.3.2", "close with a payload of one byte", new(writes).whole(opClose, "a"), 1002)
	a.add("7.3.3", "close with a code", new(writes).whole(opClose, normal), 1000)
	a.add("7.3.4", "close with a code and a reason", new(writes).whole(opClose, closing(1000, hello)), 1000)
	a.add("7.3.5", "close with a reason of 123 bytes", new(writes).whole(opClose, closing(1000, strings.Repeat("*", 123))), 1000)
	a.add("7.3.6", "close with a reason of 124 bytes", new(writes).whole(opClose, closing(1000, strings.Repeat("*", 124))), 1002)
	a.add("7.5.1", "close with a reason that is not UTF-8", new(writes).whole(opClose, closing(1000, "\xce\xba\xe1\xbd\xb9\xed\xa0\x80edited")), 1007)
	for i, code := range []uint16{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999} {
		a.add(fmt.Sprintf("7.7.%d", i+1), fmt.Sprintf("close with code %d", code), new(writes).whole(opClose, closing(code, "")), code)
	}
	for i, code := range []uint16{0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999} {
		a.add(fmt.Sprintf("7.9.%d", i+1), fmt.Sprintf("close with invalid code %d", code), new(writes).whole(opClose, closing(code, "")), 1002)
	}
	a.add("7.13.1", "close with code 5000", new(writes).whole(opClose, closing(5000, "")), 1002)
	a.add("7.13.2", "close with code 65535", new(writes).whole(opClose, closing(65535, "")), 1002)
}

// noCode is the server's close frame without a code.
const noCode = 1005

// autobahnKind is a kind of message in 9.x.
type autobahnKind struct {
	name, fill string
	op         wsproto.Op
}

var autobahnKinds = []autobahnKind{{"text", "*", opText}, {"binary", "\x00\xfe\x23\xfa\xf0", opBin}}

// sizes is 9.x, for text with the given number, for binary messages with the next.
func (a *autobahn) sizes(group int, kind autobahnKind) {
	number := group
	if kind.op == opBin {
		number++
	}
	payload := func(n int) string { return strings.Repeat(kind.fill, n/len(kind.fill)+1)[:n] }
	add := func(i int, title string, w *writes, want ...autobahnReply) *autobahnCase {
		return a.add(fmt.Sprintf("9.%d.%d", number, i+1), kind.name+" message"+title, w, 0, want...)
	}
	switch group {
	case 1:
		for i, n := range []int{64 << 10, 256 << 10, 1 << 20, 4 << 20, 8 << 20, 16 << 20} {
			p := payload(n)
			add(i, fmt.Sprintf(" of %d KiB", n>>10), new(writes).whole(kind.op, p), message(p))
		}
	case 3:
		p := payload(4 << 20)
		for i, size := range []int{64, 256, 1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20} {
			add(i, fmt.Sprintf(" of 4 MiB in fragments of %d bytes", size), new(writes).fragments(kind.op, p, size, 0), message(p))
		}
	case 5:
		p := payload(1 << 20)
		for i, chop := range []int{64, 128, 256, 512, 1024, 2048} {
			add(i, fmt.Sprintf(" of 1 MiB in writes of %d bytes", chop), new(writes).whole(kind.op, p), message(p)).chop = chop
		}
	case 7:
		for i, n := range []int{0, 16, 64, 256, 1024, 4096} {
			p, w, want := payload(n), new(writes), []autobahnReply(nil)
			for range 1000 {
				w.whole(kind.op, p)
				want = append(want, message(p))
			}
			add(i, fmt.Sprintf("s of %d bytes, 1000 of them", n), w, want...)
		}
	}
}

// automatic is 10.x.
func (a *autobahn) automatic() {
	p := strings.Repeat("*", 65536)
	a.add("10.1.1", "text message of 65536 bytes in fragments of 1300", new(writes).fragments(opText, p, 1300, 0), 0, message(p))
}

// autobahnOffers are what clients offer in 13.x.
var autobahnOffers = []string{
	"permessage-deflate; client_no_context_takeover; client_max_window_bits",
	"permessage-deflate; client_no_context_takeover; client_max_window_bits; server_no_context_takeover",
	"permessage-deflate; client_no_context_takeover; client_max_window_bits; server_max_window_bits=9",
	"permessage-deflate; client_no_context_takeover; client_max_window_bits; server_max_window_bits=15",
	"permessage-deflate; client_no_context_takeover; client_max_window_bits; server_no_context_takeover; server_max_window_bits=9",
	"permessage-deflate; client_no_context_takeover; client_max_window_bits; server_no_context_takeover; server_max_window_bits=15",
	"permessage-deflate; client_max_window_bits; server_no_context_takeover; server_max_window_bits=9, permessage-deflate; client_max_window_bits; server_no_context_takeover, permessage-deflate; client_max_window_bits",
}

// compression is 12.x for i below 5, otherwise 13.x: messages of the given sizes, from five kinds
// of data, compressed in one frame or in fragments.
func (a *autobahn) compression(i int) {
	sizes := []struct{ n, fragment int }{
		{16, 0}, {64, 0}, {256, 0}, {1024, 0}, {4096, 0}, {8192, 0}, {16384, 0}, {32768, 0}, {65536, 0}, {131072, 0},
		{8192, 256}, {16384, 256}, {32768, 256}, {65536, 256}, {131072, 256}, {131072, 1024}, {131072, 4096}, {131072, 32768},
	}
	group, offer, kind := fmt.Sprintf("12.%d.", i+1), autobahnOffers[0], i
	if i >= 5 {
		group, offer, kind = fmt.Sprintf("13.%d.", i-4), autobahnOffers[i-5], 0
	}
	d := autobahnData[kind]()
	for k, size := range sizes {
		w, want := new(writes), []autobahnReply(nil)
		for m := range autobahnMessages {
			p := d.text[m*size.n%(len(d.text)-size.n):][:size.n]
			if d.op == opText {
				p = strings.ToValidUTF8(p, "?")
			}
			w.fragments(d.op, deflate(p), size.fragment, 4)
			want = append(want, message(p))
		}
		title := fmt.Sprintf("%s, compressed: messages of %d bytes", d.title, size.n)
		if size.fragment > 0 {
			title += fmt.Sprintf(" in fragments of %d", size.fragment)
		}
		if i >= 5 {
			title += fmt.Sprintf("; offer %d", i-4)
		}
		a.add(fmt.Sprintf("%s%d", group, k+1), title, w, 0, want...).offer = offer
	}
}

// autobahnMessages is how many messages a case of compression has.
const autobahnMessages = 5

// deflate compresses a message as RFC 7692 §7.2.1 has it, without what earlier messages had.
func deflate(p string) string {
	var b bytes.Buffer
	w, _ := flate.NewWriter(&b, flate.DefaultCompression)
	_, _ = w.Write([]byte(p))
	_ = w.Flush()
	return strings.TrimSuffix(b.String(), "\x00\x00\xff\xff")
}

// autobahnText is data to compress.
type autobahnText struct {
	title string
	op    wsproto.Op
	text  string
}

// autobahnData makes data of the kinds that the suite uses.
var autobahnData = [5]func() autobahnText{
	func() autobahnText {
		return autobahnText{"JSON", opText, generate(func(b *strings.Builder, word string, n uint32) {
			fmt.Fprintf(b, `{"id":%d,"name":"%s","price":%d.%02d,"tags":["%s"]},`, n, word, n%1000, n%100, word)
		})}
	},
	func() autobahnText {
		return autobahnText{"a picture", opBin, generate(func(b *strings.Builder, _ string, n uint32) { b.WriteByte(byte(b.Len()/512) + byte(n%4)) })}
	},
	func() autobahnText {
		return autobahnText{"prose", opText, generate(func(b *strings.Builder, word string, _ uint32) { b.WriteString(word + " ") })}
	},
	func() autobahnText {
		return autobahnText{"HTML", opText, generate(func(b *strings.Builder, word string, n uint32) {
			fmt.Fprintf(b, `<li class="item"><a href="/%x">%s</a></li>`+"\n", n, word)
		})}
	},
	func() autobahnText {
		return autobahnText{"packed data", opBin, generate(func(b *strings.Builder, _ string, n uint32) { b.WriteByte(byte(n)) })}
	},
}

// generate calls next with random words and numbers, the same in each run, until there is enough.
func generate(next func(b *strings.Builder, word string, n uint32)) string {
	random := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields("habe nun ach Philosophie Juristerei und Medizin und leider auch Theologie durchaus studiert mit heißem Bemühn")
	var b strings.Builder
	for b.Len() < 1<<18 {
		next(&b, words[random.IntN(len(words))], random.Uint32())
	}
	return b.String()
}
