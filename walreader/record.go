package walreader

import (
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"google.golang.org/protobuf/encoding/protowire"
)

// A RecordType says what a record's data holds (wal.go, v3.7.3).
type RecordType int64

// The record types that etcd writes.
const (
	TypeMetadata RecordType = 1 // etcdserverpb.Metadata: member and cluster id
	TypeEntry    RecordType = 2 // raftpb.Entry
	TypeState    RecordType = 3 // raftpb.HardState
	TypeCRC      RecordType = 4 // no data; states the running checksum
	TypeSnapshot RecordType = 5 // walpb.Snapshot: index, term, voters
)

// String gives the short name of a type, or its number.
func (t RecordType) String() string {
	switch t {
	case TypeMetadata:
		return "metadata"
	case TypeEntry:
		return "entry"
	case TypeState:
		return "state"
	case TypeCRC:
		return "crc"
	case TypeSnapshot:
		return "snapshot"
	}
	return "type " + strconv.FormatInt(int64(t), 10)
}

// Known says whether etcd writes records of this type.
func (t RecordType) Known() bool { return t >= TypeMetadata && t <= TypeSnapshot }

// A Record is the message walpb.Record of one frame.
type Record struct {
	Type RecordType
	CRC  uint32 // the running checksum that the record states
	Data []byte // nil when the field is absent
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Checksum carries the running checksum prev over data.
func Checksum(prev uint32, data []byte) uint32 { return crc32.Update(prev, castagnoli, data) }

var errWireType = errors.New("wrong wire type")

// DecodeRecord reads the bytes of one record without their padding. Data is
// part of b, not a copy. Fields may come in any order and more than once, the
// last one counts, and unknown fields are passed over, as protobuf has it.
func DecodeRecord(b []byte) (Record, error) {
	if rec, ok := decodeUsual(b); ok {
		return rec, nil
	}
	var rec Record
	for len(b) > 0 {
		num, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			return Record{}, fmt.Errorf("record: tag: %w", protowire.ParseError(n))
		}
		if num > protowire.MaxValidNumber {
			return Record{}, fmt.Errorf("record: field %d: no such number", num)
		}
		b = b[n:]
		switch {
		case num == 1 && typ == protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				rec.Type = RecordType(v)
			}
		case num == 2 && typ == protowire.VarintType:
			var v uint64
			if v, n = protowire.ConsumeVarint(b); n >= 0 {
				rec.CRC = uint32(v)
			}
		case num == 3 && typ == protowire.BytesType:
			var v []byte
			if v, n = protowire.ConsumeBytes(b); n >= 0 {
				rec.Data = v[:len(v):len(v)]
			}
		case num <= 3:
			return Record{}, fmt.Errorf("record: field %d: %w %d", num, errWireType, typ)
		default:
			n = protowire.ConsumeFieldValue(num, typ, b)
		}
		if n < 0 {
			return Record{}, fmt.Errorf("record: field %d: %w", num, protowire.ParseError(n))
		}
		b = b[n:]
	}
	return rec, nil
}

// A prefix is what stands before the data in a record as etcd writes it.
type prefix struct {
	typ     RecordType
	crc     uint32
	dataLen int64 // as the record states it; 0 when data is absent
	size    int64 // bytes before the data
	hasData bool
	whole   bool // false when b ended inside the prefix
}

// recordLen is the length of the record as its own fields state it.
func (p prefix) recordLen() int64 { return p.size + p.dataLen }

// maxPrefix is the most that the three tags and varints of a prefix take.
const maxPrefix = 3 + 1 + 5 + 8

// readPrefix reads type, crc and the length of data in the order and spelling
// that etcd writes. ok is false when b is spelled otherwise; when b is
// merely too short for a prefix, ok is true and whole is false.
func readPrefix(b []byte) (p prefix, ok bool) {
	if len(b) < 4 {
		switch {
		case len(b) > 0 && b[0] != 0x08, len(b) > 1 && b[1] > 0x7f, len(b) > 2 && b[2] != 0x10:
			return p, false
		}
		return p, true
	}
	if b[0] != 0x08 || b[1] > 0x7f || b[2] != 0x10 {
		return p, false
	}
	p.typ = RecordType(b[1])
	i := 3
	var crc uint64
	for shift := 0; ; shift += 7 {
		if i == len(b) {
			return p, true
		}
		if shift > 28 {
			return p, false
		}
		c := b[i]
		i++
		crc |= uint64(c&0x7f) << shift
		if c < 0x80 {
			break
		}
	}
	if crc > 0xffffffff {
		return p, false
	}
	p.crc = uint32(crc)
	if i == len(b) {
		p.size, p.whole = int64(i), true
		return p, true
	}
	if b[i] != 0x1a {
		// A record without data ends here; what follows is padding or no record.
		p.size, p.whole = int64(i), true
		return p, true
	}
	i++
	var n uint64
	for shift := 0; ; shift += 7 {
		if i == len(b) {
			return p, true
		}
		if shift > 49 { // 2^56 is more than a length word can hold
			return p, false
		}
		c := b[i]
		i++
		n |= uint64(c&0x7f) << shift
		if c < 0x80 {
			break
		}
	}
	p.dataLen, p.size, p.hasData, p.whole = int64(n), int64(i), true, true
	return p, true
}

// decodeUsual reads a record that is spelled the way etcd spells it.
func decodeUsual(b []byte) (Record, bool) {
	p, ok := readPrefix(b)
	if !ok || !p.whole || p.recordLen() != int64(len(b)) {
		return Record{}, false
	}
	rec := Record{Type: p.typ, CRC: p.crc}
	if p.hasData {
		rec.Data = b[p.size:len(b):len(b)]
	}
	return rec, true
}

// AppendRecord appends rec to b, byte for byte as etcd writes it.
func AppendRecord(b []byte, rec Record) []byte {
	b = protowire.AppendTag(b, 1, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(rec.Type))
	b = protowire.AppendTag(b, 2, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(rec.CRC))
	if rec.Data != nil {
		b = protowire.AppendTag(b, 3, protowire.BytesType)
		b = protowire.AppendBytes(b, rec.Data)
	}
	return b
}

func (rec Record) size() int {
	n := 2 + protowire.SizeVarint(uint64(rec.Type)) + protowire.SizeVarint(uint64(rec.CRC))
	if rec.Data != nil {
		n += 1 + protowire.SizeBytes(len(rec.Data))
	}
	return n
}
