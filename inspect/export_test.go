package inspect

// BootstrapID and ClusterIDOf are there for the tests that ask etcd.
var (
	BootstrapID = bootstrapID
	ClusterIDOf = clusterIDOf
)
