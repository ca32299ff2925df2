package wsproto

import (
	"compress/flate"
	"errors"
	"io"
	"sync"

	"sluice/pool"
)

// inflateTail is what the decompressor reads after a message: the tail that the sender cut off (RFC
// 7692 §7.2.2), and an empty final block. Reading that block to its end shows that the message
// ended between two blocks.
const inflateTail = syncTail + finalTail

const finalTail = "\x01" + syncTail

// window is how far back a compressed message can refer, in bytes.
const window = 32 << 10

// A message may contain final blocks, and another deflate stream begins after each (RFC 7692
// §7.2.3.4, §7.2.3.5). Starting a stream takes as long as inflating about a hundred bytes. So their
// number is bounded: freeStreams, and one more per bytesPerStream bytes of the message.
const (
	freeStreams    = 16
	bytesPerStream = 256
)

// packedLimit returns the maximum length of a compressed message whose text has at most limit
// bytes. Incompressible data grows, most with zlib's worst settings, which the bound allows for.
func packedLimit(limit int) int {
	return limit + min(limit/8+limit/64+64, maxLimit-limit)
}

// inflaters pools the idle decompressors, about 45 kB each. A message takes one only once it is
// complete, and only while it is inflated.
//
// They are those of the standard library. The decompressor of klauspost/compress is up to 50 %
// faster, but its Reset retains the Huffman tables. A block that defines no distance code would
// then be decoded with that of an earlier message, possibly another client's.
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

// packedSource reads a compressed message and the tail after it without copying them. Since it is
// an io.ByteReader, the decompressor does not read ahead.
type packedSource struct {
	packed []byte
	tail   string
	worth  int    // bytes that may be read before the decompressor must return more text
	yield  func() // called each yieldBytes, if not nil
	until  int    // bytes until then
}

// yieldBytes is how many bytes take 0.2 ms to inflate at most.
const yieldBytes = 2 << 10

// At no point may the compressed input be much longer than the text so far. Otherwise blocks with
// Huffman tables and no content would cost time without bound.
const (
	freeRead    = 64 << 10 // bytes, including those whose text the decompressor still buffers
	readPerText = 4        // bytes of input per byte of text
)

var errWorthless = errors.New("wsproto: no text comes out of what is compressed")

func (s *packedSource) ReadByte() (byte, error) {
	if s.worth--; s.worth < 0 {
		return 0, errWorthless
	}
	if s.until--; s.until < 0 {
		s.until = yieldBytes
		if s.yield != nil {
			s.yield()
		}
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

// left returns the number of unread bytes.
func (s *packedSource) left() int { return len(s.packed) + len(s.tail) }

// inflate decompresses a whole message into a pooled buffer, which the caller releases, even after
// an error: ErrMessageTooLarge beyond limit bytes, ErrCompressed if the data is invalid. The buffer
// grows with the text and never beyond the limit. Only blocks with Huffman codes of more than nine
// bits allocate other memory, until the end of the message.
//
// A decompression bomb takes no more time than any message of that size, 0.2 ms per megabyte of
// text. Blocks with tables and no content take the longest, so freeRead and readPerText bound their
// length.
//
// yield is called every 0.2 ms or more often, unless it is nil.
func inflate(packed []byte, limit int, yield func()) (out *pool.Buffer, err error) {
	z := inflaters.Get().(*inflater)
	z.src = packedSource{packed: packed, tail: inflateTail, worth: freeRead, yield: yield, until: yieldBytes}
	out = pool.GetBuffer(min(4*len(packed), limit))
	streams := freeStreams + len(packed)/bytesPerStream
	for z.src.left() > len(inflateTail) && err == nil {
		if streams--; streams < 0 {
			err = ErrCompressed
			break
		}
		// No rule says that a final block also ends the window.
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
			if z.src.yield != nil {
				z.src.yield()
			}
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
