// Package walreader decodes the segments of an etcd write-ahead log into
// frames and says how each segment ends. It knows lengths, record types and
// checksums; what a record means is for package raftlog.
//
// It reads through io.ReaderAt alone, holds one window of a segment in
// memory, and reads on after damage. It states facts and never judges them.
//
// # Files
//
// A WAL directory holds segments named %016x-%016x.wal: a sequence number
// that grows by one from file to file, and one more than the highest raft
// index that was saved when the file was begun (wal.go, cut; util.go,
// walName). Beside them lie 0.tmp and 1.tmp, the segments that etcd
// preallocates in advance (file_pipeline.go), and NAME.wal.broken, the copy
// that etcd keeps of a segment whose end it cut off (repair.go).
//
// A segment is preallocated to 64,000,000 zero bytes (wal.go,
// SegmentSizeBytes) and cut to the bytes in use when the next one is begun. So
// the last segment of a directory ends in zeros and all others end with their
// last frame.
//
// # Frame
//
// A segment is a sequence of frames without anything between them.
//
//	offset  size  name        meaning
//	0       8     length word little endian, see FrameHeader
//	8       L     record      a protobuf message, see below
//	8+L     P     padding     zero bytes, so that L+P is a multiple of 8
//
// The length word holds L in bits 0 to 55. When P is not zero, bit 63 is set
// and bits 56 to 58 hold P (encoder.go, encodeFrameSize). Nothing protects the
// word and the padding. A length word of zero means that the segment ends
// here (decoder.go, decodeRecord).
//
// # Record
//
// The message walpb.Record (walpb/record.proto):
//
//	field  type    name  meaning
//	1      int64   type  1 metadata, 2 entry, 3 state, 4 crc, 5 snapshot
//	2      uint32  crc   the running checksum, this record's data included
//	3      bytes   data  a message of its own, by type
//
// # Checksum
//
// CRC-32C (Castagnoli), carried from record to record and from segment to
// segment. etcd's wal/doc.go says that a record's checksum covers the records
// before it. The bytes say otherwise: encoder.go adds the record's own data
// before it states the sum, and decoder.go does the same before it compares.
// TestAChecksumCoversItsOwnData settles it. Only data is covered, neither type nor
// crc nor the length word.
//
// The first frame of each segment is a crc record without data. It states the
// sum that the segment before ended with, 0 in the first one, and the sum goes
// on from there. Because of it a segment can be checked without the ones before
// it, and a difference at its head means that the end of the segment before is
// not what it was.
//
// # Torn writes
//
// etcd takes the last record for a write that was cut short when the segment is
// the last one, the record does not decode or its checksum differs, and the
// part of the record in some 512-byte sector of the file is all zero
// (decoder.go, isTornEntry). It then cuts the segment there (repair.go).
//
// # Sources
//
// Read in go.etcd.io/etcd/server/v3 v3.5.21 (folder wal), v3.6.16, v3.7.3 and
// v3.8.0-alpha.0 (folder storage/wal). The frame, the record and the
// checksum are the same in all of them. Before 3.7 fields that are zero are
// written all the same; from 3.7 on a message of a record may leave a field
// out whose value is the default.
package walreader
