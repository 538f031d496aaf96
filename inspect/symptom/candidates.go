package symptom

import (
	"slices"
	"sync"
)

// A matcher finds all literals of the patterns in one pass over a text, as Aho and
// Corasick have described it: a log can have millions of lines.
type matcher struct {
	next  [][256]int32 // by state and byte
	found [][]int32    // the symptoms, by number, whose literals end in a state
}

// literals is made when the first line is looked at: most commands look at none.
var literals = sync.OnceValue(newMatcher)

func newMatcher() *matcher {
	m := &matcher{next: make([][256]int32, 1), found: make([][]int32, 1)}
	for i := range all {
		for _, p := range all[i].patterns {
			m.add(p.literal, int32(i))
		}
	}
	m.link()
	return m
}

// add grows the tree of literals by one.
func (m *matcher) add(literal string, symptom int32) {
	state := int32(0)
	for _, c := range []byte(literal) {
		if m.next[state][c] == 0 {
			m.next[state][c] = int32(len(m.next))
			m.next = append(m.next, [256]int32{})
			m.found = append(m.found, nil)
		}
		state = m.next[state][c]
	}
	m.found[state] = append(m.found[state], symptom)
}

// link makes an automaton of the tree, level by level: where no literal goes on, it
// goes on with the longest end of what was read that begins another.
func (m *matcher) link() {
	fallback := make([]int32, len(m.next))
	queue := []int32{0}
	for len(queue) > 0 {
		state := queue[0]
		queue = queue[1:]
		for c := range 256 {
			to := m.next[state][c]
			if to == 0 {
				m.next[state][c] = m.next[fallback[state]][c]
				continue
			}
			if state != 0 {
				fallback[to] = m.next[fallback[state]][c]
			}
			m.found[to] = append(m.found[to], m.found[fallback[to]]...)
			queue = append(queue, to)
		}
	}
}

// candidates gives the symptoms, in their order, of which a literal stands in the
// text.
func candidates(text string) []int32 {
	var list []int32
	m, state := literals(), int32(0)
	for i := range len(text) {
		state = m.next[state][text[i]]
		for _, s := range m.found[state] {
			if !slices.Contains(list, s) {
				list = append(list, s)
			}
		}
	}
	slices.Sort(list)
	return list
}
