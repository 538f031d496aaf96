package inspect

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// backendCodes says what each fault of a database file is called.
var backendCodes = map[snapdb.FaultKind]Code{
	snapdb.FaultPageID:        CodeBackendPageID,
	snapdb.FaultPageType:      CodeBackendPageType,
	snapdb.FaultPageBounds:    CodeBackendPageBounds,
	snapdb.FaultPageOrder:     CodeBackendPageOrder,
	snapdb.FaultPageRange:     CodeBackendPageRange,
	snapdb.FaultPageShared:    CodeBackendPageShared,
	snapdb.FaultPageCycle:     CodeBackendPageCycle,
	snapdb.FaultOutOfRange:    CodeBackendPageOutOfRange,
	snapdb.FaultPastEnd:       CodeBackendTruncated,
	snapdb.FaultPageEmpty:     CodeBackendPageEmpty,
	snapdb.FaultBucket:        CodeBackendPageBounds,
	snapdb.FaultFreeReachable: CodeBackendFreeReachable,
	snapdb.FaultFreeTwice:     CodeBackendFreeDuplicate,
	snapdb.FaultFreelist:      CodeBackendFreeInvalid,
	snapdb.FaultUnreadable:    CodeBackendUnreadable,
	snapdb.FaultUnreachable:   CodeBackendPageUnreachable,
}

// checkMetas judges the two meta pages.
func (x *examination) checkMetas(d *database) {
	metas, active := d.db.Metas, d.db.Active
	finding := func(code Code, slot int, format string, args ...any) {
		f := newFinding(code, x.src.Path, fmt.Sprintf(format, args...)).inFile(d.file.Path)
		if at := metas[slot].Offset; at >= 0 {
			f = f.at(at).onPage(page.ID(slot))
		}
		x.find(f)
	}
	if active < 0 || d.db.StandIn {
		x.checkNoMeta(d, finding)
		return
	}
	other := 1 - active
	switch o := metas[other]; {
	case o.Valid():
	case o.Misplaced:
		finding(CodeBackendMetaImpossible, other, "meta page %d of transaction %d: its checksum is right, but %v", other, o.Meta.Txid, reasons(o))
	case o.Accepted() && o.Meta.Txid > d.db.Meta().Txid:
		finding(CodeBackendMetaImpossible, other, "meta page %d of transaction %d is newer and its checksum is right, but %v", other, o.Meta.Txid, reasons(o))
	default:
		x.checkBrokenMeta(d, other, finding)
	}
	for slot, m := range metas {
		if !m.Valid() {
			continue
		}
		if m.Header.ID != page.ID(slot) {
			finding(CodeBackendPageID, slot, "meta page %d carries number %d; its meta is valid", slot, m.Header.ID)
		}
		if m.OtherSize {
			finding(CodeBackendMetaPageSize, slot, "meta page %d names a page size of %d, meta page 0 one of %d; its meta is valid", slot, m.Meta.PageSize, metas[0].Meta.PageSize)
		}
		if m.Header.Kind() != page.KindMeta {
			finding(CodeBackendPageType, slot, "meta page %d has flags %#04x (%s); its meta is valid", slot, m.Header.Flags, m.Header.Kind())
		}
	}
}

// checkNoMeta judges a file of which no meta is valid, by what its pages say.
func (x *examination) checkNoMeta(d *database, finding func(Code, int, string, ...any)) {
	metas, r := d.db.Metas, d.remnant
	pages := x.src.HasPages()
	if r != nil {
		metas, pages = r.Metas(), pages || r.PageSize > 0
	}
	switch {
	case d.db.SwappedOrder:
		finding(CodeBackendByteOrder, 0, "the meta pages are in the other byte order")
	case x.src.ByPlace && !metas[0].Read && !metas[1].Read:
		finding(CodeBackendNotBbolt, 0, "%d bytes are too few for a database", d.db.Size())
	case x.src.ByPlace && !pages:
		finding(CodeBackendNotBbolt, 0, "no bbolt page in %d bytes", d.db.Size())
	case r == nil: // interrupted
		finding(CodeBackendMetaNone, 0, "meta page 0: %v; meta page 1: %v", reasons(metas[0]), reasons(metas[1]))
	case r.best == nil:
		finding(CodeBackendMetaNone, 0, "meta page 0: %v; meta page 1: %v; %s", reasons(metas[0]), reasons(metas[1]), r)
		if r.Bad > 0 {
			finding(CodeBackendUnreadable, 0, "%d bytes of the file could not be read", r.Bad)
		}
	default:
		x.find(newFinding(CodeBackendMetaNone, x.src.Path, fmt.Sprintf("meta page 0: %v; meta page 1: %v; %s", reasons(metas[0]), reasons(metas[1]), r)).
			inFile(d.file.Path).at(0).onPage(0, r.best.root))
	}
	if r == nil || r.best == nil {
		x.note("the content of %s: no valid meta page says where it begins", d.file.Path)
	}
}

// checkBrokenMeta tells whether the broken meta was the newer one. A server
// writes them in turn, the transaction id's parity choosing the page (bbolt
// v1.5.0, internal/common/meta.go, Write), so the broken one held the
// transaction before the valid one's or the one after.
func (x *examination) checkBrokenMeta(d *database, slot int, finding func(Code, int, string, ...any)) {
	valid, broken := d.db.Meta(), d.db.Metas[slot]
	switch {
	case broken.Read && broken.Meta.Txid == valid.Txid-1:
		finding(CodeBackendMetaChecksum, slot, "meta page %d of transaction %d: %v; page %d of transaction %d is valid and newer",
			slot, broken.Meta.Txid, reasons(broken), 1-slot, valid.Txid)
	case x.src.Kind == "snapshot" && slot == 0 || uint64(slot) == valid.Txid%2:
		// In a snapshot both metas name the same tree, page 0 under the higher id.
		finding(CodeBackendMetaChecksum, slot, "meta page %d: %v; page %d of transaction %d is valid and names the same tree",
			slot, reasons(broken), 1-slot, valid.Txid)
	case broken.Read && broken.Meta.Txid == valid.Txid+1:
		finding(CodeBackendMetaRollback, slot, "meta page %d of transaction %d: %v; page %d of transaction %d is what is left",
			slot, broken.Meta.Txid, reasons(broken), 1-slot, valid.Txid)
	default:
		finding(CodeBackendMetaRollback, slot, "meta page %d: %v; whether it was newer than page %d of transaction %d cannot be told from it",
			slot, reasons(broken), 1-slot, valid.Txid)
	}
}

func reasons(s snapdb.Slot) error {
	if !s.Read && len(s.Invalid) == 0 {
		return errors.New("not found")
	}
	return errors.Join(s.Invalid...)
}

// checkSize compares the size with the high-water mark.
func (x *examination) checkSize(d *database) {
	if d.db.StandIn {
		return // nothing states the mark
	}
	m := d.db.Meta()
	need := int64(min(uint64(m.Pgid), 1<<46)) * int64(d.db.PageSize)
	over := d.db.Size() - need
	switch {
	case uint64(m.Pgid) > 1<<46:
		x.find(newFinding(CodeBackendTruncated, x.src.Path, fmt.Sprintf("the high-water mark is page %d, more than any file holds", m.Pgid)).
			inFile(d.file.Path).at(d.db.Metas[d.db.Active].Offset).onPage(page.ID(d.db.Active)))
	case over < 0:
		x.find(newFinding(CodeBackendTruncated, x.src.Path, fmt.Sprintf("the file has %d bytes, its %d pages need %d: the last %d are missing",
			d.db.Size(), m.Pgid, need, -over)).inFile(d.file.Path).at(d.db.Size()))
	case x.src.Kind != "snapshot" || over == 0 || over == snapdb.TrailerSize:
	default:
		x.find(newFinding(CodeSnapshotTrailingBytes, x.src.Path, fmt.Sprintf("%d bytes follow the last page; a snapshot has 32 or none", over)).
			inFile(d.file.Path).at(need))
	}
	if x.src.Kind == "snapshot" && over == 0 {
		x.find(newFinding(CodeSnapshotHashMissing, x.src.Path, "the file ends with its last page, without the 32 bytes of a SHA-256").
			inFile(d.file.Path).at(d.db.Size()))
	}
}

// checkTrailer compares the digest with the snapshot's hash.
func (x *examination) checkTrailer(be *Backend, d *database) {
	if !be.Trailer.Present {
		return
	}
	if !d.pass.DigestValid {
		x.note("the SHA-256 at the end of %s: no digest was computed", d.file.Path)
		return
	}
	var stored [snapdb.TrailerSize]byte
	if n, err := d.file.ReadAt(stored[:], d.db.DataSize); n < len(stored) {
		x.note("the SHA-256 at the end of %s: %v", d.file.Path, err)
		return
	}
	valid := stored == d.pass.DataDigest
	be.Trailer.Valid = &valid
	if !valid {
		x.find(newFinding(CodeSnapshotHashMismatch, x.src.Path, fmt.Sprintf("the file ends with %x, its bytes give %x", stored, d.pass.DataDigest)).
			inFile(d.file.Path).at(d.db.DataSize))
	}
}

// checkPages turns the faults of the tree into findings.
func (x *examination) checkPages(d *database) {
	listed := map[Code]int{}
	total := map[Code]int{}
	for _, k := range snapdb.FaultKinds() {
		total[backendCodes[k]] += d.tree.Faults.Count(k)
	}
	for _, f := range d.faults {
		code := backendCodes[f.Kind]
		if listed[code]++; listed[code] > x.opts.Limits.PerCode {
			continue
		}
		x.find(x.faultFinding(d, f))
	}
	for _, k := range snapdb.FaultKinds() {
		code := backendCodes[k]
		x.countRest(code, total[code], min(listed[code], x.opts.Limits.PerCode), d.file.Path)
		total[code] = 0
	}
}

// checkOlderTree looks at the tree of the other meta page when the newest one is
// damaged. bbolt does not reuse the pages of the transaction before the last, so
// a write that went wrong leaves that tree whole.
func (x *examination) checkOlderTree(ctx context.Context, d *database) error {
	other := 1 - d.db.Active
	if d.complete() || !d.db.Metas[other].Valid() || d.db.Metas[other].Meta.Root == d.db.Meta().Root {
		return nil
	}
	older := &database{file: d.file, db: d.db.As(other)}
	err := older.walk(ctx, x.opts.Limits.PerCode)
	if err == nil {
		err = older.read(ctx, false, 0, x.opts.Limits)
	}
	if err != nil || !older.complete() {
		return err
	}
	lost := "how far the last transaction had come cannot be read"
	if d.meta.index > 0 && d.keys.Revisions > 0 {
		lost = fmt.Sprintf("the last transaction had come to revision %d, consistent index %d", d.revision(), d.meta.index)
	}
	x.find(newFinding(CodeBackendOlderTreeSound, x.src.Path, fmt.Sprintf("the tree of transaction %d (meta page %d) is whole: revision %d, consistent index %d; %s",
		older.db.Meta().Txid, other, older.revision(), older.meta.index, lost)).
		inFile(d.file.Path).at(d.db.Metas[other].Offset).onPage(page.ID(other)).atRevision(older.revision()))
	return nil
}

// countRest adds the line that stands for the findings of a code beyond the
// limit.
func (x *examination) countRest(code Code, total, listed int, file string) {
	if rest := total - listed; listed > 0 && rest > 0 {
		x.find(newFinding(code, x.src.Path, fmt.Sprintf("%d more of these are not listed", rest)).inFile(file))
	}
}

func (x *examination) inKeyBucket(d *database, f snapdb.Fault) bool {
	b, ok := d.bucket[keyspace.BucketKey]
	return ok && f.Bucket == b
}

// describeFault says where a fault lies and what it costs in etcd's words.
func (x *examination) describeFault(d *database, f snapdb.Fault) string {
	var b strings.Builder
	fmt.Fprintf(&b, "page %d", f.Page)
	switch {
	case f.Bucket > 0:
		fmt.Fprintf(&b, " (bucket %s%s)", bucketName(d.tree, f.Bucket), pathWords(f.Path))
	case f.Bucket == 0:
		fmt.Fprintf(&b, " (root bucket%s)", pathWords(f.Path))
	}
	if f.Element >= 0 {
		fmt.Fprintf(&b, ", element %d", f.Element)
	}
	fmt.Fprintf(&b, ": %v", f.Err)
	if !treeFault(f.Kind) {
		return b.String()
	}
	switch {
	case x.inKeyBucket(d, f):
		fmt.Fprintf(&b, "; %s cannot be trusted", revisionRange(f.Lo, f.Hi))
	case f.Bucket > 0 && (f.Lo != nil || f.Hi != nil) && x.isOpen(d, f.Bucket):
		fmt.Fprintf(&b, "; keys from %s to before %s cannot be trusted", orWord(f.Lo, "the first"), orWord(f.Hi, "the end"))
	case f.Bucket > 0 && (f.Lo != nil || f.Hi != nil):
		b.WriteString("; part of the bucket cannot be trusted")
	case f.Bucket > 0:
		b.WriteString("; nothing of the bucket can be trusted")
	}
	return b.String()
}

// isOpen says whether the keys of a bucket may be shown.
func (x *examination) isOpen(d *database, bucket int) bool {
	for d.tree.Buckets[bucket].Parent > 0 {
		bucket = d.tree.Buckets[bucket].Parent
	}
	return keyspace.IsOpen(string(d.tree.Buckets[bucket].Name))
}

// pathWords names the pages from the root page down to a page, when there are
// any between.
func pathWords(path []page.ID) string {
	if len(path) < 2 {
		return ""
	}
	words := make([]string, len(path))
	for i, id := range path {
		words[i] = fmt.Sprint(id)
	}
	return ", path " + strings.Join(words, " > ")
}

func orWord(key []byte, word string) string {
	if key == nil {
		return word
	}
	return quoteKey(key)
}

// revisionRange names the revisions between two separators of bucket key: lo is
// the first that belongs there, hi the first that does not.
func revisionRange(lo, hi []byte) string {
	first, okLo := keyspace.DecodeRevision(lo)
	last, okHi := keyspace.DecodeRevision(hi)
	switch {
	case okLo && okHi:
		if last.Sub == 0 && last.Main-1 <= first.Main && first.Sub == 0 {
			return fmt.Sprintf("revision %d", first.Main)
		}
		if last.Sub == 0 {
			return fmt.Sprintf("revisions %s to %d", first, last.Main-1)
		}
		return fmt.Sprintf("revisions %s to before %s", first, last)
	case okLo:
		return fmt.Sprintf("revisions from %s on", first)
	case okHi:
		return fmt.Sprintf("revisions before %s", last)
	}
	return "all revisions"
}

// requiredBuckets are created by every etcd since 3.0 when it starts. Bucket
// cluster came later.
var requiredBuckets = []string{
	keyspace.BucketKey, keyspace.BucketMeta, keyspace.BucketMembers, keyspace.BucketMembersRemoved, keyspace.BucketAlarm,
	keyspace.BucketLease, keyspace.BucketAuth, keyspace.BucketAuthUsers, keyspace.BucketAuthRoles,
}

// checkBuckets misses the buckets without which a file is no etcd database. Where
// the root bucket itself is damaged, the buckets are not missing but unread.
func (x *examination) checkBuckets(d *database) {
	if d.tree.Faults.InBucket(0) {
		return
	}
	for _, name := range requiredBuckets {
		if _, ok := d.bucket[name]; !ok {
			x.find(newFinding(CodeBackendBucketMissing, x.src.Path, fmt.Sprintf("no bucket %s; the root bucket names %d buckets", name, len(d.bucket))).
				inFile(d.file.Path).onPage(d.db.Meta().Root))
		}
	}
}

// checkAlarms reports raised alarms.
func (x *examination) checkAlarms(be *Backend) {
	for _, a := range be.Alarms {
		switch a.Alarm {
		case keyspace.AlarmCorrupt.String():
			x.find(newFinding(CodeAlarmCorrupt, x.src.Path, fmt.Sprintf("alarm CORRUPT, raised for member %s", a.MemberID)).inFile(be.File))
		case keyspace.AlarmNoSpace.String():
			x.find(newFinding(CodeAlarmNoSpace, x.src.Path, fmt.Sprintf("alarm NOSPACE, raised for member %s", a.MemberID)).inFile(be.File))
		}
	}
}
