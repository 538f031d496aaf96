package cli_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
	"etcd-forensics/fixtures"
)

// stoppedAt runs a command whose context ends with a read of the evidence, 0 for never, and
// counts the reads.
func stoppedAt(t *testing.T, read int, args ...string) (o outcome, reads int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var out, errs bytes.Buffer
	var count atomic.Int64 // several goroutines read
	o.exit = cli.Run(ctx, cli.Streams{Out: &out, Err: &errs, Read: func(int64) {
		if count.Add(1) == int64(read) {
			cancel()
		}
	}}, args)
	o.out, o.stderr = out.Bytes(), errs.Bytes()
	return o, int(count.Load())
}

// object is a JSON object.
type object map[string]any

func parse(t *testing.T, text []byte) object {
	t.Helper()
	var o object
	if err := json.Unmarshal(text, &o); err != nil {
		t.Fatalf("%v: %.200s", err, text)
	}
	return o
}

func (o object) number(name string) float64 { n, _ := o[name].(float64); return n }
func (o object) object(name string) object  { m, _ := o[name].(map[string]any); return m }
func (o object) list(name string) []object {
	var list []object
	all, _ := o[name].([]any)
	for _, e := range all {
		list = append(list, e.(map[string]any))
	}
	return list
}

// byName gives what tells the objects of a list apart.
func byName(list []object, names ...string) map[string]object {
	all := map[string]object{}
	for _, o := range list {
		var id []string
		for _, n := range append(names, "keyEncoding") {
			id = append(id, fmt.Sprint(o[n]))
		}
		all[strings.Join(id, "\x00")] = o
	}
	return all
}

// within says that all of a list is in another one as well.
func within(t *testing.T, part, whole []object, names ...string) {
	t.Helper()
	all := byName(whole, names...)
	for id := range byName(part, names...) {
		if all[id] == nil {
			t.Errorf("%q is not there without an interrupt", id)
		}
	}
}

// partOfKeys holds counts of part of a database against those of all of it.
func partOfKeys(t *testing.T, part, whole object) {
	for _, name := range []string{"live", "liveBytes", "historyBytes", "space"} {
		if v, ok := part[name]; !ok || v != nil {
			t.Errorf("%s is %v", name, v)
		}
	}
	for _, name := range []string{"hottest", "mostVersions", "largest"} {
		if n := len(part.list(name)); n > 0 || part[name] == nil {
			t.Errorf("%d of %s", n, name)
		}
	}
	atMost := func(what string, part, whole object) {
		if part.number("revisions") > whole.number("revisions") || part.number("tombstones") > whole.number("tombstones") ||
			part.number("bytes") > whole.number("liveBytes")+whole.number("historyBytes") || part.number("bytes") == 0 {
			t.Errorf("%s: %v of %v", what, part, whole)
		}
	}
	atMost("the whole", part, whole)
	sum, all := 0.0, byName(whole.list("prefixes"), "prefix")
	for name, row := range byName(part.list("prefixes"), "prefix") {
		atMost(name, row, all[name])
		sum += row.number("revisions")
	}
	if sum != part.number("revisions") || sum > part.object("interrupted").number("records") {
		t.Errorf("rows of %v revisions in %v", sum, part["interrupted"])
	}
}

func partOfDiff(t *testing.T, part, whole object) {
	within(t, part.list("keys"), whole.list("keys"), "key", "change", "oldModRevision", "newModRevision")
	differing := whole.number("removed") + whole.number("changed") + whole.number("recreated")
	if part["same"] != nil { // both sides were read
		for _, name := range []string{"same", "added", "removed", "changed", "recreated"} {
			if part[name] != whole[name] {
				t.Errorf("%s is %v, not %v", name, part[name], whole[name])
			}
		}
		if float64(len(part.list("keys")))+part.number("otherKeys") != differing+whole.number("added") {
			t.Errorf("%d keys and %v others", len(part.list("keys")), part["otherKeys"])
		}
		return
	}
	if len(part.list("keys"))+len(part.list("prefixes")) > 0 || part["added"] != nil || part["otherKeys"] != nil || part.object("old")["keys"] != nil {
		t.Errorf("differences of what was not read: %v", part)
	}
	if n := part.number("differentAtLeast"); n > differing {
		t.Errorf("at least %v keys differ, and %v do", n, differing)
	}
	if part.object("old")["complete"] == part.object("new")["complete"] && part.number("differentAtLeast") > 0 {
		t.Errorf("differences with %v", part["old"])
	}
}

// An interrupt at any read gives what was seen until then, marked as part of an answer, and
// says nothing that the rest could contradict.
func TestAnInterruptGivesWhatWasSeen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // one read at a time
	healthy := fixtures.Dir(t, "healthy-3.6")
	snapshot, m1 := filepath.Join(healthy, "snapshot.db"), filepath.Join(healthy, "m1")
	parsed := func(args ...string) object {
		_, out, stderr := run(t, append(args, "-w", "json")...)
		if out == "" {
			t.Fatalf("%s: %s", args[0], stderr)
		}
		return parse(t, []byte(out))
	}
	everything := parsed("history", m1, "", "--prefix").list("events")
	versions := func(t *testing.T, part, _ object) {
		within(t, part.list("keys"), everything, "key", "modRevision")
	}
	for _, test := range []struct {
		args  []string
		check func(t *testing.T, part, whole object)
	}{
		{[]string{"keys", snapshot}, partOfKeys},
		{[]string{"keys", snapshot, "--kubernetes=false", "--depth", "1", "--rev", "1150"}, partOfKeys},
		{[]string{"get", m1, "/registry/", "--prefix"}, versions},
		{[]string{"get", m1, "no such key"}, versions},
		{[]string{"history", m1, "/registry/configmaps/", "--prefix"}, func(t *testing.T, part, whole object) {
			// Which entry wrote a version is not told before all entries were read.
			inDatabase, inLog := []object{}, []object{}
			for _, e := range part.list("events") {
				if sources := fmt.Sprint(e["sources"]); strings.Contains(sources, "database") {
					inDatabase = append(inDatabase, e)
				} else {
					inLog = append(inLog, e)
				}
			}
			within(t, inDatabase, whole.list("events"), "key", "modRevision")
			within(t, inLog, whole.list("events"), "key", "index")
		}},
		{[]string{"history", filepath.Join(m1, "member", "wal"), "/registry/configmaps/", "--prefix"}, func(t *testing.T, part, whole object) {
			within(t, part.list("events"), whole.list("events"), "key", "index")
		}},
		{[]string{"hashkv", snapshot}, func(t *testing.T, part, whole object) {
			if hash, ok := part["hash"]; !ok || hash != nil || part["revision"] != whole["revision"] || part["compactRevision"] != whole["compactRevision"] {
				t.Errorf("%v", part)
			}
		}},
		{[]string{"diff", snapshot, snapshot, "--old-rev", "1100"}, partOfDiff},
		{[]string{"diff", snapshot, snapshot, "--new-rev", "1100"}, partOfDiff},
	} {
		t.Run(test.args[0]+" "+test.args[len(test.args)-1], func(t *testing.T) {
			whole := parsed(test.args...)
			text, reads := stoppedAt(t, 0, test.args...)
			parts, logs := 0, map[any]int{}
			step := max(1, reads/60)
			for at := 1; at <= reads; at += step {
				asText, _ := stoppedAt(t, at, test.args...)
				asJSON, _ := stoppedAt(t, at, append(test.args, "-w", "json")...)
				if asText.exit != asJSON.exit {
					t.Fatalf("read %d: exit %d as text, %d as JSON", at, asText.exit, asJSON.exit)
				}
				if !strings.Contains(string(asText.stderr), "interrupted") {
					if asText.exit != text.exit || string(asText.out) != string(text.out) {
						t.Errorf("read %d: exit %d, not %d, %s", at, asText.exit, text.exit, asText.stderr)
					}
					continue
				}
				if asText.exit != cli.ExitPartial {
					t.Errorf("read %d: exit %d", at, asText.exit)
				}
				if nothing := strings.Contains(string(asText.stderr), "nothing is reported"); nothing != (len(asText.out) == 0) || nothing != (len(asJSON.out) == 0) {
					t.Errorf("read %d: %s%s", at, asText.stderr, asText.out)
				}
				if len(asText.out) == 0 {
					continue
				}
				parts++
				part := parse(t, asJSON.out)
				if !strings.Contains(string(asText.out), "interrupted: ") || part["interrupted"] == nil || test.args[0] != "diff" && part["complete"] != false {
					t.Errorf("read %d: not marked: %s%s", at, asText.out, asJSON.out)
				}
				for _, claim := range []string{"is not there", "nothing is known", "no write-ahead log was read", " live data ", "defragmentation"} {
					if strings.Contains(string(asText.out)+string(asText.stderr), claim) {
						t.Errorf("read %d: %q is claimed", at, claim)
					}
				}
				test.check(t, part, whole)
				logs[part["unreadLog"]]++
			}
			if test.args[1] == m1 && test.args[0] == "history" && logs["all"]*logs["rest"] == 0 {
				t.Errorf("the log was unread %v times", logs)
			}
			if parts < 2 {
				t.Errorf("a part of the answer at %d of %d reads", parts, reads)
			}
		})
	}
}

// middle gives the read that lies in the middle of what an answer is made of.
func middle(t *testing.T, args ...string) int {
	t.Helper()
	_, reads := stoppedAt(t, 0, args...)
	var with []int
	for at := 1; at <= reads; at++ {
		if o, _ := stoppedAt(t, at, args...); o.exit == cli.ExitPartial && len(o.out) > 0 {
			with = append(with, at)
		}
	}
	if len(with) == 0 {
		t.Fatalf("%s: no read gives a part of the answer", args[0])
	}
	return with[len(with)/2]
}

// Rows for a spreadsheet say that they are not all, and what is to be applied is the newest or
// nothing.
func TestAnInterruptInOtherFormats(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	snapshot := filepath.Join(fixtures.Dir(t, "healthy-3.6"), "snapshot.db")
	at := middle(t, "keys", snapshot)
	for _, more := range []string{"--kubernetes=false", "--kubernetes"} {
		o, _ := stoppedAt(t, at, "keys", snapshot, "-w", "csv", more)
		rows, err := csv.NewReader(bytes.NewReader(o.out)).ReadAll()
		if err != nil || o.exit != cli.ExitPartial || len(rows) < 3 {
			t.Fatalf("exit %d, %v: %s", o.exit, err, o.out)
		}
		header, row, last := rows[0], rows[1], rows[len(rows)-1]
		n := len(header)
		if header[n-1] != "bytes" || row[n-1] == "" || strings.Join(row[n-6:], ",") != fmt.Sprintf(",%s,%s,,,%s", row[n-5], row[n-4], row[n-1]) ||
			!strings.HasPrefix(last[0], "(interrupted: ") || strings.Join(last[1:], "") != "" {
			t.Errorf("%q, %q, ..., %q", header, row, last)
		}
	}
	args := []string{"get", snapshot, "/registry/configmaps/", "--prefix", "--values", "full"}
	at = middle(t, args...)
	if o, _ := stoppedAt(t, at, append(args, "-w", "yaml")...); o.exit != cli.ExitPartial || len(o.out) > 0 || !strings.Contains(string(o.stderr), "nothing is reported") {
		t.Errorf("exit %d, %s%.200s", o.exit, o.stderr, o.out)
	}
}

// A file that was to take an answer has what was seen, and is not there when that is nothing.
func TestAnInterruptLeavesAFileWithWhatWasSeen(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	snapshot := filepath.Join(fixtures.Dir(t, "healthy-3.6"), "snapshot.db")
	for _, args := range [][]string{
		{"keys", snapshot}, {"get", snapshot, "/registry/", "--prefix"}, {"history", snapshot, "/registry/configmaps/", "--prefix"},
		{"hashkv", snapshot}, {"diff", snapshot, "--old-rev", "1100"},
	} {
		for at, part := range map[int]bool{1: false, middle(t, args...): true} {
			name := filepath.Join(t.TempDir(), "answer")
			o, _ := stoppedAt(t, at, append(args, "-o", name)...)
			shown, _ := stoppedAt(t, at, args...)
			written, err := os.ReadFile(name)
			if o.exit != cli.ExitPartial || len(o.out) > 0 || (err == nil) != part || string(written) != string(shown.out) {
				t.Errorf("%s, read %d: exit %d, %v, %s%s", args[0], at, o.exit, err, o.stderr, written)
			}
		}
	}
}

// Counts are whole when only the objects were not looked into, and then there is no word of these.
func TestAnInterruptBeforeObjectsWereLookedInto(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	args := []string{"keys", filepath.Join(fixtures.Dir(t, "healthy-3.6"), "snapshot.db"), "--kubernetes", "-w", "json"}
	o, reads := stoppedAt(t, 0, args...)
	whole, last := parse(t, o.out), object(nil)
	for at := 1; at <= reads; at++ {
		o, _ := stoppedAt(t, at, args...)
		if o.exit == cli.ExitPartial && len(o.out) > 0 {
			last = parse(t, o.out)
		}
	}
	for _, name := range []string{"live", "liveBytes", "historyBytes", "revisions", "tombstones"} {
		if last[name] == nil || last[name] != whole[name] {
			t.Errorf("%s is %v, not %v", name, last[name], whole[name])
		}
	}
	if last["interrupted"] == nil || last["complete"] != false || last["space"] == nil {
		t.Errorf("not marked: %v", last["interrupted"])
	}
	if _, ok := last.object("kubernetes")["notes"]; ok || whole.object("kubernetes")["notes"] == nil {
		t.Error("notes on objects that were not looked into")
	}
}
