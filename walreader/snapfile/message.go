package snapfile

import (
	"errors"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"
)

// A field is one field of a message that is not in memory.
type field struct {
	num  protowire.Number
	typ  protowire.Type
	n    uint64 // of a varint
	body extent // of a length-delimited field
}

// maxFields bounds the fields of one message, because each costs a read. etcd
// writes three at most.
const maxFields = 10000

// maxHead is the most that a tag and a varint take.
const maxHead = 20

// machineError tells a failed read from bytes that are wrong.
type machineError struct{ error }

func (e machineError) Unwrap() error { return e.error }

// message visits the fields of the message in e. Bytes that are wrong, and what
// visit finds wrong, become a fault of the given kind and end the message;
// the result is then false. The error is a failed read.
func (r *reader) message(e extent, kind FaultKind, visit func(field) error) (bool, error) {
	var buf [maxHead]byte
	for off, n := e.off, 0; off < e.end; n++ {
		if n == maxFields {
			r.fault(FaultLimit, off, fmt.Errorf("more than %d fields", maxFields))
			return false, nil
		}
		b := buf[:min(maxHead, e.end-off)]
		if err := r.readAt(b, off); err != nil {
			return false, err
		}
		fd, size, err := readField(b, off, e.end)
		if err == nil {
			err = visit(fd)
		}
		var failed machineError
		switch {
		case errors.As(err, &failed):
			return false, failed.error
		case errors.Is(err, io.ErrUnexpectedEOF) && kind == FaultFrame:
			r.fault(FaultTruncated, off, err)
			return false, nil
		case err != nil:
			r.fault(kind, off, err)
			return false, nil
		}
		off += size
	}
	return true, nil
}

// readField reads a tag and a varint, or the place of the bytes, from b, which
// stands at off of a message that ends at end. The size is that of the whole field.
func readField(b []byte, off, end int64) (field, int64, error) {
	num, typ, n := protowire.ConsumeTag(b)
	if n < 0 {
		return field{}, 0, protowire.ParseError(n)
	}
	if num > protowire.MaxValidNumber {
		return field{}, 0, fmt.Errorf("field %d: no such number", num)
	}
	fd := field{num: num, typ: typ}
	size := int64(n)
	switch typ {
	case protowire.VarintType, protowire.BytesType:
		fd.n, n = protowire.ConsumeVarint(b[size:])
		if n < 0 {
			return fd, 0, protowire.ParseError(n)
		}
		size += int64(n)
	case protowire.Fixed64Type:
		size += 8
	case protowire.Fixed32Type:
		size += 4
	default:
		return fd, 0, fmt.Errorf("field %d: wire type %d", num, typ)
	}
	if left := end - off - size; left < 0 || typ == protowire.BytesType && fd.n > uint64(left) {
		return fd, 0, fmt.Errorf("field %d: need %d bytes, %d remain: %w", num, fd.n, max(left, 0), io.ErrUnexpectedEOF)
	}
	if typ == protowire.BytesType {
		fd.body = extent{off + size, off + size + int64(fd.n)}
		size += int64(fd.n)
	}
	return fd, size, nil
}

// readAt fills b.
func (r *reader) readAt(b []byte, off int64) error {
	if err := r.ctx.Err(); err != nil {
		return err
	}
	n, err := r.src.ReadAt(b, off)
	if r.opts.Progress != nil && n > 0 {
		r.opts.Progress(int64(n))
	}
	if n == len(b) {
		return nil
	}
	if err == nil || err == io.EOF {
		err = io.ErrUnexpectedEOF // shorter than it was said to be
	}
	return fmt.Errorf("read at 0x%x: %w", off+int64(n), err)
}
