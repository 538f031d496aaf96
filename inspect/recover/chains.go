package recover

import (
	"context"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// brokenChains are the keys whose versions do not follow each other in the new file.
type brokenChains struct {
	keys map[string]bool
	more bool // there are more than are kept, or could be read again
}

// mayBreak says whether there can be any for what is known to be missing.
func (j *job) mayBreak() bool { return len(j.missing)+len(j.partialAll)+len(j.keyLosses()) > 0 }

// foundBroken says whether inspection found one: of a hole of revisions it lists the hole
// alone.
func (j *job) foundBroken() bool {
	return slices.ContainsFunc(j.result.Findings, func(f inspect.Finding) bool { return f.Code == inspect.CodeMVCCVersionChain })
}

// findBroken reads the new file for the keys of broken chains.
func (j *job) findBroken(ctx context.Context) (broken brokenChains, err error) {
	s, err := j.opened(ctx)
	if err != nil {
		return broken, err
	}
	defer s.Close()
	tree, err := records(ctx, s.DB)
	if err != nil {
		return broken, err
	}
	bucket := slices.IndexFunc(tree.Buckets, func(b snapdb.Bucket) bool { return b.Parent == 0 && string(b.Name) == keyspace.BucketKey })
	keys := scan.NewKeys(tree, bucket, 0, j.CompactRevision(), keysFollowed)
	keys.Compacted, keys.Holes = j.Scheduled <= j.Finished, true
	if _, err := scan.Run(ctx, tree, scan.Options{}, keys); err != nil {
		return broken, err
	}
	found := keys.Finish()
	at, rows := map[keyspace.Revision]bool{}, scan.NewRows(tree, bucket)
	broken.keys = map[string]bool{}
	for i := range found.Faults {
		f := &found.Faults[i]
		if f.Kind != scan.RecordChain || at[f.Revision] {
			continue
		}
		at[f.Revision] = true
		there := false
		rows.From(f.Revision.Append(nil), func(row scan.Row) bool { // the fault has the beginning of a long key
			rev, _ := keyspace.DecodeRevision(row.Key)
			if kv, err := keyspace.DecodeKeyValue(row.Value); err == nil && rev == f.Revision {
				broken.keys[string(kv.Key)], there = true, true
			}
			return false
		})
		broken.more = broken.more || !there
	}
	broken.more = broken.more || found.FaultCount[scan.RecordChain] > len(at)
	return broken, nil
}
