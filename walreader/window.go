package walreader

import (
	"context"
	"fmt"
	"io"
)

// chunkSize is the number of bytes asked for in one read.
const chunkSize = 1 << 20

// A window gives access to a file through one buffer, which is filled a chunk
// at a time and grows only for a frame that is longer.
type window struct {
	ctx      context.Context
	src      io.ReaderAt
	size     int64
	progress func(int64)

	buf []byte // the bytes at off
	off int64
}

// at gives the n bytes at off, which must lie inside the file. They are valid
// until the next call.
func (w *window) at(off int64, n int64) ([]byte, error) {
	if d := off - w.off; d >= 0 && n <= int64(len(w.buf))-d {
		return w.buf[d : d+n : d+n], nil
	}
	if err := w.fill(off, n); err != nil {
		return nil, err
	}
	return w.buf[:n:n], nil
}

// fill makes the buffer start at off and hold n bytes or more.
func (w *window) fill(off, n int64) error {
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if off < 0 || n < 0 || n > w.size-off {
		return fmt.Errorf("read of %d bytes at 0x%x beyond the end 0x%x", n, off, w.size)
	}
	want := min(max(n, chunkSize), w.size-off)
	keep := 0
	if d := off - w.off; d >= 0 && d < int64(len(w.buf)) {
		keep = copy(w.buf, w.buf[d:])
	}
	if int64(cap(w.buf)) < want {
		grown := make([]byte, keep, want)
		copy(grown, w.buf[:keep])
		w.buf = grown
	}
	w.buf, w.off = w.buf[:want], off
	m, err := w.src.ReadAt(w.buf[keep:], off+int64(keep))
	if w.progress != nil && m > 0 {
		w.progress(int64(m))
	}
	if keep+m < len(w.buf) {
		w.buf = w.buf[:keep+m]
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF // shorter than it was said to be
		}
		return fmt.Errorf("read at 0x%x: %w", off+int64(keep+m), err)
	}
	return nil
}

// peek copies up to len(p) bytes at off without moving the window.
func (w *window) peek(p []byte, off int64) ([]byte, error) {
	if off < 0 || off >= w.size {
		return nil, nil
	}
	p = p[:min(int64(len(p)), w.size-off)]
	if d := off - w.off; d >= 0 && int64(len(p)) <= int64(len(w.buf))-d {
		return w.buf[d : d+int64(len(p))], nil
	}
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	m, err := w.src.ReadAt(p, off)
	if m < len(p) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("read at 0x%x: %w", off+int64(m), err)
	}
	return p, nil
}

// nonZero gives the place of the first byte at off or after it that is not
// zero, or the size of the file.
func (w *window) nonZero(off int64) (int64, error) {
	for off < w.size {
		n := min(chunkSize, w.size-off)
		if d := off - w.off; d >= 0 && d < int64(len(w.buf)) {
			n = min(n, int64(len(w.buf))-d)
		}
		b, err := w.at(off, n)
		if err != nil {
			return off, err
		}
		if i := firstNonZero(b); i < len(b) {
			return off + int64(i), nil
		}
		off += n
	}
	return w.size, nil
}

// firstNonZero gives the place of the first byte that is not zero, or len(b).
func firstNonZero(b []byte) int {
	i := 0
	for ; i+8 <= len(b); i += 8 {
		if b[i]|b[i+1]|b[i+2]|b[i+3]|b[i+4]|b[i+5]|b[i+6]|b[i+7] != 0 {
			break
		}
	}
	for i < len(b) && b[i] == 0 {
		i++
	}
	return i
}
