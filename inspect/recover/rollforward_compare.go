package recover

import (
	"bytes"
	"context"
	"fmt"
	"iter"
	"slices"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/scan"
)

// A Difference is one record that two databases do not have alike. It is valid during
// the call that it is given to.
type Difference struct {
	Bucket string
	Key    []byte
	A, B   []byte // values; nil where the record is not there
	Page   uint64 // of the record in A, or where it would be
	Offset int64
}

// records opens a database for reading its records in order.
func records(ctx context.Context, f *source.File) (*snapdb.Tree, error) {
	db, err := snapdb.Open(f, f.Size())
	if err != nil {
		return nil, err
	}
	if db.Active < 0 {
		return nil, fmt.Errorf("%s: no meta page is valid", f.Path)
	}
	return snapdb.Walk(ctx, db, 1)
}

// compareRecords compares two databases bucket by bucket, record by record, and gives
// each difference in that order.
func compareRecords(ctx context.Context, a, b *source.File, visit func(Difference) error) error {
	ta, err := records(ctx, a)
	if err != nil {
		return err
	}
	tb, err := records(ctx, b)
	if err != nil {
		return err
	}
	var names []string
	for _, t := range []*snapdb.Tree{ta, tb} {
		for _, bucket := range t.Buckets {
			if bucket.Parent == 0 {
				names = append(names, string(bucket.Name))
			}
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := compareBucket(ctx, name, ta, tb, visit); err != nil {
			return err
		}
	}
	return nil
}

// bucketOf gives the number of a bucket of the root bucket, -1 when there is none.
func bucketOf(t *snapdb.Tree, name string) int {
	return slices.IndexFunc(t.Buckets, func(b snapdb.Bucket) bool { return b.Parent == 0 && string(b.Name) == name })
}

// rows gives the records of a bucket, none when there is no such bucket. Key and value
// are valid until the next one.
func rows(t *snapdb.Tree, name string) iter.Seq[scan.Row] {
	i := bucketOf(t, name)
	return func(yield func(scan.Row) bool) {
		if i >= 0 {
			scan.NewRows(t, i).From(nil, yield)
		}
	}
}

func compareBucket(ctx context.Context, name string, ta, tb *snapdb.Tree, visit func(Difference) error) error {
	nextA, stopA := iter.Pull(rows(ta, name))
	defer stopA()
	nextB, stopB := iter.Pull(rows(tb, name))
	defer stopB()
	a, okA := nextA()
	b, okB := nextB()
	for n := 0; okA || okB; n++ {
		if n%10000 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		order := 0
		switch {
		case !okB:
			order = -1
		case !okA:
			order = 1
		default:
			order = bytes.Compare(a.Key, b.Key)
		}
		d := Difference{Bucket: name, Page: uint64(a.Page), Offset: a.Offset}
		switch {
		case order < 0:
			d.Key, d.A = a.Key, a.Value
		case order > 0:
			d.Key, d.B = b.Key, b.Value
		case !bytes.Equal(a.Value, b.Value):
			d.Key, d.A, d.B = a.Key, a.Value, b.Value
		}
		if d.Key != nil {
			if err := visit(d); err != nil {
				return err
			}
		}
		if order <= 0 {
			a, okA = nextA()
		}
		if order >= 0 {
			b, okB = nextB()
		}
	}
	return nil
}
