// Package kube gives the keys that the API server of Kubernetes keeps in etcd
// their meaning. It decodes single keys and values and knows no file. It accepts
// any input.
//
// A key is made of the prefix of --etcd-prefix, the resource, the namespace when
// the resource has one, and the name (kubernetes v1.34,
// staging/src/k8s.io/apiserver/pkg/registry/generic/registry/store.go,
// NamespaceKeyRootFunc and NamespaceKeyFunc):
//
//	/registry/pods/default/web-0
//	/registry/namespaces/default
//	/registry/apiregistration.k8s.io/apiservices/v1.apps
//	/registry/cert-manager.io/certificates/team/site
//
// Older resources are kept under their plain name, or under another than today's
// (minions are nodes, controllers are replicationcontrollers). Resources of API
// groups that came later, and all custom resources, are kept under their group,
// whose name has a dot in it, and then their own. Services have two more words:
// services/specs and services/endpoints.
package kube

import "bytes"

// DefaultPrefix is the API server's own (--etcd-prefix).
const DefaultPrefix = "/registry"

// KnownPrefixes are those that platforms use: the API server's own, and the two of
// OpenShift.
var KnownPrefixes = []string{DefaultPrefix, "/kubernetes.io", "/openshift.io"}

// CompactRevKey is the key by which API servers agree on compactions; it lies
// beside their prefix (kubernetes v1.34,
// staging/src/k8s.io/apiserver/pkg/storage/etcd3/compact.go).
const CompactRevKey = "compact_rev_key"

// A Name is what a key says of its object. The parts lie in the key.
type Name struct {
	Prefix    []byte // without the slash that follows
	Group     []byte // API group, nil for resources that are kept without one
	Resource  []byte // as kept: minions, services/specs, certificates
	Namespace []byte // nil for what belongs to none
	Name      []byte

	resourceEnd, namespaceEnd int
}

// ResourceEnd gives the length of the key's part that names prefix, group and
// resource, with the slash that follows.
func (n *Name) ResourceEnd() int { return n.resourceEnd }

// NamespaceEnd gives the length of the key's part up to the namespace and the
// slash that follows; that of ResourceEnd when there is no namespace.
func (n *Name) NamespaceEnd() int { return n.namespaceEnd }

// ParseKey takes a key apart. ok is false for a key that does not lie under the
// prefix or names no resource.
func ParseKey(key []byte, prefix string) (n Name, ok bool) {
	if len(key) <= len(prefix) || string(key[:len(prefix)]) != prefix || key[len(prefix)] != '/' {
		return Name{}, false
	}
	n.Prefix = key[:len(prefix)]
	at := len(prefix) + 1
	word := func() []byte {
		i := bytes.IndexByte(key[at:], '/')
		if i < 0 {
			return nil
		}
		w := key[at : at+i]
		at += i + 1
		return w
	}
	first := at
	n.Resource = word()
	switch {
	case n.Resource == nil:
		return Name{}, false
	case bytes.IndexByte(n.Resource, '.') >= 0:
		n.Group = n.Resource
		if n.Resource = word(); n.Resource == nil {
			return Name{}, false
		}
	case string(n.Resource) == "services":
		if word() == nil {
			return Name{}, false
		}
		n.Resource = key[first : at-1]
	}
	n.resourceEnd, n.namespaceEnd = at, at
	if ns := word(); ns != nil {
		n.Namespace, n.namespaceEnd = ns, at
	}
	n.Name = key[at:]
	return n, true
}

// maxPrefix bounds the bytes of a prefix that is found out.
const maxPrefix = 256

// ownKeys are ends of keys that every API server writes for itself.
var ownKeys = []string{"/services/specs/default/kubernetes", "/services/endpoints/default/kubernetes", "/namespaces/kube-system"}

// PrefixOf gives the prefix of an API server's keys when a key gives it away: by a
// prefix that platforms use, or because every API server writes this key.
func PrefixOf(key []byte) (prefix string, ok bool) {
	for _, known := range KnownPrefixes {
		if _, ok := ParseKey(key, known); ok {
			return known, true
		}
	}
	for _, own := range ownKeys {
		if before, ok := bytes.CutSuffix(key, []byte(own)); ok && mayBePrefix(before) {
			return string(before), true
		}
	}
	before, _, ok := bytes.Cut(key, []byte("/apiregistration.k8s.io/apiservices/"))
	return string(before), ok && mayBePrefix(before)
}

// mayBePrefix says whether b has the form to which API servers bring a prefix
// (kubernetes v1.34, staging/src/k8s.io/apiserver/pkg/storage/etcd3/store.go, New).
func mayBePrefix(b []byte) bool {
	return len(b) <= maxPrefix && (len(b) == 0 || b[0] == '/' && b[len(b)-1] != '/')
}
