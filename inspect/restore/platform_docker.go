package restore

// docker is etcd in a container that somebody made with docker run.
func docker() *platform { return container{data: "/etcd-data"}.platform() }
