package inspect

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader"
	"etcd-forensics/walreader/snapfile"
)

// A snapshot is one .snap file.
type snapshot struct {
	file *source.File
	name snapfile.Name
	*snapfile.File
}

// examineSnaps reads the .snap files and lists what etcd left behind.
func (x *examination) examineSnaps(ctx context.Context) error {
	for _, f := range x.src.Snaps {
		s, err := snapfile.Read(ctx, f, f.Size(), snapfile.Options{})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			x.find(newFinding(CodeSnapChecksum, x.src.Path, err.Error()).inFile(f.Path))
			x.note("%s: %v", f.Path, err)
			x.member.Snapshots = append(x.member.Snapshots, Snap{File: f.Name()})
			continue
		}
		name, _ := snapfile.ParseName(f.Name())
		x.snaps = append(x.snaps, snapshot{f, name, s})
		listed := Snap{File: f.Name(), Valid: s.Valid}
		if s.Valid || s.Index > 0 {
			listed.Term, listed.Index = &s.Term, &s.Index
		}
		x.member.Snapshots = append(x.member.Snapshots, listed)
	}
	slices.SortStableFunc(x.snaps, func(a, b snapshot) int {
		return compareUint64(a.name.Index, b.name.Index)
	})
	for _, s := range x.src.Strays {
		x.leftover(s)
	}
	if !x.opts.Digest {
		return nil
	}
	if err := digestAll(ctx, x.src.Snaps); err != nil {
		return ctx.Err() // what could not be read has its finding
	}
	return nil
}

func compareUint64(a, b uint64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// leftover lists a file that etcd does not read. The next segment, which etcd makes
// in advance, is none.
func (x *examination) leftover(s source.Stray) {
	kind := snapKind(s.Name)
	if s.WAL {
		class, _ := walreader.ClassifyName(s.Name)
		if class == walreader.NamePreallocated {
			return
		}
		kind = class.String()
	}
	x.member.Leftovers = append(x.member.Leftovers, Leftover{File: filepath.Base(s.Path), Kind: kind})
}

func snapKind(name string) string {
	class, _ := snapfile.ClassifyName(name)
	return class.String()
}

// chooseBackend gives the database that etcd would open (etcd v3.7.3,
// server/storage/backend.go, RecoverSnapshotBackend): db, unless the snapshot to
// start from is ahead of its consistent index; then <index>.snap.db. The others
// are leftovers.
func (x *examination) chooseBackend(ctx context.Context) (*source.File, error) {
	chosen := x.src.DB
	if at := x.startSnapshot(); at > 0 && len(x.src.Received) > 0 {
		index, err := consistentIndex(ctx, x.src.DB)
		if err != nil {
			return nil, err
		}
		for _, f := range x.src.Received {
			if class, name := snapfile.ClassifyName(f.Name()); class == snapfile.NameReceived && name.Index == at && index < at {
				chosen = f
			}
		}
	}
	if chosen == nil {
		chosen = x.src.Received[len(x.src.Received)-1]
	}
	for _, f := range x.src.Received {
		if f != chosen {
			x.member.Leftovers = append(x.member.Leftovers, Leftover{File: f.Name(), Kind: snapKind(f.Name())})
		}
	}
	return chosen, nil
}

// startSnapshot gives the index of the snapshot that etcd would start from, 0
// for none: the newest that the WAL records.
func (x *examination) startSnapshot() uint64 {
	if x.log == nil {
		return 0
	}
	return newestSnapshot(x.log).Index
}

// consistentIndex reads a database's consistent index, 0 when it has none.
func consistentIndex(ctx context.Context, f *source.File) (uint64, error) {
	if f == nil {
		return 0, nil
	}
	d, err := openDatabase(ctx, f, 0)
	if ctx.Err() != nil {
		return 0, ctx.Err()
	}
	if err != nil || d.tree == nil {
		return 0, nil // the examination of the file says why
	}
	return d.meta.index, nil
}

// checkSnaps judges the .snap files and what lies beside them.
func (x *examination) checkSnaps() {
	for _, s := range x.snaps {
		switch {
		case len(s.Faults) > 0:
			f := s.Faults[0]
			x.find(newFinding(CodeSnapChecksum, x.src.Path, f.Error()).inFile(s.file.Path).at(f.Offset))
		case s.name.Index != s.Index || s.name.Term != s.Term:
			x.find(newFinding(CodeSnapChecksum, x.src.Path, fmt.Sprintf("the name says term %d and index %d, the content term %d and index %d",
				s.name.Term, s.name.Index, s.Term, s.Index)).inFile(s.file.Path))
		}
	}
	if at := x.startSnapshot(); at > 0 && x.writesSnaps() && x.src.SnapDir != "" {
		if !slices.ContainsFunc(x.snaps, func(s snapshot) bool { return s.name.Index == at }) && !x.unread(at) {
			x.find(newFinding(CodeSnapMissing, x.src.Path, fmt.Sprintf("the WAL records a snapshot at index %d, for which there is no .snap file", at)).
				inFile(x.src.SnapDir).atIndex(at))
		}
	}
	for _, l := range x.member.Leftovers {
		x.find(newFinding(CodeSnapLeftover, x.src.Path, fmt.Sprintf("%s (%s)", quoteKey([]byte(l.File)), l.Kind)).inFile(l.File))
	}
}

// unread says whether the .snap file of an index is there and could not be read.
func (x *examination) unread(index uint64) bool {
	return slices.ContainsFunc(x.src.Snaps, func(f *source.File) bool {
		name, ok := snapfile.ParseName(f.Name())
		return ok && name.Index == index
	})
}

// writesSnaps says whether the version that wrote the data must have left .snap files:
// 3.8 does not write them any more (its first alpha still did).
func (x *examination) writesSnaps() bool {
	b := x.member.Backend
	if b == nil || b.ClusterVersion == nil {
		return true
	}
	major, minor, ok := keyspace.Minor(*b.ClusterVersion)
	return !ok || major < 3 || major == 3 && minor < 8
}
