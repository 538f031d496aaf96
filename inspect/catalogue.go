package inspect

import (
	"maps"
	"slices"
	"strings"
)

// A Code is the stable name of a kind of finding. Users grep for it.
type Code string

// OfDatabase says whether an error with the code means that a database is not what was
// written.
func (c Code) OfDatabase() bool {
	family, _, _ := strings.Cut(string(c), "-")
	return slices.Contains([]string{"backend", "mvcc", "snapshot", "source"}, family)
}

// An entry is all that is known of a code beside the facts of one finding.
type entry struct {
	severity Severity
	// blocks is set where the source cannot be restored from, or not without
	// losing more than the finding itself names: etcd or etcdutl would fail on it,
	// or silently serve something else than was written.
	blocks bool
	means  string // what it says about the evidence
	shows  string // what in the files shows it
	do     string // what to do next; the hint of every finding
}

const (
	CodeBackendNotBbolt        Code = "backend-not-bbolt"
	CodeBackendMissing         Code = "backend-missing"
	CodeBackendByteOrder       Code = "backend-byte-order"
	CodeBackendMetaNone        Code = "backend-meta-none"
	CodeBackendMetaImpossible  Code = "backend-meta-impossible"
	CodeBackendMetaRollback    Code = "backend-meta-rollback"
	CodeBackendMetaPageSize    Code = "backend-meta-page-size"
	CodeBackendMetaChecksum    Code = "backend-meta-checksum"
	CodeBackendTruncated       Code = "backend-truncated"
	CodeBackendUnreadable      Code = "backend-unreadable"
	CodeBackendPageID          Code = "backend-page-id"
	CodeBackendPageType        Code = "backend-page-type"
	CodeBackendPageBounds      Code = "backend-page-bounds"
	CodeBackendPageOrder       Code = "backend-page-order"
	CodeBackendPageRange       Code = "backend-page-range"
	CodeBackendPageShared      Code = "backend-page-shared"
	CodeBackendPageCycle       Code = "backend-page-cycle"
	CodeBackendPageOutOfRange  Code = "backend-page-out-of-range"
	CodeBackendPageEmpty       Code = "backend-page-empty"
	CodeBackendOlderTreeSound  Code = "backend-older-tree-sound"
	CodeBackendPageUnreachable Code = "backend-page-unreachable"
	CodeBackendFreeReachable   Code = "backend-freelist-reachable"
	CodeBackendFreeDuplicate   Code = "backend-freelist-duplicate"
	CodeBackendFreeInvalid     Code = "backend-freelist-invalid"
	CodeBackendBucketMissing   Code = "backend-bucket-missing"
	CodeBackendRecordInvalid   Code = "backend-record-invalid"

	CodeSnapshotHashMismatch  Code = "snapshot-hash-mismatch"
	CodeSnapshotHashMissing   Code = "snapshot-hash-missing"
	CodeSnapshotTrailingBytes Code = "snapshot-trailing-bytes"

	CodeMVCCKeyMalformed         Code = "mvcc-key-malformed"
	CodeMVCCValueUndecodable     Code = "mvcc-value-undecodable"
	CodeMVCCModRevision          Code = "mvcc-mod-revision"
	CodeMVCCVersionChain         Code = "mvcc-version-chain"
	CodeMVCCRevisionGap          Code = "mvcc-revision-gap"
	CodeMVCCWALMismatch          Code = "mvcc-wal-mismatch"
	CodeMVCCLeaseDangling        Code = "mvcc-lease-dangling"
	CodeMVCCCompactionUnfinished Code = "mvcc-compaction-unfinished"

	CodeWALMissing          Code = "wal-missing"
	CodeWALUnreadable       Code = "wal-unreadable"
	CodeWALChecksum         Code = "wal-checksum"
	CodeWALLength           Code = "wal-length"
	CodeWALRecordInvalid    Code = "wal-record-invalid"
	CodeWALZeroedTail       Code = "wal-zeroed-tail"
	CodeWALTornTail         Code = "wal-torn-tail"
	CodeWALSegmentMissing   Code = "wal-segment-missing"
	CodeWALSegmentEmpty     Code = "wal-segment-empty"
	CodeWALSegmentMisnamed  Code = "wal-segment-misnamed"
	CodeWALIndexGap         Code = "wal-index-gap"
	CodeWALMetadataMismatch Code = "wal-metadata-mismatch"
	CodeWALBehindBackend    Code = "wal-behind-backend"
	CodeWALAheadOfBackend   Code = "wal-ahead-of-backend"
	CodeWALCommitBeyondEnd  Code = "wal-commit-beyond-end"
	CodeWALUncommittedTail  Code = "wal-uncommitted-tail"

	CodeSnapAheadOfBackend Code = "snap-ahead-of-backend"
	CodeSnapChecksum       Code = "snap-checksum"
	CodeSnapMissing        Code = "snap-missing"
	CodeSnapLeftover       Code = "snap-leftover"

	CodeMemberIDMismatch    Code = "member-id-mismatch"
	CodeClusterIDMismatch   Code = "cluster-id-mismatch"
	CodeClusterDiverged     Code = "cluster-diverged"
	CodeClusterOtherStore   Code = "cluster-other-store"
	CodeClusterMemberBehind Code = "cluster-member-behind"
	CodeClusterQuorumLost   Code = "cluster-quorum-lost"
	CodeCopiedWhileRunning  Code = "copied-while-running"

	CodeMemberSourcesDisagree Code = "member-sources-disagree"
	CodeMemberLearnerMismatch Code = "member-learner-mismatch"
	CodeMemberZombie          Code = "member-zombie"
	CodeMemberRemoved         Code = "member-removed"
	CodeMemberDuplicate       Code = "member-duplicate"
	CodeMemberIDUnexplained   Code = "member-id-unexplained"
	CodeMemberRestored        Code = "member-restored"
	CodeMemberForcedNew       Code = "member-forced-new"

	CodeAlarmCorrupt Code = "alarm-corrupt"
	CodeAlarmNoSpace Code = "alarm-nospace"

	CodeSpaceNearQuota  Code = "space-near-quota"
	CodeSpaceFragmented Code = "space-fragmented"

	CodeKubeEncryptionMixed Code = "kube-encryption-mixed"
	CodeKubeEncryptedAtRest Code = "kube-encrypted-at-rest"

	CodeVersionNotSupported Code = "version-not-supported"

	CodeSourceChanged Code = "source-changed"

	CodeBackupUnreadable    Code = "backup-unreadable"
	CodeBackupEmpty         Code = "backup-empty"
	CodeBackupTooOld        Code = "backup-too-old"
	CodeBackupFewKeys       Code = "backup-few-keys"
	CodeBackupLowRevision   Code = "backup-low-revision"
	CodeBackupPrefixMissing Code = "backup-prefix-missing"
	CodeBackupShrunk        Code = "backup-shrunk"
	CodeBackupOtherHistory  Code = "backup-other-history"
	CodeBackupOutOfOrder    Code = "backup-out-of-order"
	CodeBackupGap           Code = "backup-gap"
	CodeBackupBootFailed    Code = "backup-boot-failed"
)

const (
	doOtherSource = "restore from another member or an older snapshot; keep this file, most of its records can still be read"
	doCompact     = "do not start a server on this file; the tree is whole, so `bbolt compact -o NEW THIS` (on a copy) gives a sound database with every key"
	doKeepCopy    = "take the copy again from the stopped member; if it is the same, restore from another source"
)

var catalogue = map[Code]entry{
	CodeBackendNotBbolt: {SeverityError, true,
		"the file lies where etcd keeps its database, but nothing in it is a bbolt page",
		"neither meta page, nor any page that carries its own number",
		"look for the real file (an archive, an empty copy, another path); without it restore from another source"},
	CodeBackendMissing: {SeverityError, true,
		"a member directory without its database",
		"no member/snap/db, and no <index>.snap.db",
		"copy it again; a single member's database can be rebuilt from a complete WAL, otherwise restore from another source"},
	CodeBackendByteOrder: {SeverityError, true,
		"the file was written on a machine of the other byte order",
		"the meta's magic number reads right with its bytes reversed",
		"take a snapshot on the machine that wrote it and read that machine's keys through etcd; the file itself cannot be moved"},
	CodeBackendMetaNone: {SeverityError, true,
		"both meta pages are broken, so nothing says where the data begins: etcd does not open the file (\"failed to open database\"), and nothing proves that what can be read of it is the newest",
		"magic, version, checksum or fields of page 0 and page 1; page size and pages are told by the numbers that the pages carry",
		doOtherSource},
	CodeBackendMetaImpossible: {SeverityError, true,
		"a meta page passes bbolt's checks and names a root, mark, freelist or page size that cannot be: bbolt takes it and dies",
		"the fields of the meta page, whose checksum is right",
		"on a copy, `bbolt surgery revert-meta-page` goes back to the older meta, whose tree is described here; or restore from another source"},
	CodeBackendMetaPageSize: {SeverityWarning, false,
		"the second meta page names another page size than the first one, by which bbolt goes: should the first one break, nothing can be read",
		"the page size in both meta pages, whose checksums are right",
		"nothing is lost; write the database anew on a copy (`bbolt compact`), and find out what wrote to the file"},
	CodeBackendMetaRollback: {SeverityError, false,
		"the newer meta page is broken, so the last transaction is out of reach; etcd would go on from the one before without a word",
		"the older meta is valid, the other one is not",
		"expect the last transaction (up to 10 000 writes or 100 ms) to be missing; compare with the WAL or another member before restoring"},
	CodeBackendMetaChecksum: {SeverityWarning, false,
		"the older of the two meta pages is broken; the newer one, which counts, is whole",
		"magic, version, checksum or fields of that page",
		"nothing is lost; find out what wrote to the file or why the disk returned other bytes"},
	CodeBackendTruncated: {SeverityError, true,
		"the file is shorter than its own high-water mark: pages are missing at the end; etcd would die with SIGBUS",
		"size against the meta's page count",
		doKeepCopy},
	CodeBackendUnreadable: {SeverityError, true,
		"the disk did not give back a part of the file",
		"the range named, read page by page",
		"copy the file with a tool that retries (ddrescue), then inspect the copy"},
	CodeBackendPageID: {SeverityError, true,
		"a page carries another page's number: it was overwritten, or written to the wrong place",
		"the first 8 bytes of the page; etcd panics with \"Page expected to be: X, but self identifies as Y\"",
		doOtherSource},
	CodeBackendPageType: {SeverityError, true,
		"a page is not of the kind that its place asks for",
		"the flags in the page's header; zeros are a page that never reached the disk",
		doOtherSource},
	CodeBackendPageBounds: {SeverityError, true,
		"positions, sizes or the overflow count of a page do not fit it",
		"the element named",
		doOtherSource},
	CodeBackendPageOrder: {SeverityError, true,
		"keys on a page do not rise: look-ups miss what lies behind",
		"the element named and the one before it",
		doOtherSource},
	CodeBackendPageRange: {SeverityError, true,
		"a page holds keys that do not belong where the tree has put it",
		"its first or last key against the separators above",
		doOtherSource},
	CodeBackendPageShared: {SeverityError, true,
		"two references lead to one page, so one of them lost its own; etcd panics with \"multiple references\"",
		"the reference whose key range the page does not fit",
		doOtherSource},
	CodeBackendPageCycle: {SeverityError, true,
		"a page is its own descendant; bbolt's own check does not come to an end on it",
		"the reference that leads back up",
		doOtherSource},
	CodeBackendPageOutOfRange: {SeverityError, true,
		"a reference to a meta page or to a page that was never allocated; etcd panics with \"out of bounds\"",
		"the element that holds the reference",
		doOtherSource},
	CodeBackendPageEmpty: {SeverityError, true,
		"a page with no elements in a place where bbolt leaves none: its records have vanished",
		"the count in the page's header",
		doOtherSource},
	CodeBackendOlderTreeSound: {SeverityNote, false,
		"the newest tree is damaged, the one before it is whole: only the last transaction is at stake",
		"both trees were walked and read",
		"on a copy, `bbolt surgery revert-meta-page` goes back to it; the WAL holds the entries in between, or restore from another source"},
	CodeBackendPageUnreachable: {SeverityWarning, false,
		"a page is neither in use nor in the stored freelist: space is lost, or a subtree is",
		"the stored freelist and the walk of the tree",
		"nothing to do when no other finding names lost pages; a defragmentation gives the space back"},
	CodeBackendFreeReachable: {SeverityError, false,
		"a page in use is listed as free: the next write would overwrite it",
		"the stored freelist and the walk of the tree; bbolt panics with \"page N already freed\" when it gives the page up",
		doCompact},
	CodeBackendFreeDuplicate: {SeverityError, false,
		"a page is listed as free twice: it would be handed out twice",
		"the stored freelist",
		doCompact},
	CodeBackendFreeInvalid: {SeverityError, false,
		"the stored freelist is not one",
		"the page that the meta names as the freelist; etcd panics with \"invalid freelist page\"",
		doCompact},
	CodeBackendBucketMissing: {SeverityError, true,
		"a bucket that every etcd creates is not there",
		"the names in the root bucket",
		"check that this is an etcd database; if it is, restore from another source"},
	CodeBackendRecordInvalid: {SeverityError, false,
		"a record of a small bucket (meta, members, alarm, lease, auth, cluster) cannot be read",
		"the record named",
		"etcd stops at start on most of these; compare with another member, or restore from another source"},

	CodeSnapshotHashMismatch: {SeverityError, false,
		"the SHA-256 at the end of the snapshot is not that of its bytes; `etcdutl snapshot restore` refuses it, `snapshot status` does not look",
		"the last 32 bytes against the digest of those before",
		"use another snapshot; if this is the only one and no other finding names damage, --skip-hash-check restores it, with values that may have changed"},
	CodeSnapshotHashMissing: {SeverityWarning, false,
		"a snapshot without the SHA-256 that `snapshot save` appends, so nothing proves its bytes",
		"the metas are a snapshot's, the size is that of the pages alone",
		"take it again with `etcdctl snapshot save`; to restore it as it is, use --skip-hash-check"},
	CodeSnapshotTrailingBytes: {SeverityError, false,
		"bytes after the last page that are neither nothing nor a SHA-256: the end was cut off, or something was appended",
		"the size against the page count",
		"copy the snapshot again; to restore it as it is, cut it to the size of its pages and use --skip-hash-check"},

	CodeMVCCKeyMalformed: {SeverityError, true,
		"a record of bucket key whose key is not a revision; etcd panics at start on most of these",
		"length, separator, sign and mark of the key",
		doOtherSource},
	CodeMVCCValueUndecodable: {SeverityError, true,
		"a record of bucket key whose value is no key-value message; etcd ends at start with \"failed to unmarshal mvccpb.KeyValue\"",
		"the value's protobuf fields",
		doOtherSource},
	CodeMVCCModRevision: {SeverityError, false,
		"a record whose value says another revision than its key: one of the two has changed",
		"ModRevision in the value against the key",
		"the key named cannot be trusted; compare with another member, the WAL or an older snapshot"},
	CodeMVCCVersionChain: {SeverityError, false,
		"a record whose version and create revision contradict its mod revision: one of them has changed",
		"version 1 is created at its own revision, each further version takes a revision at least",
		"the key named cannot be trusted; compare with another member, the WAL or an older snapshot"},
	CodeMVCCRevisionGap: {SeverityError, false,
		"revisions above the compact revision are missing: etcd gives them out one by one, and only a compaction takes any away",
		"the revisions before and after the gap, in key order",
		"the writes of those revisions are not in this file; compare with another member, the WAL or an older snapshot"},
	CodeMVCCWALMismatch: {SeverityError, false,
		"the database contradicts its own WAL: an entry that it has applied left another record than the entry asks for, or none",
		"the entries up to the consistent index, laid beside the newest revisions of the database",
		"the record named cannot be trusted, and the WAL holds what was written; compare with another member before restoring from this one"},
	CodeMVCCLeaseDangling: {SeverityWarning, false,
		"a live key hangs on a lease that does not exist: it never expires",
		"the lease id in the key's latest record against bucket lease",
		"after a restore, look whether the key should still be there, and delete it by hand if not"},
	CodeMVCCCompactionUnfinished: {SeverityWarning, false,
		"a compaction was begun and did not finish; etcd goes on with it at its next start",
		"scheduledCompactRev above finishedCompactRev in bucket meta",
		"nothing is lost: revisions below it were given up on purpose; older revisions may still be readable here"},

	CodeWALMissing: {SeverityError, false,
		"a member directory without its write-ahead log; etcd would begin a new log and then skip every entry up to the consistent index",
		"no *.wal in member/wal (or in --wal-dir)",
		"find the WAL (a separate --wal-dir?); without it restore from the database with --skip-hash-check, and never start a server on the directory as it is"},
	CodeWALUnreadable: {SeverityError, false,
		"the disk did not give back a part of the WAL",
		"the error of the read",
		"copy the directory with a tool that retries (ddrescue), then inspect the copy"},
	CodeWALChecksum: {SeverityError, false,
		"a record's checksum does not match its bytes; etcd ends at start with \"walpb: crc mismatch\" when it has to read it",
		"the rolling CRC-32C of the segment",
		"do not start a server on it; take another member, or restore from the database if it has applied the index named"},
	CodeWALLength: {SeverityError, false,
		"a record's length does not fit the segment; etcd takes that for a torn write, cuts the log here and goes on (\"repaired WAL\")",
		"the length word at the offset named",
		"do not start a server on the only copy: it would drop every entry behind this place without a word"},
	CodeWALRecordInvalid: {SeverityError, false,
		"a record that etcd never writes: unknown type, wrong padding, or a message that does not decode",
		"the record named",
		"do not start a server on it; take another member, or restore from the database if it has applied the entries up to here"},
	CodeWALZeroedTail: {SeverityError, false,
		"the log ends in zeros, as a log normally does, but entries that the database or a commit index knows are not there: they were zeroed, or the log is older than the database",
		"commit index, consistent index or the next segment's name lie beyond the last entry",
		"take another member; or restore from the database, which has applied what its consistent index says"},
	CodeWALTornTail: {SeverityNote, false,
		"the last write was cut short; etcd drops it at start",
		"a sector of zeros inside the last record, and nothing behind it",
		"nothing to do: a record that was not synced was not acknowledged"},
	CodeWALSegmentMissing: {SeverityError, false,
		"a segment that etcd needs is not there; from 3.5 on it checks all segments from the first that is there, and ends with \"crc mismatch\" at the break",
		"the numbers and indexes in the segments' names",
		"find the file; without it take another member, or restore from the database"},
	CodeWALSegmentEmpty: {SeverityError, false,
		"a segment without a single record",
		"its bytes",
		"find the file as it was; without it take another member, or restore from the database"},
	CodeWALSegmentMisnamed: {SeverityWarning, false,
		"the first index in a segment's name is not the one that comes next: the file was renamed, or is not of this log",
		"the name of the file, and the last entry of the segment before",
		"give a copy the name that fits when the checksums go on from one segment to the next; etcd chooses by name where it starts to read"},
	CodeWALIndexGap: {SeverityError, false,
		"entries are missing between two that follow each other, and no snapshot stands for them",
		"the indexes of the entries",
		"take another member, or restore from the database"},
	CodeWALMetadataMismatch: {SeverityError, false,
		"segments of different members or clusters lie in one directory; etcd ends with \"crc mismatch\" or \"wal: conflicting metadata found\"",
		"the metadata record at the head of each segment",
		"sort the segments by member; each segment's head says whose it is"},
	CodeWALBehindBackend: {SeverityError, false,
		"the database has applied entries that the log does not hold, because part of the log is gone or it was copied before the database: a server on it never becomes ready, or answers with what it should not have",
		"consistent index or term of the database against the end of the log",
		"do not start a server on the directory; restore from its database with --skip-hash-check, or take another member"},
	CodeWALAheadOfBackend: {SeverityNote, false,
		"the log holds committed entries that the database does not: normal after a stop or a crash, and lost by whoever copies the database alone",
		"proven commit index against the consistent index",
		"nothing to do when the whole directory is used; a restore from snap/db alone loses these entries"},
	CodeWALCommitBeyondEnd: {SeverityError, false,
		"the log knows of a commit index beyond its own last entry: entries are missing at its end; raft panics with \"tocommit is out of range\"",
		"the hard state named against the last entry",
		"take another member, or restore from the database"},
	CodeWALUncommittedTail: {SeverityNote, false,
		"the last entries may never have been committed; whether a client was told so cannot be seen here",
		"no commit index, consistent index, snapshot or majority of logs reaches them",
		"inspect the other members in the same call: their logs may prove these entries"},

	CodeSnapAheadOfBackend: {SeverityError, false,
		"the log goes on from a snapshot that the database has not reached; etcd ends with \"failed to find database snapshot file\"",
		"index of the snapshot record against the consistent index",
		"an older database was put back, or a copy is torn: find the database of that moment or <index>.snap.db; otherwise restore from the database alone"},
	CodeSnapChecksum: {SeverityWarning, false,
		"a .snap file that etcd would not read and rename to .broken",
		"its CRC, its fields, or its name",
		"nothing is lost as long as the database is sound: etcd falls back to an older snapshot and the WAL"},
	CodeSnapMissing: {SeverityWarning, false,
		"the WAL records a snapshot whose .snap file is not there",
		"the WAL's snapshot records against the files in snap; a release of 3.8 leaves none",
		"nothing is lost as long as the database is sound; 3.4 to 3.6 fall back to an older snapshot and need the WAL from there on"},
	CodeSnapLeftover: {SeverityNote, false,
		"a file in the member's directories that etcd does not read",
		"its name",
		"keep it with the evidence: a .broken segment holds what a repair cut off, a .snap.db what a leader sent"},

	CodeMemberIDMismatch: {SeverityError, false,
		"WAL and database belong to different members",
		"the member id in the WAL's metadata against the membership in the database",
		"find the parts that belong together; do not start a server on this mixture"},
	CodeClusterIDMismatch: {SeverityError, false,
		"the directories handed in belong to different clusters",
		"the cluster id in each WAL's metadata",
		"sort them by cluster; a member restored or forced anew has left its old cluster"},
	CodeClusterDiverged: {SeverityError, false,
		"members of one cluster hold different content at a revision that all of them have",
		"the records of bucket key up to the lowest revision among them, compared one by one where their sums differ",
		"go on from a member that is not blamed, and let the others join anew without their data; when nobody is, give all members' directories and logs, or look at both versions of the keys named; see https://etcd.io/docs/v3.5/op-guide/data_corruption/"},
	CodeClusterOtherStore: {SeverityError, false,
		"a snapshot or database is of another store than the members handed in with it",
		"most of the keys that neither has written since the older of the two are not the same",
		"find out which cluster it is of; do not restore this one from it"},
	CodeClusterMemberBehind: {SeverityWarning, false,
		"a member's log ends before entries that are proven committed: it was down, partitioned or slow",
		"the proven commit index of all logs together, beyond this log's last entry",
		"start from a member that has them; this one catches up, or joins anew"},
	CodeClusterQuorumLost: {SeverityWarning, false,
		"of the directories given, fewer than a majority of the voters could start: the cluster cannot elect a leader from them",
		"the voters by the newest membership, and what etcd would do with each directory",
		"give all directories that are left; if these are all, restore from the best source as a new cluster"},
	CodeMemberSourcesDisagree: {SeverityWarning, false,
		"two places on disk state another membership as of the same index, and no conf change lies between them",
		"bucket members, conf states in bucket meta, WAL and .snap, and the v2 store, each against the conf changes of the log",
		"see with `etcd-forensics members` what each place states; restore with --initial-cluster, which writes the membership anew, rather than start on the directory"},
	CodeMemberLearnerMismatch: {SeverityWarning, false,
		"a store has a member as a learner that raft has as a voter, or the other way round; from 3.6 on etcd believes bucket members",
		"the learner flag in bucket members or the v2 store against raft's conf state and the conf changes",
		"before an upgrade to 3.6 start the cluster with 3.5.24 or later, which puts the flag right; a restore writes the membership anew"},
	CodeMemberZombie: {SeverityWarning, false,
		"bucket members has a member that raft does not know; from 3.6 on etcd believes the bucket, shows the member again, ends, or never elects a leader",
		"bucket members against raft's conf state, with every conf change behind it",
		"before an upgrade to 3.6 start the cluster with 3.5.26 or later, which removes it; a restore by etcdutl 3.5 or later writes the membership anew"},
	CodeMemberRemoved: {SeverityWarning, false,
		"the directory is that of a member that was removed from its cluster; a server on it ends with \"the member has been permanently removed from the cluster\"",
		"the removal in a log, in bucket members_removed or in the v2 store",
		"take another member for a restore: this one lacks what was written after its removal; the others need not be told of it again"},
	CodeMemberDuplicate: {SeverityWarning, false,
		"two members have the same name or the same URL, so that clients or peers reach the wrong one",
		"names, peer and client URLs of the members",
		"give each its own --name and --advertise-client-urls; peer URLs with `etcdctl member update`"},
	CodeMemberIDUnexplained: {SeverityWarning, false,
		"ids are not what etcd computes from what they are made of: the log was put together by hand or by another tool (`etcdctl backup` of the v2 store makes new ids), or a peer URL has changed in it",
		"SHA-1 of peer URLs and token for a member, and of the ids of its first members for a cluster",
		"do not start a server on the directory beside others; restore from its database, which makes new ids"},
	CodeMemberRestored: {SeverityNote, false,
		"the member was made by `snapshot restore`: it begins with the data of another cluster, and has nothing of that one's log",
		"a snapshot record right behind the members with which the log begins, in term 1; or a conf state that names none of the members",
		"nothing is wrong; every member of the cluster must have been restored from the same snapshot"},
	CodeMemberForcedNew: {SeverityNote, false,
		"a server was started on this directory with --force-new-cluster: the other members were removed, and their directories are of another history from then on",
		"conf changes that remove members and carry no id of a request",
		"nothing is wrong with this member; do not start the others again, and take the flag out of the unit or manifest"},
	CodeCopiedWhileRunning: {SeverityWarning, false,
		"the files were copied while a server wrote to them, so they are of no one moment",
		"pages that are whole but of a later transaction",
		"copy again with the server stopped, or take a snapshot with `etcdctl snapshot save`"},

	CodeAlarmCorrupt: {SeverityError, false,
		"etcd itself has raised the CORRUPT alarm: members disagreed about the data",
		"bucket alarm",
		"compare all members before choosing one to restore from; the alarm survives a restore and must be disarmed"},
	CodeAlarmNoSpace: {SeverityWarning, false,
		"the NOSPACE alarm is on: the quota was reached and writes are refused",
		"bucket alarm",
		"after a restore: compact, defragment each member, then `etcdctl alarm disarm`; the alarm survives a restore"},

	CodeSpaceNearQuota: {SeverityWarning, false,
		"the pages in use reach 80 percent of a quota that etcd names, 2 GiB or 8 GiB; which one the servers have is not on disk",
		"the pages below the high-water mark without the free ones; a database above 2 GiB is held against 8 GiB",
		"see what fills it with `etcd-forensics keys`; compact, defragment, or raise --quota-backend-bytes before writes are refused"},
	CodeSpaceFragmented: {SeverityNote, false,
		"more than half of the database, and more than 64 MiB, is free pages",
		"the freelist, or without a stored one the pages that nothing refers to",
		"nothing is wrong; a defragmentation of each member, one after the other, gives the space back"},

	CodeBackupUnreadable: {SeverityError, true,
		"what was meant as a backup cannot be read as one: it is empty, cut short, damaged in its packing, or nothing of etcd's",
		"no bbolt page in the file, or an archive that ends early or does not fit its checksum",
		"take another backup and find out what wrote this one; a job that never looks at its result writes such files for months"},
	CodeBackupEmpty: {SeverityError, true,
		"the backup holds no key: a restore from it gives an empty store",
		"bucket key has no live record",
		"check which endpoint the backup was taken from, and as which user"},
	CodeBackupTooOld: {SeverityError, false,
		"the backup is older than --max-age allows, or its time lies in the future",
		"the newest time that leases and events of Kubernetes name in it, otherwise the file's modification time",
		"see whether the job that makes backups still runs, and whether it copies old ones under new names"},
	CodeBackupFewKeys: {SeverityError, false,
		"the backup holds fewer live keys than --min-keys asks for",
		"the live keys of bucket key",
		"compare it with an earlier one: `etcd-forensics diff EARLIER THIS`"},
	CodeBackupLowRevision: {SeverityError, false,
		"the backup's revision is below --min-revision",
		"the highest record of bucket key and the compaction marks",
		"look for a later backup; this one lacks what was written since"},
	CodeBackupPrefixMissing: {SeverityError, false,
		"fewer live keys lie under a prefix than --require-prefix asks for",
		"the live keys of bucket key",
		"see what is there with `etcd-forensics keys`; another prefix of the API server needs another --require-prefix"},
	CodeBackupShrunk: {SeverityError, false,
		"more keys have gone since the backup before than --max-drop allows, in all or under one prefix",
		"the live keys of both by prefix; events of Kubernetes do not count",
		"see which with `etcd-forensics diff EARLIER THIS`, and keep the earlier one"},
	CodeBackupOtherHistory: {SeverityError, false,
		"the backup is not of the store that the others are of: another cluster, or one that was restored from an earlier backup meanwhile",
		"keys that neither has written since the older of the two, and that are not the same in both",
		"compare the members with `etcd-forensics inspect`; keep the backups of each cluster in a folder of their own"},
	CodeBackupOutOfOrder: {SeverityError, false,
		"a backup's revision does not rise with its name: an older or newer one lies under it",
		"the revisions of a series in the order of the times in its names, or of the names",
		"trust the revision, not the name, when you choose one to restore"},
	CodeBackupGap: {SeverityWarning, false,
		"backups are missing in a series that is regular otherwise",
		"the times in the names",
		"see why the job did not run, or who deleted them"},
	CodeBackupBootFailed: {SeverityError, true,
		"etcd does not come up on what is restored from the backup, or serves something else than it holds",
		"a rehearsal: the backup restored in a scratch folder, and a server started on it",
		"`etcd-forensics rehearse` on the backup says how far it came; keep an older backup until this is understood"},

	CodeKubeEncryptionMixed: {SeverityWarning, false,
		"the live objects of one resource of Kubernetes are not all kept in one way: some are encrypted and others are not, or by several keys or providers",
		"the first bytes of values, k8s:enc:PROVIDER:VERSION:KEY:, by resource",
		"have every key named here in the EncryptionConfiguration before a restore (`keys --kubernetes --encryption-config FILE` tells which are missing); afterwards write all objects anew, as the end of a key rotation does: `kubectl get RESOURCE -A -o json | kubectl replace -f -`"},
	CodeKubeEncryptedAtRest: {SeverityNote, false,
		"the API server keeps objects encrypted, so a restored cluster can read them only with its EncryptionConfiguration and keys",
		"values that begin with k8s:enc:PROVIDER:VERSION:KEY:",
		"see that the EncryptionConfiguration with the keys named here, or the KMS, is at hand and kept apart from the backup; `keys --kubernetes --encryption-config FILE` tells whether it has them all"},
	CodeVersionNotSupported: {SeverityNote, false,
		"the files were written by another minor version of etcd than the ones that refuse them",
		"the storage version in bucket meta, the cluster version, and requests in the WAL that came or went with a version; it is a finding only where every version up to 3.8 refuses them",
		"start the version that wrote them, or a later one that takes them; a downgrade goes one minor version at a time, with `etcdctl downgrade` on a running cluster"},

	CodeSourceChanged: {SeverityError, false,
		"the file changed while it was read, so what was read is of no one moment",
		"size or modification time before and after",
		"copy the file (with etcd stopped, or with `snapshot save`) and inspect the copy"},
}

// An Explanation is what `explain` says of a code.
type Explanation struct {
	Code     Code     `json:"code"`
	Severity Severity `json:"severity"`
	Means    string   `json:"means"`
	Shows    string   `json:"evidence"`
	Do       string   `json:"do"`
}

// Explain looks a code up.
func Explain(code Code) (Explanation, bool) {
	e, ok := catalogue[code]
	return Explanation{code, e.severity, e.means, e.shows, e.do}, ok
}

// Codes lists all codes, sorted.
func Codes() []Code { return slices.Sorted(maps.Keys(catalogue)) }
