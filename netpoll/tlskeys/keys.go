// Package tlskeys takes a connection of TLS 1.3 out of crypto/tls after its handshake, and goes on
// with it: as Records, in a tenth of the memory, and in crypto/tls again, here or in another
// process.
//
// crypto/tls has no API for that: reach.go reads and sets its fields by reflection, for the version
// of Go that it was written for. Check tries all of it, with each cipher suite, against Records. If
// that fails, or if the version of Go is another one, connections stay in crypto/tls. The package
// never does a handshake, and knows neither sockets nor processes.
package tlskeys

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"hash"
	"slices"

	"golang.org/x/crypto/chacha20poly1305"
)

// Keys are what a process needs to go on with a connection, beside its socket and what it has read
// of it. They are in memory only: nothing logs them, and Wipe overwrites them after use.
type Keys struct {
	Suite   uint16 // one of the three that crypto/tls has for TLS 1.3
	In, Out Direction
	Hand    []byte // the beginning of a handshake message, such as a key update in two records
}

// Direction is one direction of the connection, as the process sees it.
type Direction struct {
	Secret []byte // application_traffic_secret_N (RFC 8446 §7.1) of the current generation N
	Seq    uint64 // number of the next record
}

// MaxLen is the most bytes that Append appends.
const MaxLen = 2 + 2*8 + 1 + maxHand + 2*sha512.Size384

// maxHand bounds Keys.Hand, in bytes. A key update, the only message that a client sends after its
// handshake, has five.
const maxHand = 16

const ivLen = 12 // bytes (RFC 8446 §5.3)

// suite is a cipher suite of TLS 1.3.
type suite struct {
	id     uint16
	hash   func() hash.Hash
	secret int // bytes of a traffic secret
	key    int // bytes of a key
	size   int // bytes of memory that a cipher takes
	aead   func(key []byte) (cipher.AEAD, error)
}

var suites = [...]suite{
	{tls.TLS_AES_128_GCM_SHA256, sha256.New, sha256.Size, 16, 768, newGCM},
	{tls.TLS_AES_256_GCM_SHA384, sha512.New384, sha512.Size384, 32, 768, newGCM},
	{tls.TLS_CHACHA20_POLY1305_SHA256, sha256.New, sha256.Size, chacha20poly1305.KeySize, 32, chacha20poly1305.New},
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

// suiteOf returns a suite by its number; nil if there is none.
func suiteOf(id uint16) *suite {
	i := slices.IndexFunc(suites[:], func(s suite) bool { return s.id == id })
	if i < 0 {
		return nil
	}
	return &suites[i]
}

// expand is HKDF-Expand-Label with an empty context (RFC 8446 §7.1).
func (s *suite) expand(secret []byte, label string, size int) ([]byte, error) {
	info := binary.BigEndian.AppendUint16(nil, uint16(size))
	info = append(info, byte(len("tls13 ")+len(label)))
	info = append(append(info, "tls13 "+label...), 0)
	return hkdf.Expand(s.hash, secret, string(info), size)
}

var (
	errSuite = errors.New("the cipher suite of a TLS connection is unknown")
	errKeys  = errors.New("the keys of a TLS connection are malformed")
)

// check returns the suite of k, or what is wrong with k.
func (k *Keys) check() (*suite, error) {
	s := suiteOf(k.Suite)
	switch {
	case s == nil:
		return nil, errSuite
	case len(k.In.Secret) != s.secret, len(k.Out.Secret) != s.secret, len(k.Hand) > maxHand:
		return nil, errKeys
	}
	return s, nil
}

// Append appends k to b, for Parse.
func (k *Keys) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, k.Suite)
	b = binary.BigEndian.AppendUint64(b, k.In.Seq)
	b = binary.BigEndian.AppendUint64(b, k.Out.Seq)
	b = append(b, byte(len(k.Hand)))
	b = append(b, k.Hand...)
	b = append(b, k.In.Secret...)
	return append(b, k.Out.Secret...)
}

// Parse returns the keys at the beginning of b, as copies, and what follows them.
func Parse(b []byte) (k Keys, rest []byte, err error) {
	const fixed = 2 + 2*8 + 1
	if len(b) < fixed {
		return k, nil, errKeys
	}
	k.Suite = binary.BigEndian.Uint16(b)
	k.In.Seq, k.Out.Seq = binary.BigEndian.Uint64(b[2:]), binary.BigEndian.Uint64(b[10:])
	hand := int(b[fixed-1])
	s := suiteOf(k.Suite)
	if s == nil {
		return k, nil, errSuite
	}
	if b = b[fixed:]; hand > maxHand || len(b) < hand+2*s.secret {
		return k, nil, errKeys
	}
	k.Hand = slices.Clone(b[:hand])
	b = b[hand:]
	k.In.Secret, k.Out.Secret = slices.Clone(b[:s.secret]), slices.Clone(b[s.secret:2*s.secret])
	return k, b[2*s.secret:], nil
}

// Wipe overwrites the secrets.
func (k *Keys) Wipe() {
	clear(k.In.Secret)
	clear(k.Out.Secret)
}
