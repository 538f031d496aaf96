package rebuild

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve sets room aside for a file that will be written, where the file system can, and
// says whether it did.
func reserve(file *os.File, size int64) bool {
	return unix.Fallocate(int(file.Fd()), 0, 0, size) == nil
}

// fetch has memory found for a part of a file for which room was set aside, and of which
// nothing was written. It is page after page, as it would be when these are written.
func fetch(file *os.File, at, n int64) {
	_ = unix.Fadvise(int(file.Fd()), at, n, unix.FADV_WILLNEED)
}
