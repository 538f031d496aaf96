package rebuild

import (
	"os"

	"golang.org/x/sys/unix"
)

// reserve sets room aside for a file that will be written, where the file system can.
func reserve(file *os.File, size int64) {
	_ = unix.Fallocate(int(file.Fd()), 0, 0, size)
}
