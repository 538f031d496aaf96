package snapfile

import (
	"context"
	"fmt"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"etcd-forensics/walreader"
	"etcd-forensics/walreader/raftlog"
)

const (
	chunkSize   = 1 << 20
	maxMetadata = 1 << 20 // a snapshot's metadata is some dozens of bytes
)

// Options say how a .snap file is read. The zero value is ready for use.
type Options struct {
	Progress func(int64) // told the number of bytes of each read
	// MaxMembers bounds each list of a Store; 0 means DefaultMaxMembers.
	MaxMembers int
}

// A File is what a .snap file says. Where Valid is false, what could be read is
// there all the same, and no checksum vouches for it.
type File struct {
	Size int64
	// Valid says that etcd reads the file: the frame, the checksum and the
	// snapshot's metadata are sound. The v2 store is not part of it.
	Valid bool

	CRC      uint32 // as the file states it
	Computed uint32 // as its data gives it

	Index     uint64
	Term      uint64
	ConfState raftlog.ConfState
	StoreSize int64  // bytes of the v2 store
	Store     *Store // nil when there is none or it could not be reached
	Faults    []Fault
}

// An extent is a half-open byte range of a file.
type extent struct{ off, end int64 }

// Read reads a .snap file of the given size. The error says that the machine
// failed or the context ended; what is wrong with the bytes is in File.Faults.
func Read(ctx context.Context, src io.ReaderAt, size int64, opts Options) (*File, error) {
	r := &reader{ctx: ctx, src: src, opts: opts, file: &File{Size: size}}
	if opts.MaxMembers <= 0 {
		r.opts.MaxMembers = DefaultMaxMembers
	}
	if size < 0 {
		return r.file, fmt.Errorf("size %d", size)
	}
	err := r.read()
	return r.file, err
}

type reader struct {
	ctx  context.Context
	src  io.ReaderAt
	opts Options
	file *File
	// damaged says that the checksum does not match. What else is wrong with the
	// data follows from that and is no fault of its own.
	damaged bool
}

func (r *reader) fault(kind FaultKind, off int64, err error) {
	if r.damaged {
		return
	}
	r.file.Faults = append(r.file.Faults, Fault{kind, off, err})
}

func (r *reader) read() error {
	f := r.file
	if f.Size == 0 {
		r.fault(FaultEmpty, 0, nil)
		return nil
	}
	var data extent
	var found bool
	ok, err := r.message(extent{0, f.Size}, FaultFrame, func(fd field) error {
		switch {
		case fd.num == 1 && fd.typ == protowire.VarintType:
			f.CRC = uint32(fd.n)
		case fd.num == 2 && fd.typ == protowire.BytesType:
			data, found = fd.body, true
		case fd.num <= 2:
			return fmt.Errorf("field %d: wrong wire type %d", fd.num, fd.typ)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if !found {
		if ok {
			r.fault(FaultEmpty, 0, nil)
		}
		return nil
	}
	if data.off == data.end || f.CRC == 0 {
		r.fault(FaultEmpty, data.off, fmt.Errorf("checksum %08x, %d bytes of data", f.CRC, data.end-data.off))
		return nil
	}
	if f.Computed, err = r.checksum(data); err != nil {
		return err
	}
	if f.Computed != f.CRC {
		r.fault(FaultChecksum, data.off, fmt.Errorf("file states %08x, its data gives %08x", f.CRC, f.Computed))
		ok, r.damaged = false, true
	}
	return r.snapshot(data, ok)
}

func (r *reader) checksum(e extent) (uint32, error) {
	buf := make([]byte, min(chunkSize, e.end-e.off))
	var sum uint32
	for off := e.off; off < e.end; {
		b := buf[:min(int64(len(buf)), e.end-off)]
		if err := r.readAt(b, off); err != nil {
			return 0, err
		}
		sum = walreader.Checksum(sum, b)
		off += int64(len(b))
	}
	return sum, nil
}

// snapshot reads a raftpb.Snapshot. sound says that all went well so far.
func (r *reader) snapshot(e extent, sound bool) error {
	f := r.file
	var store, metadata extent
	ok, err := r.message(e, FaultSnapshot, func(fd field) error {
		switch {
		case fd.num == 1 && fd.typ == protowire.BytesType:
			store = fd.body
		case fd.num == 2 && fd.typ == protowire.BytesType:
			metadata = fd.body
		case fd.num <= 2:
			return fmt.Errorf("field %d: wrong wire type %d", fd.num, fd.typ)
		}
		return nil
	})
	if err != nil {
		return err
	}
	sound = sound && ok
	if metadata.end > metadata.off {
		ok, err = r.metadata(metadata)
		if err != nil {
			return err
		}
		sound = sound && ok
	}
	f.Valid = sound
	f.StoreSize = store.end - store.off
	if f.StoreSize == 0 {
		return nil
	}
	return r.store(store)
}

func (r *reader) metadata(e extent) (bool, error) {
	f := r.file
	if e.end-e.off > maxMetadata {
		r.fault(FaultLimit, e.off, fmt.Errorf("metadata of %d bytes, limit %d", e.end-e.off, maxMetadata))
		return false, nil
	}
	return r.message(e, FaultConfState, func(fd field) error {
		switch {
		case fd.num == 1 && fd.typ == protowire.BytesType:
			b := make([]byte, fd.body.end-fd.body.off)
			if err := r.readAt(b, fd.body.off); err != nil {
				return machineError{err}
			}
			c, err := raftlog.DecodeConfState(b)
			f.ConfState = c
			return err
		case fd.num == 2 && fd.typ == protowire.VarintType:
			f.Index = fd.n
		case fd.num == 3 && fd.typ == protowire.VarintType:
			f.Term = fd.n
		case fd.num <= 3:
			return fmt.Errorf("field %d: wrong wire type %d", fd.num, fd.typ)
		}
		return nil
	})
}
