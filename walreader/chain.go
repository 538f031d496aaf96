package walreader

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sort"
)

// A Segment is one segment of a Chain.
type Segment struct {
	Name SegmentName // what the file name states
	File string      // the file name itself; it differs from Name when misspelt
	Size int64       // in bytes

	open func() (io.ReaderAt, io.Closer, error)
}

// Misspelt says that etcd would not write the file name so, though it reads it.
func (s Segment) Misspelt() bool { return s.File != s.Name.String() }

// A Hole is a break in the sequence numbers between two segments.
type Hole struct {
	After, Before string // file names of the neighbours
	FromSeq       uint64 // first missing sequence number
	ToSeq         uint64 // last missing one; less than FromSeq when a number occurs twice
}

// String tells which sequence numbers are missing or occur twice.
func (h Hole) String() string {
	if h.ToSeq < h.FromSeq {
		return fmt.Sprintf("%s and %s have the same sequence number", h.After, h.Before)
	}
	return fmt.Sprintf("between %s and %s: sequence %x to %x", h.After, h.Before, h.FromSeq, h.ToSeq)
}

// A Leftover is a file in a WAL directory that is no segment.
type Leftover struct {
	File  string
	Class NameClass
	Size  int64 // in bytes; 0 for what is no regular file
}

// A Chain is the ordered segments of one WAL directory.
type Chain struct {
	Segments  []Segment
	Holes     []Hole
	Leftovers []Leftover
}

// A File is a file of a WAL directory that was opened by someone else.
type File struct {
	Name string
	R    io.ReaderAt
	Size int64 // in bytes
}

// NewChain orders files that are open. Those that are no segments become leftovers.
func NewChain(files []File) *Chain {
	c := &Chain{}
	for _, f := range files {
		c.add(f.Name, f.Size, func() (io.ReaderAt, io.Closer, error) { return f.R, io.NopCloser(nil), nil })
	}
	c.order()
	return c
}

// OpenChain lists the WAL directory dir of fsys. Segments are opened one at a
// time when they are read. The files of fsys must be io.ReaderAt, as those of os.DirFS are.
func OpenChain(fsys fs.FS, dir string) (*Chain, error) {
	entries, err := fs.ReadDir(fsys, dir)
	if err != nil {
		return nil, fmt.Errorf("wal: %w", err)
	}
	c := &Chain{}
	for _, e := range entries {
		name := path.Join(dir, e.Name())
		info, err := fs.Stat(fsys, name)
		// A pipe must never be opened: that would wait for a writer.
		if err != nil || !info.Mode().IsRegular() {
			class, _ := ClassifyName(e.Name())
			if err != nil && (class == NameSegment || class == NameMisspelt) {
				return nil, fmt.Errorf("wal: %w", err)
			}
			c.Leftovers = append(c.Leftovers, Leftover{File: e.Name()})
			continue
		}
		c.add(e.Name(), info.Size(), func() (io.ReaderAt, io.Closer, error) { return openFile(fsys, name) })
	}
	c.order()
	return c, nil
}

var errNoReaderAt = errors.New("file cannot be read at an offset")

func openFile(fsys fs.FS, name string) (io.ReaderAt, io.Closer, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, nil, err
	}
	r, ok := f.(io.ReaderAt)
	if !ok {
		f.Close()
		return nil, nil, fmt.Errorf("%s: %w", name, errNoReaderAt)
	}
	return r, f, nil
}

func (c *Chain) add(name string, size int64, open func() (io.ReaderAt, io.Closer, error)) {
	class, n := ClassifyName(name)
	if class == NameSegment || class == NameMisspelt {
		c.Segments = append(c.Segments, Segment{Name: n, File: name, Size: size, open: open})
		return
	}
	c.Leftovers = append(c.Leftovers, Leftover{File: name, Class: class, Size: size})
}

// order sorts segments by what their names state and finds the holes.
func (c *Chain) order() {
	s := c.Segments
	sort.Slice(s, func(i, j int) bool {
		a, b := s[i], s[j]
		if a.Name.Seq != b.Name.Seq {
			return a.Name.Seq < b.Name.Seq
		}
		if a.Name.Index != b.Name.Index {
			return a.Name.Index < b.Name.Index
		}
		return a.File < b.File
	})
	sort.Slice(c.Leftovers, func(i, j int) bool { return c.Leftovers[i].File < c.Leftovers[j].File })
	for i := 1; i < len(s); i++ {
		if h, ok := holeBetween(s[i-1], s[i]); ok {
			c.Holes = append(c.Holes, h)
		}
	}
}

func holeBetween(a, b Segment) (Hole, bool) {
	if b.Name.Seq-a.Name.Seq == 1 {
		return Hole{}, false
	}
	return Hole{After: a.File, Before: b.File, FromSeq: a.Name.Seq + 1, ToSeq: b.Name.Seq - 1}, true
}

// Size is the sum of the sizes of all segments in bytes.
func (c *Chain) Size() int64 {
	var n int64
	for _, s := range c.Segments {
		n += s.Size
	}
	return n
}

// A SegmentEnd is what was found in one segment that was read to its end.
type SegmentEnd struct {
	Segment Segment
	Tail    Tail
	Frames  int   // frames visited
	End     int64 // first byte after the last frame that etcd reads
	Stop    *Fault
	// AfterStop is the number of frames found by reading on after Stop.
	AfterStop  int
	Faults     []Fault // up to Options.MaxFaults
	FaultCount int     // all of them
}

// Empty says that the segment holds no frame and breaks no rule: it has no
// bytes or only zeros.
func (e SegmentEnd) Empty() bool { return e.Frames == 0 && e.FaultCount == 0 }

// A ChainReader visits the frames of all segments in order, with the
// checksum carried from one to the next.
type ChainReader struct {
	ctx   context.Context
	chain *Chain
	opts  Options

	r      Reader
	i      int // segment being read
	open   bool
	closer io.Closer
	run    Running
	ends   []SegmentEnd
	err    error
}

// Reader begins to read a chain.
func (c *Chain) Reader(ctx context.Context, opts Options) *ChainReader {
	return &ChainReader{ctx: ctx, chain: c, opts: opts, run: Start()}
}

// Next goes on to the next frame. It returns false behind the last one and when a
// segment cannot be read; Err tells which. After either no file is open.
func (c *ChainReader) Next() bool {
	for c.err == nil {
		if !c.open && !c.begin() {
			return false
		}
		if c.r.Next() {
			return true
		}
		c.finish()
	}
	return false
}

func (c *ChainReader) begin() bool {
	segments := c.chain.Segments
	if c.i == len(segments) {
		return false
	}
	if c.err = c.ctx.Err(); c.err != nil {
		return false
	}
	s := segments[c.i]
	if c.i > 0 {
		if _, hole := holeBetween(segments[c.i-1], s); hole {
			c.run = Running{}
		}
	}
	src, closer, err := s.open()
	if err != nil {
		c.err = fmt.Errorf("%s: %w", s.File, err)
		return false
	}
	c.closer, c.open = closer, true
	c.r.reset(c.ctx, src, s.File, s.Size, c.i == len(segments)-1, c.run, c.opts)
	return true
}

func (c *ChainReader) finish() {
	r := &c.r
	c.ends = append(c.ends, SegmentEnd{
		Segment: c.chain.Segments[c.i], Tail: r.tail, Frames: r.count, End: r.end,
		Stop: r.stop, AfterStop: r.after, Faults: r.faults, FaultCount: r.nfault,
	})
	c.run = r.Running()
	c.err = r.err
	c.Close()
	c.i++
}

// Close closes the segment being read. It is needed only when a chain is not read to
// its end.
func (c *ChainReader) Close() error {
	if !c.open {
		return nil
	}
	c.open = false
	return c.closer.Close()
}

// Frame is the frame that Next went to. It is valid until the next call of Next.
func (c *ChainReader) Frame() *Frame { return &c.r.frame }

// Segment is the number in Chain.Segments of the segment that holds Frame.
func (c *ChainReader) Segment() int { return c.i }

// Err tells why a segment could not be read, see Reader.Err.
func (c *ChainReader) Err() error { return c.err }

// Ends tells what was found in each segment that was read, the one that
// could not be read to its end included.
func (c *ChainReader) Ends() []SegmentEnd { return c.ends }
