package replay

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"go.etcd.io/bbolt"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"etcd-forensics/walreader/raftlog"
)

// Child is the program as a child: it takes an order and entries from in and ends when
// that ends. The exit code is given.
func Child(in io.Reader, out, log io.Writer) int {
	signal.Ignore(syscall.SIGPIPE) // a parent that is gone is told in vain, and there is something to remove then
	r := bufio.NewReaderSize(in, 1<<20)
	line, err := r.ReadBytes('\n')
	var o Order
	if err == nil {
		err = json.Unmarshal(line, &o)
	}
	if err != nil {
		say(out, event{Failed: &Failure{Reason: ReasonFile, Text: "no order: " + err.Error()}})
		return 2
	}
	c := &child{order: &o, out: out, batches: make(chan []item), looked: make(chan struct{})}
	go c.read(r)
	if err := c.obey(logger(log)); err != nil {
		f, ok := errors.AsType[*Failure](err)
		if !ok {
			f = &Failure{Reason: ReasonFile, Text: err.Error()}
		}
		c.say(event{Failed: f})
		c.making.Lock() // not while files are removed
		return 1
	}
	c.making.Lock()
	return 0
}

// say tells the parent. When that is gone, so is what was made.
func (c *child) say(e event) {
	if say(c.out, e) != nil {
		c.abandon()
	}
}

// A child carries out one order.
type child struct {
	order   *Order
	out     io.Writer
	batches chan []item // closed behind the last one; what a batch holds is overwritten behind the next
	garbage garbage
	looked  chan struct{} // closed when the parent has looked at the file
	// pageSize is that of the new file, 0 for the copy's.
	pageSize int
	told     atomic.Bool // that the file is complete
	making   sync.Mutex  // held while files are made, and for good when they are removed
}

// An item is an entry with the request that its data is, or why it is none.
type item struct {
	raftlog.Entry
	request *pb.InternalRaftRequest
	failure *Failure
}

// Limits of what is decoded ahead of the applier, so that it need not wait.
const (
	aheadItems = 256
	aheadBytes = 1 << 20
)

// read reads frames up to the one behind the last entry.
func (c *child) read(r io.Reader) {
	ahead, next := &batch{}, &batch{}
	for {
		e, end, err := readFrame(r, ahead)
		switch {
		case err != nil:
			c.abandon()
		case end:
			c.batches <- ahead.items
			close(c.batches)
			c.await(r)
			return
		}
		i := item{Entry: e}
		if e.Type == raftlog.EntryNormal {
			i.request, i.failure = decode(e.Data)
		}
		ahead.items = append(ahead.items, i)
		if len(ahead.items) == aheadItems || len(ahead.data) >= aheadBytes {
			c.batches <- ahead.items
			// It was taken, so that the one before is done with.
			ahead, next = next, ahead
			ahead.reset()
		}
	}
}

// await reads what follows the entries: that the parent has looked at the file, and the end
// of the input. When that comes before the file is complete, nobody is there any more who
// could take it and the folder away.
func (c *child) await(r io.Reader) {
	if _, looked, _ := readFrame(r, &batch{}); looked {
		close(c.looked)
		io.Copy(io.Discard, r)
	}
	if !c.told.Load() {
		c.abandon()
	}
}

// A batch is what is handed to the applier at a time.
type batch struct {
	items []item
	data  []byte // of the entries, one behind the other
}

// room gives n bytes for the data of an entry.
func (b *batch) room(n int) []byte {
	b.data = slices.Grow(b.data, n) // what entries have of the memory before stays theirs
	b.data = b.data[:len(b.data)+n]
	return b.data[len(b.data)-n:]
}

// reset empties a batch whose entries are done with, and does not keep the memory of a
// large one.
func (b *batch) reset() {
	clear(b.items)
	b.items, b.data = b.items[:0], b.data[:0]
	if cap(b.data) > 2*aheadBytes {
		b.data = nil
	}
}

// abandon removes the folder and the file that is not complete, and ends the process.
func (c *child) abandon() {
	c.making.Lock()
	if c.order.Out != "" {
		os.Remove(c.order.Out)
	}
	if c.order.Sweep != "" {
		os.RemoveAll(c.order.Sweep)
	}
	os.Exit(3)
}

// logger keeps what says why etcd gives up; requests may be in anything less.
func logger(w io.Writer) *zap.Logger {
	encoder := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig())
	core := zapcore.NewCore(encoder, zapcore.Lock(zapcore.AddSync(w)), zap.DPanicLevel)
	return zap.New(core, zap.WithFatalHook(giveUp{}), zap.WithPanicHook(giveUp{}))
}

// A giveUp is why etcd's code would end a server.
type giveUp struct {
	message string
	err     error // nil when none was logged with it
}

// OnWrite ends what led to a message, with a panic.
func (giveUp) OnWrite(entry *zapcore.CheckedEntry, fields []zapcore.Field) {
	g := giveUp{message: entry.Message}
	for _, f := range fields {
		if err, ok := f.Interface.(error); ok {
			g.err = err
		}
	}
	panic(g)
}

func (g giveUp) Error() string { return g.message }

// failedCommit is etcd's message when a transaction cannot be written, which says nothing of
// the database or of entries (etcd v3.7.3, server/storage/backend/batch_tx.go, commit).
const failedCommit = "failed to commit tx"

// failure makes a failure of what etcd's code panicked with.
func failure(r any, at uint64) *Failure {
	if g, ok := r.(giveUp); ok && g.message == failedCommit && g.err != nil {
		return &Failure{Reason: ReasonFile, Text: g.message + ": " + g.err.Error()}
	}
	return &Failure{Reason: ReasonApplier, Index: at, Text: fmt.Sprint("etcd's applier gives up: ", r)}
}

// obey applies all entries and writes the file. etcd's code panics when a store is not
// what it should be.
func (c *child) obey(lg *zap.Logger) (err error) {
	var s *store
	defer func() {
		if r := recover(); r != nil {
			at := uint64(0)
			if s != nil {
				at = s.at
			}
			err = failure(r, at)
		}
	}()
	if s, err = c.open(lg); err != nil {
		return err
	}
	state := s.state()
	c.say(event{Opened: &state})
	stopped := false
	marks := c.order.Marks
	for items := range c.batches {
		c.garbage.limit()
		for _, i := range items {
			if stopped {
				break
			}
			if marks, err = c.mark(s, marks, i.Index-1); err != nil {
				return err
			}
			if err := s.applyEntries(i); err != nil {
				return err
			}
			if stopped = c.order.ToRevision > 0 && s.kv.Rev() >= c.order.ToRevision; stopped {
				c.say(event{Stopped: true})
			}
		}
	}
	if _, err := c.mark(s, marks, s.applied); err != nil {
		return err
	}
	done, err := s.finish()
	if err != nil {
		return err
	}
	written, err := c.write(func() { c.say(event{Done: done}) })
	if err != nil {
		return err
	}
	c.told.Store(true)
	c.say(event{Written: written})
	return nil
}

// workPageSize is the size of the pages of a copy that is begun empty, in bytes. bbolt
// writes a page at a time: with fewer and larger ones than a server's, applying takes
// a tenth less.
const workPageSize = 16 << 10

// open opens the stores. Where there is no base the copy is made here, and the new file
// gets the pages that a server would have given it.
func (c *child) open(lg *zap.Logger) (*store, error) {
	c.making.Lock()
	defer c.making.Unlock()
	if _, err := os.Stat(c.order.Work); errors.Is(err, fs.ErrNotExist) {
		db, err := bbolt.Open(c.order.Work, 0o600, &bbolt.Options{PageSize: workPageSize, NoSync: true})
		if err != nil {
			return nil, err
		}
		if err := db.Close(); err != nil {
			return nil, err
		}
		c.pageSize = os.Getpagesize()
	}
	return open(lg, c.order)
}

// write writes the file that was ordered. readable is called when it can be looked at.
func (c *child) write(readable func()) (*Written, error) {
	if c.order.Out == "" {
		readable()
		return &Written{}, nil
	}
	c.making.Lock()
	out, err := os.OpenFile(c.order.Out, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	c.making.Unlock()
	if err != nil {
		return nil, err
	}
	return rewrite(c.order.Work, out, c.pageSize, readable, c.looked)
}

// mark tells HashKV as of the mark that the store is at, and gives the marks behind an
// index.
func (c *child) mark(s *store, marks []uint64, until uint64) ([]uint64, error) {
	for ; len(marks) > 0 && marks[0] <= until; marks = marks[1:] {
		if marks[0] != s.applied {
			continue
		}
		m, err := s.mark()
		if err != nil {
			return nil, err
		}
		c.say(event{Mark: &m})
	}
	return marks, nil
}
