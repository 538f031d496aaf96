package symptom_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/symptom"
)

// A sample is a line of a log and the symptom that it has.
type sample struct {
	group string // a number of the reference that lists the failures, or a word
	name  string
	line  string
}

// samples are the lines of testdata/lines.txt, each group under its heading.
func samples(tb testing.TB) []sample {
	tb.Helper()
	f, err := os.Open(filepath.Join("testdata", "lines.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	defer f.Close()
	var list []sample
	var group, name string
	for s := bufio.NewScanner(f); s.Scan(); {
		if heading, ok := strings.CutPrefix(s.Text(), "# "); ok {
			group, name, _ = strings.Cut(heading, " ")
			continue
		}
		list = append(list, sample{group, name, s.Text()})
	}
	if len(list) < 150 {
		tb.Fatalf("only %d samples", len(list))
	}
	return list
}

// wrappings are what stands around a line where people copy it from.
var wrappings = map[string]func(string) string{
	"alone":    func(s string) string { return s },
	"cri":      func(s string) string { return "2026-11-21T04:31:29.414159265Z stderr F " + s },
	"journald": func(s string) string { return "Nov 21 04:31:29 node-1 etcd[812]: " + s },
	"kubectl":  func(s string) string { return "[pod/etcd-node-1/etcd] " + s },
	"docker": func(s string) string {
		return `{"log":` + inJSON(s+"\n") + `,"stream":"stderr","time":"2026-11-21T04:31:29.414159265Z"}`
	},
	"docker twice": func(s string) string { return `{"message":` + inJSON(`{"log":`+inJSON(s+"\n")+`}`) + `}` },
	"crlf":         func(s string) string { return s + "\r" },
}

func inJSON(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func TestEachSampleIsRecognisedAsItsSymptomInEveryWrapping(t *testing.T) {
	for _, s := range samples(t) {
		for how, wrap := range wrappings {
			m, ok := symptom.Recognise(wrap(s.line))
			switch {
			case !ok:
				t.Errorf("%s %s, %s: not recognised: %s", s.group, s.name, how, s.line)
			case m.Symptom.Name != s.name:
				t.Errorf("%s %s, %s: recognised as %s: %s", s.group, s.name, how, m.Symptom.Name, s.line)
			}
		}
	}
}

// oneForm are the groups of which no line stands in one of the two kinds of logs,
// with the reason.
var oneForm = map[string]string{
	"17": "a panic of bbolt, which writes no log of its own",
	"19": "panics and signals, which go to stderr as they are",
	"38": "of 3.6, which has no capnslog",
	"47": "of the tools, which write errors as text",
}

func TestEveryGroupIsThereInEveryForm(t *testing.T) {
	capnslog := regexp.MustCompile(`^(?:raft)?[0-9]{4}[-/][0-9]{2}[-/][0-9]{2} `)
	forms := map[string][2]bool{}
	for _, s := range samples(t) {
		f := forms[s.group]
		f[0] = f[0] || capnslog.MatchString(s.line)
		f[1] = f[1] || strings.HasPrefix(s.line, `{"level"`)
		forms[s.group] = f
	}
	for i := 1; i <= 47; i++ {
		group := strconv.Itoa(i)
		f, there := forms[group]
		if !there {
			t.Errorf("no sample of group %s", group)
		} else if (!f[0] || !f[1]) && oneForm[group] == "" {
			t.Errorf("group %s: capnslog %v, JSON %v", group, f[0], f[1])
		}
	}
}

func TestEverySymptomHasASampleAndIsExplained(t *testing.T) {
	sampled := map[string]bool{}
	for _, s := range samples(t) {
		sampled[s.name] = true
	}
	shape := regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)+$`)
	seen := map[string]bool{}
	for _, s := range symptom.All() {
		if !shape.MatchString(s.Name) || seen[s.Name] {
			t.Errorf("%s is not kebab-case, or there twice", s.Name)
		}
		seen[s.Name] = true
		if !sampled[s.Name] {
			t.Errorf("%s has no sample", s.Name)
		}
		if _, ok := inspect.Explain(inspect.Code(s.Name)); ok {
			t.Errorf("%s is the code of a finding, too", s.Name)
		}
		if s.Severity == 0 || s.Means == "" || s.Shows == "" || len(s.Do) == 0 {
			t.Errorf("%s is not explained: %+v", s.Name, s)
		}
		for _, text := range append([]string{s.Means, s.Shows}, s.Do...) {
			if strings.HasSuffix(text, ".") {
				t.Errorf("%s: a text ends with a period: %s", s.Name, text)
			}
		}
		for _, c := range s.Codes {
			if _, ok := inspect.Explain(c); !ok {
				t.Errorf("%s names %s, which is no code", s.Name, c)
			}
		}
		if found, ok := symptom.Lookup(s.Name); !ok || found != s {
			t.Errorf("%s is not found by its name", s.Name)
		}
	}
}

// slow are the symptoms that a busy machine gives to a healthy server.
var slow = []string{"apply-slow", "wal-sync-slow", "heartbeat-slow", "read-index-slow"}

// worse gives the lines of a log that are recognised as more than a note.
func worse(log string) []string {
	var list []string
	for line := range strings.Lines(log) {
		if m, ok := symptom.Recognise(line); ok && m.Symptom.Severity != inspect.SeverityNote && !slices.Contains(slow, m.Symptom.Name) {
			list = append(list, m.Symptom.Name+": "+line)
		}
	}
	return list
}

// The logs are of real servers of a member each, 3.4 to 3.8 in each form that they
// write, which were started, stopped, started again and stopped.
func TestNoLineOfARecordedHealthyServerIsAFailure(t *testing.T) {
	logs, err := filepath.Glob(filepath.Join("testdata", "healthy-*.log"))
	if err != nil || len(logs) < 6 {
		t.Fatalf("%d logs: %v", len(logs), err)
	}
	for _, name := range logs {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range worse(string(b)) {
			t.Errorf("%s: %s", name, line)
		}
		elected := 0
		for line := range strings.Lines(string(b)) {
			if m, ok := symptom.Recognise(line); ok && m.Symptom.Name == "leader-elected" {
				elected++
			}
		}
		if elected != 2 {
			t.Errorf("%s: %d elections of two starts are recognised", name, elected)
		}
	}
}

func TestFactsOfLines(t *testing.T) {
	for _, test := range []struct {
		line string
		time string
		want string
	}{
		{
			"2026-11-21 04:30:42.228411 E | rafthttp: request cluster ID mismatch (got 691df430ab8b7d4b want a204586ea257645c)",
			"2026-11-21 04:30:42.228411", "cluster=a204586ea257645c remoteCluster=691df430ab8b7d4b",
		},
		{
			`{"level":"warn","ts":"2026-11-21T04:30:42.228Z","caller":"rafthttp/http.go:448","msg":"failed to find remote peer in cluster","local-member-id":"8b1a3837be5f079c","remote-peer-id-stream-handler":"8b1a3837be5f079c","remote-peer-id-from":"1cc214e261ff7505","cluster-id":"a204586ea257645c"}`,
			"2026-11-21T04:30:42.228Z", "cluster=a204586ea257645c member=8b1a3837be5f079c peer=1cc214e261ff7505",
		},
		{
			`{"log":"{\"level\":\"fatal\",\"ts\":1605931.25,\"ts\":1605931250.5,\"msg\":\"discovery failed\",\"error\":\"walpb: crc mismatch: expected: 5bfb50d0 computed: c7a0aa76: in file '0000000000000000-0000000000000000.wal' at position: 477848\"}\n"}`,
			"1605931250.5", "computed=c7a0aa76 expected=5bfb50d0 file=0000000000000000-0000000000000000.wal offset=477848",
		},
		{"panic: freepages: failed to get all reachable pages (page 191: out of bounds: 190 (stack: [187 191]))", "", "page=191"},
		{"panic: freepages: failed to get all reachable pages (key[0]=(hex)00 on leaf page(220) needs to be < than key of the next element)", "", "page=220"},
		{"panic: assertion failed: Page expected to be: 68, but self identifies as 0", "", "found=0 page=68"},
		{"raft2026/11/21 14:33:10 tocommit(107) is out of range [lastIndex(84)]. Was the raft log corrupted, truncated, or lost?", "2026/11/21 14:33:10", "commit=107 lastIndex=84"},
		{"Nov 21 04:31:29 node-1 etcd[812]: panic: 5c409ea0406e90fb state.commit 2560 is out of range [2423, 2550]", "Nov 21 04:31:29", "commit=2560 firstIndex=2423 lastIndex=2550 member=5c409ea0406e90fb"},
		{"2026-11-21T04:31:01.279Z\tINFO\twal/repair.go:42\trepairing\t{\"path\": \"m1/member/wal/1.wal\"}", "2026-11-21T04:31:01.279Z", "file=m1/member/wal/1.wal"},
	} {
		m, ok := symptom.Recognise(test.line)
		if !ok {
			t.Errorf("not recognised: %s", test.line)
			continue
		}
		var facts []string
		for _, f := range m.Facts {
			facts = append(facts, f.Name+"="+f.Value)
		}
		if got := strings.Join(facts, " "); got != test.want || m.Time != test.time {
			t.Errorf("%s: %q at %q, want %q at %q", test.line, got, m.Time, test.want, test.time)
		}
	}
}

func TestOtherLinesAreNotRecognised(t *testing.T) {
	for _, line := range []string{
		"", " ", "hello world", "error", "failed to find member of the club? no: failed to find",
		`{"level":"info","msg":"checksum error rate 0"}`, "the version mismatch page", "took too long (to read)",
		"GET /registry/cluster ID", "snapshot index 5 is out of range", "already freed memory",
	} {
		if m, ok := symptom.Recognise(line); ok {
			t.Errorf("%q is taken for %s", line, m.Symptom.Name)
		}
	}
}

func FuzzRecognise(f *testing.F) {
	for _, s := range samples(f) {
		f.Add(s.line)
		f.Add(wrappings["docker"](s.line))
	}
	f.Fuzz(func(t *testing.T, line string) {
		m, ok := symptom.Recognise(line)
		if !ok {
			return
		}
		if m.Symptom == nil || len(m.Time) > 64 {
			t.Fatalf("%+v", m)
		}
		for i, fact := range m.Facts {
			if fact.Value == "" || len(fact.Value) > 256 || i > 0 && m.Facts[i-1].Name >= fact.Name {
				t.Fatalf("facts %+v", m.Facts)
			}
		}
		again, _ := symptom.Recognise(line)
		if fmt.Sprint(again) != fmt.Sprint(m) {
			t.Fatalf("%+v, then %+v", m, again)
		}
	})
}
