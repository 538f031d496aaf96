package redact

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// redacted puts a copy of b through both passes of a run. Other bytes that the run holds come first.
func redacted(t testing.TB, b []byte, do func(*redactor, []byte), others ...string) []byte {
	t.Helper()
	r := &redactor{cipher: newCipher("leaks"), names: newNames(), prefixes: knownPrefixes(), ids: map[string]bool{}, survey: true}
	for _, pass := range []bool{true, false} {
		r.survey = pass
		for _, o := range others {
			r.json([]byte(o))
		}
		c := bytes.Clone(b)
		do(r, c)
		if pass {
			if !bytes.Equal(b, c) {
				t.Errorf("the first pass changes %q to %q", b, c)
			}
			r.names.settle(r.cipher)
			continue
		}
		return c
	}
	return nil
}

// What is in an URL, or in what has the looks of one, shows scheme and port at most.
func TestURLsShowSchemeAndPortAtMost(t *testing.T) {
	for text, stays := range map[string]string{
		"http://secrethost:2380": "http:// :2380", "https://secrethost.example/secretpath": "https:// /",
		"password=secretword url=http://secrethost": "://", "secretscheme://x": "://", "http://secrethost:secretport": "http://",
		"http://secretuser:secretword@secrethost:1": "http:// @ :1", "http://[fe80::1%secretif]:2380": "http://[ :2380", "http://a:2380,http://secrethost:2381": "http://",
	} {
		out := string(redacted(t, []byte(text), (*redactor).word))
		if strings.Contains(out, "secret") || len(out) != len(text) {
			t.Errorf("%q became %q", text, out)
		}
		for part := range strings.FieldsSeq(stays) {
			if !strings.Contains(out, part) {
				t.Errorf("%q became %q, without %q", text, out, part)
			}
		}
	}
}

// The store of version 2 has etcd's own words, and texts of users, which can look like
// anything.
func TestNoTextOfJSONStays(t *testing.T) {
	const own = `{"Root":{"Path":"/","Children":{"0":{"Path":"/0/members/8e9e05c52164694d/attributes","Value":"{\"name\":\"m1\",\"clientURLs\":[\"http://127.0.0.1:2379\"]}"}}},"CurrentIndex":1234}`
	for _, secret := range []string{
		"ae:fa:00:12:ea:ff", "user:rules", "4111,1111", "deadbeefcafe1234", "all:trust", "1234567890123456", "{not json", `{"pin":4711,"secretname":"x"}`, `{"a":"{\"pin\":4711}"}`,
		`ends with \`, `"quoted" secret`, `\"`, "[1,2,3,4711]", "{}{}4711",
	} {
		text, err := json.Marshal(secret)
		if err != nil {
			t.Fatal(err)
		}
		nested, err := json.Marshal(`{"value":` + string(text) + `}`)
		if err != nil {
			t.Fatal(err)
		}
		for _, in := range []string{
			strings.Replace(own, `"CurrentIndex"`, `"Value":`+string(text)+`,"CurrentIndex"`, 1),
			strings.Replace(own, `"CurrentIndex"`, `"Value":`+string(nested)+`,"CurrentIndex"`, 1),
			strings.Replace(own, `"Children"`, `"Path":`+string(text)+`,"Children"`, 1),
		} {
			out := redacted(t, []byte(in), (*redactor).json)
			if !json.Valid(out) || len(out) != len(in) {
				t.Errorf("%s\nbecame\n%s", in, out)
			}
			for _, part := range []string{secret, string(text), "4711", "secret", "pin", "cafe1234"} {
				if n := strings.Trim(part, `"{}[]\ ,`); n != "" && strings.Contains(in, part) && strings.Contains(string(out), part) {
					t.Errorf("%q stays in\n%s", part, out)
				}
			}
			for _, stays := range []string{`"/0/members/8e9e05c52164694d/attributes"`, `\"name\"`, "http://127.0.0.1:2379", `"CurrentIndex":1234`} {
				if !strings.Contains(string(out), stays) {
					t.Errorf("%s is gone from\n%s", stays, out)
				}
			}
		}
	}
}

// A user can have a name that looks like the id of a member. Those of members stay.
func TestOnlyIDsOfMembersStay(t *testing.T) {
	const of = `{"Path":"/0/members/8e9e05c52164694d/attributes"}`
	for name, stays := range map[string]bool{"8e9e05c52164694d": true, "123456789012": false, "deadbeefcafe1234": false} {
		branch := func(r *redactor, b []byte) { r.branch(b) }
		out := redacted(t, branchOf(name), branch, of)
		if bytes.Contains(out, []byte(name)) != stays {
			t.Errorf("separator %s stays: %t", name, !stays)
		}
		torn := func(r *redactor, b []byte) { r.record(b[:len(name)], b[len(name):], "") }
		out = redacted(t, []byte(name+"\x0a\xff"), torn, of)
		if bytes.HasPrefix(out, []byte(name)) {
			t.Errorf("the name %s of a torn record stays", name)
		}
	}
}

// branchOf gives a branch page with one separator.
func branchOf(key string) []byte {
	b := make([]byte, 512)
	b[8], b[10] = 1, 1
	b[16], b[20] = 16, byte(len(key))
	copy(b[32:], key)
	return b
}

// A record of etcd's own settings is as long as etcd makes it: what is behind belongs to something
// else.
func TestSettingsShowNothingBehindThem(t *testing.T) {
	for key := range settings {
		for _, value := range []string{"\x00\x00\x00\x00\x00\x00\x00\x07secretword", "secretword", "{secretword", "\x01secretword", "3.6.0secretword", "\x00\x00\x00\x00\x00\x00\x00\x07_\x00\x00\x00\x00\x00\x00\x00\x00tsecretword"} {
			out := redacted(t, []byte(value), func(r *redactor, b []byte) { r.record([]byte(key), b, "") })
			want := max(8, strings.Index(value, "secret")) - max(0, strings.Index(value, "secret"))
			if strings.Contains(string(out), "secretword"[want:]) || strings.Contains(string(out), "cretword") {
				t.Errorf("%s: %q became %q", key, value, out)
			}
		}
	}
	for key, value := range map[string]string{"consistent_index": "\x00\x00\x00\x00\x00\x00\x01\x07", "clusterVersion": "3.6.0", "storageVersion": "3.6.0", "finishedCompactRev": "\x00\x00\x00\x00\x00\x00\x00\x07_\x00\x00\x00\x00\x00\x00\x00\x00"} {
		if out := redacted(t, []byte(value), func(r *redactor, b []byte) { r.record([]byte(key), b, "") }); string(out) != value {
			t.Errorf("%s: %q became %q", key, value, out)
		}
	}
}

// Text that damage has moved to where fields begin is no numbers.
func TestTextIsNotTakenForNumbers(t *testing.T) {
	text := " s e c r e t 0w0o0r0d"
	out := redacted(t, append(protowire.AppendVarint(protowire.AppendTag(nil, 4, protowire.VarintType), 5), text...), func(r *redactor, b []byte) { r.message(b, keyValue) })
	same := 0
	for i := range text {
		if text[i] == out[i+2] {
			same++
		}
	}
	if same > len(text)/2+3 { // the tags
		t.Errorf("%q became %q", text, out)
	}
}

// Providers that API servers do not have are names of somebody.
func TestUnknownProvidersAreNames(t *testing.T) {
	for value, stays := range map[string]string{"k8s:enc:aescbc:v1:secretname:secret": "k8s:enc:aescbc:v1:", "k8s:enc:secretprovider:secretversion:secretname:secret": "k8s:enc:", "k8s:enc:kms:v2:secretname:secret": "k8s:enc:kms:v2:"} {
		out := string(redacted(t, []byte(value), func(r *redactor, b []byte) { r.value(b, []byte("/registry/secrets/a/b")) }))
		if strings.Contains(out, "secret") || !strings.HasPrefix(out, stays) {
			t.Errorf("%q became %s", value, strconv.QuoteToASCII(out))
		}
	}
}
