package keyspace_test

import (
	"testing"

	"etcd-forensics/snapdb/keyspace"
)

func TestPrefixEndsAtADelimiter(t *testing.T) {
	for _, c := range []struct {
		key, delimiter string
		depth          int
		prefix         string
	}{
		{"/registry/pods/ns/a", "/", 1, "/registry/"},
		{"/registry/pods/ns/a", "/", 2, "/registry/pods/"},
		{"/registry/pods/ns/a", "/", 3, "/registry/pods/ns/"},
		{"/registry/pods/ns/a", "/", 9, "/registry/pods/ns/"},
		{"/registry/pods/ns/a", "/", 0, ""},
		{"a/b/c", "/", 2, "a/b/"},
		{"/registry/x", "/", 2, "/registry/"},
		{"plain", "/", 2, ""},
		{"", "/", 2, ""},
		{"/", "/", 1, ""},
		{"//", "/", 1, "//"},
		{"/x", "/", 1, ""},
		{"//x", "/", 1, "//"},
		{"a//b", "/", 2, "a//"},
		{"a/", "/", 1, "a/"},
		{"a.b.c", ".", 1, "a."},
		{".a.b", ".", 1, ".a."},
		{"a→b→c", "→", 1, "a→"},
		{"→a→b", "→", 1, "→a→"},
		{"\xff/\x00/x", "/", 2, "\xff/\x00/"},
	} {
		if got := c.key[:keyspace.PrefixEnd([]byte(c.key), []byte(c.delimiter), c.depth)]; got != c.prefix {
			t.Errorf("%q at %d by %q: %q, want %q", c.key, c.depth, c.delimiter, got, c.prefix)
		}
	}
}
