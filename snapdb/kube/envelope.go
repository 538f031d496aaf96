package kube

import (
	"bytes"

	"google.golang.org/protobuf/encoding/protowire"
)

// An Encoding is the way in which a value is kept.
type Encoding string

const (
	Protobuf  Encoding = "protobuf"
	JSON      Encoding = "json"
	CBOR      Encoding = "cbor"
	Encrypted Encoding = "encrypted"
	Unknown   Encoding = "unknown" // not an object: compact_rev_key, or anything else
)

const (
	// protobufPrefix stands before runtime.Unknown (apimachinery v0.34.4,
	// pkg/runtime/serializer/protobuf/protobuf.go).
	protobufPrefix = "k8s\x00"
	// cborPrefix is the head of tag 55799, self-described CBOR (RFC 8949, 3.4.6;
	// apimachinery v0.34.4, pkg/runtime/serializer/cbor).
	cborPrefix = "\xd9\xd9\xf7"
	// encryptedPrefix stands before provider, version and key name (apiserver
	// v0.34.4, pkg/server/options/encryptionconfig/config.go).
	encryptedPrefix = "k8s:enc:"
)

// Providers of encryption, as they stand in values and configurations.
const (
	AESCBC    = "aescbc"
	AESGCM    = "aesgcm"
	Secretbox = "secretbox"
	KMS       = "kms"

	// Identity stands in configurations for values that are not encrypted.
	Identity = "identity"
)

// An Envelope is what the outermost layer of a value says. The parts lie in the
// value.
type Envelope struct {
	Encoding Encoding

	// Of an encrypted value.
	Provider []byte // aescbc, aesgcm, secretbox, kms
	Version  []byte // v1, v2
	KeyName  []byte // of the local key, or the name of the KMS plugin; ends at the first colon
	KeyID    []byte // the key that the KMS used (v2 alone keeps it)

	// Of protobuf. JSON and CBOR keep these inside the object, where DecodeMeta
	// reads them.
	APIVersion, Kind []byte

	// Raw is the object, or the ciphertext.
	Raw []byte
}

// DecodeEnvelope reads the outermost layer of a value without allocating. What
// is cut short or contradicts itself is Unknown.
func DecodeEnvelope(value []byte) Envelope {
	switch {
	case bytes.HasPrefix(value, []byte(encryptedPrefix)):
		return decodeEncrypted(value)
	case bytes.HasPrefix(value, []byte(protobufPrefix)):
		return decodeUnknown(value)
	case bytes.HasPrefix(value, []byte(cborPrefix)):
		return Envelope{Encoding: CBOR, Raw: value}
	case isJSON(value):
		return Envelope{Encoding: JSON, Raw: value}
	}
	return Envelope{Encoding: Unknown, Raw: value}
}

// isJSON looks for the opening brace, as the API server's recogniser does.
func isJSON(value []byte) bool {
	value = bytes.TrimLeft(value, " \t\r\n")
	return len(value) > 0 && value[0] == '{'
}

// decodeEncrypted reads k8s:enc:<provider>:<version>:<key name>:<ciphertext>.
func decodeEncrypted(value []byte) Envelope {
	e := Envelope{Encoding: Encrypted}
	rest := value[len(encryptedPrefix):]
	for _, part := range []*[]byte{&e.Provider, &e.Version, &e.KeyName} {
		word, after, found := bytes.Cut(rest, []byte(":"))
		if !found || len(word) == 0 {
			return Envelope{Encoding: Unknown, Raw: value}
		}
		*part, rest = word, after
	}
	e.Raw = rest
	if string(e.Provider) == KMS && string(e.Version) == "v2" {
		e.KeyID = stringField(rest, 2)
	}
	return e
}

// decodeUnknown reads runtime.Unknown: 1 typeMeta (1 apiVersion, 2 kind), 2 raw,
// 3 contentEncoding, 4 contentType (apimachinery v0.34.4,
// pkg/runtime/generated.proto). The API server leaves the last two empty.
func decodeUnknown(value []byte) Envelope {
	e := Envelope{Encoding: Protobuf}
	ok := eachField(value[len(protobufPrefix):], func(num protowire.Number, content []byte) {
		switch num {
		case 1:
			e.APIVersion, e.Kind = stringField(content, 1), stringField(content, 2)
		case 2:
			e.Raw = content
		}
	})
	if !ok {
		return Envelope{Encoding: Unknown, Raw: value}
	}
	return e
}

// eachField hands over every length-delimited field of a message and skips the
// others. It gives false when the message breaks off or breaks a rule.
func eachField(message []byte, visit func(num protowire.Number, content []byte)) bool {
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return false
		}
		m := protowire.ConsumeFieldValue(num, typ, message[n:])
		if m < 0 {
			return false
		}
		if typ == protowire.BytesType {
			content, _ := protowire.ConsumeBytes(message[n:])
			visit(num, content)
		}
		message = message[n+m:]
	}
	return true
}

// stringField gives the last length-delimited field of that number, nil when
// there is none.
func stringField(message []byte, want protowire.Number) []byte {
	var found []byte
	eachField(message, func(num protowire.Number, content []byte) {
		if num == want {
			found = content
		}
	})
	return found
}

// varintField gives the last varint field of that number, 0 when there is none.
func varintField(message []byte, want protowire.Number) int64 {
	var found int64
	for len(message) > 0 {
		num, typ, n := protowire.ConsumeTag(message)
		if n < 0 {
			return found
		}
		m := protowire.ConsumeFieldValue(num, typ, message[n:])
		if m < 0 {
			return found
		}
		if num == want && typ == protowire.VarintType {
			v, _ := protowire.ConsumeVarint(message[n:])
			found = int64(v)
		}
		message = message[n+m:]
	}
	return found
}
