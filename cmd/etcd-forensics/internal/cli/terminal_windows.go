package cli

import (
	"os"

	"golang.org/x/sys/windows"
)

// paints makes a console take escape sequences for colours, which it prints otherwise, and
// says whether it does: those before Windows 10 do not.
func paints(f *os.File) bool {
	console, mode := windows.Handle(f.Fd()), uint32(0)
	if windows.GetConsoleMode(console, &mode) != nil {
		return false
	}
	return windows.SetConsoleMode(console, mode|windows.ENABLE_VIRTUAL_TERMINAL_PROCESSING) == nil
}
