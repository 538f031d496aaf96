//go:build !linux && !darwin && !freebsd && !windows

package scratch

// Free is not known on this system.
func Free(string) (bytes int64, known bool) { return 0, false }
