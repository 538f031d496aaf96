package query

import (
	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/scan"
)

// A KeySpace says where the bytes of a file are. Those from LiveBytes to TrailerBytes
// add up to FileBytes.
type KeySpace struct {
	FileBytes        int64 `json:"fileBytes"`
	LiveBytes        int64 `json:"liveBytes"`
	HistoryBytes     int64 `json:"historyBytes"`
	LaterBytes       int64 `json:"laterBytes"`       // of records above the revision as of which was counted
	OverheadBytes    int64 `json:"overheadBytes"`    // of pages in use beside these records: headers, branch pages, other buckets, room
	MetaBytes        int64 `json:"metaBytes"`        // of the two meta pages
	FreeBytes        int64 `json:"freeBytes"`        // of pages that the next writes take
	UnreachableBytes int64 `json:"unreachableBytes"` // of pages that are neither in use nor free
	DamagedBytes     int64 `json:"damagedBytes"`
	BeyondBytes      int64 `json:"beyondBytes"` // behind the high-water mark: never used
	TrailerBytes     int64 `json:"trailerBytes"`

	// RoomBytes is the part of OverheadBytes in which there is nothing: the rest of
	// each leaf page of bucket key.
	RoomBytes  int64      `json:"roomBytes"`
	SizeBytes  int64      `json:"sizeBytes"` // what etcd holds against its quota
	Quotas     []Quota    `json:"quotas"`
	Compaction Compaction `json:"compaction"`
	Defrag     Defrag     `json:"defrag"`
}

// A Quota is a limit of the database's size. Which one a server has is not on disk.
type Quota struct {
	What      string  `json:"what"` // default, suggested maximum, given
	Bytes     int64   `json:"bytes"`
	Share     float64 `json:"share"`     // of it that is used
	LeftBytes int64   `json:"leftBytes"` // below 0: above it
}

// A Compaction is what one to a revision would free: bytes of records, counted. Their
// pages become free as far as nothing else lies on them; the file stays as large as it is.
type Compaction struct {
	Revision  int64 `json:"revision"`
	Records   int64 `json:"records"`
	FreeBytes int64 `json:"freesBytes"`
}

// A Defrag is what one would take from the size as the file is now, without a compaction
// before it: the free pages. How much of RoomBytes it takes, too, depends on the records.
type Defrag struct {
	FreeBytes int64 `json:"freesBytes"`
}

// measure adds the file up, counted as of a revision.
func measure(k *inspect.Keyspace, c *scan.PrefixResult, as, quota int64) KeySpace {
	pages, size := c.Pass.Pages, int64(k.DB.PageSize)
	of := func(class snapdb.Class) int64 { return pages.Counts[class] * size }
	s := KeySpace{
		FileBytes: k.DB.Size(), LiveBytes: c.Total.LiveBytes, HistoryBytes: c.Total.Bytes - c.Total.LiveBytes, LaterBytes: c.Later.Bytes,
		MetaBytes: of(snapdb.ClassMeta), FreeBytes: of(snapdb.ClassFree), UnreachableBytes: of(snapdb.ClassUnreachable),
		DamagedBytes: of(snapdb.ClassDamaged), BeyondBytes: of(snapdb.ClassBeyondEnd), TrailerBytes: k.DB.Size() - k.DB.DataSize,
		RoomBytes: c.LeafBytes - c.UsedBytes, SizeBytes: int64(len(pages.Class)) * size, Quotas: []Quota{},
	}
	// The last page of a file that was cut off is not whole.
	if missing := k.DB.Pages()*size - k.DB.DataSize; missing > 0 {
		*s.lastPage(pages) -= missing
	}
	s.OverheadBytes = k.DB.DataSize - s.LiveBytes - s.HistoryBytes - s.LaterBytes -
		s.MetaBytes - s.FreeBytes - s.UnreachableBytes - s.DamagedBytes - s.BeyondBytes
	if quota > 0 {
		s.quota("given", quota)
	} else {
		s.quota("default", inspect.DefaultQuota)
		s.quota("suggested maximum", inspect.MaxQuota)
	}
	// A compaction keeps the latest record of each key that is there, the bump record, and
	// since 3.4.34 and 3.5.16 the deletions of its own revision (etcd v3.7.3,
	// server/storage/mvcc/key_index.go, doCompact).
	t := &c.Total
	s.Compaction = Compaction{as, t.Revisions - t.Live - c.Bump.Revisions - c.Edge.Tombstones, s.HistoryBytes - c.Bump.Bytes - c.Edge.Bytes}
	s.Defrag = Defrag{s.FreeBytes + s.UnreachableBytes}
	return s
}

// lastPage gives the sum in which the last page of the file is.
func (s *KeySpace) lastPage(pages *snapdb.PageMap) *int64 {
	if pages.Counts[snapdb.ClassBeyondEnd] > 0 {
		return &s.BeyondBytes
	}
	switch pages.Class[len(pages.Class)-1] {
	case snapdb.ClassMeta:
		return &s.MetaBytes
	case snapdb.ClassFree:
		return &s.FreeBytes
	case snapdb.ClassUnreachable:
		return &s.UnreachableBytes
	case snapdb.ClassDamaged:
		return &s.DamagedBytes
	}
	return new(int64) // in use: what is left is overhead
}

func (s *KeySpace) quota(what string, quota int64) {
	s.Quotas = append(s.Quotas, Quota{what, quota, share(s.SizeBytes, quota), quota - s.SizeBytes})
}
