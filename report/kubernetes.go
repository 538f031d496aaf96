package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"etcd-forensics/inspect"
)

// A backendView is a backend whose names are as JSON holds them.
type backendView struct {
	*inspect.Backend
	Kubernetes *apiServerView `json:"kubernetes"`
}

type apiServerView struct {
	Prefix      string           `json:"prefix"`
	KeyEncoding string           `json:"keyEncoding,omitempty"`
	Resources   []liveView       `json:"resources"`
	Encryption  []encryptionView `json:"encryption"`
}

type liveView struct {
	Resource    string `json:"resource"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Live        int64  `json:"live"`
	Bytes       int64  `json:"bytes"`
}

// All names of an encryptionView are in base64 when one of them needs it.
type encryptionView struct {
	Resource    string `json:"resource"`
	Provider    string `json:"provider"`
	Version     string `json:"version"`
	KeyName     string `json:"keyName"`
	KeyID       string `json:"keyID,omitempty"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	Keys        int64  `json:"keys"`
}

func viewBackend(b *inspect.Backend) *backendView {
	if b == nil {
		return nil
	}
	v := &backendView{Backend: b}
	if k := b.Kubernetes; k != nil {
		prefix, encoding := Key([]byte(k.Prefix))
		v.Kubernetes = &apiServerView{prefix, encoding, make([]liveView, len(k.Resources)), viewEncryption(k.Encryption)}
		for i, r := range k.Resources {
			text, encoding := Key([]byte(r.Resource))
			v.Kubernetes.Resources[i] = liveView{text, encoding, r.Live, r.Bytes}
		}
	}
	return v
}

func viewEncryption(list []inspect.KubernetesEncryption) []encryptionView {
	views := make([]encryptionView, len(list))
	for i, e := range list {
		v := encryptionView{e.Resource, e.Provider, e.Version, e.KeyName, e.KeyID, "", e.Keys}
		names := []*string{&v.Resource, &v.Provider, &v.Version, &v.KeyName, &v.KeyID}
		if slices.ContainsFunc(names, func(s *string) bool { return !utf8.ValidString(*s) }) {
			for _, s := range names {
				*s, v.KeyEncoding = encoded([]byte(*s))
			}
		}
		views[i] = v
	}
	return views
}

// Rows that the report on a member lists; all are in the JSON.
const (
	largestResources = 5
	listedEncryption = 8
)

// kubernetes writes what the keys of an API server are.
func (t *textWriter) kubernetes(m inspect.Member, several bool) {
	if m.Backend == nil || m.Backend.Kubernetes == nil {
		return
	}
	k := m.Backend.Kubernetes
	t.title("Kubernetes under "+shortened([]byte(k.Prefix+"/")), m, several)
	bySize := slices.SortedStableFunc(slices.Values(k.Resources), func(a, b inspect.KubernetesResource) int { return cmp.Compare(b.Bytes, a.Bytes) })
	var parts []string
	for _, r := range bySize[:min(len(bySize), largestResources)] {
		parts = append(parts, fmt.Sprintf("%s %d (%s)", shortCell([]byte(r.Resource)), r.Live, size(r.Bytes)))
	}
	if n := len(bySize) - largestResources; n > 0 {
		parts = append(parts, fmt.Sprintf("%s (all: etcd-forensics keys)", plural(int64(n), "other resource")))
	}
	if parts == nil {
		parts = []string{"none"}
	}
	t.wrapHanging("  live objects: ", "    ", strings.Join(parts, ", "))
	if len(k.Encryption) == 0 {
		return
	}
	t.wrapHanging("  encryption: ", "    ", encryptionWords(k.Encryption))
}

// encryptionWords tells how the objects of resources are kept, as far as there is room.
func encryptionWords(list []inspect.KubernetesEncryption) string {
	var parts []string
	for i := range list[:min(len(list), listedEncryption)] {
		parts = append(parts, fmt.Sprintf("%s %d %s", shortCell([]byte(list[i].Resource)), list[i].Keys, list[i].How()))
	}
	if n := len(list) - listedEncryption; n > 0 {
		parts = append(parts, fmt.Sprintf("%d more", n))
	}
	return strings.Join(parts, ", ")
}
