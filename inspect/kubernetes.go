package inspect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"etcd-forensics/snapdb/kube"
)

// Kubernetes says what the live keys of an API server are.
type Kubernetes struct {
	Prefix string `json:"prefix"` // of its keys, without the slash that follows
	// Resources by name. When there are more resources and ways of keeping them than
	// can be told apart, they are one, kube.Other, and Encryption is empty.
	Resources []KubernetesResource `json:"resources"`
	// Encryption tells of the resources of which any value is encrypted.
	Encryption []KubernetesEncryption `json:"encryption"`
}

// A KubernetesResource counts the live objects of one resource.
type KubernetesResource struct {
	Resource string `json:"resource"` // as kept, after its group: pods, services/specs, cert-manager.io/certificates
	Live     int64  `json:"live"`
	Bytes    int64  `json:"bytes"` // of their latest records, keys and values as stored
}

// A KubernetesEncryption counts the live objects of one resource that are kept in one
// way.
type KubernetesEncryption struct {
	Resource string `json:"resource"`
	Provider string `json:"provider"` // kube.Identity for those that are not encrypted
	Version  string `json:"version"`
	KeyName  string `json:"keyName"`         // of a KMS the name of its plugin
	KeyID    string `json:"keyID,omitempty"` // that the KMS gave, with version v2
	Keys     int64  `json:"keys"`
}

// describeKubernetes tells what the keys are, when most of them are an API server's.
func (x *examination) describeKubernetes(be *Backend, d *database) {
	if d.kube == nil || d.kube.outside() > d.keys.Revisions/2 {
		return
	}
	k := &Kubernetes{Prefix: strings.TrimSuffix(d.kube.prefix, "/"), Resources: []KubernetesResource{}, Encryption: []KubernetesEncryption{}}
	be.Kubernetes = k
	byName := map[string]*KubernetesResource{}
	for class, n := range d.keys.Classes {
		if class == classOutside || n.Live == 0 {
			continue
		}
		name := kube.Other
		if !d.kube.full {
			c := d.kube.classes[class]
			name = c.resource
			k.Encryption = append(k.Encryption, c.encryption(n.Live))
		}
		r := byName[name]
		if r == nil {
			r = &KubernetesResource{Resource: name}
			byName[name] = r
		}
		r.Live += n.Live
		r.Bytes += n.Bytes
	}
	for _, r := range byName {
		k.Resources = append(k.Resources, *r)
	}
	slices.SortFunc(k.Resources, func(a, b KubernetesResource) int { return strings.Compare(a.Resource, b.Resource) })
	slices.SortFunc(k.Encryption, func(a, b KubernetesEncryption) int {
		return cmp.Or(strings.Compare(a.Resource, b.Resource), strings.Compare(a.Provider, b.Provider), strings.Compare(a.Version, b.Version),
			strings.Compare(a.KeyName, b.KeyName), strings.Compare(a.KeyID, b.KeyID))
	})
	k.keepEncrypted()
}

func (c *kubeClass) encryption(keys int64) KubernetesEncryption {
	return KubernetesEncryption{c.resource, cmp.Or(c.provider, kube.Identity), c.version, c.keyName, c.keyID, keys}
}

// keepEncrypted leaves the resources out of which no value is encrypted.
func (k *Kubernetes) keepEncrypted() {
	any := map[string]bool{}
	for i := range k.Encryption {
		if k.Encryption[i].Provider != kube.Identity {
			any[k.Encryption[i].Resource] = true
		}
	}
	k.Encryption = slices.DeleteFunc(k.Encryption, func(e KubernetesEncryption) bool { return !any[e.Resource] })
}

// How says in words how values are kept.
func (e *KubernetesEncryption) How() string {
	if e.Provider == kube.Identity {
		return "not encrypted"
	}
	s := fmt.Sprintf("%s %s key %s", quoteKey([]byte(e.Provider)), quoteKey([]byte(e.Version)), quoteKey([]byte(e.KeyName)))
	if e.KeyID != "" {
		s += " id " + quoteKey([]byte(e.KeyID))
	}
	return s
}

// checkEncryption tells of values that nobody can read without the API server's keys,
// and of resources that are not all kept in one way.
func (x *examination) checkEncryption(be *Backend) {
	if be.Kubernetes == nil {
		return
	}
	encrypted, rows, mixed := int64(0), be.Kubernetes.Encryption, 0
	for len(rows) > 0 {
		n := slices.IndexFunc(rows, func(e KubernetesEncryption) bool { return e.Resource != rows[0].Resource })
		if n < 0 {
			n = len(rows)
		}
		var ways []string
		for i := range rows[:n] {
			if rows[i].Provider != kube.Identity {
				encrypted += rows[i].Keys
			}
			if i < maxWays {
				ways = append(ways, fmt.Sprintf("%d %s", rows[i].Keys, rows[i].How()))
			}
		}
		if n > maxWays {
			ways = append(ways, fmt.Sprintf("others in %d more ways", n-maxWays))
		}
		if n > 1 {
			if mixed++; mixed <= x.opts.Limits.PerCode {
				x.find(newFinding(CodeKubeEncryptionMixed, x.src.Path, fmt.Sprintf("%s: %s", quoteKey([]byte(rows[0].Resource)), strings.Join(ways, ", "))).inFile(be.File))
			}
		}
		rows = rows[n:]
	}
	x.countRest(CodeKubeEncryptionMixed, mixed, min(mixed, x.opts.Limits.PerCode), be.File)
	if encrypted > 0 {
		x.find(newFinding(CodeKubeEncryptedAtRest, x.src.Path, fmt.Sprintf("the values of %d live keys are encrypted, by %s", encrypted, be.Kubernetes.keys())).inFile(be.File))
	}
}

// maxWays bounds the ways of keeping values that one message names.
const maxWays = 8

// keys names the keys that are in use, in all resources together.
func (k *Kubernetes) keys() string {
	var named []string
	for i := range k.Encryption {
		if e := &k.Encryption[i]; e.Provider != kube.Identity && !slices.Contains(named, e.How()) && len(named) <= maxWays {
			named = append(named, e.How())
		}
	}
	if len(named) > maxWays {
		return strings.Join(named[:maxWays], ", ") + " and more"
	}
	return strings.Join(named, ", ")
}
