package symptom

import "etcd-forensics/inspect"

// treeCodes are the findings of a damaged tree of pages.
var treeCodes = []inspect.Code{
	inspect.CodeBackendPageID, inspect.CodeBackendPageType, inspect.CodeBackendPageBounds, inspect.CodeBackendPageOrder,
	inspect.CodeBackendPageRange, inspect.CodeBackendPageShared, inspect.CodeBackendPageCycle, inspect.CodeBackendPageOutOfRange,
	inspect.CodeBackendPageEmpty, inspect.CodeBackendTruncated, inspect.CodeBackendFreeReachable, inspect.CodeBackendMetaImpossible,
	inspect.CodeCopiedWhileRunning,
}

// freeCodes are the findings of a damaged freelist.
var freeCodes = []inspect.Code{inspect.CodeBackendFreeReachable, inspect.CodeBackendFreeDuplicate, inspect.CodeBackendFreeInvalid, inspect.CodeBackendPageUnreachable}

// doReplaceMember is what cures a member whose files are damaged.
const doReplaceMember = "in a cluster that still has a quorum: `etcdctl member remove` this one, delete its data directory, `member add` it again"

var doTree = []string{
	"stop the server and copy the data directory before anything else writes to it",
	"look what is lost: `etcd-forensics inspect` on the copy, `pages FILE N` for the page named",
	doReplaceMember,
	"without a quorum, restore from the soundest member or snapshot",
	"find out why the disk did not keep what was written: power loss without fsync, a failing disk, a file system on the network",
}

// What bbolt says: db.go, tx_check.go, internal/common/page.go, internal/freelist.
var pageSymptoms = []Symptom{
	{
		Name: "bbolt-freepages", Severity: inspect.SeverityError,
		Means: "bbolt walked the tree to find the free pages and met a page that cannot be where it is: the database is damaged, and etcd ends at start",
		Shows: "the walk of the pages: a page that two references name, that lies beyond the high-water mark, of a wrong type, or with keys out of order",
		Codes: treeCodes, Do: doTree, on: inBackend,
		patterns: []pattern{
			says("freepages: failed to get all reachable pages", `page (?P<page>[0-9]+): |page ?\((?P<page>[0-9]+)\)`),
			shaped("multiple references", `page (?P<page>[0-9]+): multiple references`),
			shaped("out of bounds", `page (?P<page>[0-9]+): out of bounds: [0-9]+`),
			shaped("unreachable unfreed", `page (?P<page>[0-9]+): unreachable unfreed`),
		},
	},
	{
		Name: "bbolt-page-misplaced", Severity: inspect.SeverityError,
		Means: "a page carries another page's number: it was overwritten, never reached the disk, or the file is cut short; etcd panics on reading it",
		Shows: "the number in the first 8 bytes of the page named, or a file shorter than its high-water mark",
		Codes: treeCodes, Do: doTree, on: inBackend,
		patterns: []pattern{
			says("Page expected to be: ", `expected to be: (?P<page>[0-9]+), but self identifies as (?P<found>[0-9]+)`),
			shaped("has unexpected type/flags", `page (?P<page>[0-9]+): has unexpected type/flags`),
		},
	},
	{
		Name: "bbolt-freelist", Severity: inspect.SeverityError,
		Means: "the stored freelist is not one, or names a page twice or one that is in use: the next writes would overwrite data, and bbolt panics",
		Shows: "the page of the freelist, and its numbers against the walk of the tree",
		Codes: freeCodes, on: inBackend,
		Do: []string{
			"stop the server and copy the database",
			"when the tree is whole, `bbolt compact -o NEW COPY` gives a sound database with every key",
			doReplaceMember,
		},
		patterns: []pattern{
			shaped("already freed", `page (?P<page>[0-9]+):? already freed`),
			says("invalid freelist page", `page: (?P<page>[0-9]+)`),
			shaped("above high water mark", `freelist pgid \((?P<page>[0-9]+)\) above high water mark`),
			says("detected duplicated free page ID", `ID: (?P<page>[0-9]+)`),
		},
	},
	{
		Name: "backend-locked", Severity: inspect.SeverityWarning,
		Means: "the lock on the database is held by another process, or opening takes longer than 10 seconds",
		Shows: "nothing: a lock leaves no trace in the file",
		on:    nowhere,
		Do: []string{
			"look for a second etcd or an etcdutl on the same data directory, and stop it",
			"without one, a very large database or a file system on the network makes opening slow; etcd does not belong on NFS",
		},
		patterns: []pattern{
			says("db file is flocked by another process"),
			says("another etcd process is using", `using "(?P<file>[^"]+)"`),
		},
	},
	{
		Name: "bbolt-invalid-database", Severity: inspect.SeverityError,
		Means: "bbolt does not open the file: neither of its two meta pages is valid, or it is no database at all, such as an archive that was not unpacked",
		Shows: "magic, version and checksum of the first two pages; the size of the file",
		Codes: []inspect.Code{
			inspect.CodeBackendNotBbolt, inspect.CodeBackendMetaNone, inspect.CodeBackendByteOrder, inspect.CodeBackendTruncated,
			inspect.CodeBackendMetaPageSize, inspect.CodeBackendMetaImpossible, inspect.CodeBackupUnreadable,
		},
		on: inBackend,
		Do: []string{
			"see what the file is with `etcd-forensics inspect`; unpack it when it is an archive",
			doReplaceMember,
			"without a quorum, restore from another member or an older snapshot; most records of this file can still be read",
		},
		patterns: []pattern{
			shaped("invalid database", `(?:cannot open database at (?P<file>\S+) \()?invalid database`),
			says("both meta pages are invalid"),
			says("invalid meta pages"),
			says("file size too small"),
			shaped("checksum error", `(?i)(?:open database|Error:|panic:).*checksum error|^checksum error`),
			shaped("version mismatch", `(?i)(?:open database|Error:|panic:).*version mismatch|^version mismatch`),
			says("failed to open database"),
			says("cannot open database at", `at (?P<file>\S+) \(`),
		},
	},
	{
		Name: "mvcc-key-panic", Severity: inspect.SeverityError,
		Means: "a record of bucket key has a key that is no revision, and etcd panics when it builds its index",
		Shows: "length, separator and mark of the keys in bucket key",
		Codes: []inspect.Code{inspect.CodeMVCCKeyMalformed}, Do: doTree, on: inBackend,
		patterns: []pattern{says("invalid separator in bucket key"), says("invalid bucket key length"), says("invalid tombstone mark")},
	},
	{
		Name: "mvcc-value-panic", Severity: inspect.SeverityError,
		Means: "a record of bucket key is no key-value message, and etcd ends when it builds its index",
		Shows: "the protobuf fields of the values in bucket key",
		Codes: []inspect.Code{inspect.CodeMVCCValueUndecodable}, Do: doTree, on: inBackend,
		patterns: []pattern{says("failed to unmarshal mvccpb.KeyValue"), says("cannot unmarshal event")},
	},
	{
		Name: "mvcc-revision-order", Severity: inspect.SeverityError,
		Means: "the versions of a key do not rise as etcd reads them at start: records lie where they do not belong",
		Shows: "a page with keys of another place, or keys on a page that do not rise",
		Codes: append([]inspect.Code{inspect.CodeMVCCModRevision, inspect.CodeMVCCVersionChain}, treeCodes...), Do: doTree, on: inBackend,
		patterns: []pattern{
			says("with an unexpected smaller revision", `"given-revision-main": ?(?P<revision>[0-9]+)`),
			says("put with unexpected smaller revision", `revision \[\{(?P<revision>[0-9]+)`),
			says("cannot restore non-empty keyIndex"), says("restore non-empty key index"),
		},
	},
	{
		Name: "mvcc-revision-not-found", Severity: inspect.SeverityError,
		Means: "etcd's index names a revision that the database does not hold, or a client asks for a revision that is not there yet: records are lost, or the store was put back to an older state",
		Shows: "the revisions in bucket key: gaps, and the newest one",
		Codes: append([]inspect.Code{inspect.CodeMVCCRevisionGap, inspect.CodeMVCCWALMismatch}, treeCodes...),
		on:    inBackend, check: revisionAhead,
		Do: []string{
			"inspect the database of each member for missing revisions",
			"after a restore, restart the clients that watch: they ask for revisions of the time before; a restore with --bump-revision and --mark-compacted spares them",
			doReplaceMember,
		},
		patterns: []pattern{
			says("range failed to find revision pair"),
			says("range cannot find rev (", `rev \((?P<revision>[0-9]+),`),
			says("required revision is a future revision"),
		},
	},
}
