package scan

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
)

// Digest gives the SHA-256 of size bytes of r, for files that hold nothing to
// scan.
func Digest(ctx context.Context, r io.ReaderAt, size int64) (sum [sha256.Size]byte, err error) {
	h := sha256.New()
	b := make([]byte, min(size, chunkSize))
	for at := int64(0); at < size; at += int64(len(b)) {
		if err := ctx.Err(); err != nil {
			return sum, err
		}
		b = b[:min(int64(len(b)), size-at)]
		if n, err := r.ReadAt(b, at); n < len(b) {
			return sum, fmt.Errorf("read %d bytes at %d: %w", len(b), at, err)
		}
		h.Write(b)
	}
	h.Sum(sum[:0])
	return sum, nil
}
