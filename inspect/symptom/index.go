package symptom

import "etcd-forensics/inspect"

var doIndex = []string{
	"stop the server: what it had acknowledged is gone from its log, and it must not vote again under its old id",
	"ask what was done to it: an old backup or image of the machine put back, a directory wiped and started under the same id, a disk that acknowledges what it has not written",
	doReplaceMember,
	"without a quorum, compare all members (`etcd-forensics inspect A B C`) and restore from the one that has most",
}

var indexCodes = []inspect.Code{
	inspect.CodeWALCommitBeyondEnd, inspect.CodeWALZeroedTail, inspect.CodeWALBehindBackend, inspect.CodeWALLength,
	inspect.CodeWALChecksum, inspect.CodeWALRecordInvalid, inspect.CodeWALSegmentMissing,
}

// What raft says of a log that is shorter than it must be: raft.go, log.go.
var indexSymptoms = []Symptom{
	{
		Name: "raft-tocommit", Severity: inspect.SeverityError,
		Means: "the leader tells this member that an entry is committed which its log does not hold, though it had acknowledged it: the log has lost its end",
		Shows: "the last index of the log, which the line names, against the other members and the commit index",
		Codes: indexCodes, on: inWAL, check: logEndsThere, Do: doIndex,
		patterns: []pattern{shaped("tocommit(", `tocommit\((?P<commit>[0-9]+)\) is out of range \[lastIndex\((?P<lastIndex>[0-9]+)\)\]`)},
	},
	{
		Name: "raft-state-commit", Severity: inspect.SeverityError,
		Means: "the commit index that the log states lies outside of the log: entries at its end are missing, or it does not belong to the snapshot; raft panics at start",
		Shows: "the hard state against the first and the last entry",
		Codes: indexCodes, on: inWAL, check: logEndsThere, Do: doIndex,
		patterns: []pattern{shaped("state.commit", `(?:\b(?P<member>[0-9a-f]{1,16}) )?state\.commit (?P<commit>[0-9]+) is out of range \[(?P<firstIndex>[0-9]+), (?P<lastIndex>[0-9]+)\]`)},
	},
}
