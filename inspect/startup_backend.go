package inspect

import (
	"bytes"
	"cmp"
	"fmt"
	"math/bits"
	"slices"

	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// openBackend opens the database as bbolt does. etcd keeps no freelist in it, so
// bbolt walks the whole tree to find the free pages and ends the process on what it
// does not like (bbolt db.go, freepages; tx_check.go). The versions of bbolt are
//
//	etcd 3.4 1.3.x   3.5 1.3.11   3.6 1.4.3   3.7 and 3.8 1.5.0
//
// A database that is missing or has no bytes is made anew.
func (b *boot) openBackend() *ending {
	d := b.db
	switch {
	case b.src.DB == nil || b.src.DB.Size() == 0:
		return nil
	case d == nil:
		return cannotTell()
	case d.tree == nil || d.db.StandIn:
		return b.noMeta(d)
	}
	if e := impossibleMeta(d.db.Metas[1-d.db.Active], d.db.Meta().Txid); e != nil {
		return e
	}
	if d.pass.Pages.FreelistStored || d.tree.Faults.Count(snapdb.FaultFreelist) > 0 {
		return storedFreelist(d)
	}
	return b.walkPages(d)
}

// noMeta ends on a file without a valid meta page.
func (b *boot) noMeta(d *database) *ending {
	if !d.db.StandIn {
		for _, m := range d.db.Metas {
			if e := impossibleMeta(m, 0); e != nil {
				return e
			}
		}
	}
	return exits("failed to open database", CodeBackendMetaNone, CodeBackendByteOrder, CodeBackendNotBbolt)
}

// impossibleMeta looks at a meta page of a later transaction than the one in use, whose
// checksum is right and whose content cannot be. bbolt takes it; a root page 0
// stands for a bucket inside another, of which there is none.
func impossibleMeta(m snapdb.Slot, inUse uint64) *ending {
	switch {
	case m.Misplaced: // then bbolt finds no second one, and reads pages of the wrong size
		return cannotTell(CodeBackendMetaImpossible)
	case m.Valid() || !m.Accepted() || m.Meta.Txid <= inUse:
		return nil
	case m.Meta.Root == 0:
		return exits("invalid memory address or nil pointer dereference", CodeBackendMetaImpossible)
	default:
		return cannotTell(CodeBackendMetaImpossible)
	}
}

// storedFreelist is what another program left behind. bbolt reads it and does not
// walk the tree.
func storedFreelist(d *database) *ending {
	if d.tree.Faults.Count(snapdb.FaultFreelist) > 0 {
		return cannotTell(CodeBackendFreeInvalid)
	}
	for _, f := range d.faults {
		if treeFault(f.Kind) {
			return cannotTell(backendCodes[f.Kind])
		}
	}
	return nil
}

// errFreepages is how bbolt ends when its walk finds a fault. Since 1.5.0 the
// goroutine that walks may be faster and end on the transaction that was closed
// under it.
const errFreepages = "freepages: failed to get all reachable pages"

// walkPages gives the fault that bbolt's walk ends on: in the order of the buckets, of
// each first the references between its pages and then the order of its keys.
func (b *boot) walkPages(d *database) *ending {
	faults := slices.Clone(d.faults)
	slices.SortStableFunc(faults, func(x, y snapdb.Fault) int {
		return cmp.Or(cmp.Compare(x.Bucket, y.Bucket), cmp.Compare(phase(x.Kind), phase(y.Kind)), bytes.Compare(x.Lo, y.Lo))
	})
	var unknown *ending
	for _, f := range faults {
		e := b.atFault(d, f)
		switch {
		case e == nil:
		case !e.unknown:
			return e
		case unknown == nil:
			unknown = e
		}
	}
	return unknown
}

func phase(k snapdb.FaultKind) int {
	if k == snapdb.FaultPageOrder || k == snapdb.FaultPageRange {
		return 1
	}
	return 0
}

// atFault says what bbolt's walk does at one fault.
func (b *boot) atFault(d *database, f snapdb.Fault) *ending {
	code := backendCodes[f.Kind]
	switch f.Kind {
	case snapdb.FaultPageShared, snapdb.FaultPageCycle:
		return exits(errFreepages, code)
	case snapdb.FaultPageOrder, snapdb.FaultPageRange:
		if b.minor >= 5 {
			return exits(errFreepages, code)
		}
		return cannotTell(code) // not looked at; the keys may still be in an order that etcd bears
	case snapdb.FaultPageID, snapdb.FaultPageType:
		return b.pageRead(d, f.Page, code)
	case snapdb.FaultOutOfRange:
		if len(f.Related) == 0 {
			return cannotTell(code)
		}
		return b.pageRead(d, f.Related[0], code)
	case snapdb.FaultPageBounds:
		return b.countRead(d, f.Page, code)
	case snapdb.FaultPastEnd:
		return b.pageRead(d, f.Page, code)
	case snapdb.FaultBucket:
		return cannotTell(code)
	}
	return nil // a page without elements, and what concerns the freelist
}

// errFault is how the Go runtime ends on an address that no file stands behind: bbolt
// reads a database through memory.
const errFault = "unexpected fault address"

// pageRead reads the header of the page that some reference leads to as bbolt does
// (page.go, fastCheck, since 1.3.7; tx_check.go).
func (b *boot) pageRead(d *database, id page.ID, code Code) *ending {
	head, err := d.db.ReadPage(id, page.HeaderSize, nil)
	switch {
	case err != nil:
		return cannotTell(code)
	case len(head) < page.HeaderSize:
		return exits(errFault, code)
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(head))
	tree := h.Kind() == page.KindBranch || h.Kind() == page.KindLeaf
	switch {
	case b.minor >= 5 && h.ID != id:
		return exits(fmt.Sprintf("Page expected to be: %d, but self identifies as %d", id, h.ID), code)
	case b.minor >= 5 && bits.OnesCount16(h.Flags) != 1:
		return exits("has unexpected type/flags", code)
	case h.ID > d.db.Meta().Pgid, h.ID != id && used(d.tree, h.ID), !tree:
		return exits(errFreepages, code)
	case tree:
		return cannotTell(code) // a page of a kind that may lie anywhere: what it holds decides
	default:
		return exits(errFreepages, code)
	}
}

// used says whether the tree holds a page of this number.
func used(t *snapdb.Tree, id page.ID) bool {
	return slices.ContainsFunc(t.Leaves, func(l snapdb.Leaf) bool { return l.ID == id }) ||
		slices.ContainsFunc(t.Nodes, func(n snapdb.Node) bool { return n.ID == id })
}

// countRead ends on a page that claims more elements than it has room for: bbolt
// takes what follows for elements and their keys. Other bounds need not matter, as a
// value that leaves its page does not.
func (b *boot) countRead(d *database, id page.ID, code Code) *ending {
	head, err := d.db.ReadPage(id, page.HeaderSize, nil)
	if err != nil || len(head) < page.HeaderSize {
		return cannotTell(code)
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(head))
	room := (int64(h.Overflow)+1)*int64(d.db.PageSize) - page.HeaderSize
	switch {
	case int64(h.Count)*page.ElementSize <= room:
		return cannotTell(code)
	case b.minor == 4:
		return exits("slice bounds out of range", code)
	default:
		return exits(errFault, code)
	}
}

// restoreStores reads leases, keys, users and alarms. Of the small buckets etcd
// panics on most records that it cannot read.
func (b *boot) restoreStores() *ending {
	d := b.db
	if d == nil || d.tree == nil {
		return nil
	}
	if len(d.tooLarge) > 0 || b.badRecords > b.badMembers() {
		return cannotTell(CodeBackendRecordInvalid)
	}
	return b.restoreKeys(d)
}

// restoreKeys reads every record of bucket key (mvcc/kvstore.go, restore).
func (b *boot) restoreKeys(d *database) *ending {
	for _, f := range d.keys.Faults {
		switch f.Kind {
		case scan.RecordKey:
			if e := b.revisionRead(f.Raw); e != nil {
				return e
			}
		case scan.RecordValue:
			return exits("failed to unmarshal mvccpb.KeyValue", CodeMVCCValueUndecodable)
		}
	}
	return nil
}

// Bucket key is read from revision 1 to the highest; what sorts outside is not seen.
var (
	lowestRevision  = []byte{0, 0, 0, 0, 0, 0, 0, 1, '_', 0, 0, 0, 0, 0, 0, 0, 0}
	highestRevision = []byte{0x7f, 255, 255, 255, 255, 255, 255, 255, '_', 0x7f, 255, 255, 255, 255, 255, 255, 255}
)

// revisionRead reads a key that is no revision (3.6 and later,
// storage/mvcc/revision.go, BytesToBucketKey). 3.4 and 3.5 take the numbers from
// their places and look at nothing else.
func (b *boot) revisionRead(key []byte) *ending {
	switch {
	case bytes.Compare(key, lowestRevision) < 0 || bytes.Compare(key, highestRevision) > 0:
		return nil
	case b.minor <= 5 && len(key) >= keyspace.RevisionSize:
		return nil
	case b.minor <= 5:
		return cannotTell(CodeMVCCKeyMalformed)
	case len(key) != keyspace.RevisionSize && len(key) != keyspace.RevisionSize+1:
		return exits("invalid revision length", CodeMVCCKeyMalformed)
	case key[8] != '_':
		return exits("invalid separator in bucket key", CodeMVCCKeyMalformed)
	default:
		return cannotTell(CodeMVCCKeyMalformed)
	}
}

// badMembers counts the records of bucket members that do not decode.
func (b *boot) badMembers() (n int) {
	if b.db == nil {
		return 0
	}
	for _, r := range b.db.rows[keyspace.BucketMembers] {
		if _, err := keyspace.DecodeMember(r.Key, r.Value); err != nil {
			n++
		}
	}
	return n
}

// readMembers reads bucket members (since 3.6, storage/schema/membership.go,
// MustReadMembersFromBackend).
func (b *boot) readMembers() *ending {
	if b.badMembers() > 0 {
		return exits("couldn't read members from backend", CodeBackendRecordInvalid)
	}
	return nil
}

// publish has the member write its name into the record that the database has of
// it. Since 3.6 there must be one (etcdserver/api/membership/cluster.go,
// UpdateAttributes).
func (b *boot) publish() *ending {
	id := b.member.MemberID
	if b.minor < 6 || id == nil || !b.onlyVoter() || b.listed(*id) || b.removed(*id) {
		return nil
	}
	for _, c := range b.log.ConfChanges {
		if c.Index > b.consistentIndex() && c.Member != nil && ID(c.Member.ID) == *id {
			return nil // it is added before
		}
	}
	return exits("failed to update; member unknown", CodeBackendBucketMissing, CodeMemberIDMismatch)
}

// listed says whether bucket members knows a member.
func (b *boot) listed(id ID) bool {
	_, ok := b.bucket.members[id]
	return ok
}

// removed says whether bucket members_removed has a member.
func (b *boot) removed(id ID) bool {
	_, ok := b.bucket.removed[id]
	return ok
}
