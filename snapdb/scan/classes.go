package scan

// MaxClasses is the number of classes that keys can be told apart by: 15 bits.
const MaxClasses = 1 << 15

// A ClassCount counts the live keys of one class.
type ClassCount struct {
	Live  int64
	Bytes int64 // of their latest records, keys and values as stored
}

func (c *ClassCount) subtract(bytes int64) {
	c.Live--
	c.Bytes -= bytes
}

// classCounts are counts by class.
type classCounts []ClassCount

func (c *classCounts) add(class uint16, bytes int64) {
	for int(class) >= len(*c) {
		*c = append(*c, ClassCount{})
	}
	n := &(*c)[class]
	n.Live++
	n.Bytes += bytes
}

func (c *classCounts) join(o classCounts) {
	for class, n := range o {
		for class >= len(*c) {
			*c = append(*c, ClassCount{})
		}
		(*c)[class].Live += n.Live
		(*c)[class].Bytes += n.Bytes
	}
}

// The class of a latest record stands in the upper bits of its main revision, which no
// cluster will ever reach, with a bit that says so. A record at or beyond revision 2^48
// has class 0.
const (
	classed   = 1 << 31 // in latest.high
	classBits = 16      // where the class begins
)

// of gives the record with a class.
func (l latest) of(class uint16) latest {
	if l.high&classed != 0 {
		l.high &= 1<<classBits - 1
	}
	if class != 0 && l.high < 1<<classBits {
		l.high |= classed | uint32(class)<<classBits
	}
	return l
}

// mainBits masks the part of high that belongs to the main revision.
func (l *latest) mainBits() uint32 {
	if l.high&classed != 0 {
		return 1<<classBits - 1
	}
	return 1<<32 - 1
}

func (l *latest) class() uint16 {
	if l.high&classed == 0 {
		return 0
	}
	return uint16(l.high &^ classed >> classBits)
}

// class gives the class of a key's latest record.
func (k *Keys) class(l *latest) uint16 {
	if l.main() > k.CompactRevision {
		return l.class()
	}
	n := l.ref &^ tombstone
	return k.sums.classes[n/sumBlock][n%sumBlock]
}
