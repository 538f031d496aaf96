package redact

import (
	"google.golang.org/protobuf/encoding/protowire"
)

// A does says what is done with one field of a message.
type does uint8

const (
	blots    does = iota // no field that is known: noise
	keeps                // a number
	lists                // members' ids, one or a list
	frees                // a request's id: a number that nothing depends on
	noises               // bytes that belong to the message's key
	keyed                // a key
	ends                 // the end of a range of keys
	endsGone             // the same, of keys that are deleted
	named                // a user or role
	smears               // a password, its hash, or a token
	worded               // a member's name, a URL, or a path
	jsons                // JSON of etcd's own
	versions             // a version
	within               // a message
	entries              // what an entry holds, by its type
)

// A rule is what is done with one field.
type rule struct {
	do  does
	sub schema
}

// A schema says what is done with the fields of a message.
type schema map[protowire.Number]rule

// A part is one field as it lies in a message.
type part struct {
	num           protowire.Number
	typ           protowire.Type
	at, body, end int // its tag, what follows tag and length, and its end
}

// split takes a message apart. ok is false when it breaks off; then rest is behind the tag and
// length at which it does.
func split(b []byte, parts []part) (all []part, rest int, ok bool) {
	for at := 0; at < len(b); {
		if len(parts) == maxParts {
			return parts, at, false
		}
		num, typ, n := protowire.ConsumeTag(b[at:])
		if n < 0 || num > protowire.MaxValidNumber {
			return parts, at + headLen(b[at:]), false
		}
		p := part{num: num, typ: typ, at: at, body: at + n}
		m := protowire.ConsumeFieldValue(num, typ, b[p.body:])
		if m < 0 {
			return parts, p.body + headLen(b[p.body:]), false
		}
		p.end = p.body + m
		if typ == protowire.BytesType {
			_, n := protowire.ConsumeVarint(b[p.body:])
			p.body += n
		}
		parts, at = append(parts, p), p.end
	}
	return parts, len(b), true
}

// maxParts bounds the fields of one message, and maxDepth the messages in messages. etcd takes 128 operations in
// a transaction by default.
const (
	maxParts = 1 << 18
	maxDepth = 100
)

// headLen gives the bytes of the number with which b begins.
func headLen(b []byte) int {
	for i, c := range b[:min(len(b), protowireMax)] {
		if c < 0x80 {
			return i + 1
		}
	}
	return min(len(b), protowireMax)
}

// protowireMax is the most bytes of a varint.
const protowireMax = 10

// parses says whether b is a message of this kind: whole, and its known fields of the
// right type.
func (s schema) parses(b []byte) bool { return s.parsesAt(b, 0) }

func (s schema) parsesAt(b []byte, depth int) bool {
	if depth > maxDepth {
		return false
	}
	parts, _, ok := split(b, nil)
	for _, p := range parts {
		rule, known := s[p.num]
		switch {
		case !known:
		case rule.do == within:
			ok = ok && p.typ == protowire.BytesType && rule.sub.parsesAt(b[p.body:p.end], depth+1)
		case rule.do == keeps, rule.do == lists:
		case rule.do == frees:
			ok = ok && p.typ == protowire.VarintType
		default:
			ok = ok && p.typ == protowire.BytesType
		}
	}
	return ok
}

// message redacts one message in its place.
func (r *redactor) message(b []byte, s schema) {
	if r.depth++; r.depth > maxDepth {
		r.blot(b)
		r.depth--
		return
	}
	defer func() { r.depth-- }()
	parts, rest, ok := split(b, make([]part, 0, 12))
	var key []byte
	kind := int64(0)
	for _, p := range parts {
		switch do := s[p.num].do; {
		case do == keyed && p.typ == protowire.BytesType:
			key = append(key[:0], b[p.body:p.end]...)
		case s[p.num].do == entries: // the type stands before
		case p.num == 1 && p.typ == protowire.VarintType:
			n, _ := protowire.ConsumeVarint(b[p.body:])
			kind = int64(n)
		}
	}
	last := protowire.Number(0)
	for _, p := range parts {
		rule := s[p.num]
		if rule.do == keeps && p.num <= last { // etcd writes fields once, in their order: this can be anything
			rule.do = blots
		}
		r.field(b, p, rule, key, kind)
		last = p.num
	}
	if !ok {
		r.blot(b[min(rest, len(b)):])
	}
}

func (r *redactor) field(whole []byte, p part, rule rule, key []byte, kind int64) {
	b := whole[p.body:p.end]
	if p.typ != protowire.BytesType {
		r.number(b, p.typ, rule.do)
		return
	}
	switch rule.do {
	case keyed:
		r.key(b)
	case ends, endsGone:
		r.rangeEnd(b, key, rule.do == endsGone)
	case noises:
		r.value(b, key)
	case named:
		r.ordered(b)
	case worded:
		r.word(b)
	case jsons:
		r.json(b)
	case versions:
		r.asVersion(b)
	case within:
		r.message(b, rule.sub)
	case entries:
		r.entry(b, kind)
	case lists:
		if !ids(b) {
			r.blot(b)
		}
	case smears:
		if !r.survey {
			r.count.Passwords++
			r.cipher.smear(b)
		}
	default:
		r.blot(b)
	}
}

// number redacts a field that is no bytes. Those that a schema knows stay.
func (r *redactor) number(b []byte, typ protowire.Type, do does) {
	switch {
	case r.survey:
	case typ != protowire.VarintType:
		r.blot(b)
	case do == frees:
		if len(b) > idBytes {
			r.freeID = b[:idBytes]
		}
	case do == blots:
		for i := range b {
			b[i] = b[i]&0x80 | 1 + byte(r.cipher.free.Uint64()%127)
		}
		b[len(b)-1] &= 1 // of ten bytes the last has no more
	}
}

// ids says whether b is a list of members' ids. Those are hashes: one of less than 32 bits is
// none, and text is a list of such.
func ids(b []byte) bool {
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 || v>>32 == 0 {
			return false
		}
		b = b[n:]
	}
	return true
}

func (r *redactor) blot(b []byte) {
	if !r.survey {
		r.count.Blotted += r.cipher.blot(b)
	}
}

// ordered redacts the name of a user or role.
func (r *redactor) ordered(b []byte) {
	if r.survey {
		r.names.note(b)
		return
	}
	r.count.Names++
	r.names.replace(r.cipher, b)
}
