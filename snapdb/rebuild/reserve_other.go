//go:build !linux

package rebuild

import "os"

// reserve does nothing here.
func reserve(*os.File, int64) bool { return false }

// fetch does nothing here.
func fetch(*os.File, int64, int64) {}
