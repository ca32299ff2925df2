//go:build linux

package hostile

import (
	"bytes"
	"compress/flate"
	"encoding/binary"
	"encoding/hex"
	"math/rand/v2"

	"sluice/wsproto"
)

// usualSize is the length of a message, in bytes: what gateways take by default, at most.
const usualSize = 1 << 20

// message is a frame that is sent some times in a row. wire holds it masked.
type message struct {
	wire  []byte
	times int
}

// script is what a connection sends: the opening again and again would never end it, so one of the
// endings follows, each connection another.
type script struct {
	opening []message // valid frames, of text that is no request
	endings [][]byte  // frames that a server must close the connection for
}

// scriptOf returns the script of an attack, with messages of a size.
func scriptOf(attack string, size int) script {
	rng := rand.New(rand.NewPCG(1, 2))
	frame := func(first byte, payload []byte) []byte {
		var key [4]byte
		binary.LittleEndian.PutUint32(key[:], rng.Uint32())
		wire := wsproto.AppendMaskedFrame(nil, true, wsproto.OpText, payload, key)
		wire[0] |= first
		return wire
	}
	noise := make([]byte, size)
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	if attack == Plain {
		return script{
			opening: []message{{frame(0, numbers(size)), 12}, {frame(0, words(rng, size)), 4}},
			endings: [][]byte{frame(0, noise), frame(0, append(numbers(size), ' '))},
		}
	}
	const compressed = 0x40 // RSV1, RFC 7692 section 6
	return script{
		opening: []message{
			{frame(compressed, deflate(numbers(size))), 12}, // a thousandth on the wire
			{frame(compressed, deflate(words(rng, size))), 4},
			{frame(compressed, costly(size)), 2},
		},
		endings: [][]byte{
			frame(compressed, bomb(max(700*size>>20, 1))), // as long as a frame may be
			frame(compressed, append(bytes.Repeat(tables, (size-1)/len(tables)), 0)),
			frame(compressed, noise),
		},
	}
}

// numbers returns a request without a method, as long as asked, with as many values as fit.
func numbers(n int) []byte {
	const head, tail = `{"id":1,"params":[0`, `]}`
	b := append(make([]byte, 0, n+1), head...)
	for len(b) < n-len(tail)-1 {
		b = append(b, ",0"...)
	}
	b = append(b, tail...)
	return append(b, bytes.Repeat([]byte(" "), n-len(b))...)
}

// words returns JSON of strings that compress to about half.
func words(rng *rand.Rand, n int) []byte {
	b := append(make([]byte, 0, n+1), `{"id":1,"params":["`...)
	for len(b) < n-40 {
		b = hex.AppendEncode(b, binary.LittleEndian.AppendUint64(nil, rng.Uint64()))
		b = append(b, `","`...)
	}
	b = append(b, `"]}`...)
	return append(b, bytes.Repeat([]byte(" "), n-len(b))...)
}

// tables is four blocks of deflate with Huffman tables and no text, a whole number of bytes.
var tables = must(hex.DecodeString("04c081000000000090ff6b100007020000000040feaf41001c080000000000f9bf060170200000000000e4ff1a"))

func must(b []byte, err error) []byte {
	if err != nil {
		panic(err) // of a constant
	}
	return b
}

// costly returns a compressed message that takes long to inflate for the length of its text, since
// it is full of Huffman tables that are never used. More than half is text: a server may give up on
// what is compressed and yields little.
func costly(n int) []byte {
	text := bytes.Repeat([]byte("[0,0,"), 12)
	b := make([]byte, 0, n)
	for len(b)+len(tables)+5+len(text) < n {
		b = append(b, tables...)
		b = append(b, 0) // a stored block, RFC 1951 section 3.2.4
		b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
		b = binary.LittleEndian.AppendUint16(b, ^uint16(len(text)))
		b = append(b, text...)
	}
	return append(b, 0) // an empty block, whose end the tail of a message is (RFC 7692 section 7.2.2)
}

const syncTail = "\x00\x00\xff\xff" // of a flush, cut off at the end of a message (RFC 7692 section 7.2.1)

// deflate compresses a message.
func deflate(text []byte) []byte {
	return bytes.TrimSuffix(flushed(text, 1), []byte(syncTail))
}

// bomb returns a compressed message of so many mebibytes of text, a thousandth as long.
func bomb(mebibytes int) []byte {
	zeros := make([]byte, 1<<20)
	first, both := flushed(zeros, 1), flushed(zeros, 2)
	again := both[len(first):] // refers to text of the same kind before it
	return bytes.TrimSuffix(append(first, bytes.Repeat(again, mebibytes-1)...), []byte(syncTail))
}

// flushed compresses a text so many times, with a flush after each.
func flushed(text []byte, times int) []byte {
	var packed bytes.Buffer
	z, err := flate.NewWriter(&packed, flate.BestSpeed)
	for range times {
		if err == nil {
			_, err = z.Write(text)
		}
		if err == nil {
			err = z.Flush()
		}
	}
	if err != nil {
		panic(err) // the level is a constant, and a bytes.Buffer takes all
	}
	return packed.Bytes()
}
