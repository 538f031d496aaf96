package report

import (
	"fmt"
	"io"
	"strings"

	"etcd-forensics/inspect/query"
)

// KeysTextOptions say what KeysText shows.
type KeysTextOptions struct {
	Rows     int  // of each table; 0 for all
	ByPrefix bool // rows by prefix even when the keys are an API server's
}

// KeysText writes what fills a database for people.
func KeysText(w io.Writer, r *query.KeysResult, opts KeysTextOptions) error {
	t := &textWriter{w: w}
	t.keysHeader(r)
	if k := r.Kubernetes; k != nil {
		t.resources(k, counts{r.Partial}, &r.KeyCounts, opts.Rows)
		t.namespaces(k, counts{r.Partial}, opts.Rows)
		t.objects(k.Objects, opts.Rows)
	}
	if r.Kubernetes == nil || opts.ByPrefix {
		t.prefixes(r, opts.Rows)
	}
	t.keyLists(r)
	t.keySizes(r)
	if !r.Partial {
		t.keySpace(&r.Space)
	}
	t.alarmAdvice(r)
	return t.err
}

// compactedWords says up to where a store was compacted; -1 is nowhere.
func compactedWords(revision int64) string {
	if revision < 0 {
		return "never compacted"
	}
	return fmt.Sprintf("compacted at %d", revision)
}

// keysHeader writes the whole in a few lines.
func (t *textWriter) keysHeader(r *query.KeysResult) {
	asOf := fmt.Sprintf("%s as of revision %d, %s: ", Plain(r.File), r.Revision, compactedWords(r.CompactRevision))
	records := fmt.Sprintf("%s of which %s", plural(r.Revisions, "revision"), tombstoneWords(r.Tombstones))
	if r.Partial {
		t.interrupted(r.Interrupted, "all counts are at least what is said, and which keys are there cannot be told, since later deletions may be among the rest")
		t.wrapHanging("", "  ", fmt.Sprintf("%sat least %s, with %s of keys and values", asOf, records, size(r.HistoryBytes)))
		return
	}
	if r.Interrupted != nil {
		t.interrupted(r.Interrupted, "the counts are as they are without an interrupt, but objects were not looked into to the end, so there are no notes on them")
	}
	least := ""
	if !r.Whole {
		least = "at least "
	}
	t.wrapHanging("", "  ", fmt.Sprintf("%s%s%s, %s", asOf, least, plural(r.Live, "key"), records))
	t.wrapHanging("", "  ", fmt.Sprintf("live data %s, history %s%s", size(r.LiveBytes), size(r.HistoryBytes), mostHistory(r)))
}

// mostHistory says what keeps the history long.
func mostHistory(r *query.KeysResult) string {
	most := r.MostHistory()
	if most == nil {
		return ""
	}
	return fmt.Sprintf("; most of the history: %s, %s (%s)", shortened(most.Prefix), size(most.HistoryBytes), percent(float64(most.HistoryBytes)/float64(r.HistoryBytes)))
}

func tombstoneWords(n int64) string {
	if n == 1 {
		return "1 is a tombstone"
	}
	return fmt.Sprintf("%d are tombstones", n)
}

// counts are the columns of what rows count; of part of the records some cannot be told.
type counts struct{ partial bool }

func (c counts) header() []string {
	if c.partial {
		return []string{"REVISIONS", "TOMBSTONES", "BYTES"}
	}
	return []string{"LIVE", "REVISIONS", "TOMBSTONES", "LIVE DATA", "HISTORY"}
}

func (c counts) cells(n *query.KeyCounts) []string {
	if c.partial {
		return []string{fmt.Sprint(n.Revisions), fmt.Sprint(n.Tombstones), size(n.HistoryBytes)}
	}
	return []string{fmt.Sprint(n.Live), fmt.Sprint(n.Revisions), fmt.Sprint(n.Tombstones), size(n.LiveBytes), size(n.HistoryBytes)}
}

// others adds the row of those that are not listed, and the total.
func (c counts) others(rows [][]string, rest *query.OtherRows, what string, total *query.KeyCounts, between ...string) [][]string {
	if rest.Rows > 0 {
		rows = append(rows, append(append(c.cells(&rest.KeyCounts), between...), fmt.Sprintf("(other: %s)", what)))
	}
	return append(rows, append(append(c.cells(total), between...), "(total)"))
}

func several(n int64, one, many string) string {
	if n == 1 {
		many = one
	}
	return fmt.Sprintf("%d %s", n, many)
}

// prefixes writes the rows by prefix.
func (t *textWriter) prefixes(r *query.KeysResult, most int) {
	t.printf("\nby prefix\n")
	c := counts{r.Partial}
	rows := [][]string{append(c.header(), "PREFIX")}
	listed, rest := query.Listed(r.Prefixes, r.Other, most)
	for i := range listed {
		rows = append(rows, append(c.cells(&listed[i].KeyCounts), shortened(listed[i].Prefix)))
	}
	t.columns(c.others(rows, &rest, several(rest.Rows, "prefix", "prefixes"), &r.KeyCounts))
}

// resources writes the objects of an API server by resource.
func (t *textWriter) resources(k *query.KubernetesKeys, c counts, total *query.KeyCounts, most int) {
	t.printf("\nKubernetes under %s, by resource\n", quoted([]byte(k.Prefix+"/")))
	rows := [][]string{append(c.header(), "IN NS", "RESOURCE")}
	listed, rest := query.Listed(k.Resources, k.Folded, most)
	for i := range listed {
		r := &listed[i]
		in := "-"
		if r.Namespaced && !c.partial {
			in = fmt.Sprint(r.Namespaces)
		}
		rows = append(rows, append(c.cells(&r.KeyCounts), in, shortCell(r.Resource)))
	}
	if k.Outside.Revisions > 0 {
		rows = append(rows, append(c.cells(&k.Outside), "-", "(no object)"))
	}
	what := several(rest.Rows, "resource", "resources")
	if k.Folded.Rows > 0 {
		what = several(rest.Rows, "row", "rows") // some of them of a resource in a namespace
	}
	t.columns(c.others(rows, &rest, what, total, "-"))
}

// namespaces writes the objects of an API server by namespace.
func (t *textWriter) namespaces(k *query.KubernetesKeys, c counts, most int) {
	if len(k.Namespaces) == 0 {
		return
	}
	t.printf("\nby namespace\n")
	rows := [][]string{append(c.header(), "RESOURCES", "NAMESPACE")}
	listed, rest := query.Listed(k.Namespaces, query.OtherRows{}, most)
	for i := range listed {
		resources := "-"
		if !c.partial {
			resources = fmt.Sprint(listed[i].Resources)
		}
		rows = append(rows, append(c.cells(&listed[i].KeyCounts), resources, shortCell(listed[i].Namespace)))
	}
	if rest.Rows > 0 {
		rows = append(rows, append(c.cells(&rest.KeyCounts), "-", fmt.Sprintf("(other: %s)", several(rest.Rows, "namespace", "namespaces"))))
	}
	t.columns(rows)
}

// shortCell is a Cell that fits into a table.
func shortCell(b []byte) string {
	if c := Cell(b); len(c) <= maxCell {
		return c
	}
	return shortened(b)
}

// keyLists writes single keys of which there is most.
func (t *textWriter) keyLists(r *query.KeysResult) {
	list := func(title string, keys []query.KeyCount, header []string, cells func(k *query.KeyCount) []string) {
		if len(keys) == 0 {
			return
		}
		t.printf("\n%s\n", title)
		rows := [][]string{append(header, "KEY")}
		for i := range keys {
			rows = append(rows, append(cells(&keys[i]), shortened(keys[i].Key)))
		}
		t.columns(rows)
	}
	list("keys with most revisions", r.Hottest, []string{"REVISIONS", "VERSION", "NEWEST"}, func(k *query.KeyCount) []string {
		version := fmt.Sprint(k.Version)
		if k.Deleted {
			version = "deleted"
		}
		return []string{fmt.Sprint(k.Revisions), version, fmt.Sprint(k.ModRevision)}
	})
	list("keys written most often since they were created", r.Versions, []string{"VERSION", "REVISIONS", "NEWEST"}, func(k *query.KeyCount) []string {
		return []string{fmt.Sprint(k.Version), fmt.Sprint(k.Revisions), fmt.Sprint(k.ModRevision)}
	})
	list("largest keys", r.Largest, []string{"RECORD", "VALUE BYTES", "VERSION"}, func(k *query.KeyCount) []string {
		return []string{size(k.RecordBytes), fmt.Sprint(k.ValueSize), fmt.Sprint(k.Version)}
	})
}

// keySizes writes the histograms side by side.
func (t *textWriter) keySizes(r *query.KeysResult) {
	rows := [][]string{{"KEYS", "VALUES", "BYTES"}}
	for _, c := range r.Sizes {
		bytes := fmt.Sprintf("%d to %d", c.From, c.To)
		if c.From == c.To {
			bytes = fmt.Sprint(c.From)
		}
		rows = append(rows, []string{fmt.Sprint(c.Keys), fmt.Sprint(c.Values), bytes})
	}
	if len(rows) > 1 {
		t.printf("\nsizes of the keys and values of all revisions\n")
		t.columns(rows)
	}
}

// keySpace writes where the bytes of the file are, and what can be had back.
func (t *textWriter) keySpace(s *query.KeySpace) {
	t.printf("\nspace\n")
	rows := [][]string{{"BYTES", "", "OF THE FILE", "WHAT"}}
	add := func(n int64, what string) {
		if n != 0 {
			rows = append(rows, []string{fmt.Sprint(n), size(n), percent(float64(n) / float64(s.FileBytes)), what})
		}
	}
	add(s.LiveBytes, "newest records of keys that are there")
	add(s.HistoryBytes, "history: older records, deletions")
	add(s.LaterBytes, "records of later revisions")
	add(s.OverheadBytes, fmt.Sprintf("rest of the pages in use; empty at the ends of leaf pages: %s", size(s.RoomBytes)))
	add(s.MetaBytes, "meta pages")
	add(s.FreeBytes, "free pages")
	add(s.UnreachableBytes, "pages neither in use nor free")
	add(s.DamagedBytes, "damaged pages")
	add(s.BeyondBytes, "behind the high-water mark, never used")
	add(s.TrailerBytes, "SHA-256 of a snapshot")
	rows = append(rows, []string{fmt.Sprint(s.FileBytes), size(s.FileBytes), "100.0%", "(total)"})
	t.columns(rows)
	t.printf("\n")
	t.wrapHanging("quota: ", "  ", fmt.Sprintf("etcd holds %s against it, the pages below the high-water mark, free ones too", size(s.SizeBytes)))
	for _, q := range s.Quotas {
		left := size(q.LeftBytes) + " left"
		if q.LeftBytes < 0 {
			left = size(-q.LeftBytes) + " above it"
		}
		t.wrapHanging("  "+q.What+": ", "    ", fmt.Sprintf("%s, %s used, %s",
			size(q.Bytes), percent(q.Share), left))
	}
	t.wrapHanging("compaction: ", "  ", fmt.Sprintf("one to revision %d would remove %s with %s (counted record by record); their pages become free, the file stays as large as it is",
		s.Compaction.Revision, plural(s.Compaction.Records, "record"), size(s.Compaction.FreeBytes)))
	t.wrapHanging("defragmentation: ", "  ", fmt.Sprintf("as the file is now one would give back %s of free pages (counted page by page), and some of the %s of room in leaf pages; after a compaction also what that has freed",
		size(s.Defrag.FreeBytes), size(s.RoomBytes)))
}

// alarmAdvice says what to do about alarms, in which order.
func (t *textWriter) alarmAdvice(r *query.KeysResult) {
	on := map[string][]string{}
	for _, a := range r.Alarms {
		on[a.Alarm] = append(on[a.Alarm], a.MemberID.String())
	}
	if members := on["CORRUPT"]; members != nil {
		t.printf("\n")
		t.wrapHanging("alarm CORRUPT: ", "  ", fmt.Sprintf("raised for %s; members disagreed about the data. Look into it before any other alarm: 1. copy the directories of all members, with the servers stopped; 2. `etcd-forensics inspect` them together to tell which one is wrong; 3. remove that member and add it anew, with an empty directory; 4. `etcdctl alarm disarm`. A compaction or defragmentation before that destroys evidence and mends nothing.",
			strings.Join(members, ", ")))
	}
	if members := on["NOSPACE"]; members != nil {
		t.printf("\n")
		t.wrapHanging("alarm NOSPACE: ", "  ", fmt.Sprintf("raised for %s; writes are refused until it is disarmed. In this order: 1. stop what writes the rows above; deletions are still taken; 2. `etcdctl compact %d`; 3. `etcdctl defrag`, one member after the other, the leader last; 4. raise --quota-backend-bytes if what is live does not fit; 5. `etcdctl alarm disarm`. Disarmed without 2 and 3 it comes back at the next write.",
			strings.Join(members, ", "), r.Revision))
	}
}
