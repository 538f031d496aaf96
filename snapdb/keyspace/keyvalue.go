package keyspace

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// A KeyValue is one version of a key. Key and Value lie in the decoded bytes.
//
// Fields of mvccpb.KeyValue (etcd v3.7.3, api/mvccpb/kv.proto): 1 key,
// 2 create_revision, 3 mod_revision, 4 version, 5 value, 6 lease. A tombstone
// holds the key alone. The record that `snapshot restore --bump-revision` adds is
// empty.
type KeyValue struct {
	Key, Value     []byte
	CreateRevision int64 // main revision that created this incarnation of the key
	ModRevision    int64 // main revision of this version
	Version        int64 // versions since creation, 1 for the first
	Lease          int64 // 0 for none
}

var errKeyValue = errors.New("not a key-value message")

// DecodeKeyValue reads a value of bucket key without allocating. It accepts
// exactly what the decoder of etcd 3.7 accepts: fields in any order, the last of a
// repeated one wins, unknown ones are skipped.
func DecodeKeyValue(b []byte) (KeyValue, error) {
	var kv KeyValue
	if b = decodeUsual(b, &kv); len(b) == 0 {
		return kv, nil
	}
	return kv, decodeFields(b, &kv)
}

// Append writes kv as etcd does: fields by number, without those that are zero.
func (kv *KeyValue) Append(b []byte) []byte {
	bytesField := func(num protowire.Number, v []byte) {
		if len(v) > 0 {
			b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), v)
		}
	}
	numberField := func(num protowire.Number, v int64) {
		if v != 0 {
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), uint64(v))
		}
	}
	bytesField(1, kv.Key)
	numberField(2, kv.CreateRevision)
	numberField(3, kv.ModRevision)
	numberField(4, kv.Version)
	bytesField(5, kv.Value)
	numberField(6, kv.Lease)
	return b
}

// decodeUsual reads the fields that etcd writes, in the order in which it writes
// them, and gives what is left.
func decodeUsual(b []byte, kv *KeyValue) []byte {
	if len(b) > 1 && b[0] == 1<<3|2 && b[1] < 0x80 && int(b[1]) <= len(b)-2 {
		n := 2 + int(b[1])
		kv.Key = b[2:n:n]
		b = b[n:]
	}
	if v, n := shortVarint(b, 2<<3); n > 0 {
		kv.CreateRevision, b = v, b[n:]
	}
	if v, n := shortVarint(b, 3<<3); n > 0 {
		kv.ModRevision, b = v, b[n:]
	}
	if v, n := shortVarint(b, 4<<3); n > 0 {
		kv.Version, b = v, b[n:]
	}
	if len(b) > 2 && b[0] == 5<<3|2 {
		if v, n := consumeBytes(b[1:]); n > 0 {
			kv.Value = v
			b = b[1+n:]
		}
	}
	return b
}

// shortVarint reads a field with the given tag whose number takes at most six
// bytes. n is 0 when there is none, or fewer than eight bytes are left.
func shortVarint(b []byte, tag byte) (v int64, n int) {
	if len(b) < 8 || b[0] != tag {
		return 0, 0
	}
	if b[1] < 0x80 {
		return int64(b[1]), 2
	}
	v = int64(b[1] & 0x7f)
	for n = 2; n < 7; n++ {
		v |= int64(b[n]&0x7f) << (7 * (n - 1))
		if b[n] < 0x80 {
			return v, n + 1
		}
	}
	return 0, 0
}

// decodeFields reads fields in any order into kv.
func decodeFields(b []byte, kv *KeyValue) error {
	for len(b) > 0 {
		tag := b[0]
		switch tag {
		case 1<<3 | 2, 5<<3 | 2:
			v, n := consumeBytes(b[1:])
			if n < 0 {
				return errKeyValue
			}
			if tag == 1<<3|2 {
				kv.Key = v
			} else {
				kv.Value = v
			}
			b = b[1+n:]
		case 2 << 3, 3 << 3, 4 << 3, 6 << 3:
			v, n := protowire.ConsumeVarint(b[1:])
			if n < 0 {
				return errKeyValue
			}
			switch tag >> 3 {
			case 2:
				kv.CreateRevision = int64(v)
			case 3:
				kv.ModRevision = int64(v)
			case 4:
				kv.Version = int64(v)
			case 6:
				kv.Lease = int64(v)
			}
			b = b[1+n:]
		default:
			num, typ, n := protowire.ConsumeTag(b)
			if n < 0 || num > protowire.MaxValidNumber {
				return errKeyValue
			}
			if n > 1 && num <= 6 {
				// A known field with an overlong tag: rare enough to be spelled
				// again in its short form.
				rest, ok := shortTag(b[n:], num, typ)
				if !ok {
					return errKeyValue
				}
				if err := mergeKeyValue(kv, rest); err != nil {
					return err
				}
			}
			m := protowire.ConsumeFieldValue(num, typ, b[n:])
			if m < 0 {
				return errKeyValue
			}
			b = b[n+m:]
		}
	}
	return nil
}

func consumeBytes(b []byte) ([]byte, int) {
	// Most lengths are one or two bytes.
	if len(b) > 0 && b[0] < 0x80 && int(b[0]) < len(b) {
		n := 1 + int(b[0])
		return b[1:n:n], n
	}
	if len(b) > 1 && b[0] >= 0x80 && b[1] < 0x80 {
		if n := 2 + (int(b[1])<<7 | int(b[0]&0x7f)); n <= len(b) {
			return b[2:n:n], n
		}
	}
	return protowire.ConsumeBytes(b)
}

// shortTag copies one field, whose tag was written with more bytes than it
// needs, with a tag of one byte.
func shortTag(b []byte, num protowire.Number, typ protowire.Type) ([]byte, bool) {
	n := protowire.ConsumeFieldValue(num, typ, b)
	if n < 0 {
		return nil, false
	}
	return append(protowire.AppendTag(nil, num, typ), b[:n]...), true
}

func mergeKeyValue(kv *KeyValue, field []byte) error {
	if typ := protowire.Type(field[0] & 7); (field[0]>>3 == 1 || field[0]>>3 == 5) != (typ == protowire.BytesType) || typ != protowire.BytesType && typ != protowire.VarintType {
		return nil // a known number with a wrong wire type is an unknown field
	}
	one, err := DecodeKeyValue(field)
	if err != nil {
		return err
	}
	switch field[0] >> 3 {
	case 1:
		kv.Key = one.Key
	case 2:
		kv.CreateRevision = one.CreateRevision
	case 3:
		kv.ModRevision = one.ModRevision
	case 4:
		kv.Version = one.Version
	case 5:
		kv.Value = one.Value
	case 6:
		kv.Lease = one.Lease
	}
	return nil
}
