package tlsrecord

const (
	typeHandshake = 22 // of a record (RFC 8446 §5.1)
	typeHello     = 1  // ClientHello, of a handshake message (RFC 8446 §4)
	majorVersion  = 3
	messageHeader = 4 // bytes: type and length
)

// ClientHello examines the beginning b of a client's stream. complete reports whether b holds a
// whole ClientHello (RFC 8446 §4.1.2), which may span several records. ok reports whether it does
// or can still become one: not if it begins with something else, or if the message, or b without
// the whole message, is longer than limit bytes.
func ClientHello(b []byte, limit int) (complete, ok bool) {
	var head []byte // of the message
	var room [messageHeader]byte
	have := 0 // bytes of the message
	for rest := b; ; {
		if len(rest) > 0 && rest[0] != typeHandshake || len(rest) > 1 && rest[1] != majorVersion {
			return false, false
		}
		if len(rest) < HeaderLen {
			return false, len(b) < limit
		}
		n := int(payloadLen(rest))
		if n == 0 || n > MaxPlaintext {
			return false, false
		}
		rest = rest[HeaderLen:]
		part := rest[:min(n, len(rest))]
		if len(head) < messageHeader {
			head = append(room[:len(head)], part[:min(len(part), messageHeader-len(head))]...)
		}
		if len(head) > 0 && head[0] != typeHello {
			return false, false
		}
		have += len(part)
		if len(head) == messageHeader {
			size := int(head[1])<<16 | int(head[2])<<8 | int(head[3])
			if size > limit {
				return false, false
			}
			if have >= messageHeader+size {
				return true, true
			}
		}
		if len(part) < n {
			return false, len(b) < limit
		}
		rest = rest[n:]
	}
}
