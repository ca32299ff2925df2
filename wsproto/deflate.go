package wsproto

import (
	"bytes"
	"errors"
	"sync"

	"github.com/klauspost/compress/flate"
)

// DeflateThreshold is the length, in bytes, below which a message is sent plain
// to those who negotiated compression, too. JSON of 200 bytes loses a fourth,
// some 50 bytes, which is about what the network's own headers around it take,
// and each receiver pays for that with an inflation; at 300 bytes it is half.
const DeflateThreshold = 256

// deflateLevel is the compressor's level. Messages of up to some kilobytes come
// out nearly the same at all levels, for nearly the same time, 5 to 20 µs: most of
// it goes into the Huffman codes. For larger ones, which are answers to one client
// more often than events for many, the next levels leave up to a seventh less for
// a third more time and more. BenchmarkDeflateLevels has the figures.
const deflateLevel = 3

// syncTail ends whatever a Z_SYNC_FLUSH writes. A message is sent without it
// (RFC 7692 §7.2.1).
const syncTail = "\x00\x00\xff\xff"

// deflaters are the compressors that are not at work, about 1.2 MB each: in
// steady state one for each goroutine that compresses, and none once nobody does.
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
	most  int // len(out) may not go beyond
}

var errNoGain = errors.New("wsproto: compression does not pay")

// Write is called by the compressor with what it has made.
func (d *deflater) Write(b []byte) (int, error) {
	if len(d.out)+len(b) > d.most {
		return 0, errNoGain
	}
	d.out = append(d.out, b...)
	return len(b), nil
}

// appendPacked appends payload as permessage-deflate sends it. ok is false if
// that is not shorter; then only the bytes of dst are of use. It does not write
// beyond len(payload) bytes, the tail that it cuts off included.
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

// AppendDeflated appends a server's frame, final and not masked, for clients
// with whom permessage-deflate was negotiated (RFC 7692 §6.1, §7.2.1): op is
// OpText or OpBinary. The frame depends on nothing that was sent before, so it
// can be shared by all of them. It is a plain one if the payload is shorter than
// DeflateThreshold or does not get shorter.
//
// It costs microseconds for an event, and grows with the payload: about 2 ms a
// megabyte. It does not allocate if dst has room for MaxHeader+len(payload)
// bytes. Any goroutine may call it.
func AppendDeflated(dst []byte, op Op, payload []byte) []byte {
	if len(payload) < DeflateThreshold {
		return AppendFrame(dst, op, payload)
	}
	var header [MaxHeader]byte
	at := len(dst)
	body := at + HeaderLen(len(payload)) // enough also for what is shorter
	dst, ok := appendPacked(append(dst, header[:body-at]...), payload)
	if !ok {
		return AppendFrame(dst[:at], op, payload)
	}
	packed := dst[body:]
	dst = appendHeader(dst[:at], bitFin|bitRsv1|byte(op), 0, len(packed))
	return append(dst, packed...) // moves it down if its header is shorter
}
