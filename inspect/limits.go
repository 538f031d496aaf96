package inspect

// Limits bound what a case holds, so that hostile evidence cannot fill memory.
type Limits struct {
	PerCode     int   // findings listed of one code in one source; the rest is counted
	BucketBytes int64 // bytes kept of one small bucket
	// UnappliedKeys is the number of keys listed that only the log of a source has
	// written; the rest is counted.
	UnappliedKeys int
	Prefixes      int // rows of keys counted by prefix; the smallest beyond are one row
}

// DefaultLimits are used where Options leave a limit at zero.
var DefaultLimits = Limits{PerCode: 20, BucketBytes: 64 << 20, UnappliedKeys: 100, Prefixes: 1 << 17}

func (l Limits) orDefault() Limits {
	d := DefaultLimits
	if l.PerCode > 0 {
		d.PerCode = l.PerCode
	}
	if l.BucketBytes > 0 {
		d.BucketBytes = l.BucketBytes
	}
	if l.UnappliedKeys > 0 {
		d.UnappliedKeys = l.UnappliedKeys
	}
	if l.Prefixes > 0 {
		d.Prefixes = l.Prefixes
	}
	return d
}
