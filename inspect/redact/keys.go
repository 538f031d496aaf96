package redact

import (
	"bytes"
	"slices"

	"etcd-forensics/snapdb/kube"
)

// maxPrefixes bounds the prefixes of API servers, and maxCuts the lengths at which ranges
// end inside a name.
const (
	maxPrefixes = 64
	maxCuts     = 64
)

// key writes the pseudonym of a key over it. What lies between two slashes is a name,
// and has the same pseudonym in every key.
func (r *redactor) key(k []byte) {
	if r.survey {
		r.noteKey(k)
		return
	}
	r.count.Keys++
	r.keyNames(k, r.publicEnd(k))
}

// noteKey looks whether a key tells the prefix of an API server.
func (r *redactor) noteKey(k []byte) {
	if r.publicEnd(k) > 0 || len(r.prefixes) >= maxPrefixes {
		return
	}
	if prefix, ok := kube.PrefixOf(k); ok && !slices.Contains(r.prefixes, prefix) {
		r.prefixes = append(r.prefixes, prefix)
	}
}

// publicEnd gives the length of the part of a key that every API server's keys begin
// with: the prefix, and group and resource as far as they are not somebody's own.
func (r *redactor) publicEnd(k []byte) int {
	for _, prefix := range r.prefixes {
		n, ok := kube.ParseKey(k, prefix)
		if !ok {
			if len(prefix) > 0 && len(k) > len(prefix) && string(k[:len(prefix)]) == prefix && k[len(prefix)] == '/' {
				return len(prefix) + 1
			}
			continue
		}
		switch {
		case n.Group == nil && publicResources[string(n.Resource)], publicGroup(n.Group):
			return n.ResourceEnd()
		}
		return len(prefix) + 1
	}
	return 0
}

// keyNames exchanges the names of a key from a place on.
func (r *redactor) keyNames(k []byte, from int) {
	for from < len(k) {
		end := len(k)
		if i := bytes.IndexByte(k[from:], '/'); i >= 0 {
			end = from + i
		}
		r.name(k[from:end])
		from = end + 1
	}
}

// name exchanges one name of a key. Where a range in a log ends inside names, all names are cut at that
// length, so that those with the beginning that was asked for still have it.
func (r *redactor) name(b []byte) {
	if publicNames[string(b)] {
		return
	}
	from := 0
	use := "name"
	for _, cut := range r.cuts {
		if cut >= len(b) {
			break
		}
		part := string(b[from:cut])
		r.cipher.permute(b[from:cut], use)
		use, from = use+part+"\x00", cut
	}
	for r.cipher.permute(b[from:], use); publicNames[string(b)]; {
		r.cipher.permute(b[from:], use)
	}
}

// rangeEnd writes the end of a range over it; key is the begin as it was. The end of all keys
// with a prefix stays that.
func (r *redactor) rangeEnd(end, key []byte, deletes bool) {
	if len(end) == 1 && end[0] == 0 {
		return
	}
	if !bytes.Equal(end, prefixEnd(key)) {
		r.key(end)
		return
	}
	if r.survey {
		if deletes {
			r.noteCut(len(key) - 1 - bytes.LastIndexByte(key, '/'))
		}
		return
	}
	p := bytes.Clone(key)
	r.keyNames(p, r.publicEnd(p))
	copy(end, prefixEnd(p))
}

func (r *redactor) noteCut(n int) {
	if i, found := slices.BinarySearch(r.cuts, n); !found && n > 0 && len(r.cuts) < maxCuts {
		r.cuts = slices.Insert(r.cuts, i, n)
	}
}

// prefixEnd gives the first key behind all that begin with prefix, as etcd's clients
// make it (client/v3/op.go, getPrefix, v3.5.21).
func prefixEnd(prefix []byte) []byte {
	end := bytes.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return end[:i+1]
		}
	}
	return []byte{0}
}

// publicGroup says whether an API group is not somebody's own: those under k8s.io have to be
// approved, the others are of projects that everybody can have.
func publicGroup(g []byte) bool {
	return bytes.HasSuffix(g, []byte(".k8s.io")) || publicGroups[string(g)]
}

var publicGroups = setOf(`cert-manager.io acme.cert-manager.io crd.projectcalico.org cilium.io monitoring.coreos.com
	argoproj.io helm.cattle.io k3s.cattle.io traefik.io traefik.containo.us helm.toolkit.fluxcd.io
	kustomize.toolkit.fluxcd.io source.toolkit.fluxcd.io cluster.x-k8s.io longhorn.io velero.io
	config.openshift.io operator.openshift.io machineconfiguration.openshift.io route.openshift.io`)

// publicResources are those that Kubernetes keeps without a group.
var publicResources = setOf(`apiserver.openshift.io clusterrolebindings clusterroles configmaps controllerrevisions
	controllers cronjobs csidrivers csinodes csistoragecapacities certificatesigningrequests clustertrustbundles
	daemonsets deployments deviceclasses endpointslices events flowschemas horizontalpodautoscalers ingress
	ingressclasses ipaddresses jobs leasecandidates leases limitranges masterleases minions
	mutatingadmissionpolicies mutatingadmissionpolicybindings mutatingwebhookconfigurations namespaces
	networkpolicies peerserverleases persistentvolumeclaims persistentvolumes podcertificaterequests
	poddisruptionbudgets pods podsecuritypolicy podtemplates priorityclasses prioritylevelconfigurations ranges
	replicasets resourceclaims resourceclaimtemplates resourceclasses resourcequotas resourceslices rolebindings roles
	runtimeclasses secrets serviceaccounts servicecidrs services/endpoints services/specs statefulsets
	storageclasses storageversionmigrations validatingadmissionpolicies
	validatingadmissionpolicybindings validatingwebhookconfigurations volumeattachments volumeattributesclasses`)

// publicNames are those that every cluster has.
var publicNames = setOf(`default kube-system kube-public kube-node-lease kubernetes ` + kube.CompactRevKey)

// knownPrefixes are those of API servers that platforms use.
func knownPrefixes() []string { return slices.Clone(kube.KnownPrefixes) }
