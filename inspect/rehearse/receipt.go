package rehearse

import (
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
)

// SchemaVersion is the version of a receipt's JSON.
const SchemaVersion = 1

// A Receipt says what was proven of a plan.
type Receipt struct {
	SchemaVersion int     `json:"schemaVersion"`
	Outcome       Outcome `json:"outcome"`
	Why           string  `json:"why"` // in one sentence, unless it was proven

	Source      string           `json:"source"`
	Way         restore.Way      `json:"way"`
	File        restore.Artifact `json:"file"`
	Token       string           `json:"token"`
	ClusterID   inspect.ID       `json:"clusterID"`   // planned
	EtcdVersion string           `json:"etcdVersion"` // planned
	Versions    Versions         `json:"versions"`

	Checks   []Check  `json:"checks"`
	Members  []Member `json:"members"`
	Prefixes []Prefix `json:"prefixes"` // of the evidence's keys
	Stages   []Stage  `json:"stages"`
	Space    Space    `json:"space"`
}

// An Outcome is what became of a rehearsal.
type Outcome string

const (
	Proven     Outcome = "proven"     // nothing failed
	NotProven  Outcome = "not-proven" // something is not as it was promised
	Refused    Outcome = "refused"    // nothing was tried
	Unfinished Outcome = "unfinished" // interrupted, or out of space
)

// Versions say what ran in the rehearsal.
type Versions struct {
	Restore string `json:"restore"`
	Etcd    string `json:"etcd"`
}

// A State is what became of one check.
type State string

const (
	StateProven   State = "proven"
	StateFailed   State = "failed"
	StateNotTried State = "not-tried"
)

// A Check holds one promise against what came up.
type Check struct {
	Name     string `json:"name"`   // stable
	Member   string `json:"member"` // name, "" for the cluster as a whole
	Expected string `json:"expected"`
	Actual   string `json:"actual"`
	State    State  `json:"state"`
	Reason   string `json:"reason"` // why it was not tried, or what else is to be known
}

// The names of checks, in the order of a receipt.
const (
	CheckPlannedIDs  = "planned-ids"  // the planned ids follow from the planned URLs and token
	CheckVersion     = "version"      // the rehearsal ran with the version that will run
	CheckForcedStart = "forced-start" // a copy of a directory starts alone
	CheckForcedState = "forced-content"
	CheckMade        = "made"     // the database that is restored, of a log or of damaged pages
	CheckRestore     = "restore"  // the restore command takes the file
	CheckBoot        = "boot"     // all members start and have a leader
	CheckMembers     = "members"  // names and ids of those that came up
	CheckRevision    = "revision" // goes on as promised
	CheckCompaction  = "compaction"
	CheckHashKV      = "hashkv"    // as that of the evidence
	CheckAgreement   = "agreement" // the members' hashKV are one
	CheckPrefixes    = "keys-by-prefix"
	CheckRecords     = "records"
	CheckAlarms      = "alarms"
	CheckAuth        = "auth"
	CheckWrite       = "write"
	CheckRejoin      = "rejoin"
	CheckJoin        = "join"     // members that join afterwards
	CheckPlatform    = "platform" // what the platform itself does
)

// A Member is one member of the plan, and what stood in for it.
type Member struct {
	Name        string      `json:"name"`
	PlannedURLs []string    `json:"plannedURLs"`
	PlannedID   *inspect.ID `json:"plannedID"`

	URL      string          `json:"url"`      // of the rehearsal
	MemberID *inspect.ID     `json:"memberID"` // that came up
	Revision int64           `json:"revision"`
	HashKV   *inspect.HashKV `json:"hashKV"`
}

// A Prefix counts the live keys that begin alike, at the revision that was restored.
type Prefix struct {
	Prefix   []byte  `json:"-"` // renderers quote it
	Expected int64   `json:"expected"`
	Actual   []int64 `json:"actual"` // of each member, in their order
}

// A Stage is one part of the rehearsal.
type Stage struct {
	Name    string  `json:"name"`
	Seconds float64 `json:"seconds"`
	Bytes   int64   `json:"bytes"` // in the scratch folder at its end
}

// Space says what the rehearsal may take in the scratch folder.
type Space struct {
	Needed int64  `json:"needed"`
	Free   *int64 `json:"free"` // nil where the system does not tell
}

// add notes what became of a check.
func (r *Receipt) add(c Check) { r.Checks = append(r.Checks, c) }

// compare notes whether what came up is what was promised.
func (r *Receipt) compare(name, member, expected, actual, reason string) {
	state := StateProven
	if expected != actual {
		state = StateFailed
	}
	r.add(Check{name, member, expected, actual, state, reason})
}

// skip notes that something was not tried.
func (r *Receipt) skip(name, member, expected, reason string) {
	r.add(Check{Name: name, Member: member, Expected: expected, State: StateNotTried, Reason: reason})
}

// fail notes that something went wrong.
func (r *Receipt) fail(name, member, expected, actual string) {
	r.add(Check{Name: name, Member: member, Expected: expected, Actual: actual, State: StateFailed})
}

// refuse ends a rehearsal before it begins.
func (r *Receipt) refuse(why string) { r.Outcome, r.Why = Refused, why }

// judge says whether all was proven.
func (r *Receipt) judge() {
	r.Outcome = Proven
	for _, c := range r.Checks {
		if c.State == StateFailed {
			r.Outcome, r.Why = NotProven, failureWords(c)
			return
		}
	}
}

func failureWords(c Check) string {
	of := ""
	if c.Member != "" {
		of = " of " + c.Member
	}
	return c.Name + of + ": " + c.Actual + " instead of " + c.Expected
}

// stage runs one part and notes what it took.
func (h *rehearsal) stage(name string, part func() error) error {
	h.say("rehearse: %s", name)
	begin := time.Now()
	err := part()
	h.receipt.Stages = append(h.receipt.Stages, Stage{name, time.Since(begin).Seconds(), h.room.used()})
	return err
}
