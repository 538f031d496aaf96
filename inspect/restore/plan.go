// Package restore turns a case into a plan: from what to restore, in which way, with
// which commands on which host, what is lost, and what to beware of. It reads and runs
// nothing.
//
// What the commands must say, per version of etcd and per platform, was measured with
// etcd 3.4.23, 3.5.21, 3.6.16 and 3.7.3, or read from their sources; each rule names its
// file.
package restore

import (
	"fmt"

	"etcd-forensics/inspect"
)

// A Plan is the way back.
type Plan struct {
	// Refused says why there is no plan; nil when there is one.
	Refused *string `json:"refused"`
	// Instead is what to do when there is none, "" when there is one.
	Instead string `json:"instead,omitempty"`

	Way         Way    `json:"way"`
	Source      string `json:"source"` // as it was given
	Reason      string `json:"reason"` // why this source and this way, in one sentence
	Platform    string `json:"platform"`
	EtcdVersion string `json:"etcdVersion"` // 3.5 or 3.5.21: of the server that will run

	File Artifact `json:"file"` // what is restored on every host
	// Copy is the directory of a member that is copied first, and started alone from the
	// copy, so that its log is applied; "" in the other ways.
	Copy string `json:"copy,omitempty"`
	// Base is the source whose database a log is applied to; "" when the log is applied to
	// an empty store, and in the other ways. Logs are the sources whose logs are taken, With
	// those from which a salvage takes what is lost.
	Base string   `json:"base,omitempty"`
	Logs []string `json:"logs,omitempty"`
	With []string `json:"with,omitempty"`

	DataDir string `json:"dataDir"`
	WALDir  string `json:"walDir,omitempty"`
	WorkDir string `json:"workDir"` // on every host: the file, what is kept, logs

	Tag       string     `json:"tag"` // in the names of what the plan leaves on the hosts
	Token     string     `json:"token"`
	ClusterID inspect.ID `json:"clusterID"` // that will come out
	Members   []Member   `json:"members"`   // that are restored, by name
	Joining   []Member   `json:"joining"`   // that join afterwards, one at a time, by name
	// IDsByPlatform says that the platform gives token, names, URLs and ids itself: Token is
	// "", ClusterID is 0, and members have no id.
	IDsByPlatform bool `json:"idsByPlatform"`
	// OldClusterID is that of the members in hand, nil when no source tells.
	OldClusterID *inspect.ID `json:"oldClusterID"`

	Revision Revision `json:"revision"`

	// Here is done where the evidence is, before anything on the hosts. Where a tool speaks
	// to the hosts from there it has steps of all phases, in their order.
	Here  []Step `json:"here"`
	Hosts []Host `json:"hosts"`

	Losses       []Loss        `json:"losses"`
	Alternatives []Alternative `json:"alternatives"`
	Warnings     []Warning     `json:"warnings"`
}

// A Way is how the cluster comes back.
type Way string

const (
	WayRejoin          Way = "rejoin"            // enough voters start; others are replaced
	WayRestoreSnapshot Way = "restore-snapshot"  // etcdutl snapshot restore of a snapshot
	WayRestoreDB       Way = "restore-db"        // the same of a member's database
	WayForceNewCluster Way = "force-new-cluster" // a copy of a member is started alone, and a snapshot taken of it
	WayRollForward     Way = "roll-forward"      // the log is applied to a copy of a database, or to an empty one, and the result restored
	WaySalvage         Way = "salvage"           // what a damaged database proves is written to a new one, which is restored
)

// An Artifact is the file that the restore command reads.
type Artifact struct {
	Path   string  `json:"path"`   // among the evidence, or made by the steps of Here; archive!name inside an archive
	OnHost string  `json:"onHost"` // where the restore command reads it
	SHA256 *string `json:"sha256"` // hex; nil when it is made first, or digests were left out
	Size   int64   `json:"size"`   // bytes; 0 when it is made first
	// Hashed says whether the file ends with its own SHA-256, which the restore command
	// checks; a wrong one it cannot get past.
	Hashed bool `json:"hashed"`
}

// A Member is one member of the cluster to be.
type Member struct {
	Name       string   `json:"name"`
	PeerURLs   []string `json:"peerURLs"`
	ClientURLs []string `json:"clientURLs"` // where the old member of this name or URL was reached; empty when that is not known
	// MemberID is the id that will come out; nil for one that joins, whose id depends on
	// the time, and where the platform gives ids.
	MemberID *inspect.ID `json:"memberID"`

	through string // the endpoints that are asked in place of its own; "" for its own
}

// Revision says how revisions go on.
type Revision struct {
	Source  int64 `json:"source"`  // of what is restored
	Highest int64 `json:"highest"` // that a client may have seen
	// Bump is what --bump-revision adds to the revision of the newest record, which is below
	// Source where a compaction has removed the newest records (etcd v3.7.3,
	// etcdutl/snapshot/v3_snapshot.go, modifyLatestRevision); 0 for none.
	Bump uint64 `json:"bump"`
	// Restored is at which the restored store begins, or a little later where the database
	// is made first; nil where the platform decides it, and where members come back with
	// their own databases.
	Restored *int64 `json:"restored"`
}

// A Host is one machine, with what is to be done on it.
type Host struct {
	Name  string `json:"name"` // of its member
	Steps []Step `json:"steps"`
}

// A Phase groups steps. No host begins one before all have ended the one before,
// except that members join one after another.
type Phase string

const (
	PhaseHere    Phase = "here"    // where the evidence is
	PhasePrepare Phase = "prepare" // changes nothing
	PhaseStop    Phase = "stop"
	PhaseRestore Phase = "restore"
	PhaseStart   Phase = "start"
	PhaseVerify  Phase = "verify"
	PhaseResume  Phase = "resume" // what uses etcd
	PhaseJoin    Phase = "join"
)

// Phases are those of hosts, in their order.
var Phases = []Phase{PhasePrepare, PhaseStop, PhaseRestore, PhaseStart, PhaseVerify, PhaseResume, PhaseJoin}

// A Step is one command, or something that a person does.
type Step struct {
	Phase Phase    `json:"phase"`
	Why   string   `json:"why"`
	Argv  []string `json:"argv"` // empty: a person does what Why says
	Env   []string `json:"env,omitempty"`

	// StdoutTo is a new file that its output goes to, AppendTo one that it is added to.
	StdoutTo string `json:"stdoutTo,omitempty"`
	AppendTo string `json:"appendTo,omitempty"`
	// Background says that the command runs on; its output goes to LogTo and its process
	// id to PIDFile.
	Background bool   `json:"background,omitempty"`
	LogTo      string `json:"logTo,omitempty"`
	PIDFile    string `json:"pidFile,omitempty"`

	// IfThere says that the step is for hosts that have its command.
	IfThere bool `json:"ifThere,omitempty"`
	// Clears are what an attempt that failed may have left, and is removed before.
	Clears []string `json:"clears,omitempty"`
	// Refuses are conditions under which the step must not be done.
	Refuses []Guard `json:"refuses,omitempty"`
	// Expect says when the command has succeeded, besides its exit code.
	Expect *Expect `json:"expect,omitempty"`

	Check string `json:"check"` // what shows that it worked
	IfNot string `json:"ifNot"` // what to do when it did not
}

// An Expect is what a command's output must be.
type Expect struct {
	Contains string `json:"contains,omitempty"`
	Empty    bool   `json:"empty,omitempty"`
	// Seconds is how long the command is repeated until it is so; 0 for once.
	Seconds int `json:"seconds,omitempty"`
}

// A Guard keeps a step from doing harm.
type Guard struct {
	Kind GuardKind `json:"kind"`
	Path string    `json:"path"`
	// ClusterIDs are those that a log at Path may be of.
	ClusterIDs []inspect.ID `json:"clusterIDs,omitempty"`
	// MemberIDs are those that a log at Path must not be of.
	MemberIDs []inspect.ID `json:"memberIDs,omitempty"`
	SHA256    string       `json:"sha256,omitempty"`
}

// A GuardKind is a condition that must not be.
type GuardKind string

const (
	GuardInUse   GuardKind = "in-use"  // a process holds the database at Path
	GuardExists  GuardKind = "exists"  // there is something at Path
	GuardMissing GuardKind = "missing" // there is nothing at Path
	GuardForeign GuardKind = "foreign" // the log at Path is of a cluster that is not among ClusterIDs
	GuardOther   GuardKind = "other"   // the log at Path is of a member among MemberIDs
	GuardDigest  GuardKind = "digest"  // the file at Path has not the digest SHA256
)

// A Loss is something that does not come back.
type Loss struct {
	What      string       `json:"what"` // in one sentence
	Entries   uint64       `json:"entries,omitempty"`
	Revisions int64        `json:"revisions,omitempty"`
	Keys      int64        `json:"keys,omitempty"`
	AtLeast   bool         `json:"atLeast,omitempty"`
	Prefixes  []PrefixLoss `json:"prefixes,omitempty"`
}

// A PrefixLoss counts the keys with one prefix; of an API server's keys Resource names
// the resource.
type PrefixLoss struct {
	Prefix   []byte `json:"-"` // renderers quote it
	Resource string `json:"resource,omitempty"`
	Keys     int64  `json:"keys"`
}

// An Alternative is another source, and what taking it would lose.
type Alternative struct {
	Source string `json:"source"`
	Usable bool   `json:"usable"`
	Reason string `json:"reason"`
	Loss   Loss   `json:"loss"`
}

// A Warning is something to beware of.
type Warning struct {
	About   string `json:"about"` // stable: alarms, auth, leases, ...
	Message string `json:"message"`
	Do      string `json:"do"`
}

// RevisionKnown says whether Revision.Source is that of what is restored. What a salvage or
// a log alone gives has a revision that is known when it has been made.
func (p *Plan) RevisionKnown() bool {
	return p.Way != WaySalvage && (p.Way != WayRollForward || p.Base != "")
}

// least is the lowest revision that the restored store may be at.
func (r *Revision) least() int64 {
	if r.Restored != nil {
		return *r.Restored
	}
	return r.Source
}

// revisionToBe says what the revision must be in the end.
func (p *Plan) revisionToBe() string {
	switch {
	case p.RevisionKnown():
		return fmt.Sprintf("the revision is %d or a little more", p.Revision.least())
	case p.Revision.Bump > 0:
		return fmt.Sprintf("the revision is that of the new database and %d, or a little more", p.Revision.Bump)
	}
	return "the revision is that of the new database or a little more"
}

// refuse makes a plan that is none.
func refuse(why, instead string) *Plan {
	return &Plan{
		Refused: &why, Instead: instead, Members: []Member{}, Joining: []Member{}, Here: []Step{}, Hosts: []Host{},
		Losses: []Loss{}, Alternatives: []Alternative{}, Warnings: []Warning{},
	}
}

func (p *Plan) warn(about, message, do string) {
	p.Warnings = append(p.Warnings, Warning{about, message, do})
}
