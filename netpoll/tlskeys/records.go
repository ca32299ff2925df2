package tlskeys

import (
	"bytes"
	"crypto/cipher"
	"crypto/tls"
	"encoding/binary"
	"io"
	"math"
	"net"

	"sluice/netpoll/tlsrecord"
)

// Records is the record layer of a connection after its handshake (RFC 8446 §5): what is left of a
// tls.Conn when nothing of the handshake is kept. It has the keys, and the ciphers while they are
// in use: one of AES has tables of almost a kilobyte, and is made of its key in some microseconds.
// So Rest drops the ciphers of a connection that is quiet.
//
// It takes what crypto/tls takes, and less: a client sends data, key updates and alerts. One
// goroutine at a time uses it.
type Records struct {
	suite   *suite
	in, out halfConn
	hand    uint8 // bytes of a key update that have been received, see keyUpdate
	useless uint8 // records in a row without data
	ended   bool  // the peer has sent close_notify
}

// halfConn is one direction of the connection.
type halfConn struct {
	aead   cipher.AEAD // nil: it is made of key for the next record
	seq    uint64      // number of the next record
	secret [maxSecret]byte
	key    [maxKey]byte
	mask   [ivLen]byte // of the nonces
}

const (
	maxSecret = 48 // bytes
	maxKey    = 32

	// Overhead is how many bytes a record is longer than its data (RFC 8446 §5.2): header, type and
	// tag, which all suites have in common.
	Overhead = tlsrecord.HeaderLen + 1 + 16

	// maxUseless bounds the records in a row that have no data, as crypto/tls does.
	maxUseless = 16
)

// keyUpdate is how a key update begins (RFC 8446 §4.6.3). What follows is 1 if the peer wants one,
// too, and 0 if not. A client sends no other handshake message after its handshake.
var keyUpdate = [4]byte{typeKeyUpdate, 0, 0, 1}

// otherHand is Records.hand after the beginning of another message, which ends the connection once
// it goes on.
const otherHand = 255

// Alert is an alert (RFC 8446 §6) as an error: Open has sent it, or the peer has.
type Alert struct {
	Code     uint8
	Received bool
}

func (a Alert) Error() string {
	if a.Received {
		return "the client has sent a TLS alert: " + tls.AlertError(a.Code).Error()
	}
	return tls.AlertError(a.Code).Error()
}

// Alerts (RFC 8446 §6).
const (
	closeNotify       = 0
	unexpectedMessage = 10
	badRecordMAC      = 20
	recordOverflow    = 22
	illegalParameter  = 47
	decodeError       = 50
	userCanceled      = 90
)

// NewRecords goes on with a connection. k stays the caller's.
func NewRecords(k *Keys) (*Records, error) {
	s, err := k.check()
	if err != nil {
		return nil, err
	}
	r := &Records{suite: s, hand: uint8(len(k.Hand))}
	if !bytes.HasPrefix(keyUpdate[:], k.Hand) {
		r.hand = otherHand
	}
	if err := r.in.set(s, k.In.Secret, k.In.Seq); err != nil {
		return nil, err
	}
	return r, r.out.set(s, k.Out.Secret, k.Out.Seq)
}

// Keys returns the keys of the connection. The caller wipes them.
func (r *Records) Keys() Keys {
	k := Keys{Suite: r.suite.id, In: r.in.direction(r.suite), Out: r.out.direction(r.suite)}
	switch {
	case r.hand == otherHand:
		k.Hand = []byte{otherHand}
	case r.hand > 0:
		k.Hand = bytes.Clone(keyUpdate[:r.hand])
	}
	return k
}

// Wipe overwrites the keys. The connection cannot be used any more.
func (r *Records) Wipe() { *r = Records{} }

// Rest drops the ciphers, and returns how many bytes of memory they had. The next record in a
// direction makes one again.
func (r *Records) Rest() (bytes int) {
	for _, h := range [...]*halfConn{&r.in, &r.out} {
		if h.aead != nil {
			h.aead = nil
			bytes += r.suite.size
		}
	}
	return bytes
}

// Seal appends data to out, in as few records as possible.
func (r *Records) Seal(out, data []byte) []byte {
	for len(data) > 0 {
		n := min(len(data), tlsrecord.MaxPlaintext)
		out = r.out.seal(r.suite, out, typeApplication, data[:n]...)
		data = data[n:]
	}
	return out
}

// CloseNotify appends the end of the output to out: nothing may be sealed afterwards.
func (r *Records) CloseNotify(out []byte) []byte { return r.alert(out, 1, closeNotify) }

func (r *Records) alert(out []byte, level, code byte) []byte {
	return r.out.seal(r.suite, out, typeAlert, level, code)
}

// Open appends the data of a record to dst, and to out what is to be sent for it: the response to a
// key update, or an alert. record is a whole one with its header, or the header of one that is
// longer than tlsrecord.MaxPayload. After an error nothing can be opened any more: io.EOF is the
// peer's close_notify, any other is an Alert.
func (r *Records) Open(dst, record, out []byte) (data, sent []byte, err error) {
	data, kind, code := r.in.open(r.suite, dst, record)
	content := data[len(dst):]
	if code == 0 {
		switch kind {
		case typeApplication:
			if len(content) > 0 {
				r.useless = 0
			}
			if r.hand > 0 {
				code = unexpectedMessage // within a handshake message (§5.1)
			}
		case typeHandshake:
			out, code = r.handshake(content, out)
		case typeAlert:
			switch {
			case len(content) != 2:
				code = unexpectedMessage
			case content[1] == closeNotify:
				r.ended = true
				return dst, out, io.EOF
			case content[1] != userCanceled:
				return dst, out, Alert{content[1], true}
			}
		default:
			code = unexpectedMessage
		}
	}
	if kind != typeApplication || len(content) == 0 {
		data = dst
		if r.useless++; r.useless > maxUseless && code == 0 {
			code = unexpectedMessage
		}
	}
	if code != 0 {
		return dst, r.alert(out, 2, code), Alert{code, false}
	}
	return data, out, nil
}

// handshake handles a part of a handshake message.
func (r *Records) handshake(b, out []byte) (sent []byte, code uint8) {
	if len(b) == 0 {
		return out, unexpectedMessage
	}
	for i, x := range b {
		switch {
		case r.hand == otherHand:
			return out, unexpectedMessage
		case int(r.hand) < len(keyUpdate):
			if x != keyUpdate[r.hand] {
				return out, unexpectedMessage
			}
			r.hand++
			continue
		case x > 1:
			return out, illegalParameter
		case i+1 < len(b):
			return out, unexpectedMessage // the next message has other keys, so it is in another record (§5.1)
		case x == 1:
			out = r.out.seal(r.suite, out, typeHandshake, keyUpdate[0], keyUpdate[1], keyUpdate[2], keyUpdate[3], 0)
			r.out.update(r.suite)
		}
		r.hand = 0
		r.in.update(r.suite)
	}
	return out, 0
}

// set gives the direction a secret, and what follows from it (§7.3).
func (h *halfConn) set(s *suite, secret []byte, seq uint64) error {
	key, err := s.expand(secret, "key", s.key)
	if err != nil {
		return err
	}
	iv, err := s.expand(secret, "iv", ivLen)
	if err != nil {
		return err
	}
	h.aead, h.seq = nil, seq
	copy(h.secret[:], secret)
	copy(h.key[:], key)
	copy(h.mask[:], iv)
	clear(key)
	clear(iv)
	return nil
}

func (h *halfConn) direction(s *suite) Direction {
	return Direction{append([]byte(nil), h.secret[:s.secret]...), h.seq}
}

// update goes on with the next generation of keys (§7.2).
func (h *halfConn) update(s *suite) {
	next, err := s.expand(h.secret[:s.secret], "traffic upd", s.secret)
	if err == nil {
		err = h.set(s, next, 0)
	}
	if err != nil {
		panic(err) // the lengths are fixed
	}
	clear(next)
}

// ready makes the cipher, if there is none.
func (h *halfConn) ready(s *suite) {
	if h.aead != nil {
		return
	}
	aead, err := s.aead(h.key[:s.key])
	if err != nil {
		panic(err) // the lengths are fixed
	}
	h.aead = aead
}

// nonce has mask be the nonce of the next record, and back (§5.3). It is not copied because what a
// cipher.AEAD gets is on the heap.
func (h *halfConn) nonce() []byte {
	n := binary.BigEndian.Uint64(h.mask[4:])
	binary.BigEndian.PutUint64(h.mask[4:], n^h.seq)
	return h.mask[:]
}

// count ends the use of nonce.
func (h *halfConn) count() {
	h.nonce()
	if h.seq == math.MaxUint64 {
		panic("tlskeys: all numbers of records are used up")
	}
	h.seq++
}

// seal appends a record to out.
func (h *halfConn) seal(s *suite, out []byte, kind byte, content ...byte) []byte {
	h.ready(s)
	size := len(content) + 1 + h.aead.Overhead()
	at := len(out) + tlsrecord.HeaderLen
	out = append(out, typeApplication, 3, 3, byte(size>>8), byte(size))
	out = append(append(out, content...), kind)
	out = h.aead.Seal(out[:at], h.nonce(), out[at:], out[at-tlsrecord.HeaderLen:at])
	h.count()
	return out
}

// open appends the content of a record to dst. code is the alert for one that is invalid.
func (h *halfConn) open(s *suite, dst, record []byte) (data []byte, kind, code uint8) {
	switch n := len(record) - tlsrecord.HeaderLen; {
	case n < 0:
		return dst, 0, decodeError
	case binary.BigEndian.Uint16(record[3:]) > maxSealed:
		return dst, 0, recordOverflow
	case n != int(binary.BigEndian.Uint16(record[3:])):
		return dst, 0, decodeError
	case record[0] != typeApplication:
		return dst, 0, unexpectedMessage
	}
	h.ready(s)
	data, err := h.aead.Open(dst, h.nonce(), record[tlsrecord.HeaderLen:], record[:tlsrecord.HeaderLen])
	if err != nil {
		return dst, 0, badRecordMAC
	}
	h.count()
	end := len(data)
	for end > len(dst) && data[end-1] == 0 {
		end-- // padding (§5.4)
	}
	switch {
	case len(data)-len(dst) > tlsrecord.MaxPlaintext+1:
		return dst, 0, recordOverflow
	case end == len(dst):
		return dst, 0, unexpectedMessage
	}
	return data[:end-1], data[end-1], 0
}

// maxSealed bounds the payload of a record, in bytes (§5.2).
const maxSealed = tlsrecord.MaxPlaintext + 256

// Return gives the connection back to crypto/tls, which reads and writes the rest of it. The keys
// in r are wiped.
func (r *Records) Return(under net.Conn, config *tls.Config) (*tls.Conn, error) {
	k := r.Keys()
	defer k.Wipe()
	ended := r.ended
	r.Wipe()
	c, err := Import(under, config, &k)
	if err == nil && ended {
		tls13.end(c)
	}
	return c, err
}

// Take takes the records of a connection out of crypto/tls, if it can go now: c cannot be used any
// more. raw is what c had read of a record. nil: c stays as it is.
func Take(c *tls.Conn) (r *Records, raw []byte) {
	if now, _ := Can(c); !now {
		return nil, nil
	}
	k, raw := Export(c)
	defer k.Wipe()
	r, err := NewRecords(&k)
	if err != nil {
		panic(err) // Can has checked the suite
	}
	return r, raw
}
