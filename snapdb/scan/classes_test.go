package scan

import (
	"math"
	"testing"
)

func TestClassTakesNothingFromARevision(t *testing.T) {
	for _, main := range []int64{0, 1, 1<<32 - 1, 1 << 32, 1<<48 - 1, 1 << 48, 1 << 62, math.MaxInt64} {
		for _, class := range []uint16{0, 1, 2, MaxClasses - 1} {
			l := newLatest(main, 7).of(class)
			want := class
			if main >= 1<<48 {
				want = 0
			}
			if l.main() != main || l.class() != want || l.ref != 7 {
				t.Errorf("%d, class %d: %d, class %d", main, class, l.main(), l.class())
			}
			if l = l.of(0); l != newLatest(main, 7) {
				t.Errorf("%d: %+v is left of class %d", main, l, class)
			}
		}
	}
}

// TestClassOfTheLatestDoesNotDependOnOrder merges three records in every order. Two of
// one revision and size are damage, and then the class is not known.
func TestClassOfTheLatestDoesNotDependOnOrder(t *testing.T) {
	a, b, c := newLatest(5, 7).of(1), newLatest(5, 7).of(2), newLatest(4, 9).of(3)
	for _, order := range [][3]latest{{a, b, c}, {a, c, b}, {b, a, c}, {b, c, a}, {c, a, b}, {c, b, a}} {
		l := order[0]
		keepLatest(&l, &order[1])
		keepLatest(&l, &order[2])
		if l != newLatest(5, 7) {
			t.Errorf("%+v: class %d of %d", order, l.class(), l.main())
		}
	}
	l, newer := a, newLatest(6, 1).of(3)
	if keepLatest(&l, &newer); l.class() != 3 || l.main() != 6 {
		t.Errorf("class %d of %d", l.class(), l.main())
	}
}
