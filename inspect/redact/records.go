package redact

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"unicode"

	"etcd-forensics/snapdb/page"
	"google.golang.org/protobuf/encoding/protowire"
)

// leaf redacts a leaf page, or the one of an inline bucket, in its place: each element
// that lies in the page, and all bytes that belong to none.
func (r *redactor) leaf(b []byte, bucket string) {
	l, _ := page.OpenLeaf(b)
	used := newSpans(len(b))
	n := table(b, l.Len(), 4)
	used.add(0, page.HeaderSize+n*page.ElementSize)
	for i := range n {
		var el page.LeafElement
		var at int
		if !l.Placed(i, &el, &at) {
			el, _ = l.Element(i)
			at = offset(b, i, 4)
		}
		if el.Key == nil || at < page.HeaderSize || used.overlaps(at, at+len(el.Key)+len(el.Value)) {
			continue
		}
		used.add(at, at+len(el.Key)+len(el.Value))
		if el.Bucket {
			r.bucket(el.Key, el.Value)
		} else {
			r.record(el.Key, el.Value, bucket)
		}
	}
	for _, s := range used.holes() {
		r.blot(b[s[0]:s[1]])
	}
	r.words(b[page.HeaderSize : page.HeaderSize+n*page.ElementSize])
}

// bucket redacts the record that names a bucket.
func (r *redactor) bucket(name, header []byte) {
	was := string(name)
	r.ordered(name)
	if len(header) < page.BucketHeaderSize {
		r.blot(header)
		return
	}
	defer r.bucketHead(header)
	if len(header) == page.BucketHeaderSize {
		return
	}
	if binary.LittleEndian.Uint64(header) != 0 {
		r.blot(header[page.BucketHeaderSize:])
		return
	}
	inline := header[page.BucketHeaderSize:]
	if r.depth++; r.depth > maxDepth || len(inline) < page.HeaderSize {
		r.blot(inline)
	} else {
		r.leaf(inline, was)
		r.pageHead(inline)
	}
	r.depth--
}

// Lengths of the keys of bucket key: two numbers with a separator, and the mark of a
// deletion (etcd v3.7.3, server/storage/mvcc/revision.go).
const (
	revisionSize  = 17
	tombstoneSize = 18
)

// isRevision says whether a key is one of bucket key. The first byte of a revision is zero,
// or that of a name is not.
func isRevision(k []byte) bool {
	return (len(k) == revisionSize || len(k) == tombstoneSize) && k[0] == 0
}

// Bytes of a revision's numbers that are zeros: no store comes near what these would hold.
const (
	mainZeros = 3
	subZeros  = 4
)

// revision blots what of a key of bucket key is no revision: damage can have put anything there.
func (r *redactor) revision(k []byte) {
	const separator = 8
	if !zeros(k[:mainZeros]) {
		r.blot(k[1:separator])
	}
	if k[separator] != '_' {
		r.blot(k[separator : separator+1])
		if k[separator] == '_' {
			k[separator]++
		}
	}
	if !zeros(k[separator+1 : separator+1+subZeros]) {
		r.blot(k[separator+1 : revisionSize])
	}
	if len(k) == tombstoneSize && k[revisionSize] != 't' {
		r.blot(k[revisionSize:])
	}
}

// record redacts one record. What kind it is, it says itself, because pages that nothing
// refers to belong to no bucket any more; bucket is "" where it is not known.
func (r *redactor) record(key, value []byte, bucket string) {
	switch {
	case isRevision(key):
		r.revision(key)
		r.message(value, keyValue)
	case bucket == "authUsers" || startsWithName(value, key) && authUser.parses(value):
		r.ordered(key)
		r.message(value, authUser)
	case bucket == "authRoles" || startsWithName(value, key) && authRole.parses(value):
		r.ordered(key)
		r.message(value, authRole)
	case settings[string(key)]:
		r.setting(string(key), value)
	case isMemberID(key) && (bucket == "members" || bucket == "members_removed" || isMember(value)):
		if r.survey {
			r.noteID(key)
		}
		r.member(value)
	case len(key) == 8 && leaseRecord.parses(value) && hasID(value, binary.BigEndian.Uint64(key)):
		r.message(value, leaseRecord)
	case len(value) == 0 && isAlarm(key):
	default:
		r.ordered(key)
		r.blot(value)
	}
}

// settingSizes are the bytes of records of buckets meta, cluster and auth that are numbers. The others are
// versions or JSON.
var settingSizes = map[string]int{
	"consistent_index": 8, "term": 8, "authRevision": 8, "authEnabled": 1,
	"scheduledCompactRev": tombstoneSize, "finishedCompactRev": tombstoneSize,
}

func (r *redactor) setting(key string, value []byte) {
	size, number := settingSizes[key]
	switch {
	case number && size == tombstoneSize && (!isRevision(value) || value[8] != '_'):
		r.blot(value)
	case number:
		r.blot(value[min(size, len(value)):])
	case len(value) > 0 && value[0] == '{':
		r.json(value)
	case !r.survey && !r.stays(value):
		r.blot(value)
	}
}

// isMember says whether a value is one of buckets members and members_removed.
func isMember(value []byte) bool {
	return len(value) > 0 && value[0] == '{' || string(value) == "removed"
}

// member redacts a record of buckets members and members_removed.
func (r *redactor) member(value []byte) {
	switch {
	case len(value) > 0 && value[0] == '{':
		r.json(value)
	case !isMember(value):
		r.blot(value)
	}
}

// isMemberID says whether a key is one of buckets members and members_removed (etcd v3.7.3,
// server/etcdserver/api/membership, ID.String: without leading zeros).
func isMemberID(k []byte) bool {
	if len(k) < 12 || len(k) > 16 {
		return false
	}
	var b [8]byte
	_, err := hex.Decode(b[:], append([]byte("0000")[:len(k)%2:len(k)%2], k...))
	return err == nil
}

// isAlarm says whether a key is a record of bucket alarm, which has no values.
func isAlarm(k []byte) bool {
	const most = 14 // a member's id and a small number, each with its tag
	return len(k) > 0 && len(k) <= most && k[0] == 1<<3 && alarmRecord.parses(k)
}

// startsWithName says whether the first field of a message is the record's own name.
func startsWithName(value, key []byte) bool {
	parts, _, _ := split(value, nil)
	return len(parts) > 0 && parts[0].num == 1 && parts[0].typ == protowire.BytesType && string(value[parts[0].body:parts[0].end]) == string(key)
}

// hasID says whether a lease's record has the id that its key says.
func hasID(value []byte, id uint64) bool {
	parts, _, _ := split(value, nil)
	for _, p := range parts {
		if p.num == 1 && p.typ == protowire.VarintType {
			n, _ := protowire.ConsumeVarint(value[p.body:])
			return n == id
		}
	}
	return false
}

// printable says whether b can be a name.
func printable(b []byte) bool {
	return !bytes.ContainsFunc(b, func(c rune) bool { return !unicode.IsPrint(c) })
}

// branch redacts a branch page in its place: separators that are no revisions.
func (r *redactor) branch(b []byte) {
	br, _ := page.OpenBranch(b)
	used := newSpans(len(b))
	n := table(b, br.Len(), 0)
	used.add(0, page.HeaderSize+n*page.ElementSize)
	for i := range n {
		el, _ := br.Element(i)
		at := offset(b, i, 0)
		if el.Key == nil || at < page.HeaderSize || used.overlaps(at, at+len(el.Key)) {
			continue
		}
		used.add(at, at+len(el.Key))
		switch {
		case isRevision(el.Key):
			r.revision(el.Key)
		case r.ids[string(el.Key)]:
		case len(el.Key) == 8 && !printable(el.Key) && !r.names.has(el.Key): // a lease's id
		default:
			r.ordered(el.Key)
		}
	}
	for _, s := range used.holes() {
		r.blot(b[s[0]:s[1]])
	}
	r.words(b[page.HeaderSize : page.HeaderSize+n*page.ElementSize])
}

// offset gives the place of an element's key; pos is the offset of the position within an
// element.
func offset(b []byte, i, pos int) int {
	at := page.HeaderSize + i*page.ElementSize
	return at + int(binary.LittleEndian.Uint32(b[at+pos:])&0x7fffffff)
}

// table gives the elements that are elements by their looks, of n: a table ends where the first key
// begins, and most of its elements point into the page. All else may be anything.
func table(b []byte, n, pos int) int {
	first, good, bad := len(b), 0, 0
	for i := range n {
		end := page.HeaderSize + (i+1)*page.ElementSize
		if end > first {
			n = i
			break
		}
		if at := offset(b, i, pos); at >= end && at < len(b) {
			first, good = min(first, at), good+1
		} else {
			bad++
		}
	}
	if bad > good {
		return 0
	}
	return n
}
