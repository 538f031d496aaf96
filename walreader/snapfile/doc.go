// Package snapfile decodes the .snap files of an etcd member and names the
// files of a snap directory.
//
// It reads through io.ReaderAt, a chunk at a time, so that memory does not
// grow with the file. It states facts and never judges them.
//
// # Files
//
//	db                       the backend
//	%016x-%016x.snap         a raft snapshot, term and index in the name
//	%016x.snap.db            a backend received from another member, index in the name
//	NAME.snap.broken         a .snap that etcd could not read and renamed
//	tmp*                     a backend that was being received (snap/db.go, os.CreateTemp)
//	db.tmp.*                 a backend that was being defragmented (storage/backend/backend.go)
//
// (etcdserver/api/snap/snapshotter.go and db.go, v3.5.21)
//
// # Format
//
// Protobuf in protobuf (snap/snappb/snap.proto, raft/raftpb/raft.proto):
//
//	message           field  name        meaning
//	snappb.Snapshot   1      crc         CRC-32C of data; 0 counts as an empty file
//	                  2      data        a raftpb.Snapshot
//	raftpb.Snapshot   1      data        the v2 store as JSON
//	                  2      metadata    1 conf_state, 2 index, 3 term
//
// The JSON is {"Root":NODE,"WatcherHub":..,"CurrentIndex":n,"Stats":..,"CurrentVersion":2}
// and a NODE is {"Path":"/0","CreatedIndex":n,"ModifiedIndex":n,"ExpireTime":..,
// "Value":"..","Children":{NAME:NODE}} (etcdserver/api/v2store/store.go and node.go,
// v3.5.21). The membership is in
//
//	/0/members/ID/raftAttributes  {"peerURLs":[..],"isLearner":true}
//	/0/members/ID/attributes      {"name":"..","clientURLs":[..]}
//	/0/removed_members/ID         "removed"
//	/0/version                    3.5.0
//
// (etcdserver/api/membership/storev2.go, v3.7.3). From 3.6 on nothing else is
// written there, 3.7 does not read the file any more and 3.8 does not write it (v3.8.0-alpha.0
// still does).
package snapfile
