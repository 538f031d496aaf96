package inspect

// BootstrapID and ClusterIDOf are there for the tests that ask etcd.
var (
	BootstrapID = MemberIDOf
	ClusterIDOf = ClusterIDOf
)
