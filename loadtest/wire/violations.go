//go:build linux

package wire

import "sluice/wsproto"

// Violation is a sequence of bytes on a WebSocket, and the code that RFC 6455 has for it.
type Violation struct {
	Name  string
	Bytes []byte
	Code  int
}

// Violations returns each kind once. The key masks payloads.
func Violations(key [4]byte) []Violation {
	masked := func(fin bool, op wsproto.Op, payload string) []byte {
		return wsproto.AppendMaskedFrame(nil, fin, op, []byte(payload), key)
	}
	bits := masked(true, wsproto.OpText, "{}")
	bits[0] |= 0x20
	return []Violation{
		{"unmasked frame", wsproto.AppendFrame(nil, wsproto.OpText, []byte("{}")), 1002},
		{"reserved opcode", masked(true, 0x0b, "x"), 1002},
		{"reserved bit", bits, 1002},
		{"fragmented ping", masked(false, wsproto.OpPing, "x"), 1002},
		{"continuation of nothing", masked(true, wsproto.OpContinuation, "x"), 1002},
		{"text that is not UTF-8", masked(true, wsproto.OpText, "\xff\xfe"), 1007},
		{"frame of 4 EiB", []byte{0x81, 0xff, 0x40, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4}, 1009},
	}
}
