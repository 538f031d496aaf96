package redact

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNoTwoNamesBecomeOne(t *testing.T) {
	c := newCipher("names")
	seen := map[string]bool{}
	for a := byte('a'); a <= 'z'; a++ {
		for d := byte('0'); d <= '9'; d++ {
			b := []byte{a, '-', d}
			c.permute(b, "name")
			if b[0] < 'a' || b[0] > 'z' || b[1] != '-' || b[2] < '0' || b[2] > '9' {
				t.Fatalf("%c-%c became %q", a, d, b)
			}
			seen[string(b)] = true
		}
	}
	if len(seen) != 260 {
		t.Errorf("260 names became %d", len(seen))
	}
}

func TestNamesKeepTheirForm(t *testing.T) {
	c := newCipher("form")
	for _, name := range []string{"", "x", "node-17.example", "Größe", "中文名字", "\xff\x00\x01abc", strings.Repeat("ab9", 5000)} {
		b := []byte(name)
		c.permute(b, "name")
		if len(b) != len(name) || utf8.Valid(b) != utf8.ValidString(name) || len(name) > 3 && string(b) == name {
			t.Errorf("%.40q became %.40q", name, b)
		}
		again := []byte(name)
		if c.permute(again, "name"); !bytes.Equal(again, b) {
			t.Errorf("%.40q became %.40q and %.40q", name, b, again)
		}
		other := []byte(name)
		if newCipher("other").permute(other, "name"); len(name) > 3 && bytes.Equal(other, b) {
			t.Errorf("%.40q does not depend on the key", name)
		}
	}
}

func TestNamesOfATreeKeepTheirOrder(t *testing.T) {
	n := newNames()
	all := []string{"Zoe", "a", "alice", "alice2", "bob", "bob-1", "bob-12", "root", "rooter", "zed", "éva", "authUserr", "\xff\x01"}
	for _, name := range all {
		n.note([]byte(name))
	}
	n.settle(newCipher("order"))
	slices.Sort(all)
	var became []string
	for _, name := range all {
		b := []byte(name)
		n.replace(newCipher("order"), b)
		if len(b) != len(name) || name != "root" && name == string(b) && len(name) > 3 {
			t.Errorf("%q became %q", name, b)
		}
		became = append(became, string(b))
	}
	if !slices.IsSorted(became) || len(slices.Compact(slices.Clone(became))) != len(all) {
		t.Errorf("%q became %q", all, became)
	}
	if !slices.Contains(became, "root") {
		t.Errorf("root is gone: %q", became)
	}
}

func TestTextsOfEtcd(t *testing.T) {
	r := &redactor{cipher: newCipher("texts"), names: newNames(), prefixes: knownPrefixes()}
	for _, tc := range []struct{ in, keeps, hides string }{
		{`{"id":12,"name":"infra1","peerURLs":["https://host-a.example:2380"]}`, `{"id":12,"name":"`, "infra1 host-a example"},
		{`{"Value":"{\"name\":\"infra1\",\"clientURLs\":[\"http://10.20.30.40:2379\"]}"}`, `\"clientURLs\":[\"http://`, "infra1 10.20.30.40"},
		{`{"name":"a\"b\\c secret\u00e9x"}`, `\u00e9`, "secret"},
		{`{"name":"12345678"}`, `{"name":"`, "12345678"},
		{`{?id":123,"name":"infra1"`, `{`, "infra1 name"},
		{`3.5.21`, `3.5.21`, ""},
		{`deadbeef`, ``, "deadbeef"},
	} {
		b := []byte(tc.in)
		if r.json(b); len(b) != len(tc.in) || !bytes.Contains(b, []byte(tc.keeps)) {
			t.Errorf("%s became %s", tc.in, b)
		}
		for _, hidden := range strings.Fields(tc.hides) {
			if bytes.Contains(b, []byte(hidden)) {
				t.Errorf("%s became %s", tc.in, b)
			}
		}
	}
	for _, u := range []string{"http://localhost:2379", "http://127.0.0.1:2379", "http://[::1]:2379", "unix://localhost:7"} {
		b := []byte(u)
		if r.word(b); string(b) != u {
			t.Errorf("%s became %s", u, b)
		}
	}
	for _, u := range []string{"http://user:word@etcd-0.svc:2379/path", "https://192.168.10.200:2380", "http://[fe80::12ab%eth0]:1"} {
		b := []byte(u)
		if r.word(b); string(b) == u || len(b) != len(u) {
			t.Errorf("%s became %s", u, b)
		}
	}
}

func TestKeysKeepTheirStructure(t *testing.T) {
	r := &redactor{cipher: newCipher("keys"), names: newNames(), prefixes: knownPrefixes()}
	redacted := func(key string) string {
		b := []byte(key)
		r.key(b)
		return string(b)
	}
	for key, begin := range map[string]string{
		"/registry/pods/default/web-0":                 "/registry/pods/default/",
		"/registry/services/specs/shop/web":            "/registry/services/specs/",
		"/registry/cert-manager.io/certificates/shop/": "/registry/cert-manager.io/certificates/",
		"/registry/acme.example/orders/shop/one":       "/registry/",
		"plain/one":                                    "",
	} {
		if got := redacted(key); !strings.HasPrefix(got, begin) || len(got) != len(key) || strings.Contains(got, "acme") || strings.Contains(got, "shop") || strings.HasSuffix(got, "web-0") {
			t.Errorf("%s became %s", key, got)
		}
	}
	if a, b := redacted("/registry/pods/shop/one"), redacted("other/shop/two"); strings.Split(a, "/")[3] != strings.Split(b, "/")[1] {
		t.Errorf("one name became two: %s, %s", a, b)
	}
	// A range that ends inside names still has the keys that it had.
	r.survey = true
	r.rangeEnd([]byte("jobs/nigh\x75"), []byte("jobs/night"), true)
	r.survey = false
	begin, end := []byte("jobs/night"), []byte("jobs/nighu")
	r.rangeEnd(end, begin, true)
	r.key(begin)
	if k := redacted("jobs/nightly-7"); k < string(begin) || k >= string(end) || !strings.HasPrefix(k, string(begin)) {
		t.Errorf("%s is outside %s to %s", k, begin, end)
	}
}
