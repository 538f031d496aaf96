package symptom

import "etcd-forensics/inspect"

var doCorrupt = []string{
	"take a copy of each member's data directory before one of them is wiped",
	"find the member that differs: HashKV of all at one revision and compact revision (`etcd-forensics inspect A B C`, `etcdctl endpoint hashkv`)",
	"a minority: " + doReplaceMember,
	"undecided: restore the whole cluster from the member that can be trusted most",
	"the alarm goes away only by `etcdctl alarm disarm`, also after a restore",
}

var corruptCodes = append([]inspect.Code{
	inspect.CodeAlarmCorrupt, inspect.CodeClusterDiverged, inspect.CodeMVCCWALMismatch, inspect.CodeMVCCRevisionGap, inspect.CodeMVCCVersionChain, inspect.CodeMVCCModRevision,
}, treeCodes...)

// What etcd says of members that differ: etcdserver/corrupt.go.
var corruptSymptoms = []Symptom{
	{
		Name: "corrupt-at-start", Severity: inspect.SeverityError,
		Means: "--experimental-initial-corrupt-check found that this member's data differs from that of its peers, and the server does not start",
		Shows: "HashKV of the members at one revision and compact revision",
		Codes: corruptCodes, on: inBackend, check: hashesDiffer, Do: doCorrupt,
		patterns: []pattern{
			says("checkInitialHashKV failed", `(?P<member>[0-9a-f]{1,16}) found data inconsistency`),
			says("found data inconsistency with peers", `(?P<member>[0-9a-f]{1,16}) found data inconsistency`),
			says("found different hash values from remote peer"), says("found different compact revision values from remote peer"),
			shaped("'s hash ", `(?P<member>[0-9a-f]{1,16})'s hash [0-9]+ != (?P<peer>[0-9a-f]{1,16})'s hash [0-9]+ \(revision (?P<revision>[0-9]+)`),
			shaped("cannot check hash of peer(", `hash of peer\((?P<peer>[0-9a-f]{1,16})\): peer has a different compact revision`),
		},
	},
	{
		Name: "corrupt-alarm", Severity: inspect.SeverityError,
		Means: "the members' data differ: etcd has raised the CORRUPT alarm and refuses requests",
		Shows: "bucket alarm, and HashKV of the members at one revision and compact revision",
		Codes: corruptCodes, on: inBackend, check: hashesDiffer, Do: doCorrupt,
		patterns: []pattern{
			says("found hash mismatch"), says("Detected compaction hash mismatch"), says("etcdserver: corrupt cluster"),
			shaped("mismatched hashes", `mismatched hashes [0-9]+ and [0-9]+ for revision (?P<revision>[0-9]+)`),
			says("alarm:CORRUPT", `memberID:(?P<alarmMember>[0-9]+)`), says("alarm CORRUPT raised", `by peer (?P<peer>[0-9a-f]+)`), says("ALARM CORRUPT"),
			shaped("alarm raised", `"alarm": ?"CORRUPT"`),
		},
	},
}
