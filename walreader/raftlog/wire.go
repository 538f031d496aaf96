package raftlog

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// ErrWireType says that a field is of another kind than its number asks for. etcd up to
// 3.6 (gogo protobuf) refuses that; protobuf-go since 3.7 takes the field for an
// unknown one.
var ErrWireType = errors.New("wrong wire type")

// fields walks over the fields of one message without allocating. Groups are passed
// over.
type fields struct {
	rest []byte
	num  protowire.Number
	typ  protowire.Type
	n    uint64 // of a varint, 32-bit or 64-bit field
	b    []byte // of a length-delimited field
	err  error
}

// next goes on to the next field. It returns false at the end and at an error.
func (f *fields) next() bool {
	if len(f.rest) == 0 || f.err != nil {
		return false
	}
	var used int
	// One-byte tags and varints are by far the most frequent.
	if c := f.rest[0]; c < 0x80 && c >= 8 {
		f.num, f.typ, used = protowire.Number(c>>3), protowire.Type(c&7), 1
	} else if f.num, f.typ, used = protowire.ConsumeTag(f.rest); used < 0 {
		return f.fail(used)
	} else if f.num > protowire.MaxValidNumber {
		f.err = fmt.Errorf("field %d: no such number", f.num)
		return false
	}
	b := f.rest[used:]
	switch f.typ {
	case protowire.VarintType:
		f.n, used = protowire.ConsumeVarint(b)
	case protowire.BytesType:
		f.b, used = protowire.ConsumeBytes(b)
	case protowire.Fixed64Type:
		f.n, used = protowire.ConsumeFixed64(b)
	case protowire.Fixed32Type:
		var v uint32
		v, used = protowire.ConsumeFixed32(b)
		f.n = uint64(v)
	default:
		used = protowire.ConsumeFieldValue(f.num, f.typ, b)
	}
	if used < 0 {
		return f.fail(used)
	}
	f.rest = b[used:]
	return true
}

func (f *fields) fail(code int) bool {
	f.err = fmt.Errorf("field %d: %w", f.num, protowire.ParseError(code))
	return false
}

// is says whether the field has the given number and type. A known number with
// another type is an error, because it changes what the message says.
func (f *fields) is(num protowire.Number, typ protowire.Type) bool {
	if f.num != num {
		return false
	}
	if f.typ != typ {
		f.err = fmt.Errorf("field %d: %w %d", num, ErrWireType, f.typ)
		return false
	}
	return true
}

func (f *fields) varint(num protowire.Number) bool { return f.is(num, protowire.VarintType) }
func (f *fields) bytes(num protowire.Number) bool  { return f.is(num, protowire.BytesType) }

// numbers appends the values of a repeated integer field, packed or not. It
// stops at limit values and says so.
func (f *fields) numbers(to []uint64, limit int) []uint64 {
	switch f.typ {
	case protowire.VarintType:
		to = append(to, f.n)
	case protowire.BytesType:
		for b := f.b; len(b) > 0 && f.err == nil; {
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				f.fail(n)
				return to
			}
			to, b = append(to, v), b[n:]
			if len(to) > limit {
				break
			}
		}
	default:
		f.err = fmt.Errorf("field %d: %w %d", f.num, ErrWireType, f.typ)
	}
	if len(to) > limit && f.err == nil {
		f.err = fmt.Errorf("field %d: more than %d values", f.num, limit)
	}
	return to
}
