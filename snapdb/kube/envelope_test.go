package kube

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// kmsV2 is an EncryptedObject: 1 encryptedData, 2 keyID, 3 encryptedDEKSource.
func kmsV2(keyID string) string {
	var b []byte
	for num, text := range []string{1: "ciphertext", 2: keyID, 3: "wrapped"} {
		if num > 0 {
			b = protowire.AppendTag(b, protowire.Number(num), protowire.BytesType)
			b = protowire.AppendString(b, text)
		}
	}
	return string(b)
}

func TestEnvelopes(t *testing.T) {
	for _, c := range []struct {
		name, value       string
		encoding          Encoding
		provider, version string
		keyName, keyID    string
		kind, raw         string
	}{
		{"protobuf", "k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\x03abc\x1a\x00\"\x00", Protobuf, "", "", "", "", "v1 Pod", "abc"},
		{"protobuf that breaks off", "k8s\x00\n\x09\n\x02v1", Unknown, "", "", "", "", "", ""},
		{"protobuf with a length beyond its end", "k8s\x00\x12\xff\xff\xff\xff\x0f", Unknown, "", "", "", "", "", ""},
		{"json", `{"kind":"Pod"}`, JSON, "", "", "", "", "", `{"kind":"Pod"}`},
		{"json behind blanks", "\n {}", JSON, "", "", "", "", "", "\n {}"},
		{"cbor", "\xd9\xd9\xf7\xa0", CBOR, "", "", "", "", "", "\xd9\xd9\xf7\xa0"},
		{"aescbc", "k8s:enc:aescbc:v1:key1:\x00\x01", Encrypted, "aescbc", "v1", "key1", "", "", "\x00\x01"},
		{"colons in the ciphertext", "k8s:enc:secretbox:v1:k:a:b", Encrypted, "secretbox", "v1", "k", "", "", "a:b"},
		{"kms v1", "k8s:enc:kms:v1:vault:\x00\x00", Encrypted, "kms", "v1", "vault", "", "", "\x00\x00"},
		{"kms v2", "k8s:enc:kms:v2:vault:" + kmsV2("7"), Encrypted, "kms", "v2", "vault", "7", "", kmsV2("7")},
		{"a provider to come", "k8s:enc:next:v9:k:x", Encrypted, "next", "v9", "k", "", "", "x"},
		{"encrypted without a key name", "k8s:enc:aescbc:v1:key1", Unknown, "", "", "", "", "", ""},
		{"encrypted with an empty key name", "k8s:enc:aescbc:v1::x", Unknown, "", "", "", "", "", ""},
		{"compact_rev_key", "5987", Unknown, "", "", "", "", "", ""},
		{"empty", "", Unknown, "", "", "", "", "", ""},
	} {
		e := DecodeEnvelope([]byte(c.value))
		if c.encoding == Unknown {
			c.raw = c.value
		}
		kind := string(e.APIVersion)
		if len(e.Kind) > 0 {
			kind += " " + string(e.Kind)
		}
		if e.Encoding != c.encoding || string(e.Provider) != c.provider || string(e.Version) != c.version ||
			string(e.KeyName) != c.keyName || string(e.KeyID) != c.keyID || kind != c.kind || string(e.Raw) != c.raw {
			t.Errorf("%s: %s %q %q %q %q %q %q", c.name, e.Encoding, e.Provider, e.Version, e.KeyName, e.KeyID, kind, e.Raw)
		}
	}
}

func TestEnvelopesAreReadWithoutAllocating(t *testing.T) {
	for _, value := range []string{"k8s\x00\n\x09\n\x02v1\x12\x03Pod\x12\x03abc", "k8s:enc:kms:v2:vault:" + kmsV2("7"), `{"kind":"Pod"}`} {
		b := []byte(value)
		if n := testing.AllocsPerRun(100, func() { DecodeEnvelope(b) }); n > 0 {
			t.Errorf("%q: %v allocations", value, n)
		}
	}
}
