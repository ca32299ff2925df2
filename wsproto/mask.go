package wsproto

import "github.com/gobwas/ws"

// mask applies a masking key in place (RFC 6455 §5.3); applied twice it gives
// the original. offset is the position of b within the frame's payload.
func mask(b []byte, key [4]byte, offset int) { ws.Cipher(b, key, offset) }
