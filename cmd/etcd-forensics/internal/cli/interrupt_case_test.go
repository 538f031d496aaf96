package cli_test

import (
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

// Of several sources nothing is said that rests on one that was not examined to its end.
func TestAnInterruptSaysNothingOfTheRest(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one read at a time
	crash := fixtures.Dir(t, "cluster3-3.7-crash")
	snapshot := filepath.Join(fixtures.Dir(t, "healthy-3.6"), "snapshot.db")
	paths := []string{filepath.Join(crash, "m2"), filepath.Join(crash, "m3")}
	for _, test := range []struct {
		command string
		paths   []string
		formats []string
	}{
		{"inspect", paths, []string{"text", "json", "html"}}, {"compare", paths, []string{"text", "json"}}, {"members", paths, []string{"text", "json"}},
		{"inspect", []string{snapshot, filepath.Join(fixtures.Dir(t, "healthy-3.7"), "snapshot.db")}, []string{"text", "json"}},
	} {
		t.Run(test.command+" "+filepath.Base(test.paths[0]), func(t *testing.T) {
			args := append([]string{test.command}, test.paths...)
			_, reads := stoppedAt(t, 0, args...)
			const points = 4
			examined := map[float64]bool{}
			for i := range points {
				at := 1 + i*(reads-1)/points
				for _, format := range test.formats {
					o, _ := stoppedAt(t, at, append(args, "-w", format)...)
					if o.exit != cli.ExitPartial || !strings.Contains(string(o.stderr), "interrupted") {
						t.Fatalf("read %d of %d, %s: exit %d, %s", at, reads, format, o.exit, o.stderr)
					}
					if len(o.out) == 0 {
						continue
					}
					if format == "json" {
						part := parse(t, o.out)
						saysNothing(t, part, len(test.paths))
						examined[part.object("interrupted").number("examined")] = true
						continue
					}
					text := string(o.out)
					if format == "text" && !strings.HasPrefix(text, "interrupted: ") {
						t.Errorf("read %d: %s", at, text)
					}
					if strings.Contains(strings.Join(strings.Fields(text), " "), "; what comes after that is left out") {
						continue // they were compared
					}
					for _, claim := range []string{"none of the sources", "best: ", "Best source", "ontents agree", "ontents differ", "ontents were not", "revision 0", "can be read",
						"quorum is lost", "Quorum is lost", "could, of the directories", "no findings\n", "nothing here tells", "loses nothing", "not of this cluster"} {
						if strings.Contains(text, claim) {
							t.Errorf("read %d of %d, %s: %q is claimed: %s", at, reads, format, claim, text)
						}
					}
				}
			}
			if !examined[0] || len(examined) < 2 {
				t.Errorf("examined: %v", examined)
			}
		})
	}
}

// saysNothing holds the JSON of an interrupted case against what it may say.
func saysNothing(t *testing.T, part object, sources int) {
	t.Helper()
	how := part.object("interrupted")
	whole := map[any]bool{}
	for _, m := range append(part.list("members"), part.list("sources")...) {
		if m["verdict"] == nil && m["membership"] == nil {
			continue // what inspect says of files
		}
		path := m["source"]
		if path == nil {
			path = m["path"]
		}
		if m["interrupted"] == nil {
			whole[path] = true
			continue
		}
		if !strings.Contains(fmt.Sprint(m["notExamined"]), "the rest of ") {
			continue // each of its files was read
		}
		if wal := m.object("wal"); wal != nil && (wal["unapplied"] != nil || wal["uncommitted"] != nil || wal["provenCommit"] != nil) {
			t.Errorf("what the database decides is told of %v", path)
		}
		if n := len(m.object("membership").list("members")); n > 0 || m["included"] == true || m.object("verdict")["grade"] == "sound" {
			t.Errorf("members, or a verdict, of %v", path)
		}
	}
	if how.number("sources") != float64(sources) || how.number("examined") != float64(len(whole)) || how["reason"] != "interrupted" {
		t.Errorf("%v of %v", how, whole)
	}
	if v := part.object("verdict"); v["grade"] == "sound" {
		t.Errorf("%v", v)
	}
	for _, f := range part.list("findings") {
		if code := f["code"]; how["compared"] != true && (code == "cluster-quorum-lost" || code == "cluster-member-behind" || code == "mvcc-diverged") {
			t.Errorf("finding %v", code)
		}
	}
	k := part.object("comparison")
	if k == nil || how["compared"] == true {
		return
	}
	if k["best"] != "" || k["agree"] != nil || k["commonRevision"] != nil || k["quorum"] != nil || len(k.list("divergences")) > 0 || len(k.list("notCompared")) != sources {
		t.Errorf("%v", k)
	}
	for _, r := range k.list("ranking") {
		if !whole[r["member"]] || r["loses"] != nil || r["reach"] != nil {
			t.Errorf("%v", r)
		}
	}
	if len(k.list("ranking")) != len(whole) {
		t.Errorf("%d ranked of %d", len(k.list("ranking")), len(whole))
	}
}
