package wsproto

import (
	"compress/flate"
	"errors"
	"io"
	"sync"

	"sluice/pool"
)

// inflateTail is what the decompressor reads behind a message: what its sender
// has cut off (RFC 7692 §7.2.2), and an empty final block, whose end says that
// the message ended between two blocks and not within one.
const inflateTail = syncTail + finalTail

const finalTail = "\x01" + syncTail

// window is how far back a compressed message can refer, in bytes.
const window = 32 << 10

// A message may contain final blocks, and after each another deflate stream
// begins (RFC 7692 §7.2.3.4, §7.2.3.5). To begin one takes as long as inflating
// some hundred bytes, so their number is bounded: by a few and by one in this
// many bytes.
const (
	freeStreams    = 16
	bytesPerStream = 256
)

// packedLimit returns how many bytes a compressed message may have whose text
// has at most limit: incompressible data grows, and a poor compressor may make
// it grow more than it must. The bound is that of zlib's worst settings.
func packedLimit(limit int) int {
	return limit + min(limit/8+limit/64+64, maxLimit-limit)
}

// inflaters are the decompressors that are not at work, some 45 kB each: only a
// message that is complete takes one, and only while it is inflated.
//
// They are the standard library's. The decompressor of klauspost/compress, up to
// a half faster, keeps its Huffman tables when it is used again, and a block that
// defines no code for distances is then read with the one of an earlier message:
// what one client sends must not depend on what another has sent.
var inflaters = sync.Pool{New: func() any {
	z := new(inflater)
	z.flate = flate.NewReader(&z.src)
	return z
}}

// inflater decompresses one message at a time.
type inflater struct {
	src   packedSource
	flate io.ReadCloser // reads src; also a flate.Resetter
	probe [1]byte
}

// packedSource reads a compressed message and the tail behind it, without a copy
// of the two. As it is an io.ByteReader the decompressor takes no byte too many.
type packedSource struct {
	packed []byte
	tail   string
	worth  int // bytes that may be read before more text must have come out
}

// A message may be longer compressed than inflated, but not by far, at any point: blocks with Huffman tables and no
// content would take their time for nothing. So text must come out of what is read.
const (
	freeRead    = 64 << 10 // bytes, the text that is still inside the decompressor allowed for
	readPerText = 4        // bytes for each one of text
)

var errWorthless = errors.New("wsproto: no text comes out of what is compressed")

func (s *packedSource) ReadByte() (byte, error) {
	if s.worth--; s.worth < 0 {
		return 0, errWorthless
	}
	if len(s.packed) > 0 {
		c := s.packed[0]
		s.packed = s.packed[1:]
		return c, nil
	}
	if len(s.tail) > 0 {
		c := s.tail[0]
		s.tail = s.tail[1:]
		return c, nil
	}
	return 0, io.EOF
}

func (s *packedSource) Read(b []byte) (n int, err error) {
	if len(s.packed) > 0 {
		n = copy(b, s.packed)
		s.packed = s.packed[n:]
		s.worth -= n
		return n, nil
	}
	if n = copy(b, s.tail); n == 0 {
		return 0, io.EOF
	}
	s.tail = s.tail[n:]
	return n, nil
}

// left returns how many bytes have not been read.
func (s *packedSource) left() int { return len(s.packed) + len(s.tail) }

// Inflate appends the text of a compressed message, Message.Payload of a Parser
// with KeepCompressed, to dst. The error is ErrMessageTooLarge if the text has more
// than limit bytes, and ErrCompressed if the data is invalid. Any goroutine may
// call it.
func Inflate(dst, payload []byte, limit int) ([]byte, error) {
	out, err := inflate(payload, limit)
	dst = append(dst, out.B...)
	out.Put()
	return dst, err
}

// inflate decompresses a whole message into a buffer of the pool, which the
// caller gives back, also if there is an error: ErrMessageTooLarge beyond limit
// bytes, ErrCompressed if the data is invalid. The buffer grows with what comes
// out and never beyond the limit. Other memory is taken, for a moment, only by
// blocks with Huffman codes of more than nine bits.
//
// A bomb costs no more time than a message that large, 0.2 ms a megabyte of it;
// the worst are blocks that have tables and no content, 150 ms for a message of a
// megabyte, so the limit is also what bounds the time on the caller's loop.
func inflate(packed []byte, limit int) (out *pool.Buffer, err error) {
	z := inflaters.Get().(*inflater)
	z.src = packedSource{packed, inflateTail, freeRead}
	out = pool.GetBuffer(min(4*len(packed), limit))
	streams := freeStreams + len(packed)/bytesPerStream
	for z.src.left() > len(inflateTail) && err == nil {
		if streams--; streams < 0 {
			err = ErrCompressed
			break
		}
		// Nothing says that a final block ends the window, too.
		_ = z.flate.(flate.Resetter).Reset(&z.src, out.B[max(0, len(out.B)-window):])
		out, err = z.stream(out, limit)
	}
	switch z.src.left() {
	case 0: // the usual end
	case len(finalTail): // a final block without content, finished by the tail
	case len(inflateTail): // nothing follows a final block: complete as it is
	default: // within the tail
		if err == nil {
			err = ErrCompressed
		}
	}
	z.src = packedSource{}
	inflaters.Put(z)
	return out, err
}

// stream appends a deflate stream, up to its final block, to out.
func (z *inflater) stream(out *pool.Buffer, limit int) (*pool.Buffer, error) {
	for {
		n, room := len(out.B), min(cap(out.B), limit)
		var err error
		if n < room {
			k, e := z.flate.Read(out.B[n:room])
			out.B, err = out.B[:n+k], e
			z.src.worth += readPerText * k
		} else if n < limit {
			larger := pool.GetBuffer(min(2*n, limit))
			larger.B = append(larger.B, out.B...)
			out.Put()
			out = larger
		} else {
			k, e := z.flate.Read(z.probe[:])
			if k > 0 {
				return out, ErrMessageTooLarge
			}
			err = e
		}
		switch err {
		case nil:
		case io.EOF:
			return out, nil
		default:
			return out, ErrCompressed
		}
	}
}
