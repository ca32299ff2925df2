package netpoll

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"

	"sluice/netpoll/tlsrecord"
	"sluice/wsproto"
)

// recordLayer is TLS 1.3 after the handshake, written down once more (RFC 8446 §5 and §7):
// crypto/tls has no way to ask it for a key update.
type recordLayer struct {
	t       *testing.T
	net     net.Conn
	hash    func() hash.Hash
	keySize int
	aead    func(key []byte) (cipher.AEAD, error)
	in, out direction
}

type direction struct {
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	seq    uint64
}

// takeOver goes on where a client's handshake has ended.
func takeOver(t *testing.T, raw net.Conn, state tls.ConnectionState, keys string) *recordLayer {
	r := &recordLayer{t: t, net: raw, hash: sha256.New, keySize: 16, aead: newGCM}
	switch state.CipherSuite {
	case tls.TLS_AES_128_GCM_SHA256:
	case tls.TLS_AES_256_GCM_SHA384:
		r.hash, r.keySize = sha512.New384, 32
	case tls.TLS_CHACHA20_POLY1305_SHA256:
		r.keySize, r.aead = chacha20poly1305.KeySize, chacha20poly1305.New
	default:
		t.Fatalf("cipher suite %s is not known here", tls.CipherSuiteName(state.CipherSuite))
	}
	for line := range strings.Lines(keys) {
		if f := strings.Fields(line); len(f) == 3 {
			secret, _ := hex.DecodeString(f[2])
			switch f[0] {
			case "CLIENT_TRAFFIC_SECRET_0":
				r.rekey(&r.out, secret)
			case "SERVER_TRAFFIC_SECRET_0":
				r.rekey(&r.in, secret)
			}
		}
	}
	return r
}

func (r *recordLayer) expand(secret []byte, label string, size int) []byte {
	info := binary.BigEndian.AppendUint16(nil, uint16(size))
	info = append(info, byte(len("tls13 "+label)))
	info = append(info, "tls13 "+label+"\x00"...)
	key, err := hkdf.Expand(r.hash, secret, string(info), size)
	if err != nil {
		r.t.Fatal(err)
	}
	return key
}

func (r *recordLayer) rekey(d *direction, secret []byte) {
	aead, err := r.aead(r.expand(secret, "key", r.keySize))
	if err != nil {
		r.t.Fatal(err)
	}
	*d = direction{secret: secret, aead: aead, iv: r.expand(secret, "iv", 12)}
}

func newGCM(key []byte) (cipher.AEAD, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (r *recordLayer) next(d *direction) {
	r.rekey(d, r.expand(d.secret, "traffic upd", r.hash().Size()))
}

func (d *direction) nonce() []byte {
	n := bytes.Clone(d.iv)
	seq := binary.BigEndian.AppendUint64(nil, d.seq)
	for i, b := range seq {
		n[4+i] ^= b
	}
	d.seq++
	return n
}

const (
	typeHandshake   = 22
	typeApplication = 23
)

func (r *recordLayer) record(kind byte, content []byte) []byte {
	plain := append(bytes.Clone(content), kind)
	head := []byte{typeApplication, 3, 3, 0, 0}
	binary.BigEndian.PutUint16(head[3:], uint16(len(plain)+r.out.aead.Overhead()))
	return r.out.aead.Seal(head, r.out.nonce(), plain, head)
}

func (r *recordLayer) receive() (kind byte, content []byte) {
	r.t.Helper()
	head := make([]byte, tlsrecord.HeaderLen)
	if _, err := io.ReadFull(r.net, head); err != nil {
		r.t.Fatal(err)
	}
	body := make([]byte, binary.BigEndian.Uint16(head[3:]))
	if _, err := io.ReadFull(r.net, body); err != nil {
		r.t.Fatal(err)
	}
	plain, err := r.in.aead.Open(nil, r.in.nonce(), body, head)
	if err != nil {
		r.t.Fatal(err)
	}
	plain = bytes.TrimRight(plain, "\x00")
	return plain[len(plain)-1], plain[:len(plain)-1]
}

// TestTLSKeyUpdate updates keys in both directions, on request and not, with messages in pieces.
func TestTLSKeyUpdate(t *testing.T) {
	s := serveTLS(t, nil)
	raw := dial(t, s.Addr())
	var keys bytes.Buffer
	config := clientTLS(tls.VersionTLS13)
	config.KeyLogWriter = &keys
	config.SessionTicketsDisabled = true // no ticket comes between
	conn := tls.Client(raw, config)
	if err := conn.Handshake(); err != nil {
		t.Fatal(err)
	}
	r := takeOver(t, raw, conn.ConnectionState(), keys.String())
	sent := func(records ...[]byte) {
		for _, b := range records {
			raw.send(b)
		}
	}
	echo := func(text string) {
		t.Helper()
		kind, got := r.receive()
		if want := wsproto.AppendFrame(nil, wsproto.OpText, []byte(text)); kind != typeApplication || !bytes.Equal(got, want) {
			t.Fatalf("got type %d %q, want %q", kind, got, want)
		}
	}
	sent(r.record(typeApplication, []byte(upgradeHead("/ws", ""))))
	var kind byte
	for kind != typeApplication { // a ticket may come first
		kind, _ = r.receive()
	}
	sent(r.record(typeApplication, masked(wsproto.OpText, "one")))
	echo("one")
	for range 3 {
		for _, requested := range []byte{0, 1} {
			update := []byte{24, 0, 0, 1, requested}
			first := r.record(typeHandshake, update[:2])
			second := r.record(typeHandshake, update[2:])
			sent(first, second[:3], second[3:])
			r.next(&r.out)
			sent(r.record(typeApplication, masked(wsproto.OpText, "two")))
			if requested == 1 {
				if kind, got := r.receive(); kind != typeHandshake || !bytes.Equal(got, []byte{24, 0, 0, 1, 0}) {
					t.Fatalf("got type %d % x, want a key update", kind, got)
				}
				r.next(&r.in)
			}
			echo("two")
		}
	}
	// Without anything to say but the update's answer.
	sent(r.record(typeHandshake, []byte{24, 0, 0, 1, 1}))
	if kind, _ := r.receive(); kind != typeHandshake {
		t.Fatalf("got type %d, want a key update", kind)
	}
	// Updates without end are an attack.
	r.next(&r.in)
	for range 40 {
		r.next(&r.out)
		if _, err := raw.Write(r.record(typeHandshake, []byte{24, 0, 0, 1, 0})); err != nil {
			break
		}
	}
	s.wantClosed(CloseAbnormal, CauseTLS)
}
