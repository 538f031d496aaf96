package cli_test

import (
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
)

// TestFileWithoutReadPermission looks with the eyes of another user, so that it
// holds when root runs the tests.
func TestFileWithoutReadPermission(t *testing.T) {
	dir := t.TempDir()
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	file, folder := filepath.Join(dir, "file.db"), filepath.Join(dir, "folder")
	if err := os.WriteFile(file, make([]byte, 4096), 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(folder, 0); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		// Of this thread alone, and root's power over files goes with it.
		runtime.LockOSThread()
		const nobody = 65534
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SETFSUID, nobody, 0, 0); errno != 0 {
			t.Skipf("skipped: cannot look as another user: %v", errno)
		}
		defer func() {
			syscall.RawSyscall(syscall.SYS_SETFSUID, 0, 0, 0)
			runtime.UnlockOSThread()
		}()
	}
	for _, path := range []string{file, folder} {
		exit, out, stderr := run(t, "inspect", path)
		refused(t, exit, out, stderr, "no permission")
	}
}
