package inspect

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
	"etcd-forensics/snapdb/scan"
)

// A database is one backend file while it is examined.
type database struct {
	file   *source.File
	db     *snapdb.File
	tree   *snapdb.Tree
	bucket map[string]int // top-level buckets by name

	meta     metaRecords
	rows     map[string][]scan.Row // of the small buckets
	contents *scan.Contents
	keys     *scan.KeysResult
	pass     *scan.Result
	faults   []snapdb.Fault
	tooLarge []string // small buckets over Limits.BucketBytes

	kube *kubeClasses // nil when the keys do not look like an API server's

	remnant *remnant // what was found without a meta page; nil when one is valid

	seed   *maphash.Seed // of blocks; nil when nothing is to be compared
	broken int           // records asked for that break chains; see BrokenChains
	blocks scan.BlockSums

	leases     map[int64]bool // ids of all leases, nil when the bucket is not whole
	badLeases  []badRow       // the first, in key order
	leaseFault int            // how many there are
}

// A badRow is a record of a small bucket that cannot be read.
type badRow struct {
	row scan.Row
	err error
}

// metaRecords is what must be known of bucket meta before the pass.
type metaRecords struct {
	scheduled, finished int64  // compactions; -1 where there was none
	index               uint64 // consistent index, 0 when there is none
}

// revision gives the compact revision as etcd has it at start.
func (c metaRecords) revision() int64 { return max(c.scheduled, c.finished) }

// smallBuckets are read whole into memory.
var smallBuckets = []string{
	keyspace.BucketMeta, keyspace.BucketCluster, keyspace.BucketMembers, keyspace.BucketMembersRemoved, keyspace.BucketAlarm,
	keyspace.BucketAuth, keyspace.BucketAuthUsers, keyspace.BucketAuthRoles,
}

// openDatabase reads the metas, the branch pages and bucket meta. tree is nil when
// no meta is valid.
func openDatabase(ctx context.Context, f *source.File, perKind int) (*database, error) {
	db, err := snapdb.Open(f, f.Size())
	if err != nil {
		return nil, err
	}
	d := &database{file: f, db: db}
	if db.Active < 0 {
		return d, nil
	}
	return d, d.walk(ctx, perKind)
}

// walk reads the branch pages and bucket meta, as of the meta in use.
func (d *database) walk(ctx context.Context, perKind int) error {
	d.bucket, d.rows, d.meta = map[string]int{}, map[string][]scan.Row{}, metaRecords{-1, -1, 0}
	var err error
	d.tree, err = snapdb.Walk(ctx, d.db, perKind)
	for i, b := range d.tree.Buckets {
		if b.Parent == 0 {
			d.bucket[string(b.Name)] = i
		}
	}
	if b, ok := d.bucket[keyspace.BucketMeta]; ok && err == nil {
		d.meta = readMeta(d.tree, b)
	}
	return err
}

func readMeta(tree *snapdb.Tree, bucket int) metaRecords {
	m := metaRecords{-1, -1, 0}
	scan.EachRow(tree, bucket, func(r scan.Row) {
		rev, ok := keyspace.DecodeRevision(r.Value)
		switch key := string(r.Key); {
		case key == keyspace.MetaScheduledCompactRev && ok:
			m.scheduled = rev.Main
		case key == keyspace.MetaFinishedCompactRev && ok:
			m.finished = rev.Main
		case key == keyspace.MetaConsistentIndex:
			m.index, _ = keyspace.DecodeUint64(r.Value)
		}
	})
	return m
}

// ownNumber says whether a page carries its own number.
func (d *database) ownNumber(id page.ID) bool {
	b, err := d.db.ReadPage(id, page.HeaderSize, nil)
	return err == nil && len(b) >= page.HeaderSize && page.DecodeHeader((*[page.HeaderSize]byte)(b)).ID == id
}

// read makes the pass as of a revision, 0 for the newest. Others may look at its records.
func (d *database) read(ctx context.Context, digest bool, revision int64, limits Limits, others ...scan.Consumer) error {
	key, ok := d.bucket[keyspace.BucketKey]
	if !ok {
		key = -1
	}
	var small []int
	for _, name := range smallBuckets {
		if b, ok := d.bucket[name]; ok {
			small = append(small, b)
		}
	}
	keys := scan.NewKeys(d.tree, key, revision, d.meta.revision(), limits.PerCode)
	d.readLeases(limits.PerCode)
	keys.Leases, keys.Compacted = d.leases, d.meta.scheduled <= d.meta.finished
	keys.Broken = d.broken
	if d.kube != nil {
		keys.Classes = d.kube.parser
	}
	d.contents = scan.NewContents(small, limits.BucketBytes)
	consumers := append([]scan.Consumer{keys, d.contents}, others...)
	var blocks *scan.Blocks
	if d.seed != nil && key >= 0 {
		blocks = scan.NewBlocks(*d.seed, key, d.meta.revision())
		consumers = append(consumers, blocks)
	}
	var err error
	d.pass, err = scan.Run(ctx, d.tree, scan.Options{Digest: digest}, consumers...)
	d.keys = keys.Finish(ctx)
	err = cmp.Or(err, ctx.Err())
	if blocks != nil {
		d.blocks = blocks.Finish()
	}
	d.faults = d.tree.Faults.All()
	for _, name := range smallBuckets {
		if b, ok := d.bucket[name]; ok {
			var whole bool
			if d.rows[name], whole = d.contents.Rows(b); !whole {
				d.tooLarge = append(d.tooLarge, name)
			}
		}
	}
	return err
}

// readLeases reads bucket lease, of which only the ids are kept: there may be
// hundreds of thousands.
func (d *database) readLeases(keep int) {
	b, ok := d.bucket[keyspace.BucketLease]
	if !ok || d.tree.Faults.InBucket(b) {
		return
	}
	d.leases = map[int64]bool{}
	scan.EachRow(d.tree, b, func(r scan.Row) {
		l, err := keyspace.DecodeLease(r.Key, r.Value)
		if err != nil {
			if d.leaseFault++; d.leaseFault <= keep {
				r.Key, r.Value = slices.Clone(r.Key), nil
				d.badLeases = append(d.badLeases, badRow{r, err})
			}
			if l.ID == 0 {
				return
			}
		}
		d.leases[l.ID] = true
	})
	if d.leaseFault > 0 {
		d.leases = nil // an id may be wrong: no key is held against them
	}
}

// revision gives the newest revision as etcd computes it at start (etcd v3.7.3,
// server/storage/mvcc/kvstore.go, restore): the highest record, but never below
// the compaction marks, and 1 for an empty store.
func (d *database) revision() int64 { return newestRevision(d.keys.Highest.Main, d.meta) }

func newestRevision(highest int64, meta metaRecords) int64 {
	return max(1, highest, meta.revision())
}

// complete says whether everything the tree refers to was read without a fault,
// and the tree is the newest.
func (d *database) complete() bool {
	if d.remnant != nil {
		return false
	}
	for _, f := range d.faults {
		if treeFault(f.Kind) {
			return false
		}
	}
	return d.keys.Sound && len(d.pass.Unreadable) == 0 && len(d.tooLarge) == 0
}

// treeFault says whether a fault of this kind keeps records from being read, or
// from being trusted. The others concern pages that hold no records.
func treeFault(k snapdb.FaultKind) bool {
	switch k {
	case snapdb.FaultFreeReachable, snapdb.FaultFreeTwice, snapdb.FaultFreelist, snapdb.FaultUnreachable:
		return false
	}
	return true
}

// examineBackend reads the database f and judges it.
func (x *examination) examineBackend(ctx context.Context, f *source.File) error {
	be := &Backend{File: f.Path, Size: f.Size(), Buckets: []Bucket{}, Alarms: []Alarm{}}
	x.member.Backend = be
	d, err := openDatabase(ctx, f, x.opts.Limits.PerCode)
	if d == nil {
		x.find(newFinding(CodeBackendUnreadable, x.src.Path, err.Error()).inFile(f.Path).at(0))
		x.note("%s: %v", f.Path, err)
		return ctx.Err()
	}
	x.db = d
	if err == nil && d.db.Active < 0 && !d.db.SwappedOrder {
		err = d.findRoot(ctx, x.opts.Limits.PerCode)
	}
	x.describeFile(be, d)
	x.checkMetas(d)
	switch {
	case err == nil && d.tree == nil:
		return x.digestOnly(ctx, f)
	case err == nil:
		d.findKubernetes()
		d.seed = x.opts.blocks
		if x.opts.Broken != nil {
			d.broken = x.opts.Broken.Keep
		}
		err = d.read(ctx, x.opts.Digest, 0, x.opts.Limits)
	}
	if err != nil {
		return err
	}
	if d.pass.DigestValid {
		f.SetDigest(d.pass.Digest)
	}
	x.describeContent(be, d)
	x.checkSize(d)
	x.checkTrailer(be, d)
	x.checkPages(d)
	if err := x.checkOlderTree(ctx, d); err != nil {
		return err
	}
	x.checkBuckets(d)
	x.checkRecords(d)
	x.checkAlarms(be)
	x.checkSpace(be)
	x.checkEncryption(be)
	if d.pass.UnreadableAll > 0 {
		x.note("%d regions of %s that the disk did not give back", d.pass.UnreadableAll, f.Path)
	}
	return nil
}

// digestOnly reads a file of which no root is known for its digest alone.
func (x *examination) digestOnly(ctx context.Context, f *source.File) error {
	if !x.opts.Digest {
		return nil
	}
	sum, err := scan.Digest(ctx, f, f.Size())
	switch {
	case err == nil:
		f.SetDigest(sum)
	case ctx.Err() != nil:
		return ctx.Err()
	default:
		x.find(newFinding(CodeBackendUnreadable, x.src.Path, err.Error()).inFile(f.Path))
	}
	return nil
}

func (x *examination) describeFile(be *Backend, d *database) {
	be.Trailer.Present = d.db.HasTrailer()
	if d.remnant != nil {
		be.PageSize = d.remnant.PageSize
	}
	if d.db.Active < 0 || d.db.StandIn {
		return
	}
	active := d.db.Active
	be.ActiveMeta = &active
	be.PageSize = d.db.PageSize
	be.Txid = d.db.Meta().Txid
}

func (x *examination) describeContent(be *Backend, d *database) {
	be.Complete = d.complete()
	m := d.pass.Pages
	n := func(c snapdb.Class) int64 { return m.Counts[c] }
	be.Pages = Pages{
		Total: d.db.Pages(), Meta: n(snapdb.ClassMeta), Branch: n(snapdb.ClassBranch), Leaf: n(snapdb.ClassLeaf),
		Overflow: n(snapdb.ClassOverflow), Freelist: n(snapdb.ClassFreelist), Free: n(snapdb.ClassFree),
		Unreachable: n(snapdb.ClassUnreachable), Damaged: n(snapdb.ClassDamaged), BeyondEnd: n(snapdb.ClassBeyondEnd),
		FreelistStored: m.FreelistStored, FreelistLost: !m.FreelistStored && d.tree.Faults.Count(snapdb.FaultFreelist) > 0,
	}
	size := int64(d.db.PageSize)
	be.Space = &Space{
		InUseBytes: (be.Pages.Total - be.Pages.Free - be.Pages.BeyondEnd) * size, FreeBytes: be.Pages.Free * size,
		LiveBytes: d.keys.LiveBytes, HistoryBytes: d.keys.HistoryBytes,
	}
	for i, b := range d.tree.Buckets {
		if i == 0 {
			continue
		}
		name := bucketName(d.tree, i)
		_, top := d.bucket[string(b.Name)]
		be.Buckets = append(be.Buckets, Bucket{Name: name, Records: d.contents.Count(i), Known: top && b.Parent == 0 && knownBucket(string(b.Name))})
	}
	if _, ok := d.bucket[keyspace.BucketKey]; ok {
		rev, compact, scheduled, finished := d.revision(), d.meta.revision(), d.meta.scheduled, d.meta.finished
		be.Revision, be.CompactRevision, be.ScheduledCompactRevision, be.FinishedCompactRevision = &rev, &compact, &scheduled, &finished
		be.LastRecord = d.keys.Highest.Main
		be.Keys = &Keys{Live: d.keys.Live, Revisions: d.keys.Revisions, Tombstones: d.keys.Tombstones}
		if be.Complete {
			be.HashKV = &HashKV{Hash: d.keys.Hash, Revision: rev, CompactRevision: compact}
		}
	}
	x.describeMeta(be, d)
	x.describeMembership(d)
	x.describeLeases(be, d)
	x.describeAlarms(be, d)
	x.describeAuth(be, d)
	x.describeKubernetes(be, d)
	x.countRest(CodeBackendRecordInvalid, x.badRecords, min(x.badRecords, x.opts.Limits.PerCode), be.File)
	for _, name := range d.tooLarge {
		x.note("bucket %s of %s: it takes more than %d bytes", name, be.File, x.opts.Limits.BucketBytes)
	}
}

func knownBucket(name string) bool {
	if name == keyspace.BucketKey || name == keyspace.BucketLease {
		return true
	}
	for _, b := range smallBuckets {
		if name == b {
			return true
		}
	}
	return false
}

// bucketName gives a bucket's name as it may be shown, with those of the buckets
// around it.
func bucketName(t *snapdb.Tree, b int) string {
	name := ""
	for ; b > 0; b = t.Buckets[b].Parent {
		if name != "" {
			name = "/" + name
		}
		name = shownName(&t.Buckets[b]) + name
	}
	return name
}

// maxName is the longest name of a bucket that is shown, in bytes; etcd's have 15 at
// most.
const maxName = 64

// shownName gives a bucket's name. A damaged element of the root bucket may make
// part of a record of what is none, so a name that is not etcd's is shown only when it
// reads as one.
func shownName(b *snapdb.Bucket) string {
	s := string(b.Name)
	q := strconv.QuoteToASCII(s)
	plain := s != "" && len(s) <= maxName && q[1:len(q)-1] == s
	if plain && !b.Doubtful || knownBucket(s) {
		return s
	}
	return fmt.Sprintf("(a name of %d bytes)", len(s))
}

// badRecord reports a record of a small bucket that cannot be read.
func (x *examination) badRecord(d *database, bucket string, r scan.Row, err error) {
	if x.badRecords++; x.badRecords > x.opts.Limits.PerCode {
		return
	}
	record := "a record"
	if keyspace.IsOpen(bucket) {
		record = "record " + quoteKey(r.Key)
	}
	x.find(newFinding(CodeBackendRecordInvalid, x.src.Path, fmt.Sprintf("bucket %s, %s: %v", bucket, record, err)).
		inFile(d.file.Path).at(r.Offset).onPage(r.Page))
}

// quoteKey quotes a key of the evidence for a message, shortened when it is long.
func quoteKey(b []byte) string {
	const most = 80
	if len(b) > most {
		return strconv.QuoteToASCII(string(b[:most])) + fmt.Sprintf("... (%d bytes)", len(b))
	}
	return strconv.QuoteToASCII(string(b))
}

func (x *examination) describeMeta(be *Backend, d *database) {
	if b, ok := d.bucket[keyspace.BucketMeta]; ok && !d.tree.Faults.InBucket(b) && !slices.ContainsFunc(d.rows[keyspace.BucketMeta],
		func(r scan.Row) bool { return string(r.Key) == keyspace.MetaConsistentIndex }) {
		x.badRecord(d, keyspace.BucketMeta, scan.Row{Key: []byte(keyspace.MetaConsistentIndex), Page: d.tree.Buckets[b].Holder},
			errors.New("it is not there, and every etcd writes it"))
	}
	for _, r := range d.rows[keyspace.BucketMeta] {
		var err error
		switch string(r.Key) {
		case keyspace.MetaConsistentIndex:
			be.ConsistentIndex, err = decoded(keyspace.DecodeUint64(r.Value))
		case keyspace.MetaTerm:
			be.Term, err = decoded(keyspace.DecodeUint64(r.Value))
		case keyspace.MetaStorageVersion:
			be.StorageVersion, err = decoded(keyspace.DecodeStorageVersion(r.Value))
		case keyspace.MetaConfState:
			var cs keyspace.ConfState
			if cs, err = keyspace.DecodeConfState(r.Value); err == nil {
				be.ConfState = &ConfState{Voters: ids(cs.Voters), Learners: ids(cs.Learners)}
			}
		case keyspace.MetaScheduledCompactRev, keyspace.MetaFinishedCompactRev:
			if _, ok := keyspace.DecodeRevision(r.Value); !ok {
				err = fmt.Errorf("%d bytes that are no revision", len(r.Value))
			}
		}
		if err != nil {
			x.badRecord(d, keyspace.BucketMeta, r, err)
		}
	}
	for _, r := range d.rows[keyspace.BucketCluster] {
		if string(r.Key) != keyspace.ClusterVersion {
			continue
		}
		var err error
		if be.ClusterVersion, err = decoded(keyspace.DecodeClusterVersion(r.Value)); err != nil {
			x.badRecord(d, keyspace.BucketCluster, r, err)
		}
	}
}

// decoded turns a value and its error into a pointer that is nil on error.
func decoded[T any](v T, err error) (*T, error) {
	if err != nil {
		return nil, err
	}
	return &v, nil
}

func ids(from []uint64) []ID {
	to := make([]ID, len(from))
	for i, id := range from {
		to[i] = ID(id)
	}
	return to
}

func (x *examination) describeMembership(d *database) {
	for _, r := range d.rows[keyspace.BucketMembers] {
		m, err := keyspace.DecodeMember(r.Key, r.Value)
		if err != nil {
			x.badRecord(d, keyspace.BucketMembers, r, err)
			if m.ID == 0 {
				continue
			}
		}
		x.bucket.add(MembershipMember{MemberID: ID(m.ID), Name: m.Name, PeerURLs: m.PeerURLs, ClientURLs: m.ClientURLs, IsLearner: m.IsLearner})
	}
	for _, r := range d.rows[keyspace.BucketMembersRemoved] {
		id, err := keyspace.DecodeMemberID(r.Key)
		if err != nil {
			x.badRecord(d, keyspace.BucketMembersRemoved, r, err)
			continue
		}
		x.bucket.removed[ID(id)] = 0
	}
}

func orEmpty(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}

func (x *examination) describeLeases(be *Backend, d *database) {
	b, ok := d.bucket[keyspace.BucketLease]
	if !ok {
		return
	}
	n := d.contents.Count(b)
	be.Leases = &n
	for _, bad := range d.badLeases {
		x.badRecord(d, keyspace.BucketLease, bad.row, bad.err)
	}
	x.badRecords += d.leaseFault - len(d.badLeases)
}

func (x *examination) describeAlarms(be *Backend, d *database) {
	for _, r := range d.rows[keyspace.BucketAlarm] {
		a, err := keyspace.DecodeAlarm(r.Key)
		if err != nil {
			x.badRecord(d, keyspace.BucketAlarm, r, err)
			continue
		}
		be.Alarms = append(be.Alarms, Alarm{MemberID: ID(a.MemberID), Alarm: a.Type.String()})
	}
}

func (x *examination) describeAuth(be *Backend, d *database) {
	if _, ok := d.bucket[keyspace.BucketAuth]; !ok {
		return
	}
	a := &Auth{Users: []string{}, Roles: []string{}}
	be.Auth = a
	for _, r := range d.rows[keyspace.BucketAuth] {
		switch string(r.Key) {
		case keyspace.AuthEnabled:
			a.Enabled = keyspace.DecodeAuthEnabled(r.Value)
		case keyspace.AuthRevision:
			v, err := keyspace.DecodeUint64(r.Value)
			if err != nil {
				x.badRecord(d, keyspace.BucketAuth, r, err)
			}
			a.Revision = v
		}
	}
	for _, r := range d.rows[keyspace.BucketAuthUsers] {
		u, err := keyspace.DecodeUser(r.Key, r.Value)
		if err != nil {
			x.badRecord(d, keyspace.BucketAuthUsers, r, err)
			continue
		}
		a.Users = append(a.Users, u.Name)
	}
	for _, r := range d.rows[keyspace.BucketAuthRoles] {
		name, err := keyspace.DecodeRole(r.Key, r.Value)
		if err != nil {
			x.badRecord(d, keyspace.BucketAuthRoles, r, err)
			continue
		}
		a.Roles = append(a.Roles, name)
	}
}
