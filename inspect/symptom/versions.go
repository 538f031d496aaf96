package symptom

import "etcd-forensics/inspect"

var doVersion = []string{
	"start the version that wrote the directory (`etcd-forensics inspect` names it), or the next minor one",
	"to go back one minor version, run the newer one, `etcdctl downgrade enable`, and wait until it is done; `etcdutl migrate` alone is not enough",
}

// What etcd says of versions: version/downgrade.go, storage/schema, cluster_util.go,
// rafthttp, bootstrap.go.
var versionSymptoms = []Symptom{
	{
		Name: "downgrade-refused", Severity: inspect.SeverityError,
		Means: "the server is older than the cluster version that its directory states, and ends",
		Shows: "the cluster version in bucket cluster, or in the log and the .snap files",
		on:    inBackend, check: clusterVersionIs, Do: doVersion,
		patterns: []pattern{
			says("invalid downgrade; server version is"), says("cluster cannot be downgraded",
				`current version: (?P<serverVersion>[0-9.]+) is lower than determined cluster version: (?P<clusterVersion>[0-9.]+)`),
		},
	},
	{
		Name: "storage-version", Severity: inspect.SeverityError,
		Means: "the database is of a storage version that this server or tool does not read, or lacks the fields by which it is told",
		Shows: "the storage version in bucket meta",
		on:    inBackend, check: storageVersionIs, Do: doVersion,
		patterns: []pattern{
			shaped("is not supported", `version "(?P<storageVersion>[0-9][0-9.]*)" is not supported`),
			says("Failed to validate schema", `version "(?P<storageVersion>[0-9.]+)"`),
			says("unsupported storage version", `storage version:? .{0,40}?(?P<storageVersion>[0-9]+\.[0-9]+(?:\.[0-9]+)?)`),
			says("missing term information"), says("failed to update storage version"), says("cannot detect storage schema version"),
			says("cannot downgrade storage, WAL contains newer entries"),
		},
	},
	{
		Name: "version-incompatible", Severity: inspect.SeverityError,
		Means: "two members are more than one minor version apart, and do not talk to each other",
		Shows: "the cluster version in bucket cluster; the version of a server is not on disk",
		on:    nowhere,
		Do:    []string{"compare the versions of all servers (`etcd --version`) with the cluster's (`/version` of a peer)", "upgrade one minor version at a time"},
		patterns: []pattern{
			says("incompatible with current running cluster"), says("cluster version of remote member is not compatible"),
			says("server version incompatib"), says("request version incompatibility"), says("incompatible version"),
			says("is lower than the minimal cluster version"), says("is higher than the maximum cluster version"),
		},
	},
	{
		Name: "v2-content", Severity: inspect.SeverityError,
		Means: "keys or requests of the v2 API are left in the directory, and etcd 3.6 and later refuse to carry them along",
		Shows: "nodes of the v2 store in the newest .snap file, and v2 requests in the log, which are not examined; a member's own attributes are of that kind, too, and allowed",
		on:    nowhere,
		Do: []string{
			"look with `etcdutl check v2store` of 3.5.18 or later",
			"delete the keys through a 3.5 server and let it write a snapshot, or start with --v2-deprecation=write-only-skip-check (3.5.32, 3.6.13)",
			"a restore from a snapshot leaves v2 content behind",
		},
		patterns: []pattern{
			says("detected disallowed custom content in v2store"), says("illegal v2store content"), says("detected disallowed v2 WAL"),
		},
	},
}
