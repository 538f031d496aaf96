package redact

import (
	"bytes"

	"etcd-forensics/snapdb/kube"
)

// value overwrites the value of a key. What says how the value is kept stays, because
// findings depend on it.
func (r *redactor) value(b, key []byte) {
	if r.survey || len(b) == 0 {
		return
	}
	r.count.Values++
	if r.publicEnd(key) == 0 && !bytes.HasSuffix(key, []byte(kube.CompactRevKey)) {
		r.cipher.noise(b, key)
		return
	}
	switch e := kube.DecodeEnvelope(b); e.Encoding {
	case kube.Encrypted:
		r.encrypted(b, key, &e)
	case kube.Protobuf:
		r.object(b[len("k8s\x00"):], key, unknownObject)
	case kube.CBOR:
		r.cipher.noise(b[len("\xd9\xd9\xf7"):], key)
	case kube.JSON:
		r.cipher.noise(b[bytes.IndexByte(b, '{')+1:], key)
	default:
		r.unknownValue(b, key)
	}
}

// encrypted keeps provider, version, and pseudonyms of what names the key.
func (r *redactor) encrypted(b, key []byte, e *kube.Envelope) {
	v2 := string(e.Provider) == kube.KMS && string(e.Version) == "v2"
	if !providers[string(e.Provider)] {
		r.cipher.permute(e.Provider, "name")
	}
	if string(e.Version) != "v1" && !v2 {
		r.cipher.permute(e.Version, "name")
	}
	r.cipher.permute(e.KeyName, "name")
	if v2 && encryptedObject.parses(e.Raw) {
		r.object(e.Raw, key, encryptedObject)
		return
	}
	r.cipher.noise(e.Raw, key)
}

// providers are those of API servers.
var providers = setOf("aescbc aesgcm secretbox " + kube.KMS)

// object redacts the outermost layer of an object, and has noise for what is in it.
func (r *redactor) object(b, key []byte, s schema) {
	parts, rest, _ := split(b, nil)
	for _, p := range parts {
		switch s[p.num].do {
		case noises:
			r.cipher.noise(b[p.body:p.end], key)
		case within:
			r.message(b[p.body:p.end], s[p.num].sub)
		case worded:
			r.word(b[p.body:p.end])
		default:
			r.cipher.noise(b[p.body:p.end], key)
		}
	}
	r.cipher.noise(b[rest:], key)
}

// unknownValue keeps the revision that API servers leave for each other. Noise must
// not look like an object.
func (r *redactor) unknownValue(b, key []byte) {
	if bytes.HasSuffix(key, []byte(kube.CompactRevKey)) && len(bytes.Trim(b, "0123456789")) == 0 {
		return
	}
	r.cipher.noise(b, key)
	if kube.DecodeEnvelope(b).Encoding != kube.Unknown {
		b[0] = 0
	}
}
