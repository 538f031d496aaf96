package scan

import (
	"slices"

	"etcd-forensics/snapdb/page"
)

// A Row is one record of a small bucket.
type Row struct {
	Key, Value []byte
	Page       page.ID
	Offset     int64 // of the key, from the start of the file

	leaf, element int
}

// Contents collects the records of chosen buckets, in key order.
type Contents struct {
	want  map[int]bool
	limit int64 // bytes of keys and values of one bucket
	sinks []*contentSink
}

// NewContents prepares a collection of the buckets with the given indexes. A
// bucket with more than limit bytes is not kept; Count goes on.
func NewContents(buckets []int, limit int64) *Contents {
	c := &Contents{want: map[int]bool{}, limit: limit}
	for _, b := range buckets {
		c.want[b] = true
	}
	return c
}

type contentSink struct {
	of   *Contents
	rows map[int][]Row
	size map[int]int64
	n    map[int]int64
}

// Sink implements Consumer.
func (c *Contents) Sink() Sink {
	s := &contentSink{of: c, rows: map[int][]Row{}, size: map[int]int64{}, n: map[int]int64{}}
	c.sinks = append(c.sinks, s)
	return s
}

// Leaf implements Sink.
func (s *contentSink) Leaf(l *Leaf) {
	s.n[l.Bucket] += int64(len(l.Elements))
	if !s.of.want[l.Bucket] {
		return
	}
	for i := range l.Elements {
		e := &l.Elements[i]
		if e.Bucket {
			continue
		}
		s.size[l.Bucket] += int64(len(e.Key) + len(e.Value))
		if s.size[l.Bucket] > s.of.limit {
			s.rows[l.Bucket] = nil
			continue
		}
		s.rows[l.Bucket] = append(s.rows[l.Bucket], Row{
			Key: slices.Clone(e.Key), Value: slices.Clone(e.Value), Page: l.Page, Offset: l.Offset + int64(e.Offset),
			leaf: l.Index, element: e.Index,
		})
	}
}

// Rows gives the records of a bucket. whole is false, and there are none, when
// they take more bytes than the limit.
func (c *Contents) Rows(bucket int) (rows []Row, whole bool) {
	var size int64
	for _, s := range c.sinks {
		rows = append(rows, s.rows[bucket]...)
		size += s.size[bucket]
	}
	if size > c.limit {
		return nil, false
	}
	slices.SortFunc(rows, func(a, b Row) int {
		if a.leaf != b.leaf {
			return a.leaf - b.leaf
		}
		return a.element - b.element
	})
	return rows, true
}

// Count gives the number of records of a bucket, kept or not.
func (c *Contents) Count(bucket int) int64 {
	var n int64
	for _, s := range c.sinks {
		n += s.n[bucket]
	}
	return n
}
