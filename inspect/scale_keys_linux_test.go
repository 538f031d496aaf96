package inspect_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.etcd.io/bbolt"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/protobuf/proto"

	"etcd-forensics/snapdb/keyspace"
)

// manyKeys is the number of distinct keys for which the memory of keys is measured.
const manyKeys = 10_000_000

// BenchmarkScaleKeys measures the most memory that `keys` takes for manyKeys distinct
// keys, and for as many prefixes, which are folded. bbolt writes the records as etcd's
// encoding has them; a server would take half an hour.
func BenchmarkScaleKeys(b *testing.B) {
	dir := os.Getenv("ETCD_FORENSICS_SCALE")
	if dir == "" {
		b.Skip("ETCD_FORENSICS_SCALE names no stores; make bench-scale builds them")
	}
	path := filepath.Join(b.TempDir(), "keys.db")
	writeManyKeys(b, path)
	b.Setenv("GOMAXPROCS", "2")
	tools := b.TempDir()
	if out, err := exec.Command("go", "build", "-o", tools+"/", "etcd-forensics/cmd/etcd-forensics").CombinedOutput(); err != nil {
		b.Fatalf("%v\n%s", err, out)
	}
	for _, c := range []struct{ name, depth string }{{"few prefixes", "2"}, {"a prefix each", "9"}} {
		b.Run(c.name, func(b *testing.B) {
			_, peak, out := process(b, filepath.Join(tools, "etcd-forensics"), "keys", "-w", "json", "--kubernetes=false", "--top", "10", "--depth", c.depth, path)
			var counted struct{ Live int64 }
			if err := json.Unmarshal(out, &counted); err != nil || counted.Live != manyKeys {
				b.Fatalf("%d live keys, %v", counted.Live, err)
			}
			for b.Loop() {
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(peak)/(1<<20), "keys-peak-MiB")
		})
	}
}

// writeManyKeys writes one record of each key, every key with a prefix of its own.
func writeManyKeys(b *testing.B, path string) {
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: true, NoFreelistSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		b.Fatal(err)
	}
	const batch = 100_000
	for from := 0; from < manyKeys; from += batch {
		if err := db.Update(func(tx *bbolt.Tx) error {
			bucket, err := tx.CreateBucketIfNotExists([]byte(keyspace.BucketKey))
			if err != nil {
				return err
			}
			bucket.FillPercent = 0.9 // etcd's
			for i := from; i < from+batch; i++ {
				rev := int64(i + 2)
				kv := mvccpb.KeyValue{Key: fmt.Appendf(nil, "/load/%02d/%08d/key", i%100, i), Value: []byte("value"), CreateRevision: rev, ModRevision: rev, Version: 1}
				v, err := proto.Marshal(&kv)
				if err == nil {
					err = bucket.Put(keyspace.Revision{Main: rev}.Append(nil), v)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			b.Fatal(err)
		}
	}
	if err := db.Close(); err != nil {
		b.Fatal(err)
	}
}
