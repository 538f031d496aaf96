package recover

import (
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

// mayBreak says whether there can be any: for what is known to be missing, or because
// inspection found one, which it does where no revision is missing.
func (j *job) mayBreak() bool {
	return len(j.missing)+len(j.partialAll)+len(j.keyLosses()) > 0 ||
		slices.ContainsFunc(j.result.Findings, func(f inspect.Finding) bool { return f.Code == inspect.CodeMVCCVersionChain })
}

// brokenKeys gives the keys of the records that break chains. A record that is found has
// the beginning of a long key, so each is read again.
func brokenKeys(tree *snapdb.Tree, found *inspect.BrokenChains) (broken brokenChains) {
	at := map[keyspace.Revision]bool{}
	rows := scan.NewRows(tree, bucketOf(tree, keyspace.BucketKey))
	broken.keys = map[string]bool{}
	for _, wanted := range found.Revisions {
		if at[wanted] {
			continue
		}
		at[wanted] = true
		there := false
		rows.From(wanted.Append(nil), func(row scan.Row) bool {
			rev, _ := keyspace.DecodeRevision(row.Key)
			if kv, err := keyspace.DecodeKeyValue(row.Value); err == nil && rev == wanted {
				broken.keys[string(kv.Key)], there = true, true
			}
			return false
		})
		broken.more = broken.more || !there
	}
	broken.more = broken.more || found.Count > len(at)
	return broken
}
