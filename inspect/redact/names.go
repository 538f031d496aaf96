package redact

import (
	"slices"
	"strings"
)

// maxNames and maxNameBytes bound what is kept of names that have an order.
const (
	maxNames     = 1 << 18
	maxNameBytes = 32 << 20
)

// names gives pseudonyms that sort as the names do: users, roles and buckets are keys
// of a tree. They are collected before the first is given.
type names struct {
	of      map[string]string
	bytes   int
	dropped bool // there was no room for some: these do not keep the order
}

func newNames() *names { return &names{of: map[string]string{}} }

func (n *names) note(name []byte) {
	if len(name) == 0 {
		return
	}
	if _, ok := n.of[string(name)]; ok {
		return
	}
	if len(n.of) >= maxNames || n.bytes+len(name) > maxNameBytes {
		n.dropped = true
		return
	}
	n.bytes += len(name)
	n.of[string(name)] = ""
}

// has says whether a name was noted.
func (n *names) has(name []byte) bool {
	_, ok := n.of[string(name)]
	return ok
}

// settle chooses the pseudonyms. Names with a common beginning keep one, and where they
// part, the bytes rise as they did. Public words stay.
func (n *names) settle(c *cipher) {
	all := make([]string, 0, len(n.of)+len(ownNames))
	for name := range n.of {
		all = append(all, name)
	}
	for name := range ownNames {
		all = append(all, name)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	chosen := make([][]byte, len(all))
	for i, name := range all {
		chosen[i] = []byte(name)
	}
	// A list of work: names can be long, and the depth of a recursion with them.
	type group struct{ from, to, at int }
	work := []group{{0, len(all), 0}}
	for len(work) > 0 {
		g := work[len(work)-1]
		work = work[:len(work)-1]
		for g.from < g.to && len(all[g.from]) == g.at {
			g.from++ // the name ends here, and sorts before those that go on
		}
		var parts []group
		for from := g.from; from < g.to; {
			to := from + 1
			for to < g.to && all[to][g.at] == all[from][g.at] {
				to++
			}
			parts = append(parts, group{from, to, g.at + 1})
			from = to
		}
		olds, fixed := make([]byte, len(parts)), make([]bool, len(parts))
		for i, p := range parts {
			olds[i] = all[p.from][g.at]
			fixed[i] = slices.ContainsFunc(all[p.from:p.to], func(s string) bool { return ownNames[s] })
		}
		for i, b := range rising(c, olds, fixed) {
			for k := parts[i].from; k < parts[i].to; k++ {
				chosen[k][g.at] = b
			}
		}
		work = append(work, parts...)
	}
	for i, name := range all {
		n.of[name] = string(chosen[i])
	}
}

// rising exchanges rising bytes for others that rise, each within its class.
func rising(c *cipher, olds []byte, fixed []bool) []byte {
	news := slices.Clone(olds)
	for from := 0; from < len(olds); {
		k := classOf(olds[from], true)
		if fixed[from] || k.size == 0 {
			from++
			continue
		}
		to := from + 1
		for to < len(olds) && !fixed[to] && classOf(olds[to], true) == k {
			to++
		}
		low, end := int(k.first), int(k.first)+int(k.size)
		if from > 0 {
			low = max(low, int(news[from-1])+1)
		}
		if to < len(olds) {
			end = min(end, int(olds[to])) // fixed, or of a class that sorts behind
		}
		copy(news[from:to], c.sample(low, end, to-from))
		from = to
	}
	return news
}

// sample draws n different bytes from [low, end), in order.
func (c *cipher) sample(low, end, n int) []byte {
	chosen := make([]byte, 0, n)
	for at := low; at < end && len(chosen) < n; at++ {
		left, need := end-at, n-len(chosen)
		if int(c.free.Uint64()%uint64(left)) < need {
			chosen = append(chosen, byte(at))
		}
	}
	return chosen
}

// replace writes the pseudonym of a name over it. What is not in the list takes one that
// does not keep the order.
func (n *names) replace(c *cipher, name []byte) {
	if p, ok := n.of[string(name)]; ok && p != "" {
		copy(name, p)
		return
	}
	if !ownNames[string(name)] {
		c.permute(name, "name")
	}
}

// settings are the records of buckets meta, cluster and auth.
var settings = setOf(`consistent_index term confState scheduledCompactRev finishedCompactRev storageVersion
	clusterVersion downgrade authEnabled authRevision`)

// ownNames are names that etcd gives: buckets, the records in them, and the user and
// role without which authentication cannot be enabled.
var ownNames = setOf(`key meta lease auth authUsers authRoles cluster members members_removed alarm test root
	consistent_index term confState scheduledCompactRev finishedCompactRev storageVersion
	clusterVersion downgrade authEnabled authRevision`)

func setOf(words string) map[string]bool {
	set := map[string]bool{}
	for _, w := range strings.Fields(words) {
		set[w] = true
	}
	return set
}
