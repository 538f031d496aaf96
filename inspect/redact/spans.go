package redact

import "slices"

// spans are the parts of a page that belong to something, in order.
type spans struct {
	size int
	all  [][2]int // half-open
}

func newSpans(size int) *spans { return &spans{size: size} }

// add takes a part in that overlaps no other.
func (s *spans) add(from, to int) {
	to = min(to, s.size)
	if from >= to {
		return
	}
	if n := len(s.all); n == 0 || s.all[n-1][1] <= from {
		s.all = append(s.all, [2]int{from, to})
		return
	}
	i, _ := slices.BinarySearchFunc(s.all, from, func(a [2]int, at int) int { return a[0] - at })
	s.all = slices.Insert(s.all, i, [2]int{from, to})
}

func (s *spans) overlaps(from, to int) bool {
	if n := len(s.all); n == 0 || s.all[n-1][1] <= from {
		return false
	}
	i, _ := slices.BinarySearchFunc(s.all, from, func(a [2]int, at int) int { return a[0] - at })
	return i < len(s.all) && s.all[i][0] < to || i > 0 && s.all[i-1][1] > from
}

// holes gives what belongs to nothing.
func (s *spans) holes() [][2]int {
	var holes [][2]int
	at := 0
	for _, p := range s.all {
		if p[0] > at {
			holes = append(holes, [2]int{at, p[0]})
		}
		at = max(at, p[1])
	}
	if at < s.size {
		holes = append(holes, [2]int{at, s.size})
	}
	return holes
}
