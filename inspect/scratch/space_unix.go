//go:build linux || darwin || freebsd

package scratch

import "golang.org/x/sys/unix"

// Free gives the bytes that are free for this user where dir lies.
func Free(dir string) (bytes int64, known bool) {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0, false
	}
	return int64(st.Bavail) * int64(st.Bsize), true
}
