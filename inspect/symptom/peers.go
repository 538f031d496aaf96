package symptom

import "etcd-forensics/inspect"

var doOtherCluster = []string{
	"see which is which: the cluster id stands in the WAL of every member (`etcd-forensics members`)",
	"the member that was restored, or started anew, by mistake: stop it, delete its data directory, and add it again with `member add`",
	"after a restore, every old member must be wiped, and the new cluster needs a token of its own",
}

// What members say of each other: etcdserver/api/rafthttp (http.go, stream.go,
// util.go, probing_status.go), etcdserver/server.go.
var peerSymptoms = []Symptom{
	{
		Name: "peer-refuses-cluster-id", Severity: inspect.SeverityError,
		Means: "a peer took no notice of this member's requests because the two are of different clusters",
		Shows: "the cluster id in the WAL's metadata of each directory",
		Codes: []inspect.Code{inspect.CodeClusterIDMismatch, inspect.CodeClusterOtherStore}, on: inWAL, check: ofTheseClusters, Do: doOtherCluster,
		patterns: []pattern{
			says("request sent was ignored by remote peer due to cluster ID mismatch"), says("request sent was ignored due to cluster ID mismatch"),
			says("request sent was ignored (cluster ID mismatch", `(?:peer|remote)\[(?P<peer>[0-9a-f]+)\]=(?P<remoteCluster>[0-9a-f]+), local=(?P<cluster>[0-9a-f]+)`),
		},
	},
	{
		Name: "peer-of-other-cluster", Severity: inspect.SeverityError,
		Means: "a member of another cluster talks to this one: it was restored, forced anew or started from an empty directory, or was left from before",
		Shows: "the cluster id in the WAL's metadata of each directory",
		Codes: []inspect.Code{inspect.CodeClusterIDMismatch, inspect.CodeClusterOtherStore}, on: inWAL, check: ofTheseClusters, Do: doOtherCluster,
		patterns: []pattern{
			says("request cluster ID mismatch", `got (?P<remoteCluster>[0-9a-f]+) want (?P<cluster>[0-9a-f]+)`),
			says("etcdserver: cluster ID mismatch"), shaped("cluster ID mismatch", `(?:msg": ?"|\t)cluster ID mismatch["\t]`),
		},
	},
	{
		Name: "peer-unknown", Severity: inspect.SeverityError,
		Means: "a member that is not in this member's list talks to it: it was not added, was removed, or this member lags behind",
		Shows: "bucket members, the conf state and the log, against the id named",
		on:    inMembership, check: peerNotListed,
		Do: []string{
			"compare `etcdctl member list` with the id of the peer's own log (`etcd-forensics members`)",
			"when this member lags, let it catch up; when the peer was never added, `etcdctl member add`",
			"otherwise remove the peer, delete its data directory, and add it again",
		},
		patterns: []pattern{
			says("failed to find remote peer in cluster"),
			shaped("failed to find member", `failed to find member(?: (?P<peer>[0-9a-f]{1,16}) in cluster (?P<cluster>[0-9a-f]{1,16})|\s*(?:$|"))`),
		},
	},
	{
		Name: "peer-removed", Severity: inspect.SeverityError,
		Means: "a member that was removed from the cluster goes on running and is turned away",
		Shows: "the list of removed members (bucket members_removed, the log)",
		on:    inMembership, check: idRemoved,
		Do: []string{"stop the removed member and delete its data directory", "add it again under a new id when it is needed"},
		patterns: []pattern{
			says("rejected stream from remote peer because it was removed"),
			says("rejected the stream from peer", `from peer (?P<peer>[0-9a-f]+) since it was removed`),
			says("rejected Raft message from removed member"), says("reject message from removed member", `member (?P<peer>[0-9a-f]+)`),
			says("cannot process message from removed member"),
		},
	},
	{
		Name: "peer-id-mismatch", Severity: inspect.SeverityError,
		Means: "a peer means another member than the one that answers at this address: a member was set up anew under an address that belonged to an id which others still use",
		Shows: "two members with one peer URL, or a directory whose id the others have removed",
		Codes: []inspect.Code{inspect.CodeMemberIDMismatch}, on: inMembership, check: idRemoved,
		Do: []string{"remove the id that is gone with `etcdctl member remove`", "wipe the member at that address and add it again"},
		patterns: []pattern{
			says("ignored streaming request; ID mismatch"),
			says("streaming request ignored (ID mismatch", `got (?P<found>[0-9a-f]+) want (?P<member>[0-9a-f]+)`),
			says("cannot process message to mismatch member"),
		},
	},
	{
		Name: "member-removed-permanently", Severity: inspect.SeverityError,
		Means: "this member was removed from the cluster, by `member remove` or by a peer that was started with --force-new-cluster, and ends",
		Shows: "its own id among the removed members of its peers, or of its own log",
		Codes: []inspect.Code{inspect.CodeMemberRemoved}, on: inMembership, check: ownIDRemoved,
		Do: []string{
			"delete its data directory and join under a new id: `etcdctl member add`, --initial-cluster-state existing",
			"when nobody has removed it, look for a peer that runs with --force-new-cluster, and stop it",
		},
		patterns: []pattern{
			says("the member has been permanently removed from the cluster"), says("data-dir used by this member must be removed"),
			says("Member permanently removed", `removed: (?P<member>[0-9a-f]+)`),
		},
	},
	{
		Name: "peer-unreachable", Severity: inspect.SeverityWarning,
		Means: "a peer does not answer at its address: it is down, the address is wrong, or network or certificates keep the two apart",
		Shows: "the peer URLs that the membership states; whether something listens there is not on disk",
		on:    nowhere,
		Do: []string{
			"see whether etcd runs on that host and listens at the address of `etcdctl member list` (not localhost)",
			"try the port from here (2380), with the certificates of this member",
			"`etcdctl member update ID --peer-urls` when the address has changed",
		},
		patterns: []pattern{
			says("prober detected unhealthy status"),
			says("health check for peer ", `for peer (?P<peer>\S{1,64}) could not connect: (?:dial tcp (?P<address>[^\s:]{1,128}:[0-9]+))?`),
		},
	},
	{
		Name: "endpoint-unreachable", Severity: inspect.SeverityWarning,
		Means: "a connection to etcd could not be made: a firewall swallows it (i/o timeout), or nothing listens there (connection refused); one that is refused while a server starts or ends is harmless",
		Shows: "nothing: the network is not on disk",
		on:    nowhere,
		Do: []string{
			"i/o timeout: open ports 2379 and 2380 between the hosts",
			"connection refused: see whether etcd runs, and at which addresses it listens (--listen-client-urls)",
		},
		patterns: []pattern{shaped("Error while dialing", `Error while dialing:? dial (?:tcp|unix) (?P<address>\S{1,128}): `)},
	},
}

var doSpace = []string{
	"see what fills the database: `etcd-forensics keys`",
	"compact to the current revision, then `etcdctl defrag` one member after the other",
	"`etcdctl alarm disarm`: writes are refused until then",
	"raise --quota-backend-bytes when the data is rightly that large, and see why nothing compacts otherwise",
}

var spaceCodes = []inspect.Code{inspect.CodeAlarmNoSpace, inspect.CodeSpaceNearQuota}

// What etcd says when the quota is reached: mvcc, etcdserver/apply.go, v3rpc.
var spaceSymptoms = []Symptom{
	{
		Name: "quota-exceeded", Severity: inspect.SeverityError,
		Means: "a write would have taken the database above its quota: this is the moment in which the NOSPACE alarm was raised",
		Shows: "bucket alarm, and the size of the database",
		Codes: spaceCodes, on: inBackend, Do: doSpace,
		patterns: []pattern{says("message exceeded backend quota")},
	},
	{
		Name: "space-exceeded", Severity: inspect.SeverityError,
		Means: "the quota was reached and the NOSPACE alarm is on: writes are refused, reads and deletions go on",
		Shows: "bucket alarm, the size of the database, its free pages, and what the keys take by prefix",
		Codes: spaceCodes, on: inBackend, Do: doSpace,
		patterns: []pattern{
			says("mvcc: database space exceeded"), says("alarm:NOSPACE", `memberID:(?P<alarmMember>[0-9]+)`),
			says("alarm NOSPACE raised", `by peer (?P<peer>[0-9a-f]+)`), says("ALARM NOSPACE"), shaped("alarm raised", `"alarm": ?"NOSPACE"`),
		},
	},
}
