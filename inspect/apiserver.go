package inspect

import (
	"bytes"
	"encoding/binary"
	"sync"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/snapdb/scan"
)

// What is looked at to find the prefix of an API server's keys out. Records lie in the
// order in which they were written, and an API server writes its own objects first.
const (
	prefixRecords = 4096
	prefixBytes   = 16 << 20
)

// FindKubernetes gives the prefix of an API server's keys, without the slash that
// follows, when one of the oldest records of bucket key gives it away.
func FindKubernetes(rows *scan.Rows) (prefix string, ok bool) {
	records, size := 0, 0
	rows.From(nil, func(r scan.Row) bool {
		if kv, err := keyspace.DecodeKeyValue(r.Value); err == nil {
			prefix, ok = kube.PrefixOf(kv.Key)
		}
		records++
		size += len(r.Value)
		return !ok && records < prefixRecords && size < prefixBytes
	})
	return prefix, ok
}

// findKubernetes looks whether the keys are an API server's.
func (d *database) findKubernetes() {
	if b, ok := d.bucket[keyspace.BucketKey]; ok {
		if prefix, ok := FindKubernetes(scan.NewRows(d.tree, b)); ok {
			d.kube = newKubeClasses(prefix)
		}
	}
}

// The first classes of keys of a store that looks like an API server's.
const (
	classUnknown = iota // there was no room for more classes
	classOutside        // the key names no object
	classFirst
)

// maxClassNames bounds the bytes of all classes' names.
const maxClassNames = 16 << 20

// A kubeClass is what keys of one class have in common: their resource, and how their
// values are kept.
type kubeClass struct {
	resource string // as kept: pods, services/specs, cert-manager.io/certificates
	// Empty where values are not encrypted.
	provider, version, keyName, keyID string
}

// kubeClasses hands out the classes.
type kubeClasses struct {
	prefix string

	mu      sync.Mutex
	ids     map[kubeClass]uint16
	classes []kubeClass // by class
	bytes   int         // of their names
	full    bool
	parsers []*kubeParser
}

func newKubeClasses(prefix string) *kubeClasses {
	return &kubeClasses{prefix: prefix + "/", ids: map[kubeClass]uint16{}, classes: make([]kubeClass, classFirst)}
}

func (k *kubeClasses) id(c kubeClass) uint16 {
	k.mu.Lock()
	defer k.mu.Unlock()
	if id, ok := k.ids[c]; ok {
		return id
	}
	n := len(c.resource) + len(c.provider) + len(c.version) + len(c.keyName) + len(c.keyID)
	if len(k.classes) == scan.MaxClasses || k.bytes+n > maxClassNames {
		k.full = true
		return classUnknown
	}
	k.bytes += n
	id := uint16(len(k.classes))
	k.ids[c] = id
	k.classes = append(k.classes, c)
	return id
}

// parser gives the function that tells classes to one parser.
func (k *kubeClasses) parser() func(key, value []byte) uint16 {
	p := &kubeParser{of: k, prefix: []byte(k.prefix), known: map[string]uint16{}}
	k.parsers = append(k.parsers, p)
	return p.class
}

// outside gives the number of records whose keys name no object.
func (k *kubeClasses) outside() int64 {
	var n int64
	for _, p := range k.parsers {
		n += p.outside
	}
	return n
}

// A kubeParser tells the classes of records. Nearly all have the resource of one of the
// last records: a key that begins as theirs, up to the slash behind the resource, has
// the same. It is looked for by the first 16 bytes behind the prefix.
type kubeParser struct {
	of      *kubeClasses
	prefix  []byte
	slots   [256]kubeSlot
	known   map[string]uint16 // by the part of a key that names the resource
	outside int64             // records whose keys name no object
}

// A kubeSlot is the class of the last resource of some.
type kubeSlot struct {
	head  uint64 // first word, up to its first slash
	tail  uint64 // second word, as far as mask says
	mask  uint64
	class uint16
	name  []byte // prefix and resource, with the slash that follows; nil when head and tail have it all
}

// maxKnown bounds the resources that a parser knows without asking.
const maxKnown = 1 << 12

// encrypted is what the value of an encrypted object begins with (apiserver v0.34.4,
// pkg/server/options/encryptionconfig/config.go).
const encrypted = "k8s:enc:"

func (p *kubeParser) class(key, value []byte) uint16 {
	if len(value) >= len(encrypted) && string(value[:len(encrypted)]) == encrypted {
		return p.encrypted(key, value)
	}
	at := len(p.prefix)
	if len(key) < at+16 || string(key[:at]) != string(p.prefix) {
		class, _ := p.parse(key)
		return class
	}
	word, tail := binary.LittleEndian.Uint64(key[at:]), binary.LittleEndian.Uint64(key[at+8:])
	head, spread := headOf(word, tail)
	slot := &p.slots[spread]
	if slot.class != classUnknown && slot.head == head && slot.tail == tail&slot.mask && (slot.name == nil || bytes.HasPrefix(key, slot.name)) {
		return slot.class
	}
	class, name := p.parse(key)
	if class == classOutside {
		return class
	}
	*slot = kubeSlot{head: head, class: class}
	switch n := len(name) - at; {
	case n > 16 || n > 1+bytes.IndexByte(key[at:], '/') && bytes.IndexByte(key[at:at+8], '/') >= 0:
		slot.name = append(slot.name, name...)
	case n > 8:
		slot.mask = 1<<(8*(n-8)) - 1
		slot.tail = tail & slot.mask
	}
	return class
}

// headOf gives the first word behind the prefix up to its first slash, and the slot
// of it: without a slash, the second word has a say as well.
func headOf(word, tail uint64) (head uint64, slot uint8) {
	const ones = 0x0101010101010101
	// The highest bit of a byte is set in slash where word has one; the lowest is right.
	differs := word ^ '/'*ones
	slash := (differs - ones) &^ differs & (ones << 7)
	head = word & ((slash&-slash)<<1 - 1)
	none := uint64(int64((slash-1)&^slash) >> 63) // all bits when there is no slash
	return head, uint8((head ^ tail<<32&none) * 0x9e3779b97f4a7c15 >> 56)
}

// parse gives the class of a key whose value is not encrypted, and the part that names
// prefix and resource.
func (p *kubeParser) parse(key []byte) (class uint16, name []byte) {
	n, ok := kube.ParseKey(key, string(p.prefix[:len(p.prefix)-1]))
	if !ok {
		p.outside++
		return classOutside, nil
	}
	name = key[:n.ResourceEnd()]
	class, ok = p.known[string(name)]
	if !ok {
		class = p.of.id(kubeClass{resource: string(p.resource(name))})
		if class != classUnknown && len(p.known) < maxKnown {
			p.known[string(name)] = class
		}
	}
	return class, name
}

// resource gives the name of the resource in the part of a key up to the slash behind it.
func (p *kubeParser) resource(name []byte) []byte { return name[len(p.prefix) : len(name)-1] }

// encrypted gives the class of a record whose value says that it is encrypted.
func (p *kubeParser) encrypted(key, value []byte) uint16 {
	n, ok := kube.ParseKey(key, string(p.prefix[:len(p.prefix)-1]))
	if !ok {
		p.outside++
		return classOutside
	}
	e := kube.DecodeEnvelope(value)
	return p.of.id(kubeClass{string(p.resource(key[:n.ResourceEnd()])), string(e.Provider), string(e.Version), string(e.KeyName), string(e.KeyID)})
}
