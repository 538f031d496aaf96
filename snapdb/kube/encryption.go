package kube

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/crypto/nacl/secretbox"
	"sigs.k8s.io/yaml"
)

// An EncryptionConfig is what an EncryptionConfiguration file of an API server
// says of keys. Printing one shows no secret.
type EncryptionConfig struct {
	keys []configKey
}

// A configKey is one key of one provider in one list of resources.
type configKey struct {
	provider, version string
	name              string
	resources         []string
	decrypt           func(ciphertext, authenticated []byte) ([]byte, error) // nil for a KMS
}

// prefix is what stands before values that this key encrypted.
func (k *configKey) prefix() string {
	return encryptedPrefix + k.provider + ":" + k.version + ":" + k.name + ":"
}

// encryptionFile is the file (apiserver v0.34.4,
// pkg/apis/apiserver/v1/types_encryption.go).
type encryptionFile struct {
	Kind      string `json:"kind"`
	Resources []struct {
		Resources []string `json:"resources"`
		Providers []struct {
			AESGCM    *encryptionKeys `json:"aesgcm"`
			AESCBC    *encryptionKeys `json:"aescbc"`
			Secretbox *encryptionKeys `json:"secretbox"`
			KMS       *struct {
				APIVersion string `json:"apiVersion"`
				Name       string `json:"name"`
			} `json:"kms"`
		} `json:"providers"`
	} `json:"resources"`
}

type encryptionKeys struct {
	Keys []struct {
		Name   string `json:"name"`
		Secret string `json:"secret"`
	} `json:"keys"`
}

var lineNumber = regexp.MustCompile(`line \d+`)

// ParseEncryptionConfig reads an EncryptionConfiguration, as YAML or JSON. No
// error quotes the file, which is made of secrets.
func ParseEncryptionConfig(text []byte) (*EncryptionConfig, error) {
	var file encryptionFile
	if err := yaml.Unmarshal(text, &file); err != nil {
		if at := lineNumber.FindString(err.Error()); at != "" {
			return nil, fmt.Errorf("not an EncryptionConfiguration: %s", at)
		}
		return nil, errors.New("not an EncryptionConfiguration")
	}
	// The kind was EncryptionConfig up to Kubernetes 1.12.
	if file.Kind != "EncryptionConfiguration" && file.Kind != "EncryptionConfig" {
		return nil, errors.New("not an EncryptionConfiguration: kind is another")
	}
	c := &EncryptionConfig{}
	for _, r := range file.Resources {
		for _, p := range r.Providers {
			for _, local := range []struct {
				provider string
				keys     *encryptionKeys
			}{{AESCBC, p.AESCBC}, {AESGCM, p.AESGCM}, {Secretbox, p.Secretbox}} {
				if err := c.addKeys(r.Resources, local.provider, local.keys); err != nil {
					return nil, err
				}
			}
			if p.KMS != nil {
				version := p.KMS.APIVersion
				if version == "" {
					version = "v1" // the API server's default
				}
				c.keys = append(c.keys, configKey{provider: KMS, version: version, name: p.KMS.Name, resources: r.Resources})
			}
		}
	}
	return c, nil
}

func (c *EncryptionConfig) addKeys(resources []string, provider string, keys *encryptionKeys) error {
	if keys == nil {
		return nil
	}
	for _, k := range keys.Keys {
		decrypt, err := decrypter(provider, k.Secret)
		if err != nil {
			return fmt.Errorf("key %q of %s: %w", k.Name, provider, err)
		}
		c.keys = append(c.keys, configKey{provider, "v1", k.Name, resources, decrypt})
	}
	return nil
}

// decrypter makes the function that opens what one key closed (apiserver
// v0.34.4, pkg/storage/value/encrypt/aes/aes.go and secretbox/secretbox.go).
func decrypter(provider, secret string) (func(ciphertext, authenticated []byte) ([]byte, error), error) {
	key, err := base64.StdEncoding.DecodeString(secret)
	if err != nil {
		return nil, errors.New("its secret is not base64")
	}
	if provider == Secretbox {
		if len(key) != 32 {
			return nil, fmt.Errorf("its secret has %d bytes, and 32 are needed", len(key))
		}
		return func(ciphertext, _ []byte) ([]byte, error) { return openSecretbox((*[32]byte)(key), ciphertext) }, nil
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("its secret has %d bytes, and 16, 24 or 32 are needed", len(key))
	}
	if provider == AESCBC {
		return func(ciphertext, _ []byte) ([]byte, error) { return openCBC(block, ciphertext) }, nil
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	return func(ciphertext, authenticated []byte) ([]byte, error) { return openGCM(gcm, ciphertext, authenticated) }, nil
}

var errNotOpened = errors.New("the key does not open it")

// openCBC opens a 16-byte initialisation vector and whole blocks, padded as in
// PKCS #7. Nothing authenticates them.
func openCBC(block cipher.Block, b []byte) ([]byte, error) {
	const size = aes.BlockSize
	if len(b) < 2*size || len(b)%size != 0 {
		return nil, errNotOpened
	}
	plain := make([]byte, len(b)-size)
	cipher.NewCBCDecrypter(block, b[:size]).CryptBlocks(plain, b[size:])
	padding := int(plain[len(plain)-1])
	if padding == 0 || padding > size || !bytes.Equal(plain[len(plain)-padding:], bytes.Repeat([]byte{byte(padding)}, padding)) {
		return nil, errNotOpened
	}
	return plain[:len(plain)-padding], nil
}

// openGCM opens a 12-byte nonce and what was sealed with it and with the key in
// etcd.
func openGCM(gcm cipher.AEAD, b, authenticated []byte) ([]byte, error) {
	if len(b) < gcm.NonceSize() {
		return nil, errNotOpened
	}
	plain, err := gcm.Open(nil, b[:gcm.NonceSize()], b[gcm.NonceSize():], authenticated)
	if err != nil {
		return nil, errNotOpened
	}
	return plain, nil
}

// openSecretbox opens a 24-byte nonce and a box.
func openSecretbox(key *[32]byte, b []byte) ([]byte, error) {
	var nonce [24]byte
	if len(b) < len(nonce)+secretbox.Overhead {
		return nil, errNotOpened
	}
	copy(nonce[:], b)
	plain, ok := secretbox.Open(nil, b[len(nonce):], &nonce, key)
	if !ok {
		return nil, errNotOpened
	}
	return plain, nil
}

// Why a value was not decrypted.
var (
	ErrNotEncrypted = errors.New("the value is not encrypted")
	ErrKMS          = errors.New("a KMS holds the key")
	ErrNoKey        = errors.New("the configuration has no key of that name")
	ErrWrongKey     = errors.New("the key of that name does not open the value")
)

// Decrypt opens a value. key is the key in etcd as the API server wrote it, with
// its prefix: aesgcm authenticates it. What opens but is no object of Kubernetes
// was opened with the wrong key, which aescbc cannot tell by itself.
func (c *EncryptionConfig) Decrypt(key, value []byte) ([]byte, error) {
	e := DecodeEnvelope(value)
	if e.Encoding != Encrypted {
		return nil, ErrNotEncrypted
	}
	if string(e.Provider) == KMS {
		return nil, ErrKMS
	}
	err := ErrNoKey
	for i := range c.keys {
		k := &c.keys[i]
		ciphertext, ok := bytes.CutPrefix(value, []byte(k.prefix()))
		if !ok || k.decrypt == nil {
			continue
		}
		err = ErrWrongKey
		plain, openErr := k.decrypt(ciphertext, key)
		if openErr != nil {
			continue
		}
		if inside := DecodeEnvelope(plain).Encoding; inside != Unknown && inside != Encrypted {
			return plain, nil
		}
	}
	return nil, err
}

// Missing gives the rows of a census for which the configuration has no key.
// Resources that are kept without their group are compared without it.
func (c *EncryptionConfig) Missing(rows []CensusRow) []CensusRow {
	missing := []CensusRow{}
	for _, r := range rows {
		if r.Encrypted() && r.Resource != Other && !slices.ContainsFunc(c.keys, func(k configKey) bool { return k.serves(&r) }) {
			missing = append(missing, r)
		}
	}
	return missing
}

func (k *configKey) serves(r *CensusRow) bool {
	// A key name may hold colons, and the row has it up to the first.
	name, _, _ := strings.Cut(k.name, ":")
	if k.provider != r.Provider || k.version != r.Version || name != r.KeyName {
		return false
	}
	return slices.ContainsFunc(k.resources, func(pattern string) bool { return names(pattern, r.Resource) })
}

// keptAs are the resources that are kept under another name than their own
// (kubernetes, pkg/kubeapiserver/default_storage_factory_builder.go,
// SpecialDefaultResourcePrefixes; the last one up to v1.24).
var keptAs = map[string]string{
	"replicationcontrollers": "controllers",
	"endpoints":              "services/endpoints",
	"services":               "services/specs",
	"nodes":                  "minions",
	"ingresses":              "ingress",
	"podsecuritypolicies":    "podsecuritypolicy",
}

// names says whether an entry of resources (secrets, pandas.bears.example,
// *.apps, *., *.*) can mean a resource as kept.
func names(pattern, kept string) bool {
	resource, of, _ := strings.Cut(pattern, ".")
	if as, ok := keptAs[resource]; ok {
		resource = as
	}
	if of == "*" {
		return true
	}
	g, plain, grouped := strings.Cut(kept, "/")
	if grouped && strings.Contains(g, ".") {
		return of == g && (resource == "*" || resource == plain)
	}
	return resource == "*" || resource == kept
}
