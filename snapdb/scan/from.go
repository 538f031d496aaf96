package scan

import "etcd-forensics/snapdb"

// Rows reads records of one bucket by their keys and without the pass. Faults are left
// to the pass.
type Rows struct{ reader *rowReader }

// NewRows prepares to read a bucket.
func NewRows(tree *snapdb.Tree, bucket int) *Rows {
	return &Rows{newRowReader(tree, bucket, maxRecordPage)}
}

// From visits the records at and behind a key, in key order, as long as visit says.
// Key and Value are valid during the call only.
func (r *Rows) From(key []byte, visit func(Row) bool) { r.reader.from(key, visit) }

// triedForLast is how many leaf pages are tried for the last key: in a sound file
// the last one has it.
const triedForLast = 8

// Last gives the last key of the bucket, nil when it has none or the last pages
// cannot be read.
func (r *Rows) Last() []byte {
	var last []byte
	keep := func(row Row) bool {
		last = append(last[:0], row.Key...)
		return true
	}
	leaves := r.reader.leaves
	if len(leaves) == 0 {
		r.From(nil, keep)
	}
	for i := len(leaves) - 1; i >= max(0, len(leaves)-triedForLast) && last == nil; i-- {
		lo, _ := r.reader.tree.Range(int(leaves[i]))
		r.From(lo, keep)
	}
	return last
}
