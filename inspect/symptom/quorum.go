package symptom

import "etcd-forensics/inspect"

var doQuorum = []string{
	"count the members that run: more than half of the voters must, and reach each other on port 2380",
	"start the ones that are down, and measure disk and network of the others",
	"when more than half are lost for good, restore: compare what is left with `etcd-forensics inspect A B C` first",
}

// What raft and the server say about leaders: raft.go, node.go, etcdserver/server.go.
var quorumSymptoms = []Symptom{
	{
		Name: "publish-failed", Severity: inspect.SeverityError,
		Means: "the server runs but cannot get an entry committed: there is no quorum, or its log lacks what its database has applied, so that nothing new is ever applied",
		Shows: "the consistent index of the database against the last index of the log; the voters of the conf state",
		Codes: []inspect.Code{
			inspect.CodeWALBehindBackend, inspect.CodeWALMissing, inspect.CodeWALCommitBeyondEnd, inspect.CodeWALZeroedTail, inspect.CodeMemberIDMismatch, inspect.CodeClusterQuorumLost,
		},
		on: inWAL, check: wouldNotServe,
		Do: append([]string{"inspect this member's directory: with an index mismatch, restore from its database with --skip-hash-check, or wipe and rejoin it"}, doQuorum...),
		patterns: []pattern{
			says("failed to publish local member to cluster through raft"), says("publish error: etcdserver: request timed out"),
		},
	},
	{
		Name: "no-leader", Severity: inspect.SeverityError,
		Means: "the cluster has no leader: requests are refused until more than half of the voters reach each other",
		Shows: "the voters of the conf state against the members that were handed in; which of them ran is not on disk",
		Codes: []inspect.Code{inspect.CodeClusterQuorumLost}, on: inMembership, Do: doQuorum,
		patterns: []pattern{
			shaped("no leader at term", `(?:\b(?P<member>[0-9a-f]{1,16}) )?no leader at term (?P<term>[0-9]+)`),
			says("etcdserver: no leader"), says("RAFT NO LEADER"), says("/health error; no leader"),
		},
	},
	{
		Name: "leader-changed", Severity: inspect.SeverityWarning,
		Means: "the leader was lost or replaced: once after a restart is normal, again and again means that heartbeats come too late",
		Shows: "the terms in the log: each election takes one",
		on:    inWAL, check: termReached, Do: doQuorum,
		patterns: []pattern{
			shaped("changed leader from", `raft\.node: (?P<member>[0-9a-f]{1,16}) changed leader from (?P<oldLeader>[0-9a-f]{1,16}) to (?P<leader>[0-9a-f]{1,16}) at term (?P<term>[0-9]+)`),
			shaped("lost leader", `raft\.node: (?P<member>[0-9a-f]{1,16}) lost leader (?P<oldLeader>[0-9a-f]{1,16}) at term (?P<term>[0-9]+)`),
			says("etcdserver: leader changed"),
		},
	},
	{
		Name: "leader-elected", Severity: inspect.SeverityNote,
		Means: "a leader was elected, as at every start; many of these mean that leaders do not last",
		Shows: "the terms in the log: each election takes one",
		on:    inWAL, check: termReached, Do: []string{"nothing, when it does not repeat"},
		patterns: []pattern{
			shaped("elected leader", `raft\.node: (?P<member>[0-9a-f]{1,16}) elected leader (?P<leader>[0-9a-f]{1,16}) at term (?P<term>[0-9]+)`),
		},
	},
	{
		Name: "election-started", Severity: inspect.SeverityNote,
		Means: "this member heard of no leader and asks to become one: normal once at start, otherwise heartbeats do not arrive, and when it repeats the cluster has lost its quorum",
		Shows: "the terms in the log: each election takes one",
		on:    inWAL, check: termReached, Do: append([]string{"nothing, when a leader is elected soon after"}, doQuorum...),
		patterns: []pattern{
			says("is starting a new election at term", `(?:\b(?P<member>[0-9a-f]{1,16}) )?is starting a new election at term (?P<term>[0-9]+)`),
			shaped("became candidate at term", `\b(?P<member>[0-9a-f]{1,16}) became candidate at term (?P<term>[0-9]+)`),
		},
	},
}

// What is left: sayings that have many causes.
var generalSymptoms = []Symptom{
	{
		Name: "memory-fault", Severity: inspect.SeverityError,
		Means: "the process read memory that no file stands behind, or took damaged bytes for a structure: bbolt maps its file, so a file that is cut short or damaged ends in a signal instead of an error",
		Shows: "the size of the database against its high-water mark, and the walk of its pages; a log of zeros ends 3.7 in the same way",
		Codes: append([]inspect.Code{inspect.CodeBackendUnreadable, inspect.CodeBackendNotBbolt, inspect.CodeWALSegmentEmpty}, treeCodes...), Do: doTree, on: inBackend,
		patterns: []pattern{
			says("unexpected fault address", `address (?P<address>0x[0-9a-f]+)`), says("SIGBUS"), says("fatal error: fault"),
			says("panic: runtime error: invalid memory address or nil pointer dereference"), shaped("slice bounds out of range", `panic: runtime error: slice bounds out of range`),
			says("panic: runtime error: index out of range"), says("signal SIGSEGV"),
		},
	},
	{
		Name: "request-timed-out", Severity: inspect.SeverityWarning,
		Means: "a request was not committed in time: no quorum, a leader that was lost just then, or a slow disk; whether it was carried out is not known",
		Shows: "nothing: a request that came too late left no trace, or a normal one",
		on:    nowhere, Do: doQuorum,
		patterns: []pattern{says("etcdserver: request timed out")},
	},
	{
		Name: "client-deadline", Severity: inspect.SeverityWarning,
		Means: "the client had no answer in time: the server is not there, has no quorum, or did not join its cluster",
		Shows: "nothing: the request did not come to the disk",
		on:    nowhere, Do: doQuorum,
		patterns: []pattern{says("Error: context deadline exceeded"), says("etcdserver: context deadline exceeded")},
	},
}
