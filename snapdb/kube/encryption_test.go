package kube

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/nacl/secretbox"
)

const (
	secretKey  = "/registry/secrets/default/token"
	rawKey     = "0123456789abcdef0123456789abcdef"
	otherKey   = "fedcba9876543210fedcba9876543210"
	secretText = "k8s\x00\n\x0c\n\x02v1\x12\x06Secret\x12\x00\x1a\x00\"\x00"
)

// byAPIServer are secretText under rawKey, as written by the transformers of
// k8s.io/apiserver v0.34.4 for secretKey.
var byAPIServer = map[string]string{
	AESCBC:    "azhzOmVuYzphZXNjYmM6djE6a2V5MTrzMP9GqGUmPtq++vxez3HurczXjPzmaFamegR9XlLQLUb3gNDc6EcupL0lIwVVI3U=",
	AESGCM:    "azhzOmVuYzphZXNnY206djE6a2V5MTra2KXNy5JC9L9hT2hK8vbbM1csGnxS2ZmYfzZkHLIePZ4znfe4G9KcAYNdodQz4tTF7bzO",
	Secretbox: "azhzOmVuYzpzZWNyZXRib3g6djE6a2V5MTrjFCJSSkHHLIwUCOxwap/pHXwwDare6Odx6MH64bFoiwWyScbdwYZ2F8WsVR7XrEc+uDUVxSOfiXVjTHJGO3y9",
}

// config names keys as provider/name/secret.
func config(tb testing.TB, resource string, keys ...string) *EncryptionConfig {
	tb.Helper()
	text := "kind: EncryptionConfiguration\napiVersion: apiserver.config.k8s.io/v1\nresources:\n- resources: ['" + resource + "']\n  providers:\n"
	for _, k := range keys {
		part := strings.Split(k, "/")
		if part[0] == KMS {
			text += fmt.Sprintf("  - kms: {name: %s, apiVersion: %q, endpoint: 'unix:///s'}\n", part[1], part[2])
			continue
		}
		text += fmt.Sprintf("  - %s:\n      keys:\n      - name: %q\n        secret: %s\n", part[0], part[1], base64.StdEncoding.EncodeToString([]byte(part[2])))
	}
	c, err := ParseEncryptionConfig([]byte(text + "  - identity: {}\n"))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func encrypted(tb testing.TB, provider string) []byte {
	tb.Helper()
	b, err := base64.StdEncoding.DecodeString(byAPIServer[provider])
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func TestDecryption(t *testing.T) {
	for provider := range byAPIServer {
		value := encrypted(t, provider)
		for _, c := range []struct {
			name, key string
			config    *EncryptionConfig
			want      error
		}{
			{"the key", secretKey, config(t, "secrets", provider+"/key1/"+rawKey), nil},
			{"an older key first", secretKey, config(t, "secrets", provider+"/key0/"+otherKey, provider+"/key1/"+rawKey), nil},
			{"a newer key of the same name first", secretKey, config(t, "secrets", provider+"/key1/"+otherKey, provider+"/key1/"+rawKey), nil},
			{"another key of that name", secretKey, config(t, "secrets", provider+"/key1/"+otherKey), ErrWrongKey},
			{"no key of that name", secretKey, config(t, "secrets", provider+"/key2/"+rawKey), ErrNoKey},
			{"nothing but identity", secretKey, config(t, "secrets"), ErrNoKey},
		} {
			plain, err := c.config.Decrypt([]byte(c.key), value)
			if err != c.want || err == nil && string(plain) != secretText {
				t.Errorf("%s, %s: %q, %v", provider, c.name, plain, err)
			}
		}
		c := config(t, "secrets", provider+"/key1/"+rawKey)
		for n := range value {
			if plain, err := c.Decrypt([]byte(secretKey), value[:n]); err == nil {
				t.Errorf("%s cut at %d: %q", provider, n, plain)
			}
		}
	}
	moved, err := config(t, "secrets", AESGCM+"/key1/"+rawKey).Decrypt([]byte(secretKey+"2"), encrypted(t, AESGCM))
	if err != ErrWrongKey {
		t.Errorf("a value of another key: %q, %v", moved, err)
	}
	all := config(t, "secrets", "aescbc/key1/"+rawKey, "kms/vault/v2")
	for value, want := range map[string]error{
		"k8s:enc:kms:v2:vault:" + kmsV2("7"): ErrKMS,
		"k8s:enc:next:v1:key1:x":             ErrNoKey,
		secretText:                           ErrNotEncrypted,
	} {
		if _, err := all.Decrypt([]byte(secretKey), []byte(value)); err != want {
			t.Errorf("%.30q: %v", value, err)
		}
	}
}

// encrypt does what the API server does, for any plain text.
func encrypt(tb testing.TB, provider string, plain []byte) []byte {
	tb.Helper()
	head := []byte(encryptedPrefix + provider + ":v1:a:b:") // a key name with a colon
	block, err := aes.NewCipher([]byte(rawKey))
	if err != nil {
		tb.Fatal(err)
	}
	switch provider {
	case AESCBC:
		n := aes.BlockSize - len(plain)%aes.BlockSize
		padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(n)}, n)...)
		iv := []byte("an initialvector")
		cipher.NewCBCEncrypter(block, iv).CryptBlocks(padded, padded)
		return slices.Concat(head, iv, padded)
	case AESGCM:
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			tb.Fatal(err)
		}
		nonce := []byte("twelve bytes")
		return slices.Concat(head, nonce, gcm.Seal(nil, nonce, plain, []byte(secretKey)))
	}
	nonce := [24]byte([]byte("twenty-four bytes, sure."))
	return slices.Concat(head, nonce[:], secretbox.Seal(nil, plain, &nonce, (*[32]byte)([]byte(rawKey))))
}

func TestDecryptionAtAllLengths(t *testing.T) {
	for provider := range byAPIServer {
		c := config(t, "secrets", provider+"/a:b/"+rawKey)
		for n := range 40 {
			plain := []byte(`{"a":"` + strings.Repeat("x", n) + `"}`)
			got, err := c.Decrypt([]byte(secretKey), encrypt(t, provider, plain))
			if err != nil || !bytes.Equal(got, plain) {
				t.Errorf("%s of %d bytes: %q, %v", provider, len(plain), got, err)
			}
		}
		// It opens, and no API server wrote it.
		if got, err := c.Decrypt([]byte(secretKey), encrypt(t, provider, []byte("chance"))); err != ErrWrongKey {
			t.Errorf("%s of what is no object: %q, %v", provider, got, err)
		}
	}
}

func TestConfigurationsThatAreNone(t *testing.T) {
	const secret = "c2VjcmV0c2VjcmV0"
	head := "kind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n"
	for _, text := range []string{
		"", "kind: Pod", "kind: [" + secret, secret, "- " + secret, "kind: EncryptionConfiguration\nresources: " + secret,
		head + "  - aescbc: " + secret, head + "  - aescbc: {keys: [{name: [" + secret + "], secret: x}]}",
		head + "  - aescbc: {keys: [{name: k, secret: " + secret + "}]}", // 12 bytes
		head + "  - aescbc: {keys: [{name: k, secret: '" + secret + "%'}]}",
		head + "  - secretbox: {keys: [{name: k, secret: " + secret + "}]}",
		head + "  - aescbc: {keys: [{name: k, secret: {" + secret + ": 1}}]}",
		head + "\t" + secret,
	} {
		c, err := ParseEncryptionConfig([]byte(text))
		if err == nil {
			t.Errorf("%q: %+v", text, c)
		} else if strings.Contains(err.Error(), secret) {
			t.Errorf("the error quotes the secret: %v", err)
		}
	}
	c := config(t, "secrets", "aescbc/key1/"+rawKey)
	for _, shown := range []string{fmt.Sprintf("%+v", c), fmt.Sprintf("%#v", c), fmt.Sprintf("%v", *c)} {
		if strings.Contains(shown, rawKey) || strings.Contains(shown, base64.StdEncoding.EncodeToString([]byte(rawKey))) {
			t.Errorf("printing shows the secret: %s", shown)
		}
	}
}

func TestCensus(t *testing.T) {
	var c Census
	add := func(resource, value string, times int) {
		e := DecodeEnvelope([]byte(value))
		for range times {
			c.Add([]byte(resource), &e)
		}
	}
	add("secrets", "k8s:enc:aescbc:v1:key1:x", 3)
	add("secrets", "k8s:enc:aescbc:v1:key2:x", 2)
	add("secrets", secretText, 1)
	add("configmaps", "k8s:enc:kms:v2:vault:"+kmsV2("7"), 2)
	add("pods", secretText, 4)
	add("a.b/sites", `{}`, 1)
	add("a.b/sites", secretText, 1)
	want := []CensusRow{
		{Resource: "a.b/sites", Keys: 2},
		{"configmaps", KMS, "v2", "vault", "7", 2},
		{Resource: "pods", Keys: 4},
		{Resource: "secrets", Keys: 1},
		{"secrets", AESCBC, "v1", "key1", "", 3},
		{"secrets", AESCBC, "v1", "key2", "", 2},
	}
	rows := c.Rows()
	if !slices.Equal(rows, want) {
		t.Errorf("%+v", rows)
	}
	if got := c.Mixed(); !slices.Equal(got, []string{"secrets"}) {
		t.Errorf("mixed: %q", got)
	}
	for _, k := range []struct {
		config *EncryptionConfig
		want   []CensusRow
	}{
		{config(t, "*.*", "aescbc/key1/"+rawKey, "aescbc/key2/"+rawKey, "kms/vault/v2"), []CensusRow{}},
		{config(t, "*.*", "aescbc/key2/"+rawKey, "kms/vault/v1"), []CensusRow{want[1], want[4]}},
		{config(t, "configmaps", "aescbc/key1/"+rawKey, "aescbc/key2/"+rawKey, "kms/vault/v2"), want[4:]},
		{config(t, "secrets", "aesgcm/key1/"+rawKey, "aescbc/key2/"+rawKey), []CensusRow{want[1], want[4]}},
	} {
		if got := k.config.Missing(rows); !slices.Equal(got, k.want) {
			t.Errorf("missing: %+v", got)
		}
	}
	if n := testing.AllocsPerRun(100, func() { add("pods", secretText, 1) }); n > 1 { // the conversion in add
		t.Errorf("%v allocations a key", n)
	}
}

func TestCensusIsBounded(t *testing.T) {
	var c Census
	for i := range maxCensus + 10 {
		e := DecodeEnvelope(fmt.Appendf(nil, "k8s:enc:aescbc:v1:%d:x", i))
		c.Add([]byte("secrets"), &e)
	}
	plain := DecodeEnvelope([]byte(secretText))
	c.Add([]byte("pods"), &plain)
	c.Add([]byte("nodes"), &plain)
	rows := c.Rows()
	if len(rows) != maxCensus+2 {
		t.Errorf("%d rows", len(rows))
	}
	if other := rows[:2]; !slices.Equal(other, []CensusRow{{Resource: Other, Keys: 2}, {Resource: Other, Provider: Other, Keys: 10}}) {
		t.Errorf("%+v", other)
	}
	if missing := config(t, "secrets").Missing(rows); len(missing) != maxCensus {
		t.Errorf("%d keys are missing", len(missing))
	}
}

func TestEntriesOfResources(t *testing.T) {
	for _, c := range []struct {
		pattern, kept string
		want          bool
	}{
		{"secrets", "secrets", true},
		{"secrets", "configmaps", false},
		{"deployments.apps", "deployments", true},
		{"services", "services/specs", true},
		{"endpoints", "services/endpoints", true},
		{"nodes", "minions", true},
		{"sites.a.b", "a.b/sites", true},
		{"sites.c.d", "a.b/sites", false},
		{"sites", "a.b/sites", false},
		{"*.a.b", "a.b/sites", true},
		{"*.a.c", "a.b/sites", false},
		{"*.", "secrets", true},
		{"*.", "a.b/sites", false},
		{"*.*", "a.b/sites", true},
		{"*.*", "secrets", true},
		{"", "secrets", false},
	} {
		if got := names(c.pattern, c.kept); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.kept, got)
		}
	}
}
