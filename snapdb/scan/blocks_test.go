package scan_test

import (
	"bytes"
	"context"
	"hash/maphash"
	"maps"
	"os"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/scan"
)

// TestBlocksAreThoseOfTheRecords sums a database up in one pass with several
// parsers, and record by record.
func TestBlocksAreThoseOfTheRecords(t *testing.T) {
	seed := maphash.MakeSeed()
	for _, name := range []string{"healthy-3.4", "healthy-3.7", "bumped-3.6", "auth-3.6"} {
		b, err := os.ReadFile(fixtures.Databases(t, name)[0])
		if err != nil {
			t.Fatal(err)
		}
		sums := func(parsers int, compact int64) scan.BlockSums {
			file, err := snapdb.Open(bytes.NewReader(b), int64(len(b)))
			if err != nil {
				t.Fatal(err)
			}
			tree, err := snapdb.Walk(context.Background(), file, 10)
			if err != nil {
				t.Fatal(err)
			}
			key := -1
			for i, bucket := range tree.Buckets {
				if string(bucket.Name) == "key" {
					key = i
				}
			}
			blocks := scan.NewBlocks(seed, key, compact)
			if _, err := scan.Run(context.Background(), tree, scan.Options{Parsers: parsers}, blocks); err != nil {
				t.Fatal(err)
			}
			return blocks.Finish()
		}
		one, four := sums(1, 100), sums(4, 100)
		if one.Base != four.Base || !maps.Equal(one.Above, four.Above) || len(one.Above) == 0 {
			t.Errorf("%s: %+v with one parser, %+v with four", name, one, four)
		}
		all := sums(1, -1)
		var records int64
		for _, block := range all.Above {
			records += block.Records
		}
		part := one.Base.Records
		for _, block := range one.Above {
			part += block.Records
		}
		if all.Base != (scan.Block{}) || part != records && part != records-1 {
			t.Errorf("%s: %d records in all, %d with a compact revision", name, records, part)
		}
	}
}
