package inspect

import "fmt"

// Quotas of etcd (etcd v3.7.3, server/storage/quota.go). A server holds the pages up
// to the high-water mark against its quota, free ones included (bbolt v1.4.3, tx.go,
// Size). Which quota it has is not on disk.
const (
	DefaultQuota = int64(2) << 30 // of a server without --quota-backend-bytes
	MaxQuota     = int64(8) << 30 // the largest that etcd suggests
)

const (
	nearShare       = 80       // percent of a quota that is near
	fragmentedBytes = 64 << 20 // free pages below it are not worth a defragmentation
)

// checkSpace tells of a database that is about to reach its quota, and of one that is
// mostly free pages. A quota counts as near only when the pages in use reach nearShare
// of it, so that no defragmentation helps, and the next larger quota that etcd names only
// when the smaller is passed. The alarm says more once it is on.
func (x *examination) checkSpace(be *Backend) {
	page := int64(be.PageSize)
	size, free := (be.Pages.Total-be.Pages.BeyondEnd)*page, be.Pages.Free*page
	quota := DefaultQuota
	if size > quota {
		quota = MaxQuota
	}
	if inUse := size - free; size <= quota && inUse/nearShare >= quota/100 && len(be.Alarms) == 0 {
		x.find(newFinding(CodeSpaceNearQuota, x.src.Path, fmt.Sprintf("%d bytes are in use, %d percent of the %d GiB that %s",
			inUse, inUse*100/quota, quota>>30, quotaWords[quota])).inFile(be.File))
	}
	if free > size/2 && free > fragmentedBytes {
		x.find(newFinding(CodeSpaceFragmented, x.src.Path, fmt.Sprintf("%d of %d bytes are free pages", free, size)).inFile(be.File))
	}
}

var quotaWords = map[int64]string{DefaultQuota: "are the default quota", MaxQuota: "are the largest quota that etcd suggests"}
