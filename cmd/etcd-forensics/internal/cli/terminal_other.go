//go:build !windows

package cli

import "os"

// paints says that every terminal takes colours.
func paints(*os.File) bool { return true }
