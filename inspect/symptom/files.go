package symptom

import "etcd-forensics/inspect"

// What etcd says of its files and what the tools for snapshots say: fileutil,
// bootstrap.go, etcdutl/snapshot, clientv3/snapshot.
var fileSymptoms = []Symptom{
	{
		Name: "data-dir-unusable", Severity: inspect.SeverityError,
		Means: "the server may not read or write its directory: wrong owner, SELinux, a file system that is read-only or full",
		Shows: "nothing: owner and mode of the original are not in a copy",
		on:    nowhere,
		Do: []string{
			"see owner, mode and SELinux context of the data and WAL directories (a restore makes them as the user who ran it), and free space",
			"chown, chmod 0700 or restorecon",
		},
		patterns: []pattern{
			says("cannot access data directory"), says("cannot access member directory"), says("cannot write to WAL directory"),
			says("cannot write to member directory"), says("cannot write to data directory"),
		},
	},
	{ // etcd v3.5.21, etcdserver/raft.go, mvcc/backend/batch_tx.go
		Name: "disk-full", Severity: inspect.SeverityError,
		Means: "the file system is full: etcd ends when it cannot save entries or commit to the database",
		Shows: "nothing: the free space of the original is not in a copy; a log that ends in a write that was cut short is a trace",
		on:    nowhere,
		Do: []string{
			"copy the data directory elsewhere, see what takes the room (`du`), and make the file system larger or move other files off it; never delete .wal or .snap files",
			"start it again: etcd itself drops a last write that was cut short",
			"see what the database is full of: `etcd-forensics keys`",
		},
		patterns: []pattern{says("no space left on device")},
	},
	{
		Name: "data-dir-mode", Severity: inspect.SeverityWarning,
		Means: "the data directory may be entered by others than its owner; etcd wants mode 0700 and goes on",
		Shows: "nothing: the mode of the original is not in a copy",
		on:    nowhere, Do: []string{"chmod 0700 the directory"},
		patterns: []pattern{says("check file permission", `directory "(?P<file>[^"]{1,256})" exist, but the permission is "(?P<mode>[^"]{1,32})"`)},
	},
}

var toolSymptoms = []Symptom{
	{
		Name: "snapshot-sha256-differs", Severity: inspect.SeverityError,
		Means: "the snapshot is not as it was written: the SHA-256 at its end does not match what stands before it",
		Shows: "the SHA-256 at the end of the file",
		Codes: []inspect.Code{inspect.CodeSnapshotHashMismatch, inspect.CodeSnapshotTrailingBytes}, on: inBackend,
		Do: []string{
			"copy it again from where it was made, and use another one if it is the same there",
			"when there is no other, and no other finding names damage, --skip-hash-check restores it, with values that may have changed",
		},
		patterns: []pattern{says("expected sha256 [")},
	},
	{
		Name: "snapshot-sha256-missing", Severity: inspect.SeverityError,
		Means: "the file ends without a SHA-256: it is a member's database, or a snapshot that was cut short",
		Shows: "size and page count of the file: a snapshot has 32 bytes more",
		Codes: []inspect.Code{inspect.CodeSnapshotHashMissing, inspect.CodeSnapshotTrailingBytes, inspect.CodeBackendTruncated}, on: inBackend, check: noTrailer,
		Do: []string{"inspect the file first", "when it is sound, restore it with --skip-hash-check"},
		patterns: []pattern{
			says("snapshot missing hash but --skip-hash-check=false"), says("sha256 checksum not found [bytes"),
		},
	},
	{
		Name: "snapshot-integrity", Severity: inspect.SeverityError,
		Means: "`snapshot status` found the tree of pages damaged",
		Shows: "the walk of the pages",
		Codes: append(append([]inspect.Code{inspect.CodeBackendPageUnreachable}, freeCodes...), treeCodes...), on: inBackend,
		Do:       []string{"take another snapshot or member", "see what is lost with `etcd-forensics inspect`"},
		patterns: []pattern{says("snapshot file integrity check failed", `failed\. (?P<errors>[0-9]+) errors`)},
	},
	{
		Name: "snapshot-file-too-short", Severity: inspect.SeverityError,
		Means: "the snapshot is shorter than a hash: empty, or cut off at its beginning",
		Shows: "the size of the file",
		Codes: []inspect.Code{inspect.CodeBackendNotBbolt, inspect.CodeBackupUnreadable, inspect.CodeBackendTruncated}, on: inBackend,
		Do:       []string{"take another one, and find out what wrote this"},
		patterns: []pattern{shaped("seek ", `Error: seek (?P<file>.{1,256}?): invalid argument`)},
	},
	{
		Name: "restore-target-exists", Severity: inspect.SeverityError,
		Means: "a restore does not write into a directory that holds something, be it the rest of a restore that failed",
		Shows: "nothing: it is about the place to write to",
		on:    nowhere,
		Do:    []string{"restore into a new directory, then move it to its place", "3.4 refuses an empty directory as well; so does --wal-dir in every version"},
		patterns: []pattern{
			shaped("data-dir ", `data-dir "(?P<file>[^"]{1,256})" (?:not empty or could not be read|exists)`),
			shaped("wal-dir ", `wal-dir "(?P<file>[^"]{1,256})" exists`),
		},
	},
	{
		Name: "restore-mmap", Severity: inspect.SeverityError,
		Means: "etcdutl maps 10 GiB of address space for the database, and the process may not have that much",
		Shows: "nothing: the limit is one of the process",
		on:    nowhere, Do: []string{"lift the limit on address space (ulimit -v, the container's), or give --initial-memory-map-size (3.5.14 and later)"},
		patterns: []pattern{says("mmap failed, size:", `size: (?P<bytes>[0-9]+)`)},
	},
	{
		Name: "restore-arguments", Severity: inspect.SeverityError,
		Means: "the arguments of the tool are not what it takes; nothing was written",
		Shows: "nothing: it is about the command",
		on:    nowhere,
		Do: []string{
			"give one file, --data-dir, and URLs with scheme and port, as https://10.0.0.1:2380",
			"--bump-revision and --mark-compacted go together (3.4.27, 3.5.10 and later)",
		},
		patterns: []pattern{
			shaped("requires exactly one argument", `snapshot (?:restore|status|save) requires exactly one argument`),
			says(`required flag(s) "data-dir" not set`), says("URL address does not have the form"),
			says("first path segment in URL cannot contain colon"), says("--mark-compacted required if"),
			shaped("target version", `target version "(?P<storageVersion>[0-9.]+)" not supported`), says("wrong target version format"),
		},
	},
	{
		Name: "restore-source-missing", Severity: inspect.SeverityError,
		Means: "there is no snapshot at the path given",
		Shows: "nothing: it is about the command",
		on:    nowhere, Do: []string{"check the path, and inside which container it is meant"},
		patterns: []pattern{shaped("no such file or directory", `Error: (?:open|stat) (?P<file>.{1,256}?): no such file or directory`)},
	},
}
