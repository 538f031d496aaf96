package redact

import (
	"context"
	"io"

	"google.golang.org/protobuf/encoding/protowire"

	"etcd-forensics/walreader"
)

// maxSnapshot is the longest .snap file whose content is told apart. What is longer is
// overwritten as a whole.
const maxSnapshot = 64 << 20

// snapshot redacts a .snap file. Its checksum is computed anew; a wrong one stays wrong. Where the new one
// has a longer number, the file is longer by that.
func (r *redactor) snapshot(ctx context.Context, src io.ReaderAt, size int64, out *writer) error {
	if size > maxSnapshot {
		d := &database{redactor: r, out: out, check: ctx.Err}
		return d.noPages(src, size)
	}
	b, err := readAt(src, make([]byte, size), 0)
	if err != nil {
		return err
	}
	parts, rest, _ := split(b, nil)
	var data, number *part
	for i, p := range parts {
		switch {
		case p.num == 1 && p.typ == protowire.VarintType:
			number = &parts[i]
		case p.num == 2 && p.typ == protowire.BytesType:
			data = &parts[i]
		default:
			r.blot(b[p.body:p.end])
		}
	}
	r.blot(b[min(rest, len(b)):])
	if data == nil {
		return r.putAll(out, b)
	}
	before := walreader.Checksum(0, b[data.body:data.end])
	r.message(b[data.body:data.end], snapshotData)
	if number == nil {
		return r.putAll(out, b)
	}
	said, _ := protowire.ConsumeVarint(b[number.body:])
	want := uint32(said) ^ before ^ walreader.Checksum(0, b[data.body:data.end])
	if said == 0 { // counts as an empty file
		want = 0
	}
	n := max(number.end-number.body, protowire.SizeVarint(uint64(want)))
	copied := append([]byte(nil), b[:number.body]...)
	copied = appendLong(copied, uint64(want), n)
	return r.putAll(out, append(copied, b[number.end:]...))
}

func (r *redactor) putAll(out *writer, b []byte) error {
	if r.survey {
		return nil
	}
	return out.write(b)
}
