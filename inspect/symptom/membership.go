package symptom

import "etcd-forensics/inspect"

// What etcd says of its membership: etcdserver/api/membership, etcdserver/server.go.
var membershipSymptoms = []Symptom{
	{
		Name: "membership-contradicts", Severity: inspect.SeverityError,
		Means: "the places in which etcd keeps its membership contradict each other: a member in one of them is unknown to the other (a zombie of an old restore), or two have one name",
		Shows: "bucket members, the .snap files, the log and the conf state against each other",
		Codes: []inspect.Code{inspect.CodeBackendBucketMissing, inspect.CodeBackendRecordInvalid, inspect.CodeMemberIDMismatch},
		on:    inMembership, check: ownIDNotListed,
		Do: []string{
			"boot once with 3.5.26 or later, which removes such members, before 3.6",
			"or restore again, with an etcdutl of the version that will run",
		},
		patterns: []pattern{
			says("failed to update; member unknown"), says("error updating attributes of unknown member", `member (?P<unknown>[0-9a-f]{1,16})`),
			says("Removing zombie member from v3store"),
			says("failed to find local ID", `local ID (?P<member>[0-9a-f]{1,16}) in cluster (?P<cluster>[0-9a-f]{1,16})`),
			says("two member with same name found", `"name": ?"(?P<name>[^"]{1,128})"`), says("two members with the given name", `name "(?P<name>[^"]{1,128})"`),
		},
	},
	{
		Name: "members-unreadable", Severity: inspect.SeverityError,
		Means: "a record of bucket members is not what etcd writes there, and the server ends",
		Shows: "the JSON of bucket members",
		Codes: []inspect.Code{inspect.CodeBackendRecordInvalid, inspect.CodeBackendBucketMissing}, on: inBackend, Do: doTree,
		patterns: []pattern{says("couldn't read members from backend")},
	},
	{
		Name: "too-many-learners", Severity: inspect.SeverityError,
		Means: "the member list has more learners than are allowed: one was being promoted, or 3.5.1 to 3.5.19 did not write the promotion to the database",
		Shows: "isLearner in bucket members against the log and the .snap files",
		Codes: []inspect.Code{inspect.CodeMemberLearnerMismatch}, on: inMembership, check: learnersListed,
		Do: []string{"boot once with 3.5.24 or later, which corrects it", "otherwise promote or remove the learner that is there"},
		patterns: []pattern{
			says("too many learner members in cluster"),
		},
	},
	{
		Name: "learner-behind", Severity: inspect.SeverityWarning,
		Means: "a learner was to be promoted that has not caught up with the leader",
		Shows: "nothing: what the leader knows of a learner's progress is not on disk",
		on:    nowhere, Do: []string{"wait, and promote it again; look at its log when it does not catch up"},
		patterns: []pattern{
			says("can only promote a learner member which is in sync with leader"), says("rejecting promote learner: learner is not ready"),
		},
	},
	{
		Name: "reconfiguration-refused", Severity: inspect.SeverityWarning,
		Means: "the change of membership would leave fewer started members than a quorum needs, or this member does not reach the others",
		Shows: "members without a name in bucket members: they were added and have never started",
		on:    inMembership, check: neverStarted,
		Do: []string{"start what was added, or remove it", "remove the dead member first, then add its successor"},
		patterns: []pattern{
			shaped("rejecting ", `rejecting (?:member (?:add|remove|promote)|promote member)`),
			says("re-configuration failed due to not enough started members"), says("etcdserver: unhealthy cluster"),
			shaped("Reject ", `Reject (?:add|remove|promote) member request: the number of started member`),
		},
	},
}

// What a server says that does not come to start with its flags: config/config.go,
// bootstrap.go, membership/cluster.go.
var bootstrapSymptoms = []Symptom{
	{
		Name: "member-bootstrapped", Severity: inspect.SeverityError,
		Means: "the directory is empty and the flags ask for a new cluster, but the cluster knows this member already: it has lost its directory",
		Shows: "the id in the other members' lists",
		on:    inMembership, check: idListed,
		Do: []string{
			"put the directory back if it was only moved or not mounted",
			"otherwise `etcdctl member remove` the id, `member add` it anew, and start with --initial-cluster-state existing",
		},
		patterns: []pattern{shaped("has already been bootstrapped", `member (?P<member>[0-9a-f]{1,16}) has already been bootstrapped`)},
	},
	{
		Name: "cluster-info-unreachable", Severity: inspect.SeverityError,
		Means: "a member that wants to join reached none of the peers that --initial-cluster names",
		Shows: "nothing: the flags and the network are not on disk",
		on:    nowhere,
		Do: []string{
			"try the peers' port 2380 from this host, with its certificates",
			"check --initial-cluster, as `member add` printed it, and that --name stands for this member in it",
		},
		patterns: []pattern{says("cannot fetch cluster info from peer urls"), says("could not retrieve cluster information from the given URLs")},
	},
	{
		Name: "initial-cluster-differs", Severity: inspect.SeverityError,
		Means: "--initial-cluster of a member that joins is not the list of members that the cluster has",
		Shows: "the peer URLs in the other members' lists; the flags are not on disk",
		on:    inMembership, check: idListed,
		Do: []string{
			"take ETCD_INITIAL_CLUSTER as `etcdctl member add` printed it, or write it from `member list`",
			"mind the scheme, the port, and names that resolve differently on this host",
		},
		patterns: []pattern{
			says("error validating peerURLs", `no match found for existing member \((?P<peer>[0-9a-f]{1,16}), \[(?P<peerURLs>[^\]]{1,256})\]`),
			says("member count is unequal"), says("unmatched member while checking PeerURLs"),
			says("PeerURLs: no match found for existing member", `existing member \((?P<peer>[0-9a-f]{1,16}), \[(?P<peerURLs>[^\]]{1,256})\]`),
		},
	},
	{
		Name: "initial-cluster-flags", Severity: inspect.SeverityError,
		Means: "the flags contradict each other: --name is not in --initial-cluster, its URLs there are not those of --initial-advertise-peer-urls, or a URL stands there twice",
		Shows: "nothing: the flags are not on disk",
		on:    nowhere,
		Do:    []string{"give the same URLs, host names and all, under this --name in --initial-cluster and in --initial-advertise-peer-urls"},
		patterns: []pattern{
			says("couldn't find local name", `local name "(?P<name>[^"]{1,128})"`), says("missing from --initial-advertise-peer-urls"),
			says("but missing from --initial-cluster"), says("has duplicate url"), says("has different advertised URLs in the cluster and advertised peer URLs list"),
		},
	},
}
