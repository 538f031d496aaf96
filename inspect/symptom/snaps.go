package symptom

import "etcd-forensics/inspect"

var doBackendBehind = []string{
	"stop the server and copy the whole data directory",
	"look for <index>.snap.db or the database of that moment: an older one was put back, or a crash came in the middle of receiving a snapshot",
	doReplaceMember,
	"a single member: `etcdutl snapshot restore --skip-hash-check` from its database, which loses what only the log holds",
}

// What etcd says of snapshots: etcdserver/api/snap, storage/backend.go, bootstrap.go.
var snapSymptoms = []Symptom{
	{
		Name: "snap-db-not-found", Severity: inspect.SeverityError,
		Means: "the log goes on from a snapshot that the database has not reached, and the database that came with that snapshot is not there; etcd ends at start",
		Shows: "the newest snapshot in the log against the consistent index, and <index>.snap.db",
		Codes: []inspect.Code{inspect.CodeSnapAheadOfBackend, inspect.CodeBackendMissing}, on: inBackend, Do: doBackendBehind,
		patterns: []pattern{
			says("failed to find database snapshot file"), says("failed to recover v3 backend from snapshot"),
			says("failed to find [SNAPSHOT-INDEX].snap.db"), says("database snapshot file path error"),
			says("recovering backend from snapshot error"), says("snap: snapshot file doesn't exist"),
		},
	},
	{
		Name: "backend-behind-snapshot", Severity: inspect.SeverityError,
		Means: "the database is missing or older than the snapshot from which the log goes on",
		Shows: "the consistent index against the newest snapshot",
		Codes: []inspect.Code{inspect.CodeSnapAheadOfBackend, inspect.CodeBackendMissing, inspect.CodeBackendBucketMissing}, on: inBackend, Do: doBackendBehind,
		patterns: []pattern{
			shaped("does not match with snapshot", `database file \((?P<file>.{1,256}?)(?: index (?P<consistentIndex>[0-9]+))?\) does not match with snapshot \(index (?P<index>[0-9]+)\)`),
			shaped("of the backend is missing", `database file \((?P<file>.{1,256}?)\) of the backend is missing`),
			says("consistent index was never saved", `snapshot-index=(?P<index>[0-9]+)`),
		},
	},
	{
		Name: "snap-file-corrupt", Severity: inspect.SeverityWarning,
		Means: "a .snap file does not match its checksum or is empty; etcd puts it aside and takes an older one, if the log reaches back to it",
		Shows: "the checksum of each .snap file, and *.snap.broken",
		Codes: []inspect.Code{inspect.CodeSnapChecksum, inspect.CodeSnapLeftover, inspect.CodeSnapMissing}, on: inSnaps,
		Do: []string{
			"nothing, when the server starts: membership lies in the log and in the database as well, and from 3.7 on .snap files are not read",
			"when it does not start, " + doReplaceMember,
		},
		patterns: []pattern{
			says("snap: crc mismatch"), says("snap file is corrupt"), says("snap: empty snapshot"),
			says("renamed to a broken snap file"), says("failed to read a snap file"), says("failed to read empty snapshot"),
			says("corrupted snapshot file", `snapshot file (?P<file>\S+): `), says("cannot rename broken snapshot file", `file (?P<file>\S+) to `),
		},
	},
	{
		Name: "snap-none", Severity: inspect.SeverityNote,
		Means: "there is no .snap file, and etcd reads its log from the beginning: normal in a young cluster, wrong when the log does not reach back to index 1",
		Shows: "the first index of the log",
		Codes: []inspect.Code{inspect.CodeSnapMissing, inspect.CodeWALSegmentMissing, inspect.CodeSnapChecksum}, on: inWAL,
		Do: []string{"nothing, when the server goes on; otherwise look for the missing .snap file or segment"},
		patterns: []pattern{
			says("snap: no available snapshot"), says("No snapshot found. Recovering WAL from scratch!"),
		},
	},
}
