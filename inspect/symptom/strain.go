package symptom

import "etcd-forensics/inspect"

var doDisk = []string{
	"measure the disk (`etcdctl check perf`, etcd's metric wal_fsync_duration_seconds): 99 of 100 syncs should take less than 10 ms",
	"give etcd a disk of its own, or a faster one",
}

// What etcd says when disk, processor or network are too slow for it.
var strainSymptoms = []Symptom{
	{
		Name: "wal-sync-slow", Severity: inspect.SeverityWarning,
		Means: "writing the log to the disk took longer than a second: the disk is too slow or overloaded, and elections may follow",
		Shows: "nothing that proves it; many terms in the log are a trace",
		on:    nowhere, Do: doDisk,
		patterns: []pattern{
			says("slow fdatasync"),
			shaped("sync duration of ", `sync duration of (?P<took>[^ ,]{1,32}), expected less than (?P<expected>[^ ,]{1,32})`),
		},
	},
	{
		Name: "apply-slow", Severity: inspect.SeverityWarning,
		Means: "a request took longer than 100 ms to be carried out: it reads a large range, or disk or processor are overloaded",
		Shows: "nothing that proves it; large values, many keys under one prefix and a fragmented database are traces",
		on:    nowhere,
		Do: []string{
			"see which request it is: the line names it, and how much it read",
			"look for what is large with `etcd-forensics keys`, compact and defragment",
			"measure disk and processor",
		},
		patterns: []pattern{
			says("apply request took too long"),
			shaped("took too long (", `took too long \((?P<took>[^)]{1,32})\) to execute`),
		},
	},
	{
		Name: "heartbeat-slow", Severity: inspect.SeverityWarning,
		Means: "the leader was too late with its heartbeats, mostly because its disk was: the others may elect a new one",
		Shows: "nothing that proves it; many terms in the log are a trace",
		on:    nowhere, Do: doDisk,
		patterns: []pattern{
			says("leader failed to send out heartbeat on time"),
			says("failed to send out heartbeat on time", `to (?P<peer>[0-9a-f]{1,16})\)`), says("server is likely overloaded"),
		},
	},
	{
		Name: "read-index-slow", Severity: inspect.SeverityWarning,
		Means: "a linearizable read waits for the leader to confirm that it still leads: there is no leader, no quorum, or disk or network are slow",
		Shows: "nothing that proves it; many terms in the log are a trace",
		on:    nowhere,
		Do:    []string{"see whether there is a leader and a quorum: `etcdctl endpoint status --cluster`", "measure network and disk of the leader"},
		patterns: []pattern{
			says("waiting for ReadIndex response took too long, retrying"), says("timed out waiting for read index response"),
		},
	},
}
