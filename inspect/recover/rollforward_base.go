package recover

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
)

// A rollBase is the database from which it goes on.
type rollBase struct {
	file    *source.File
	member  *inspect.Member
	index   uint64
	term    *uint64 // nil before 3.5
	members []inspect.ID
}

// openBase examines the base. Without one the store is empty, before the first entry.
func (r *rolling) openBase(ctx context.Context) error {
	if r.o.Base == nil {
		return nil
	}
	r.Base = r.o.Base.Path
	f, err := databaseOf(ctx, r.o.Base)
	if err != nil {
		return &RollRefusal{fmt.Sprintf("the base cannot be used: %v", err), "a snapshot or a database as --base, or none when the logs reach back to the first entry"}
	}
	kind := source.KindBackend
	if r.o.Base.Kind == source.KindSnapshot {
		kind = source.KindSnapshot
	}
	alone := &source.Source{Path: r.o.Base.Path, Kind: kind, DB: f, ByPlace: true}
	c, err := inspect.Inspect(ctx, []*source.Source{alone}, inspect.Options{Digest: f.Size()%512 == snapdb.TrailerSize})
	if err != nil {
		return err
	}
	if c.Unfinished() {
		return errors.New("the base could not be read to its end")
	}
	b := &rollBase{file: f, member: &c.Members[0]}
	r.base, r.BaseFile = b, f.Path
	for _, found := range c.Findings {
		if found.Severity == inspect.SeverityError && found.Code.OfDatabase() {
			return &RollRefusal{fmt.Sprintf("the base is damaged: %s: %s", found.Code, found.Message), "salvage it first, or another --base"}
		}
	}
	be := b.member.Backend
	switch {
	case be == nil || !be.Complete || be.ConsistentIndex == nil || *be.ConsistentIndex == 0:
		return &RollRefusal{"the base does not say which entry it applied last", "a database that a server has written to, or a snapshot of one"}
	case newer(be.ClusterVersion) || newer(be.StorageVersion):
		return &RollRefusal{"the base is of a newer etcd than the applier, 3.7", "the etcd that wrote it"}
	}
	b.index, b.term = *be.ConsistentIndex, be.Term
	for _, m := range b.member.Membership.Members {
		b.members = append(b.members, m.MemberID)
	}
	b.members = append(b.members, b.member.Membership.Removed...)
	r.From = Point{b.index, *be.Revision}
	return nil
}

// newer says whether a version is above 3.7, the applier's.
func newer(v *string) bool {
	var major, minor int
	if v == nil {
		return false
	}
	n, _ := fmt.Sscanf(*v, "%d.%d", &major, &minor)
	return n == 2 && (major > 3 || major == 3 && minor > 7)
}

// databaseOf gives the database of a source that etcd would open.
func databaseOf(ctx context.Context, s *source.Source) (*source.File, error) {
	k, err := inspect.OpenKeyspace(ctx, s, inspect.Limits{})
	if err != nil {
		return nil, err
	}
	for _, f := range s.Received {
		if f.Path == k.File {
			return f, nil
		}
	}
	return s.DB, nil
}

// copyBase makes the file to apply entries to: the base without a snapshot's hash.
func (r *rolling) copyBase(ctx context.Context) (path string, err error) {
	path = filepath.Join(r.room, "work.db")
	if r.base == nil {
		return path, nil
	}
	size := r.base.file.Size()
	if size%512 == snapdb.TrailerSize {
		size -= snapdb.TrailerSize
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	from := io.NewSectionReader(r.base.file, 0, size)
	_, err = io.Copy(f, readerFunc(func(b []byte) (int, error) {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		return from.Read(b)
	}))
	if how := r.base.file.Changed(); err == nil && how != "" {
		err = fmt.Errorf("%s: the file changed while it was read: %s", r.base.file.Path, how)
	}
	return path, err
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(b []byte) (int, error) { return f(b) }
