package inspect

// A Member is what one source says about its member. What the source lacks is
// nil, and null in JSON.
type Member struct {
	Source    string  `json:"source"`
	MemberID  *ID     `json:"memberID"`
	ClusterID *ID     `json:"clusterID"`
	Name      *string `json:"name"`
	Verdict   Verdict `json:"verdict"`

	Backend    *Backend   `json:"backend"`
	WAL        *WAL       `json:"wal"`
	Snapshots  []Snap     `json:"snapshots"`
	Leftovers  []Leftover `json:"leftovers"`
	Membership Membership `json:"membership"`
	Startup    []Startup  `json:"startup"`
	// Proof is there when it was asked for and the source has a log and a database.
	Proof *Proof `json:"proof,omitempty"`

	// Removed says that the cluster has removed it, as any source knows.
	Removed bool `json:"-"`
	// Interrupted is set when the examination of this source did not come to its end.
	Interrupted bool `json:"interrupted,omitempty"`
	// NotExamined says what was left out, and why; empty when nothing was.
	NotExamined []string `json:"notExamined"`
}

// A Backend is what a database says.
type Backend struct {
	File       string  `json:"file"`
	Size       int64   `json:"size"`     // bytes of the file, trailer included
	PageSize   int     `json:"pageSize"` // bytes; 0 when no meta is valid
	Txid       uint64  `json:"txid"`
	ActiveMeta *int    `json:"activeMeta"` // 0 or 1
	Complete   bool    `json:"complete"`   // false: part could not be read, counts are lower bounds
	Pages      Pages   `json:"pages"`
	Trailer    Trailer `json:"trailer"`

	StorageVersion  *string    `json:"storageVersion"`
	ClusterVersion  *string    `json:"clusterVersion"`
	ConsistentIndex *uint64    `json:"consistentIndex"`
	Term            *uint64    `json:"term"`
	ConfState       *ConfState `json:"confState"`

	Revision                 *int64  `json:"revision"`                 // as etcd computes it at start
	LastRecord               int64   `json:"-"`                        // revision of the newest record, by which restoring raises; 0 for none
	CompactRevision          *int64  `json:"compactRevision"`          // -1 when nothing was ever compacted
	ScheduledCompactRevision *int64  `json:"scheduledCompactRevision"` // -1 likewise
	FinishedCompactRevision  *int64  `json:"finishedCompactRevision"`  // -1 likewise
	HashKV                   *HashKV `json:"hashKV"`

	Keys    *Keys    `json:"keys"`
	Space   *Space   `json:"space"`
	Buckets []Bucket `json:"buckets"`

	Alarms     []Alarm     `json:"alarms"`
	Leases     *int64      `json:"leases"`
	Auth       *Auth       `json:"auth"`
	Kubernetes *Kubernetes `json:"kubernetes"` // nil when the keys are not those of an API server
}

// Pages counts the pages of a file by class. The classes add up to Total.
type Pages struct {
	Total       int64 `json:"total"`
	Meta        int64 `json:"meta"`
	Branch      int64 `json:"branch"`
	Leaf        int64 `json:"leaf"`
	Overflow    int64 `json:"overflow"`
	Freelist    int64 `json:"freelist"`
	Free        int64 `json:"free"`
	Unreachable int64 `json:"unreachable"`
	Damaged     int64 `json:"damaged"`
	BeyondEnd   int64 `json:"beyondEnd"`
	// FreelistStored says whether free is the stored freelist's word; without
	// one, every page that nothing refers to is free.
	FreelistStored bool `json:"freelistStored"`
	FreelistLost   bool `json:"-"` // one is stored, and none to go by
}

// A Trailer is the SHA-256 at the end of a snapshot.
type Trailer struct {
	Present bool  `json:"present"`
	Valid   *bool `json:"valid"` // nil when there is none or it was not examined
}

// A ConfState is raft's configuration as one place states it.
type ConfState struct {
	Voters   []ID `json:"voters"`
	Learners []ID `json:"learners"`
}

// A HashKV is the answer of `etcdctl endpoint hashkv`.
type HashKV struct {
	Hash            uint32 `json:"hash"`
	Revision        int64  `json:"revision"`
	CompactRevision int64  `json:"compactRevision"`
}

// Keys counts bucket key.
type Keys struct {
	Live       int64 `json:"live"`       // keys that exist at the latest revision
	Revisions  int64 `json:"revisions"`  // records, tombstones and the bump record included
	Tombstones int64 `json:"tombstones"` // of them, deletions
}

// Space says where the bytes of a database are.
type Space struct {
	InUseBytes   int64 `json:"inUseBytes"`   // pages in use
	FreeBytes    int64 `json:"freeBytes"`    // free pages below the high-water mark
	LiveBytes    int64 `json:"liveBytes"`    // latest records of live keys, as stored
	HistoryBytes int64 `json:"historyBytes"` // all other records of bucket key
}

// A Bucket is one bucket with its number of records.
type Bucket struct {
	Name    string `json:"name"` // quoted when it is not plain text
	Records int64  `json:"records"`
	Known   bool   `json:"known"` // etcd has a bucket of this name
}

// An Alarm is one raised alarm.
type Alarm struct {
	MemberID ID     `json:"memberID"`
	Alarm    string `json:"alarm"` // NOSPACE, CORRUPT
}

// Auth is the state of authentication, without its secrets.
type Auth struct {
	Enabled  bool     `json:"enabled"`
	Revision uint64   `json:"revision"`
	Users    []string `json:"users"`
	Roles    []string `json:"roles"`
}

// A WAL is what the segments of one member say.
type WAL struct {
	Dir          string    `json:"dir"`
	Segments     []Segment `json:"segments"`
	FirstIndex   *uint64   `json:"firstIndex"`
	LastIndex    *uint64   `json:"lastIndex"`
	LastTerm     *uint64   `json:"lastTerm"`
	Term         *uint64   `json:"term"`
	Vote         *ID       `json:"vote"`
	Commit       *uint64   `json:"commit"`
	ProvenCommit *uint64   `json:"provenCommit"`
	ProvenBy     string    `json:"provenBy"`
	Unapplied    Unapplied `json:"unapplied"`
	Uncommitted  Count     `json:"uncommitted"`
	Tail         string    `json:"tail"` // exact, zeroed, torn, fault
	Fault        *WALFault `json:"fault"`
	// OfRestored says that it is the log of a restored member: it begins with index 1, and
	// not with an empty store.
	OfRestored bool `json:"-"`

	Statistics *LogStatistics `json:"statistics"`
	Timeline   []LogEvent     `json:"timeline"` // the newest events of each name, in the order of the files
}

// A Segment is one WAL file.
type Segment struct {
	File       string  `json:"file"`
	FirstIndex *uint64 `json:"firstIndex"`
	LastIndex  *uint64 `json:"lastIndex"`
	Tail       string  `json:"tail"`
}

// An IndexSpan counts entries between two raft indexes.
type IndexSpan struct {
	Count      uint64  `json:"count"`
	FirstIndex *uint64 `json:"firstIndex"`
	LastIndex  *uint64 `json:"lastIndex"`
}

// A Count is a number by itself.
type Count struct {
	Count uint64 `json:"count"`
}

// A WALFault is the first broken record of a WAL.
type WALFault struct {
	File   string  `json:"file"`
	Offset int64   `json:"offset"`
	Index  *uint64 `json:"index"` // that the record should have held
}

// A Snap is one .snap file.
type Snap struct {
	File  string  `json:"file"`
	Term  *uint64 `json:"term"`
	Index *uint64 `json:"index"`
	Valid bool    `json:"valid"`
}

// A Leftover is a file that etcd left behind and does not use.
type Leftover struct {
	File string `json:"file"`
	Kind string `json:"kind"`
}

// A Membership is the cluster's members as the places on disk state them, brought
// together as of the last index that is proven to be committed.
type Membership struct {
	Members  []MembershipMember `json:"members"`  // by id
	Removed  []ID               `json:"removed"`  // ascending
	Removals []Removal          `json:"removals"` // of those, in the same order
	// Zombies are members of bucket members that raft does not know.
	Zombies []MembershipMember `json:"zombies"`

	// Applied and Proven are raft's own configuration, as of the database's consistent
	// index and of the last entry that is proven to be committed; nil when neither a
	// snapshot nor the log tells.
	Applied *RaftConfiguration `json:"applied"`
	Proven  *RaftConfiguration `json:"proven"`

	Changes    []MembershipChange `json:"changes"`    // conf changes in the log, by index
	Statements []Statement        `json:"statements"` // what each place says by itself
	Identity   *Identity          `json:"identity"`
}

// A MembershipMember is one member of the cluster.
type MembershipMember struct {
	MemberID   ID       `json:"memberID"`
	Name       string   `json:"name"` // "" for a member that never started
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"`
	IsLearner  bool     `json:"isLearner"`
	StatedBy   []string `json:"statedBy"`
}

// A Removal is a member that was removed, with what is left of it.
type Removal struct {
	MemberID ID       `json:"memberID"`
	Index    *uint64  `json:"index"` // of the entry; nil when the log does not hold it
	Name     string   `json:"name"`
	PeerURLs []string `json:"peerURLs"`
}

// A RaftConfiguration is who votes and who learns, as of an index.
type RaftConfiguration struct {
	Index    uint64 `json:"index"`
	Voters   []ID   `json:"voters"`
	Learners []ID   `json:"learners"`
}

// A MembershipChange is a conf change of one member in the log.
type MembershipChange struct {
	Index    uint64   `json:"index"`
	Term     uint64   `json:"term"`
	Change   string   `json:"change"` // add, add_learner, promote, remove, update
	MemberID ID       `json:"memberID"`
	Name     string   `json:"name"`
	PeerURLs []string `json:"peerURLs"`
	Proven   bool     `json:"proven"` // committed
}

// A Statement is the membership as one place states it.
type Statement struct {
	Place   string             `json:"place"` // as in statedBy
	File    string             `json:"file"`
	Index   *uint64            `json:"index"`   // as of which; nil when it is not known
	Members []MembershipMember `json:"members"` // statedBy is empty
	Removed []ID               `json:"removed"`
}

// A Startup is what one minor version of etcd would do with a member directory.
type Startup struct {
	EtcdVersion string  `json:"etcdVersion"`
	Starts      *bool   `json:"starts"`
	Serves      *bool   `json:"serves"`
	CutsEntries *uint64 `json:"cutsEntries"`
	Error       string  `json:"error"`
	BecauseOf   []Code  `json:"becauseOf"`
	Assumed     string  `json:"assumed"`
}
