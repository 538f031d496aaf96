package inspect

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"etcd-forensics/snapdb"
)

// checkFit judges what the files of one member say together. It is called when
// every source has been read.
func (x *examination) checkFit(ctx context.Context) error {
	x.checkMembership()
	x.checkLog()
	x.checkSnaps()
	x.checkSnapAhead()
	x.checkIdentity()
	err := x.checkAgainstLog(ctx)
	x.checkVersion()
	x.checkOneMoment()
	return err
}

// checkSnapAhead misses the database that a snapshot record asks for.
func (x *examination) checkSnapAhead() {
	b := x.member.Backend
	at := x.startSnapshot()
	if b == nil || b.ConsistentIndex == nil || *b.ConsistentIndex >= at {
		return
	}
	x.find(newFinding(CodeSnapAheadOfBackend, x.src.Path, fmt.Sprintf("the WAL starts from a snapshot at index %d, the database has applied only %d, and there is no %016x.snap.db",
		at, *b.ConsistentIndex, at)).inFile(b.File).atIndex(at))
}

// checkOneMoment asks whether the database's own pages are of one moment. A page
// that carries its own number and is whole, but is not what the tree asks for
// there, was written by a later transaction: the file was copied while a server
// wrote to it. Damage by a disk or a crash leaves other traces.
func (x *examination) checkOneMoment() {
	if x.db == nil || x.db.tree == nil || x.db.db.StandIn || x.src.SnapDir == "" {
		return
	}
	faults := &x.db.tree.Faults
	later := 0
	for _, f := range x.db.faults {
		switch f.Kind {
		case snapdb.FaultPageRange:
			later++
		case snapdb.FaultPageType:
			if x.db.ownNumber(f.Page) {
				later++
			}
		case snapdb.FaultPageID, snapdb.FaultPageBounds, snapdb.FaultPageOrder, snapdb.FaultPastEnd, snapdb.FaultUnreadable:
			return
		}
	}
	if later < 2 {
		return
	}
	x.find(newFinding(CodeCopiedWhileRunning, x.src.Path, fmt.Sprintf("%d pages are whole and carry their own number, but belong to another transaction than the tree of transaction %d; %d faults follow from that",
		later, x.db.db.Meta().Txid, faults.Len())).inFile(x.db.file.Path))
}

// checkClusters finds members that are of another cluster than most of those
// handed in with them.
func checkClusters(all []*examination) {
	count := map[ID]int{}
	var order []ID
	for _, x := range all {
		if id := x.member.ClusterID; id != nil {
			if count[*id] == 0 {
				order = append(order, *id)
			}
			count[*id]++
		}
	}
	if len(order) < 2 {
		return
	}
	// The order of the paths must not matter: among equals the lowest id counts.
	most := slices.MaxFunc(order, func(a, b ID) int { return cmp.Or(cmp.Compare(count[a], count[b]), cmp.Compare(b, a)) })
	for _, x := range all {
		if id := x.member.ClusterID; id != nil && *id != most {
			x.find(newFinding(CodeClusterIDMismatch, x.src.Path, fmt.Sprintf("the WAL is of cluster %s, %d of the other directories are of cluster %s", *id, count[most], most)).inFile(x.src.WALDir))
		}
	}
}
