package inspect

import "testing"

// InFullOnly skips a test of many cases under -short, which the race detector
// uses: it goes through one goroutine, as it does without the detector.
func InFullOnly(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("many cases of one goroutine")
	}
}
