package scan_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/scan"
)

// TestBackIsTheOtherWayRound reads every bucket of some fixtures both ways.
func TestBackIsTheOtherWayRound(t *testing.T) {
	for _, name := range []string{"healthy-3.6", "pagesize-512", "leaf-zeroed"} {
		f, err := os.Open(fixtures.Databases(t, name)[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err != nil {
			t.Fatal(err)
		}
		db, err := snapdb.Open(f, info.Size())
		if err != nil {
			t.Fatal(err)
		}
		tree, err := snapdb.Walk(t.Context(), db, 1)
		if err != nil {
			t.Fatal(err)
		}
		all := 0
		for b := range tree.Buckets {
			rows := scan.NewRows(tree, b)
			var there, back []string
			rows.From(nil, func(r scan.Row) bool { there = append(there, string(r.Key)); return true })
			err := rows.Back(t.Context(), func(r scan.Row) bool { back = append(back, string(r.Key)); return true })
			slices.Reverse(back)
			if err != nil || !slices.Equal(there, back) {
				t.Errorf("%s, bucket %q: %d records, and %d back: %v", name, tree.Buckets[b].Name, len(there), len(back), err)
			}
			all += len(back)
			n := 0
			if err := rows.Back(t.Context(), func(scan.Row) bool { n++; return n < 2 }); err != nil || n != min(len(back), 2) {
				t.Errorf("%s, bucket %q: %d records when two were wanted: %v", name, tree.Buckets[b].Name, n, err)
			}
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if err := rows.Back(ended, func(scan.Row) bool { return true }); len(back) > 500 && !errors.Is(err, context.Canceled) {
				t.Errorf("%s, bucket %q: %v after an interrupt", name, tree.Buckets[b].Name, err)
			}
		}
		if all < 500 {
			t.Errorf("%s: only %d records", name, all)
		}
	}
}
