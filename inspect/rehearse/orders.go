package rehearse

import (
	"encoding/json"
	"io"
)

// ChildCommand is the hidden argument by which the program runs itself as a child.
const ChildCommand = "rehearse-child"

// An order tells a child what to do. It is one line of JSON on the child's standard
// input. That the input ends means that the child must end, too: no child outlives
// the rehearsal, however that ends.
type order struct {
	Restore *restoreOrder `json:"restore,omitempty"`
	Serve   *serveOrder   `json:"serve,omitempty"`
	Run     *runOrder     `json:"run,omitempty"`
	Peers   *peersOrder   `json:"peers,omitempty"`
	Sweep   string        `json:"sweep,omitempty"` // the folder that goes away with the rehearsal
}

// A restoreOrder is one `etcdutl snapshot restore`.
type restoreOrder struct {
	File, Name, DataDir, PeerURL, InitialCluster, Token string

	SkipHashCheck bool
	Bump          uint64
}

// A serveOrder starts etcd on loopback.
type serveOrder struct {
	Name, DataDir, PeerURL, ClientURL, InitialCluster string

	Quota           int64 // bytes
	ForceNewCluster bool
}

// A peersOrder replaces the peer URLs in a copied database: a member that is started
// from a copy must not speak to those that it knows.
type peersOrder struct {
	DB   string
	URLs map[string]string // by member id, as etcd writes it
	Else string            // of all others
}

// A runOrder starts another program.
type runOrder struct {
	Argv []string
	// Ends says that the program ends by itself.
	Ends bool
}

// A word is what a child says on its standard output, in a line of JSON.
type word struct {
	Event string `json:"event"`
	Error string `json:"error,omitempty"`
}

// Events.
const (
	eventReady  = "ready"  // etcd serves, or the program runs
	eventDone   = "done"   // what was ordered has been done
	eventFailed = "failed" // it cannot be done
	eventEnded  = "ended"  // the program ended as it should not; its log says why
)

func say(w io.Writer, event string, err error) {
	m := word{Event: event}
	if err != nil {
		m.Error = err.Error()
	}
	b, _ := json.Marshal(m) // strings alone
	w.Write(append(b, '\n'))
}
