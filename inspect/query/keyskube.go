package query

import (
	"bytes"
	"cmp"
	"path"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb/kube"
	"etcd-forensics/snapdb/scan"
)

// KubernetesMode says whether keys are counted as an API server's.
type KubernetesMode uint8

// With KubernetesAuto, the keys tell.
const (
	KubernetesAuto KubernetesMode = iota
	KubernetesOn
	KubernetesOff
)

// KubernetesKeys are the keys of an API server, by what they are.
type KubernetesKeys struct {
	Prefix     string // of its keys, without the slash that follows
	Resources  []ResourceKeys
	Namespaces []NamespaceKeys
	Cells      []ResourceNamespace
	Outside    KeyCounts // keys that name no object, such as compact_rev_key
	Folded     OtherRows // for which there was no room
	Objects    *Objects  // nil when they were not looked into
}

// ResourceKeys counts the objects of one resource.
type ResourceKeys struct {
	Group      []byte // API group, nil for resources that are kept without one
	Resource   []byte // as kept, with the group before it: pods, services/specs, cert-manager.io/certificates
	Namespaced bool
	Namespaces int64 // in which there are objects
	KeyCounts
}

// NamespaceKeys counts the objects of one namespace.
type NamespaceKeys struct {
	Namespace []byte
	Resources int64 // of which there are objects
	KeyCounts
}

// ResourceNamespace counts the objects of one resource in one namespace.
type ResourceNamespace struct {
	Resource  []byte
	Namespace []byte // nil for objects that belong to none
	KeyCounts
}

// guesses says whether it was left to the keys whether they are an API server's.
func (o *KeysOptions) guesses() bool { return o.Kubernetes == KubernetesAuto && o.EtcdPrefix == "" }

// kubernetes gives the prefix of an API server's keys, and whether there is one.
func (o *KeysOptions) kubernetes(rows *scan.Rows) (prefix string, ok bool) {
	switch {
	case o.Kubernetes == KubernetesOff:
		return "", false
	case o.EtcdPrefix != "":
		return normalPrefix(o.EtcdPrefix), true
	}
	if prefix, ok = inspect.FindKubernetes(rows); !ok && o.Kubernetes == KubernetesOn {
		return kube.DefaultPrefix, true
	}
	return prefix, ok
}

// normalPrefix brings a prefix to the form in which the API server uses it (kubernetes
// v1.34, staging/src/k8s.io/apiserver/pkg/storage/etcd3/store.go, New).
func normalPrefix(prefix string) string {
	if prefix = path.Join("/", prefix); prefix == "/" {
		return ""
	}
	return prefix
}

// cutAtNamespace cuts keys so that both their resource and namespace and the prefix that
// depth gives can be told from what is left: behind the longer of the two.
func cutAtNamespace(prefix string, depth func([]byte) int) func(key []byte) int {
	return func(key []byte) int {
		end := depth(key)
		if n, ok := kube.ParseKey(key, prefix); ok {
			end = max(end, n.NamespaceEnd())
		}
		return end
	}
}

// countObjects adds up rows that were cut behind the namespace.
func countObjects(counted *scan.PrefixResult, prefix string, opts KeysOptions) *KubernetesKeys {
	k := &KubernetesKeys{Prefix: prefix, Folded: OtherRows{counted.OtherRows, countsOf(&counted.Other)}}
	cells := map[string]int{}
	for i := range counted.Rows {
		row := &counted.Rows[i]
		counts := countsOf(&row.Counts)
		n, ok := kube.ParseKey(row.Prefix, prefix)
		if !ok {
			k.Outside.add(&counts)
			continue
		}
		at, ok := cells[string(row.Prefix[:n.NamespaceEnd()])]
		if !ok {
			at = len(k.Cells)
			cells[string(row.Prefix[:n.NamespaceEnd()])] = at
			k.Cells = append(k.Cells, ResourceNamespace{Resource: row.Prefix[len(prefix)+1 : n.ResourceEnd()-1], Namespace: n.Namespace})
		}
		k.Cells[at].add(&counts)
	}
	k.join()
	k.sort(opts)
	return k
}

// join adds the cells up by resource and by namespace.
func (k *KubernetesKeys) join() {
	resources, namespaces := map[string]int{}, map[string]int{}
	for i := range k.Cells {
		c := &k.Cells[i]
		at, ok := resources[string(c.Resource)]
		if !ok {
			at = len(k.Resources)
			resources[string(c.Resource)] = at
			k.Resources = append(k.Resources, ResourceKeys{Group: groupOf(c.Resource), Resource: c.Resource})
		}
		r := &k.Resources[at]
		r.add(&c.KeyCounts)
		if c.Namespace == nil {
			continue
		}
		r.Namespaced = true
		if at, ok = namespaces[string(c.Namespace)]; !ok {
			at = len(k.Namespaces)
			namespaces[string(c.Namespace)] = at
			k.Namespaces = append(k.Namespaces, NamespaceKeys{Namespace: c.Namespace})
		}
		ns := &k.Namespaces[at]
		ns.add(&c.KeyCounts)
		if c.Live > 0 {
			r.Namespaces++
			ns.Resources++
		}
	}
}

// groupOf gives the API group of a resource as it is kept: a first word with a dot.
func groupOf(resource []byte) []byte {
	if group, _, ok := bytes.Cut(resource, []byte("/")); ok && bytes.IndexByte(group, '.') >= 0 {
		return group
	}
	return nil
}

func (k *KubernetesKeys) sort(opts KeysOptions) {
	slices.SortFunc(k.Resources, func(a, b ResourceKeys) int {
		return cmp.Or(a.compare(&b.KeyCounts, opts.Sort), bytes.Compare(a.Resource, b.Resource))
	})
	slices.SortFunc(k.Namespaces, func(a, b NamespaceKeys) int {
		return cmp.Or(a.compare(&b.KeyCounts, opts.Sort), bytes.Compare(a.Namespace, b.Namespace))
	})
	slices.SortFunc(k.Cells, func(a, b ResourceNamespace) int {
		return cmp.Or(a.compare(&b.KeyCounts, opts.Sort), bytes.Compare(a.Resource, b.Resource), bytes.Compare(a.Namespace, b.Namespace))
	})
}
