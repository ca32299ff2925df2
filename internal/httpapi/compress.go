package httpapi

import (
	"io"
	"slices"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"

	"sluice/internal/timeslice"
)

// Compression levels whose cost in CPU pays off for a body that is encoded again for each request.
const (
	gzipLevel   = 5
	brotliLevel = 4
)

// compressors are the idle encoders of each content coding. Their memory exceeds that of the
// bodies.
var compressors = [codings]*sync.Pool{
	gzipped: {New: func() any {
		w, err := gzip.NewWriterLevel(nil, gzipLevel)
		if err != nil {
			panic(err) // only for an invalid level
		}
		return &compressor{w: w}
	}},
	brotlied: {New: func() any { return &compressor{w: brotli.NewWriterLevel(nil, brotliLevel)} }},
}

// compressor compresses one body at a time. It has one user at a time.
type compressor struct {
	out []byte
	w   interface {
		io.WriteCloser
		Reset(w io.Writer)
	}
}

// Write implements io.Writer for the coding's output.
func (z *compressor) Write(p []byte) (int, error) {
	z.out = append(z.out, p...)
	return len(p), nil
}

// compress returns body in the compressor's coding, valid until the next call. A long body waits
// for a turn of package timeslice.
func (z *compressor) compress(body []byte) (packed []byte, err error) {
	if len(body) <= workHere {
		return z.write(body, func() {})
	}
	timeslice.Do(func(yield func()) { packed, err = z.write(body, yield) })
	return packed, err
}

// yieldBytes is how much of a body is compressed at a time.
const yieldBytes = 8 << 10

func (z *compressor) write(body []byte, yield func()) ([]byte, error) {
	z.out = z.out[:0]
	z.w.Reset(z)
	for part := range slices.Chunk(body, yieldBytes) {
		if _, err := z.w.Write(part); err != nil {
			return nil, err
		}
		yield()
	}
	if err := z.w.Close(); err != nil {
		return nil, err
	}
	return z.out, nil
}

func (z *compressor) free(c coding) {
	if cap(z.out) > maxKept {
		z.out = nil
	}
	compressors[c].Put(z)
}
