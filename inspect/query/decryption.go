package query

import (
	"fmt"

	"etcd-forensics/snapdb/kube"
)

// A Decryption opens values that the API server of Kubernetes keeps encrypted. The
// keys stay in memory. A nil Decryption opens nothing.
type Decryption struct{ config *kube.EncryptionConfig }

// NewDecryption reads an EncryptionConfiguration.
func NewDecryption(text []byte) (*Decryption, error) {
	config, err := kube.ParseEncryptionConfig(text)
	if err != nil {
		return nil, err
	}
	return &Decryption{config}, nil
}

// keys gives what the configuration says of keys, nil when there is none.
func (d *Decryption) keys() *kube.EncryptionConfig {
	if d == nil {
		return nil
	}
	return d.config
}

// Open puts what an encrypted value says in its place. An error says why it could not.
func (d *Decryption) Open(v *Version) error {
	if d == nil || v.Value == nil {
		return nil
	}
	if e := kube.DecodeEnvelope(v.Value); e.Encoding != kube.Encrypted {
		return nil
	}
	plain, err := d.config.Decrypt(v.Key, v.Value)
	if err != nil {
		return fmt.Errorf("key %+q: %w", v.Key, err)
	}
	v.Value = plain
	return nil
}
