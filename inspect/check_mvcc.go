package inspect

import (
	"fmt"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/scan"
)

// mvccCodes says what each fault of a record of bucket key is called.
var mvccCodes = map[scan.RecordFaultKind]Code{
	scan.RecordKey:   CodeMVCCKeyMalformed,
	scan.RecordValue: CodeMVCCValueUndecodable,
	scan.RecordMod:   CodeMVCCModRevision,
	scan.RecordChain: CodeMVCCVersionChain,
	scan.RecordLease: CodeMVCCLeaseDangling,
	scan.RecordGap:   CodeMVCCRevisionGap,
}

// checkRecords judges bucket key: records that cannot be what etcd wrote, and a
// compaction that did not finish.
func (x *examination) checkRecords(d *database) {
	listed := map[scan.RecordFaultKind]int{}
	for _, f := range d.keys.Faults {
		listed[f.Kind]++
		found := newFinding(mvccCodes[f.Kind], x.src.Path, describeRecord(f)).inFile(d.file.Path).at(f.Offset).onPage(f.Page)
		if f.Kind != scan.RecordKey {
			found = found.atRevision(f.Revision.Main)
		}
		found.Location.Key = f.Key
		x.find(found)
	}
	for _, kind := range scan.RecordFaultKinds() {
		x.countRest(mvccCodes[kind], d.keys.FaultCount[kind], listed[kind], d.file.Path)
	}
	if b := x.opts.Broken; b != nil {
		b.Count = d.keys.BrokenCount
		for _, f := range d.keys.Broken {
			b.Revisions = append(b.Revisions, f.Revision)
		}
	}
	if c := d.meta; c.scheduled > c.finished {
		finished := fmt.Sprint(c.finished)
		if c.finished < 0 {
			finished = "none"
		}
		x.find(newFinding(CodeMVCCCompactionUnfinished, x.src.Path,
			fmt.Sprintf("a compaction to revision %d was scheduled, the last finished is %s", c.scheduled, finished)).inFile(d.file.Path).atRevision(c.scheduled))
	}
}

// shownRevision quotes a key that should be a revision. Behind as many bytes as a
// revision has, a wrong size makes part of a value of it.
func shownRevision(raw []byte) string {
	if len(raw) <= keyspace.MarkedRevisionSize {
		return quoteKey(raw)
	}
	return quoteKey(raw[:keyspace.MarkedRevisionSize]) + "... (longer than a revision)"
}

func describeRecord(f scan.RecordFault) string {
	switch f.Kind {
	case scan.RecordKey:
		return fmt.Sprintf("page %d (bucket key), element %d: key %s is not a revision", f.Page, f.Element, shownRevision(f.Raw))
	case scan.RecordGap:
		return fmt.Sprintf("page %d (bucket key), element %d: revision %s follows revision %s, and what lies between is missing", f.Page, f.Element, f.Revision, f.After)
	case scan.RecordValue:
		return fmt.Sprintf("page %d (bucket key), element %d: the value of revision %s does not decode", f.Page, f.Element, f.Revision)
	}
	where := fmt.Sprintf("page %d (bucket key), element %d: revision %s of key %s", f.Page, f.Element, f.Revision, quoteKey(f.Key))
	switch v := f.Value; f.Kind {
	case scan.RecordChain:
		if f.Revision.Tombstone {
			return fmt.Sprintf("%s cannot follow the record before it: %s", where, f.Why)
		}
		if f.Why != "" {
			return fmt.Sprintf("%s says version %d, created at %d; %s", where, v.Version, v.CreateRevision, f.Why)
		}
		return fmt.Sprintf("%s says version %d, created at %d; that cannot be", where, v.Version, v.CreateRevision)
	case scan.RecordLease:
		return fmt.Sprintf("%s hangs on lease %016x, which does not exist", where, uint64(v.Lease))
	default:
		return fmt.Sprintf("%s says mod revision %d", where, v.ModRevision)
	}
}
