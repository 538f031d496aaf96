package report_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"
	"golang.org/x/net/html/atom"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/restore"
	"etcd-forensics/inspect/source"
	"etcd-forensics/report"
	"etcd-forensics/snapdb/kube"
)

// pageOf examines evidence as inspect -w html does.
func pageOf(t *testing.T, paths ...string) report.Page {
	t.Helper()
	ctx := context.Background()
	sources, problems := source.Open(ctx, paths, source.Options{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	p := report.Page{}
	var err error
	if p.Case, err = inspect.Inspect(ctx, sources, inspect.Options{Digest: true}); err != nil {
		t.Fatal(err)
	}
	for _, s := range sources {
		look := report.Look{Source: s.Path}
		if pages, err := query.OpenPages(ctx, s, -1); err != nil {
			look.NoPages = err.Error()
		} else {
			look.Pages = pages.Map()
		}
		look.Keys, _ = query.CountKeys(ctx, s, query.KeysOptions{Depth: 2, Delimiter: "/", Kubernetes: query.KubernetesOff})
		p.Looks = append(p.Looks, look)
		s.Close()
	}
	p.Plan = restore.New(p.Case, restore.Options{})
	return p
}

// fixturePaths gives the sources of a fixture under names that do not change.
func fixturePaths(t *testing.T, name string, files ...string) []string {
	t.Helper()
	t.Chdir(fixtures.Dir(t, name))
	return files
}

func renderPage(t *testing.T, p report.Page) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := report.HTML(&b, p); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// hostileText tries to leave every context that text is put into.
const hostileText = "</script></title></style><img src=x onerror=alert(1)>\"'` onload=alert(1) javascript:alert(1) {{.}} ]]>\x1b[31m\u202e\x00\xff"

// hostilePage has text of the evidence wherever there can be any.
func hostilePage(text string) report.Page {
	src, m := soundMember(text)
	other, n := soundMember("other" + text)
	index, rev := uint64(7), int64(9)
	at := kube.Estimate{Time: time.Unix(1700000000, 0)}
	members := []inspect.MembershipMember{{MemberID: 1, Name: text, PeerURLs: []string{text}, ClientURLs: []string{text}}}
	event := func(kind string, i uint64) inspect.LogEvent {
		r := int64(i)
		return inspect.LogEvent{Event: kind, Index: &i, Term: &index, Revision: &r, What: text, File: text, Time: &at}
	}
	for _, m := range []*inspect.Member{&m, &n} {
		m.Name, m.Membership.Members = &text, members
		m.NotExamined = []string{text}
		m.Backend.Buckets = []inspect.Bucket{{Name: text}}
		m.Backend.Space = &inspect.Space{InUseBytes: 40000, FreeBytes: 4096, LiveBytes: 20000, HistoryBytes: 3000}
		m.Startup = []inspect.Startup{{EtcdVersion: text, Starts: ptr(false), Error: text}}
		m.WAL = &inspect.WAL{
			Dir: text, FirstIndex: ptr(uint64(1)), LastIndex: ptr(uint64(40)), ProvenCommit: ptr(uint64(39)), Tail: text, Fault: &inspect.WALFault{File: text, Index: ptr(uint64(41))},
			Timeline: []inspect.LogEvent{
				event(inspect.EventLeader, 1), event(inspect.EventMembership, 2), event(inspect.EventCompaction, 5), event(inspect.EventCompaction, 9), event(inspect.EventCompaction, 20),
				event(inspect.EventAlarm, 21), {Event: inspect.EventFault, What: text}, {Event: text, What: text, Index: &index},
			},
			Statistics: &inspect.LogStatistics{
				Entries: 40, Bytes: 999, Kinds: []inspect.KindShare{{Kind: text, Share: inspect.Share{Entries: 3, Bytes: 99}}},
				Prefixes: []inspect.PrefixShare{{Prefix: []byte(text), Share: inspect.Share{Entries: 3, Bytes: 99}}},
			},
		}
	}
	n.Backend.Kubernetes = &inspect.Kubernetes{Prefix: text, Resources: []inspect.KubernetesResource{{Resource: text, Live: 2, Bytes: 99}}}
	c := &inspect.Case{
		Verdict: inspect.Verdict{Grade: inspect.Degraded, Codes: []inspect.Code{inspect.CodeBackendPageType}}, Sources: []inspect.Source{src, other}, Members: []inspect.Member{m, n}, NotExamined: []string{text},
		Findings: []inspect.Finding{
			{Code: inspect.CodeBackendPageType, Severity: inspect.SeverityError, Member: text, Message: text, Hint: text, Location: inspect.Location{File: text, Offset: &rev, Page: &index}},
			{Code: inspect.CodeBackendPageType, Severity: inspect.SeverityError, Message: text},
		},
		Comparison: &inspect.Comparison{
			Ranking: []inspect.Ranked{{Member: text, Usable: true, Reason: text, Behind: &inspect.Behind{Keys: 3, Prefixes: []inspect.BehindPrefix{{Prefix: []byte(text), Keys: 3}}}}},
			Best:    text, Agree: ptr(false),
			Divergences: []inspect.Divergence{{Revision: 3, Key: []byte(text), Member: text, Between: []string{text}, Kind: text}},
			Diverging:   []inspect.Diverging{{Member: text, Differences: 2}}, NotCompared: []inspect.NotCompared{{Member: text, Reason: text}},
			Quorum: &inspect.Quorum{Startable: []string{text}, Needed: 2},
		},
	}
	step := restore.Step{Phase: restore.PhaseStart, Why: text, Argv: []string{"etcd", text}, Check: text, IfNot: text}
	return report.Page{
		Case: c,
		Plan: &restore.Plan{
			Way: restore.WayRestoreDB, Source: text, Reason: text, Platform: text, EtcdVersion: text, Token: text, File: restore.Artifact{Path: text},
			Members: []restore.Member{{Name: text, PeerURLs: []string{text}}}, Here: []restore.Step{step}, Hosts: []restore.Host{{Name: text, Steps: []restore.Step{step}}},
			Losses: []restore.Loss{{What: text}}, Alternatives: []restore.Alternative{{Source: text, Reason: text}}, Warnings: []restore.Warning{{Message: text, Do: text}},
		},
		Looks: []report.Look{
			{Source: text, Pages: pageMap(text), Keys: &query.KeysResult{Prefixes: []query.KeyRow{{Prefix: []byte(text), KeyCounts: query.KeyCounts{Live: 3, LiveBytes: 300}}}}},
			{Source: "other" + text, NoPages: text},
		},
	}
}

// nodes gives every element of a page, in order.
func nodes(t *testing.T, page []byte) (all []*html.Node) {
	t.Helper()
	root, err := html.Parse(bytes.NewReader(page))
	if err != nil {
		t.Fatal(err)
	}
	for n := range root.Descendants() {
		if n.Type == html.ElementNode {
			all = append(all, n)
		}
	}
	return all
}

func attr(n *html.Node, name string) string {
	for _, a := range n.Attr {
		if a.Key == name {
			return a.Val
		}
	}
	return ""
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

// checkPage insists on what holds of every page.
func checkPage(t *testing.T, page []byte) {
	t.Helper()
	harmless(t, page)
	all := nodes(t, page)
	ids := map[string]bool{}
	for _, n := range all {
		if id := attr(n, "id"); id != "" {
			if ids[id] {
				t.Errorf("id %s stands twice", id)
			}
			ids[id] = true
		}
	}
	known := strings.Fields("html head meta title style body a header h1 h2 h3 h4 nav ul ol li main section div strong p span code pre table caption thead tbody tr th td figure figcaption svg desc g rect path text footer script")
	policy := ""
	for _, n := range all {
		if !slices.Contains(known, n.Data) {
			t.Errorf("element %s came from somewhere", n.Data)
		}
		for _, a := range n.Attr {
			if strings.HasPrefix(a.Key, "on") || a.Key == "src" || a.Key == "style" || a.Key == "srcset" || a.Key == "action" {
				t.Errorf("%s has an attribute %s", n.Data, a.Key)
			}
			if a.Key == "href" && (len(a.Val) < 2 || a.Val[0] != '#' || !ids[a.Val[1:]]) {
				t.Errorf("a link to %q, which is not on the page", a.Val)
			}
			for _, id := range strings.Fields(map[bool]string{true: a.Val}[a.Key == "aria-labelledby"]) {
				if !ids[id] {
					t.Errorf("%s is named by %s, which is not there", n.Data, id)
				}
			}
		}
		if attr(n, "http-equiv") == "Content-Security-Policy" {
			policy = attr(n, "content")
		}
		checkElement(t, n)
	}
	checkPolicy(t, policy, all)
}

// checkElement insists on what makes an element usable without eyes.
func checkElement(t *testing.T, n *html.Node) {
	t.Helper()
	switch {
	case n.DataAtom == atom.Table:
		var caption, heads, cells, columns int
		for d := range n.Descendants() {
			switch {
			case d.DataAtom == atom.Caption && textOf(d) != "":
				caption++
			case d.DataAtom == atom.Th && attr(d, "scope") == "col":
				heads++
			case d.DataAtom == atom.Th && attr(d, "scope") == "row", d.DataAtom == atom.Td:
				cells++
			case d.DataAtom == atom.Tr:
				columns++
			}
		}
		if caption != 1 || heads == 0 || cells != heads*(columns-1) {
			t.Errorf("a table of %d captions, %d heads and %d cells in %d rows", caption, heads, cells, columns)
		}
	case n.Data == "svg" && attr(n, "role") == "img":
		var names []string
		for d := range n.ChildNodes() {
			if (d.Data == "title" || d.Data == "desc") && textOf(d) != "" {
				names = append(names, d.Data)
			}
		}
		if !slices.Equal(names, []string{"title", "desc"}) || attr(n, "aria-labelledby") == "" {
			t.Errorf("a picture has %v, labelled by %q", names, attr(n, "aria-labelledby"))
		}
	case n.Data == "svg" && attr(n, "aria-hidden") != "true":
		t.Error("a picture is neither named nor hidden")
	}
}

// checkPolicy insists that nothing but the page's own style and script is let through.
func checkPolicy(t *testing.T, policy string, all []*html.Node) {
	t.Helper()
	digest := func(element atom.Atom) string {
		var found []string
		for _, n := range all {
			if n.DataAtom == element {
				sum := sha256.Sum256([]byte(textOf(n)))
				found = append(found, "'sha256-"+base64.StdEncoding.EncodeToString(sum[:])+"'")
			}
		}
		if len(found) != 1 {
			t.Fatalf("%d elements %v", len(found), element)
		}
		return found[0]
	}
	want := fmt.Sprintf("default-src 'none'; style-src %s; script-src %s; base-uri 'none'; form-action 'none'", digest(atom.Style), digest(atom.Script))
	if policy != want {
		t.Errorf("the policy is %s, not %s", policy, want)
	}
}

func TestPagesStandByThemselves(t *testing.T) {
	var sizes bytes.Buffer
	for _, f := range []struct {
		name  string
		files []string
		holds []string
	}{
		{"healthy-3.7", []string{"snapshot.db"}, []string{"sound", "Keyspace as a treemap", "Restore plan", "No source has a log"}},
		{"cluster3-3.7-crash", []string{"m1", "m2", "m3"}, []string{"Best source: m2", "Raft timeline", "proven committed, not applied", "term 5", "cluster-member-behind", "etcdctl"}},
		{"leaf-zeroed", []string{"m1"}, []string{"unusable", "backend-page-type", "1 cell with a fault", "page 220: fault"}},
		{"not-bbolt", []string{"m1"}, []string{"There is no page map", "There is no plan", "The report holds no live keys of this source"}},
	} {
		t.Run(f.name, func(t *testing.T) {
			p := pageOf(t, fixturePaths(t, f.name, f.files...)...)
			page := renderPage(t, p)
			checkPage(t, page)
			if again := renderPage(t, p); !bytes.Equal(page, again) {
				t.Error("another page of the same case")
			}
			count := map[string]int{}
			for _, n := range nodes(t, page) {
				count[n.Data]++
			}
			fmt.Fprintf(&sizes, "%s: %d KiB, %d tables of %d rows, %d rectangles, %d paths\n", f.name, (len(page)+1023)>>10, count["table"], count["tr"], count["rect"], count["path"])
			for _, s := range f.holds {
				if !bytes.Contains(page, []byte(s)) {
					t.Errorf("no %q", s)
				}
			}
		})
	}
	golden(t, "html-sizes.golden", sizes.Bytes())
}

func TestHostilePagesExecuteNothing(t *testing.T) {
	page := renderPage(t, hostilePage(hostileText))
	checkPage(t, page)
	if n := bytes.Count(page, []byte("&lt;/script&gt;")); n < 60 {
		t.Errorf("the text is there %d times only", n)
	}
}

func TestLongTextAndManyRowsStayBounded(t *testing.T) {
	long := strings.Repeat("x<\u202e", 2000)
	p := hostilePage(long)
	p.Plan = nil // commands are never cut
	for range 1500 {
		p.Case.Findings = append(p.Case.Findings, p.Case.Findings[0])
		p.Case.Members[0].WAL.Timeline = append(p.Case.Members[0].WAL.Timeline, p.Case.Members[0].WAL.Timeline[0])
		p.Case.Sources[0].Files = append(p.Case.Sources[0].Files, p.Case.Sources[0].Files[0])
		p.Case.Comparison.Divergences = append(p.Case.Comparison.Divergences, p.Case.Comparison.Divergences[0])
		p.Looks[0].Keys.Prefixes = append(p.Looks[0].Keys.Prefixes, p.Looks[0].Keys.Prefixes[0])
		p.Case.Members[0].Membership.Members = append(p.Case.Members[0].Membership.Members, p.Case.Members[0].Membership.Members[0])
	}
	page := renderPage(t, p)
	checkPage(t, page)
	if len(page) > 3<<20 {
		t.Errorf("%d bytes", len(page))
	}
}

// colors reads the custom properties of a block of the stylesheet.
func colors(t *testing.T, css string) map[string][3]float64 {
	t.Helper()
	found := map[string][3]float64{}
	for _, m := range regexp.MustCompile(`--([a-z0-9]+): #([0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
		v, err := strconv.ParseUint(m[2], 16, 32)
		if err != nil {
			t.Fatal(err)
		}
		found[m[1]] = [3]float64{float64(v >> 16), float64(v >> 8 & 255), float64(v & 255)}
	}
	return found
}

// luminance is relative luminance as WCAG 2.2 defines it.
func luminance(c [3]float64) float64 {
	for i, v := range c {
		if v /= 255; v <= 0.04045 {
			c[i] = v / 12.92
		} else {
			c[i] = math.Pow((v+0.055)/1.055, 2.4)
		}
	}
	return 0.2126*c[0] + 0.7152*c[1] + 0.0722*c[2]
}

func TestTextHasContrast(t *testing.T) {
	css, err := os.ReadFile("html.css")
	if err != nil {
		t.Fatal(err)
	}
	light, rest, _ := strings.Cut(string(css), "@media screen and (prefers-color-scheme: dark)")
	dark, _, _ := strings.Cut(rest, "\n}\n")
	for scheme, block := range map[string]string{"light": light, "dark": dark} {
		c := colors(t, block)
		for back, fronts := range map[string]string{
			"paper": "ink soft link sound degraded unusable inconclusive", "shade": "ink soft sound degraded unusable inconclusive",
			"t0": "ink soft", "t1": "ink soft", "t2": "ink soft", "t3": "ink soft", "t4": "ink soft", "t5": "ink soft", "t6": "ink soft", "t7": "ink soft",
		} {
			for _, front := range strings.Fields(fronts) {
				a, b := luminance(c[front]), luminance(c[back])
				if ratio := (max(a, b) + 0.05) / (min(a, b) + 0.05); ratio < 4.5 {
					t.Errorf("%s: %s on %s has a contrast of %.2f", scheme, front, back, ratio)
				}
			}
		}
	}
}
