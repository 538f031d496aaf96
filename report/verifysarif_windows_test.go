package report

import "testing"

func TestPathsOfWindowsInSARIF(t *testing.T) {
	for path, want := range map[string]string{
		`backups\a b.db`:         "backups/a%20b.db",
		`C:\backups\a.db`:        "file:///C:/backups/a.db",
		`\\host\backups\a.db`:    "file:////host/backups/a.db",
		`C:\a.tgz!m1/member/wal`: "file:///C:/a.tgz%21m1/member/wal",
	} {
		if got := uriOf(path); got != want {
			t.Errorf("%s: %s, should be %s", path, got, want)
		}
	}
}
