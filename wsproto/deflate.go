package wsproto

import (
	"bytes"
	"errors"
	"sync"

	"github.com/klauspost/compress/flate"
)

// DeflateThreshold is the length, in bytes, below which a message is never compressed. Compression
// saves a quarter of 200 bytes of JSON. These 50 bytes are about the size of the TCP/IP headers,
// and each receiver must inflate the message. At 300 bytes compression saves half.
const DeflateThreshold = 256

// deflateLevel is the compression level. For messages of up to a few kilobytes all levels yield
// nearly the same size in nearly the same time, 5 to 20 µs, most of it for the Huffman codes.
// Larger messages are mostly responses to one client rather than events for many. Higher levels
// make them at most a seventh smaller, and take at least a third longer: see
// BenchmarkDeflateLevels.
const deflateLevel = 3

// syncTail is the end of the output of a Z_SYNC_FLUSH. A message is sent without it (RFC 7692
// §7.2.1).
const syncTail = "\x00\x00\xff\xff"

// deflaters pools the idle compressors, about 1.2 MB each. In steady state there is one for each
// goroutine that compresses; the garbage collector frees the unused ones.
var deflaters = sync.Pool{New: func() any {
	d := new(deflater)
	w, err := flate.NewWriter(d, deflateLevel)
	if err != nil {
		panic(err) // the level is a constant
	}
	d.flate = w
	return d
}}

// deflater compresses one message at a time to the end of a slice.
type deflater struct {
	flate *flate.Writer
	out   []byte
	most  int // bound of len(out)
}

var errNoGain = errors.New("wsproto: compression does not pay")

// Write implements io.Writer for the compressor's output.
func (d *deflater) Write(b []byte) (int, error) {
	if len(d.out)+len(b) > d.most {
		return 0, errNoGain
	}
	d.out = append(d.out, b...)
	return len(b), nil
}

// appendPacked appends payload in the form of permessage-deflate. ok reports whether that is
// shorter; if not, only the bytes of dst are valid. It writes at most len(payload) bytes, including
// the tail that it cuts off.
func appendPacked(dst, payload []byte) (packed []byte, ok bool) {
	d := deflaters.Get().(*deflater)
	d.out, d.most = dst, len(dst)+len(payload)
	d.flate.Reset(d)
	_, err := d.flate.Write(payload)
	if err == nil {
		err = d.flate.Flush()
	}
	packed, d.out = d.out, nil
	deflaters.Put(d)
	if err != nil || !bytes.HasSuffix(packed[len(dst):], []byte(syncTail)) {
		return packed, false
	}
	return packed[:len(packed)-len(syncTail)], true
}

// AppendDeflated appends a server's frame, final and not masked, for clients that negotiated
// permessage-deflate (RFC 7692 §6.1, §7.2.1). op is OpText or OpBinary. The frame does not depend
// on earlier frames, so all these clients can share it. A payload shorter than DeflateThreshold, or
// that compression does not shorten, yields a plain frame.
//
// It takes microseconds for an event, and about 2 ms for a megabyte. It does not allocate if dst
// has room for MaxHeader+len(payload) bytes. It is safe for concurrent use.
func AppendDeflated(dst []byte, op Op, payload []byte) []byte {
	if len(payload) < DeflateThreshold {
		return AppendFrame(dst, op, payload)
	}
	var header [MaxHeader]byte
	at := len(dst)
	body := at + HeaderLen(len(payload)) // at least the header of a shorter payload
	dst, ok := appendPacked(append(dst, header[:body-at]...), payload)
	if !ok {
		return AppendFrame(dst[:at], op, payload)
	}
	packed := dst[body:]
	dst = appendHeader(dst[:at], bitFin|bitRsv1|byte(op), 0, len(packed))
	return append(dst, packed...) // moves the payload down if the header is shorter
}
