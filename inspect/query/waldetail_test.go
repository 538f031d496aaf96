package query_test

import (
	"strconv"
	"testing"

	"etcd-forensics/inspect/query"
	"etcd-forensics/walreader"
)

// Whatever an entry's data is, its row is a line of printable ASCII with few keys.
func FuzzWhatAnEntrySays(f *testing.F) {
	seeds := 0
	for _, name := range []string{"auth-3.6", "healthy-3.4"} {
		w := openWAL(f, logs(f, name)[0])
		rows, _ := rowsOf(f, w, query.WALFilter{Types: []string{"entry"}})
		for i := 0; i < len(rows); i += 100 {
			rec, _, err := w.Chain.ReadRecordAt(0, rows[i].Offset, walreader.DefaultMaxRecord, nil)
			if rows[i].File == w.Chain.Segments[0].File && err == nil {
				f.Add(rec.Data)
				seeds++
			}
		}
	}
	if seeds == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, entry []byte) {
		l := newLog()
		l.add(walreader.TypeEntry, entry)
		rows, _ := rowsOf(t, openWAL(t, l.dir(t)), query.WALFilter{})
		for _, r := range rows {
			for _, c := range string(r.Detail) {
				if c != '\u00a0' && (c > '~' || !strconv.IsPrint(c)) {
					t.Errorf("%q is in %q", c, r.Detail)
				}
			}
			if len(r.Keys) > 16 {
				t.Errorf("%d keys", len(r.Keys))
			}
		}
	})
}
