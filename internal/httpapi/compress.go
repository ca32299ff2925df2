package httpapi

import (
	"io"
	"sync"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/gzip"
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

// compress returns body in the compressor's coding, valid until the next call.
func (z *compressor) compress(body []byte) ([]byte, error) {
	z.out = z.out[:0]
	z.w.Reset(z)
	if _, err := z.w.Write(body); err != nil {
		return nil, err
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
