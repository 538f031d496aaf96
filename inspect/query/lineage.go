package query

import (
	"bytes"
	"context"
	"sync"

	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/scan"
)

// A Lineage says whether two databases are states of one store.
type Lineage struct {
	OldRevision, NewRevision int64
	// Same counts the keys that are alike in both, Contradicted those that the newer
	// one has not written since the older one and that are not alike: of one store
	// there is none.
	Same, Contradicted int64
	Example            []byte // the first of the contradicted in key order; nil when there is none
	ExampleRevision    int64  // its mod revision in the newer one
}

// Related compares two databases at their newest revisions. The newer one is that
// with the higher revision. Each is read once, and once more only when they
// contradict each other; memory grows with the number of distinct keys.
func Related(ctx context.Context, older, newer *source.Source) (*Lineage, error) {
	from, err := openSide(ctx, older, 0)
	if err != nil {
		return nil, err
	}
	to, err := openSide(ctx, newer, 0)
	if err != nil {
		return nil, err
	}
	if from.revision > to.revision {
		from, to = to, from
	}
	d := scan.NewDiffer()
	if _, err = from.read(ctx, d.Of(scan.Old, from.Bucket, 0)); err != nil {
		return nil, err
	}
	if _, err = to.read(ctx, d.Of(scan.New, to.Bucket, 0)); err != nil {
		return nil, err
	}
	difference := d.Finish()
	l := &Lineage{
		OldRevision: from.revision, NewRevision: to.revision, Same: difference.Counts.Same,
		Contradicted: difference.Contradictions(from.revision),
	}
	if l.Contradicted == 0 {
		return l, nil
	}
	var mu sync.Mutex
	err = to.again(ctx, difference.Names(scan.New, to.Bucket, 0, func(d *scan.Differing) {
		mu.Lock()
		defer mu.Unlock()
		if d.NewRevision > 0 && d.NewRevision <= from.revision && (l.Example == nil || bytes.Compare(d.Key, l.Example) < 0) {
			l.Example, l.ExampleRevision = bytes.Clone(d.Key), d.NewRevision
		}
	}))
	return l, err
}
