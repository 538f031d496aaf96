package scan

import (
	"context"
	"slices"

	"etcd-forensics/snapdb"
)

// Back visits all records from the last to the first, as long as visit says. Key and
// Value are valid during the call only.
func (r *Rows) Back(ctx context.Context, visit func(Row) bool) error {
	collect := func(rows *[]Row) func(Row) bool {
		return func(row Row) bool {
			*rows = append(*rows, row)
			return true
		}
	}
	hand := func(rows []Row) bool {
		for _, row := range slices.Backward(rows) {
			if !visit(row) {
				return false
			}
		}
		return true
	}
	var rows []Row
	reader := r.reader
	if reader.tree.Buckets[reader.bucket].Inline != nil {
		reader.from(nil, collect(&rows))
		hand(rows)
		return nil
	}
	var ignored snapdb.FaultList
	for _, leaf := range slices.Backward(reader.leaves) {
		if err := ctx.Err(); err != nil {
			return err
		}
		rows = rows[:0]
		if reader.read(leaf, &ignored) {
			reader.hand(leaf, nil, collect(&rows))
		}
		if !hand(rows) {
			return nil
		}
	}
	return nil
}
