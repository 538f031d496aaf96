package symptom

import "etcd-forensics/inspect"

// logCodes are the findings of a log that cannot be read to its end.
var logCodes = []inspect.Code{
	inspect.CodeWALChecksum, inspect.CodeWALLength, inspect.CodeWALRecordInvalid, inspect.CodeWALTornTail, inspect.CodeWALZeroedTail,
	inspect.CodeWALSegmentMissing, inspect.CodeWALSegmentEmpty, inspect.CodeWALSegmentMisnamed, inspect.CodeWALMetadataMismatch,
	inspect.CodeWALIndexGap, inspect.CodeWALUnreadable,
}

var doLog = []string{
	"stop the server and copy the whole data directory: a later start may cut the log",
	"compare the place of the damage with the database's consistent index: `etcd-forensics inspect` says both",
	doReplaceMember,
	"without a quorum: when the database has applied the entries up to there, restore from it with `etcdutl snapshot restore --skip-hash-check`; otherwise take the member that has more",
}

// What etcd says of its log: server/storage/wal (wal in 3.4), etcdserver/storage.go,
// bootstrap.go and raft.go.
var walSymptoms = []Symptom{
	{
		Name: "wal-record-crc", Severity: inspect.SeverityError,
		Means: "the checksum of a record does not match its bytes, or a segment does not go on from the one before it; etcd ends at start, which from 3.4 on reads \"discovery failed\"",
		Shows: "the rolling checksum of the segments, from the first that is there",
		Codes: []inspect.Code{
			inspect.CodeWALChecksum, inspect.CodeWALSegmentMissing, inspect.CodeWALSegmentEmpty, inspect.CodeWALMetadataMismatch,
			inspect.CodeWALRecordInvalid, inspect.CodeWALSegmentMisnamed, inspect.CodeWALTornTail, inspect.CodeWALLength,
		},
		Do: doLog, on: inWAL,
		patterns: []pattern{says("walpb: crc mismatch",
			`expected: (?P<expected>[0-9a-f]+) computed: (?P<computed>[0-9a-f]+): in file '(?P<file>[^']{1,256})' at position: (?P<offset>[0-9]+)`)},
	},
	{
		Name: "wal-chain-crc", Severity: inspect.SeverityError,
		Means: "a segment of the log does not go on from the one before it: one is missing, empty, or of another member",
		Shows: "the checksum at the head of each segment against the end of the one before, and the numbers in the names",
		Codes: []inspect.Code{
			inspect.CodeWALSegmentMissing, inspect.CodeWALSegmentEmpty, inspect.CodeWALMetadataMismatch, inspect.CodeWALChecksum,
			inspect.CodeWALSegmentMisnamed, inspect.CodeWALRecordInvalid,
		},
		Do: doLog, on: inWAL,
		patterns: []pattern{says("wal: crc mismatch")},
	},
	{
		Name: "wal-entry-too-long", Severity: inspect.SeverityError,
		Means: "a record says to be longer than what is left of its file, or than 10 MB in 3.4: its length is damaged, or the last write was torn; from 3.5 on etcd takes that for the end of the log, cuts everything behind it and goes on",
		Shows: "the length word at the offset named, the last index against the consistent index, and *.wal.broken, which holds what a repair has cut off",
		Codes: []inspect.Code{
			inspect.CodeWALLength, inspect.CodeWALTornTail, inspect.CodeWALZeroedTail, inspect.CodeWALRecordInvalid,
			inspect.CodeSnapLeftover, inspect.CodeWALBehindBackend, inspect.CodeWALCommitBeyondEnd,
		},
		on: inWAL, check: brokenSegment,
		Do: []string{
			"stop the server and keep every *.wal.broken: entries behind the damage are in it and nowhere else",
			"compare the log's last index with the database's consistent index and with the other members",
			doReplaceMember,
		},
		patterns: []pattern{says("max entry size limit exceeded",
			`(?:decoding|reading) "(?P<file>[^"]{1,256})", recBytes: (?P<bytes>[0-9]+), fileSize\([0-9]+\) - offset\((?P<offset>[0-9]+)\)`)},
	},
	{
		Name: "wal-block-type", Severity: inspect.SeverityError,
		Means: "a record of the log is of a type that etcd does not know: its bytes were changed, and the checksum with them",
		Shows: "the record named",
		Codes: logCodes, Do: doLog, on: inWAL,
		patterns: []pattern{says("unexpected block type", `type (?P<type>[0-9]+)`)},
	},
	{
		Name: "wal-file-not-found", Severity: inspect.SeverityError,
		Means: "no segment begins at or before the snapshot from which etcd starts, or the numbers of the segments have a gap",
		Shows: "sequence and first index in the names of the segments, against the newest snapshot",
		Codes: []inspect.Code{inspect.CodeWALSegmentMissing, inspect.CodeWALMissing, inspect.CodeWALSegmentMisnamed, inspect.CodeSnapMissing, inspect.CodeSnapChecksum},
		on:    inWAL,
		Do: append([]string{"look for the missing segment or .snap file: a backup, a folder beside, *.broken"},
			doLog...),
		patterns: []pattern{says("wal: file not found", `snapshot index '(?P<index>[0-9]+)'`)},
	},
	{
		Name: "wal-snapshot-not-found", Severity: inspect.SeverityError,
		Means: "the log does not hold the record of the snapshot from which etcd wants to start, or another one in its place: .snap files and log do not belong together",
		Shows: "the snapshot records of the log against the .snap files",
		Codes: []inspect.Code{
			inspect.CodeSnapMissing, inspect.CodeSnapChecksum, inspect.CodeWALSegmentMissing, inspect.CodeWALZeroedTail,
			inspect.CodeWALMetadataMismatch, inspect.CodeSnapAheadOfBackend, inspect.CodeWALBehindBackend,
		},
		on: inWAL, Do: doLog,
		patterns: []pattern{says("wal: snapshot not found"), says("wal: snapshot mismatch")},
	},
	{
		Name: "wal-entries-missing", Severity: inspect.SeverityError,
		Means: "an entry of the log does not follow the one before it: entries between them are gone",
		Shows: "the indexes of the entries",
		Codes: []inspect.Code{inspect.CodeWALIndexGap, inspect.CodeWALSegmentMissing, inspect.CodeWALRecordInvalid},
		on:    inWAL, Do: doLog,
		patterns: []pattern{says("wal: slice bounds out of range",
			`snapshot\[Index: (?P<snapshotIndex>[0-9]+), Term: [0-9]+\], current entry\[Index: (?P<index>[0-9]+), Term: (?P<term>[0-9]+)\]`)},
	},
	{
		Name: "wal-conflicting-metadata", Severity: inspect.SeverityError,
		Means: "segments of different members or clusters lie in one WAL directory",
		Shows: "the metadata record at the head of each segment",
		Codes: []inspect.Code{inspect.CodeWALMetadataMismatch}, on: inWAL,
		Do: []string{
			"stop the server and copy the directory",
			"sort the segments by member: `etcd-forensics inspect` says whose each is",
			doReplaceMember,
		},
		patterns: []pattern{says("wal: conflicting metadata found")},
	},
	{
		Name: "wal-without-metadata", Severity: inspect.SeverityError,
		Means: "the log does not say whose it is: its first record is gone, and etcd refuses to be member 0",
		Shows: "the metadata record at the head of the first segment",
		Codes: append([]inspect.Code{inspect.CodeWALMissing, inspect.CodeWALBehindBackend}, logCodes...), on: inWAL, Do: doLog,
		patterns: []pattern{says("cannot use none as id")},
	},
	{
		Name: "record-undecodable", Severity: inspect.SeverityError,
		Means: "etcd read a record that should be a message of protobuf and is none: the log is damaged, or another version wrote what this one cannot read",
		Shows: "the messages in the log; without a finding, the versions that wrote and that read it",
		Codes: append([]inspect.Code{inspect.CodeBackendRecordInvalid}, logCodes...), on: inWAL,
		Do: append([]string{"check that the server is of the version that wrote the directory, or of the next one: one minor version at a time"},
			doLog...),
		patterns: []pattern{
			says("unmarshal should never fail"), says("proto: cannot parse invalid wire-format data"),
			shaped("proto: ", `proto: .{0,80}(?:illegal tag|wrong wireType|illegal wireType|unexpected EOF)`),
		},
	},
	{
		Name: "request-not-implemented", Severity: inspect.SeverityError,
		Means: "the log holds a request that this version does not know: a newer version wrote it",
		Shows: "what the server of this version would do with the directory",
		on:    inWAL, Codes: []inspect.Code{inspect.CodeBackendMissing},
		Do:       []string{"start the version that wrote the directory, or a newer one", "never go back by more than etcd's downgrade allows"},
		patterns: []pattern{says(inspect.PanicUnknownRequest)},
	},
	{
		Name: "wal-repaired", Severity: inspect.SeverityWarning,
		Means: "etcd has cut the log behind a record that it could not read and goes on: harmless after a crash in the middle of the last write, a loss when the record was damaged and others stood behind it",
		Shows: "*.wal.broken beside the segment, which holds the log as it was, and a last index below the consistent index",
		Codes: []inspect.Code{inspect.CodeSnapLeftover, inspect.CodeWALTornTail, inspect.CodeWALLength, inspect.CodeWALBehindBackend, inspect.CodeWALCommitBeyondEnd},
		on:    inWAL, check: brokenSegment,
		Do: []string{
			"keep the *.wal.broken, and read what was cut off: `etcd-forensics wal` on a copy of it under the segment's name",
			"compare this member's HashKV with the others' (`etcdctl endpoint hashkv`)",
		},
		patterns: []pattern{
			says("repaired WAL"),
			shaped("repair", `wal/repair\.go:[0-9]+.{1,12}repair(?:ing|ed)\b`),
			shaped("repairing", `\bwal: repairing (?P<file>\S+)`),
		},
	},
	{
		Name: "wal-unrepairable", Severity: inspect.SeverityError,
		Means: "etcd could not open or read its log, and not repair it either; the cause stands behind this",
		Shows: "the segments: checksums, lengths, names, indexes",
		Codes: append([]inspect.Code{inspect.CodeWALMissing}, logCodes...), on: inWAL, Do: doLog,
		patterns: []pattern{
			says("failed to read WAL, cannot be repaired"), says("failed to repair WAL"), says("failed to open WAL"),
			says("read wal error ("), says("open wal error:"), says("and cannot be repaired"), says(") cannot be repaired"),
			shaped("failed to repair", `wal/repair\.go:[0-9]+.{1,12}failed to repair`), shaped("could not repair", `wal: could not repair`),
		},
	},
	{
		Name: "wal-ignored-file", Severity: inspect.SeverityWarning,
		Means: "a file in the WAL directory has no segment's name, and etcd does not read it",
		Shows: "the names in the WAL directory",
		Codes: []inspect.Code{inspect.CodeSnapLeftover, inspect.CodeWALSegmentMisnamed}, on: inWAL,
		Do: []string{"see what it is before it is deleted: a .broken holds what a repair has cut off, a renamed segment is missing from the log"},
		patterns: []pattern{
			says("ignored file in WAL directory"),
			shaped("ignored file", `ignored file (?P<file>\S+) in wal`),
		},
	},
}
