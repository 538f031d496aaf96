package backup

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/kube"
)

// A history is a run of backups of one store. The latest is kept open to be
// compared with the next.
type history struct {
	first  *Backup // the one before, when the policy names one
	latest *Backup
	source *source.Source
	list   []*Backup
}

// maxHistories bounds the stores that are told apart in one series.
const maxHistories = 8

// series judges backups that follow each other.
func (v *verification) series(list []candidate) {
	histories := []*history{}
	defer func() {
		for _, h := range histories {
			if h.source != nil {
				h.source.Close()
			}
		}
	}()
	var before *history
	if v.opts.Policy.Against != "" {
		before = v.against(list)
		if before != nil {
			histories = append(histories, before)
		}
	}
	all := make([]*Backup, 0, len(list))
	for _, c := range list {
		if v.ctx.Err() != nil {
			break
		}
		b, s := v.examine(c)
		all = append(all, b)
		if v.opts.Policy.Against != "" && before == nil {
			b.skip(CheckHistory, "nothing else that can be read is at %s to hold it against", v.opts.Policy.Against)
		}
		if s == nil {
			continue
		}
		histories = v.join(histories, b, s)
	}
	v.judgeHistories(histories, before)
	for _, h := range histories {
		if h == before {
			v.opts.Policy.checkAgainst(h)
		} else {
			checkOrder(h.list, v.opts.Policy)
		}
	}
	checkGaps(all, v.opts.Policy)
	checkCopies(all, v.opts.Policy)
	v.opts.Policy.checkNewest(all)
	for _, b := range all {
		v.report.Backups = append(v.report.Backups, *b)
	}
}

// against opens the backup that the policy names as the one before: of a folder the
// newest that is not judged itself.
func (v *verification) against(judged []candidate) *history {
	was := len(v.report.PassedOver)
	found, _, err := v.candidates(v.opts.Policy.Against)
	v.report.PassedOver = v.report.PassedOver[:was] // it is not judged
	found = slices.DeleteFunc(found, func(c candidate) bool {
		return slices.ContainsFunc(judged, func(j candidate) bool { return sameFile(c.path, j.path) })
	})
	if err != nil || len(found) == 0 {
		return nil
	}
	b, s := v.examine(found[len(found)-1])
	if s == nil {
		return nil
	}
	return &history{first: b, latest: b, source: s}
}

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	if err != nil {
		return false
	}
	y, err := os.Stat(b)
	return err == nil && os.SameFile(x, y)
}

// checkAgainst finds the backups that are older than the one before them.
func (p *Policy) checkAgainst(h *history) {
	checkOrder(append([]*Backup{h.first}, h.list...), *p)
	for _, b := range h.list {
		if b.Revision < h.first.Revision && !slices.ContainsFunc(b.Checks, func(c Check) bool { return c.Name == CheckOrder && c.Outcome == Failed }) {
			b.Checks = slices.DeleteFunc(b.Checks, func(c Check) bool { return c.Name == CheckOrder })
			b.find(CheckOrder, inspect.CodeBackupOutOfOrder, *p, "revision %d, below %d of %s, which comes before it", b.Revision, h.first.Revision, h.first.Path)
		}
	}
}

// join finds the history that a backup continues, or begins one with it.
func (v *verification) join(histories []*history, b *Backup, s *source.Source) []*history {
	for _, h := range histories {
		l, err := query.Related(v.ctx, h.source, s)
		if err != nil {
			b.skip(CheckHistory, "%v", err)
			s.Close()
			return histories
		}
		if l.Contradicted > 0 || l.Same == 0 && strangers(b, h.latest) {
			b.contradiction = cmp.Or(b.contradiction, contradiction(l, h.latest.Path))
			continue
		}
		b.Previous = h.latest.Path
		if b.Revision >= h.latest.Revision {
			v.opts.Policy.checkDrop(b, h.latest)
		}
		h.list = append(h.list, b)
		if b.Revision >= h.latest.Revision {
			h.source.Close()
			h.latest, h.source = b, s
		} else {
			s.Close()
		}
		return histories
	}
	h := &history{latest: b, source: s, list: []*Backup{b}}
	if len(histories) >= maxHistories {
		s.Close()
		b.find(CheckHistory, inspect.CodeBackupOtherHistory, v.opts.Policy, "%s", b.contradiction)
		return histories
	}
	return append(histories, h)
}

// strangers says whether two backups with keys have no member in common.
func strangers(a, b *Backup) bool {
	return a.Keys > 0 && b.Keys > 0 && len(a.members) > 0 && len(b.members) > 0 &&
		!slices.ContainsFunc(a.members, func(id inspect.ID) bool { return slices.Contains(b.members, id) })
}

func contradiction(l *query.Lineage, other string) string {
	if l.Contradicted == 0 {
		return fmt.Sprintf("no key and no member is that of %s: another cluster", other)
	}
	return fmt.Sprintf("%s that were last written at or before revision %d are not what %s holds, such as %s at revision %d: another cluster, or one that was restored from an earlier backup meanwhile",
		keys(l.Contradicted), l.OldRevision, other, quote(l.Example), l.ExampleRevision)
}

// judgeHistories says which backups belong to another store than the most do, or
// than the one before.
func (v *verification) judgeHistories(histories []*history, before *history) {
	main := before
	for _, h := range histories {
		if before == nil && (main == nil || len(h.list) > len(main.list)) {
			main = h
		}
	}
	for _, h := range histories {
		for _, b := range h.list {
			switch {
			case v.opts.Policy.Against != "" && before == nil: // said already
			case h == main && (len(histories) > 1 || len(h.list) > 1 || h == before):
				b.pass(CheckHistory, "of one history with the others")
			case h != main:
				message := b.contradiction
				if message == "" {
					message = fmt.Sprintf("not of one history with %s", main.latest.Path)
				}
				b.find(CheckHistory, inspect.CodeBackupOtherHistory, v.opts.Policy, "%s", message)
			}
		}
	}
}

// minRow is the least number of keys under a prefix whose drop is looked at by
// itself: fewer come and go.
const minRow = 50

// checkDrop compares the keys with those of the backup before. Events come and go
// with the hour, so they do not count.
func (p *Policy) checkDrop(b, before *Backup) {
	lost := func(was, is int64) float64 {
		if was == 0 {
			return 0
		}
		return 100 * float64(was-is) / float64(was)
	}
	now := map[string]int64{}
	var was, is int64
	for _, r := range b.tally.Rows {
		if !isEvents(r.Prefix) {
			now[string(r.Prefix)] = r.Live
			is += r.Live
		}
	}
	worst, where := -1.0, query.TallyRow{}
	for _, r := range before.tally.Rows {
		if isEvents(r.Prefix) {
			continue
		}
		was += r.Live
		if d := lost(r.Live, now[string(r.Prefix)]); r.Live >= minRow && d > worst {
			worst, where = d, r
		}
	}
	switch total := lost(was, is); {
	case total > p.MaxDrop:
		b.find(CheckDrop, inspect.CodeBackupShrunk, *p, "%s, %.0f%% fewer than the %d of %s (at most %g%%)", keys(is), total, was, before.Path, p.MaxDrop)
	case worst > p.MaxDrop:
		b.find(CheckDrop, inspect.CodeBackupShrunk, *p, "%s under %s, %.0f%% fewer than the %d of %s (at most %g%%)",
			keys(now[string(where.Prefix)]), quote(where.Prefix), worst, where.Live, before.Path, p.MaxDrop)
	default:
		b.pass(CheckDrop, "%s, after %d of %s", keys(is), was, before.Path)
	}
}

// isEvents says whether a row holds events of Kubernetes.
func isEvents(prefix []byte) bool {
	root, ok := kube.PrefixOf(prefix)
	if !ok {
		return false
	}
	n, ok := kube.ParseKey(prefix, root)
	return ok && string(n.Resource) == "events"
}

// checkOrder finds the backups of one history whose revision is below that of one
// before them: the fewest that have to be left out for the rest to rise.
func checkOrder(list []*Backup, policy Policy) {
	if len(list) < 2 {
		return
	}
	rising := longestRising(list)
	for i, b := range list {
		if rising[i] {
			b.pass(CheckOrder, "revision %d", b.Revision)
			continue
		}
		before, after := "", ""
		for j, o := range list {
			if j < i && rising[j] && o.Revision > b.Revision {
				before = fmt.Sprintf("below %d of %s, which comes before it", o.Revision, o.Path)
			}
			if j > i && rising[j] && o.Revision < b.Revision && after == "" {
				after = fmt.Sprintf("above %d of %s, which comes after it", o.Revision, o.Path)
			}
		}
		b.find(CheckOrder, inspect.CodeBackupOutOfOrder, policy, "revision %d, %s: an older or newer backup under its name", b.Revision, cmp.Or(before, after))
	}
}

// longestRising marks a longest run of backups whose revisions do not fall, of
// several the one that ends first.
func longestRising(list []*Backup) []bool {
	length, before := make([]int, len(list)), make([]int, len(list))
	last := -1
	for i := range list {
		length[i], before[i] = 1, -1
		for j := range i {
			if list[j].Revision <= list[i].Revision && length[j]+1 > length[i] {
				length[i], before[i] = length[j]+1, j
			}
		}
		if last < 0 || length[i] > length[last] {
			last = i
		}
	}
	in := make([]bool, len(list))
	for i := last; i >= 0; i = before[i] {
		in[i] = true
	}
	return in
}

// checkNewest asks for the age of the newest backup of a series; the others are older.
func (p *Policy) checkNewest(list []*Backup) {
	var newest *Backup
	for _, b := range list {
		if b.Time != nil && (newest == nil || b.Time.UTC.After(newest.Time.UTC)) {
			newest = b
		}
	}
	if newest != nil && p.MaxAge > 0 {
		p.checkAge(newest)
	}
}

// checkCopies finds backups under several names. A cluster of Kubernetes renews
// leases all the time, so that no two of its snapshots are the same.
func checkCopies(list []*Backup, policy Policy) {
	first := map[string]*Backup{}
	for _, b := range list {
		if b.SHA256 == nil || b.tally == nil || b.tally.Newest.IsZero() {
			continue
		}
		if was := first[*b.SHA256]; was != nil {
			b.find(CheckOrder, inspect.CodeBackupOutOfOrder, policy, "byte for byte the same as %s: an older backup under a newer name", was.Path)
			continue
		}
		first[*b.SHA256] = b
	}
}

const (
	minSeries = 5   // backups that show a rhythm
	regular   = 0.2 // part of the median by which most intervals may differ
	missing   = 1.8 // intervals of more medians than this lack a backup
)

// checkGaps finds where a regular series lacks backups. A series without rhythm is
// not judged.
func checkGaps(list []*Backup, policy Policy) {
	if len(list) < minSeries || slices.ContainsFunc(list, func(b *Backup) bool { return b.named.IsZero() }) {
		return
	}
	intervals := make([]time.Duration, 0, len(list)-1)
	for i := 1; i < len(list); i++ {
		intervals = append(intervals, list[i].named.Sub(list[i-1].named))
	}
	median := slices.Sorted(slices.Values(intervals))[len(intervals)/2]
	fits := 0
	for _, d := range intervals {
		if diff := d - median; max(diff, -diff) <= time.Duration(regular*float64(median)) {
			fits++
		}
	}
	if median <= 0 || 10*fits < 7*len(intervals) {
		return
	}
	for i, d := range intervals {
		b := list[i+1]
		if float64(d) > missing*float64(median) {
			b.find(CheckGap, inspect.CodeBackupGap, policy, "%s after %s, where backups are %s apart: about %d are missing",
				round(d), list[i].Path, round(median), int(float64(d)/float64(median)+0.5)-1)
		} else {
			b.pass(CheckGap, "%s after the one before", round(d))
		}
	}
}

func quote(b []byte) string { return strconv.QuoteToASCII(string(b)) }
