package report

import (
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/inspect"
)

// htmlMembers are the numbers of all sources side by side, and the clusters' members.
type htmlMembers struct {
	Facts   htmlTable
	Members []htmlTable
}

// factNames brings the names of facts back to how etcd writes them.
var factNames = strings.NewReplacer("hashkv", "HashKV", "wal", "WAL")

// factColumns is the number of sources in the table of numbers.
const factColumns = 24

func viewMembersOf(c *inspect.Case) htmlMembers {
	v := htmlMembers{Facts: htmlTable{Caption: "Numbers of each source", Header: []string{"number"}}}
	members := c.Members[:min(len(c.Members), factColumns)]
	for _, m := range members {
		v.Facts.Header = append(v.Facts.Header, label(m.Source))
	}
	if n := len(c.Members) - len(members); n > 0 {
		v.Facts.More = fmt.Sprintf("%s not listed here (-w json)", countOf(int64(n), "more source"))
	}
	for _, f := range facts {
		row := []htmlCell{{Text: factNames.Replace(strings.ToLower(f.name))}}
		something := false
		for _, m := range members {
			text := cut(f.of(m), maxShown)
			something = something || text != "-"
			row = append(row, htmlCell{Text: text, Class: "mixed"}) // a column holds all kinds of things
		}
		if something {
			v.Facts.add(row)
		}
	}
	v.Members = membershipTables(c)
	return v
}

// membershipTables lists the members of the clusters, once for all sources that state them
// alike.
func membershipTables(c *inspect.Case) []htmlTable {
	var tables []htmlTable
	for _, m := range c.Members[:min(len(c.Members), factColumns)] {
		if len(m.Membership.Members) == 0 {
			continue
		}
		t := memberListTable(m.Membership)
		i := slices.IndexFunc(tables, func(other htmlTable) bool {
			return t.More == other.More && slices.EqualFunc(t.Rows, other.Rows, slices.Equal)
		})
		if i < 0 {
			t.Caption = "Members of the cluster, as stated by " + label(m.Source)
			tables = append(tables, t)
			continue
		}
		tables[i].Caption += ", " + label(m.Source)
	}
	return tables
}

func memberListTable(m inspect.Membership) htmlTable {
	t := htmlTable{Header: []string{"id", "name", "peer URLs", "client URLs", "learner"}}
	left := len(m.Members) + len(m.Removed) - maxRows
	for _, mm := range m.Members[:min(len(m.Members), maxRows)] {
		name, learner := shown(mm.Name), "no"
		if mm.Name == "" {
			name = "(never started)"
		}
		if mm.IsLearner {
			learner = "yes"
		}
		t.add([]htmlCell{{Text: mm.MemberID.String(), Class: "text"}, {Text: name}, {Text: cut(plainLines(mm.PeerURLs), maxShown)}, {Text: cut(plainLines(mm.ClientURLs), maxShown)}, {Text: learner}})
	}
	for _, id := range m.Removed[:min(len(m.Removed), maxRows-len(t.Rows))] {
		t.add([]htmlCell{{Text: id.String(), Class: "text"}, {Text: "(removed)"}, {Text: "-"}, {Text: "-"}, {Text: "-"}})
	}
	t.leaves(left, "members -w json")
	return t
}

// maxFiles bounds the files that are listed with their digests.
const maxFiles = 1000

// viewSources lists every file that was read.
func viewSources(c *inspect.Case) htmlTable {
	t := htmlTable{Caption: "Files that were read, with their digests", Header: []string{"file", "source", "size", "SHA-256"}}
	left := 0
	for _, s := range c.Sources {
		for _, f := range s.Files {
			if len(t.Rows) == maxFiles {
				left++
				continue
			}
			sum := "not computed"
			if f.SHA256 != nil {
				sum = *f.SHA256
			}
			t.add([]htmlCell{{Text: shown(f.Path)}, {Text: fmt.Sprintf("%s (%s)", label(s.Path), s.Kind)}, sizeCell(f.Size), {Text: sum, Class: "code"}})
		}
	}
	t.leaves(left, "-w json")
	return t
}
