package kube

import (
	"strings"
	"testing"
)

func TestKeysAreTakenApart(t *testing.T) {
	for _, c := range []struct{ key, prefix, group, resource, namespace, name string }{
		{"/registry/pods/default/web-0", "/registry", "", "pods", "default", "web-0"},
		{"/registry/namespaces/default", "/registry", "", "namespaces", "", "default"},
		{"/registry/services/specs/default/kubernetes", "/registry", "", "services/specs", "default", "kubernetes"},
		{"/registry/services/endpoints/default/kubernetes", "/registry", "", "services/endpoints", "default", "kubernetes"},
		{"/registry/apiregistration.k8s.io/apiservices/v1.apps", "/registry", "apiregistration.k8s.io", "apiservices", "", "v1.apps"},
		{"/registry/management.cattle.io/clusters/local", "/registry", "management.cattle.io", "clusters", "", "local"},
		{"/registry/cert-manager.io/certificates/team/site", "/registry", "cert-manager.io", "certificates", "team", "site"},
		{"/registry/masterleases/10.0.0.1", "/registry", "", "masterleases", "", "10.0.0.1"},
		{"/registry/minions/n/1/2", "/registry", "", "minions", "n", "1/2"},
		{"/kubernetes.io/secrets/a/b", "/kubernetes.io", "", "secrets", "a", "b"},
		{"/my/own/pods/a/b", "/my/own", "", "pods", "a", "b"},
		{"/registry/ranges/serviceips", "/registry", "", "ranges", "", "serviceips"},
		{"/registry/pods", "/registry", "", "", "", ""},
		{"/registry/x.y/pods", "/registry", "", "", "", ""},
		{"/registryx/pods/a/b", "/registry", "", "", "", ""},
		{"/registry", "/registry", "", "", "", ""},
		{"compact_rev_key", "/registry", "", "", "", ""},
		{"", "/registry", "", "", "", ""},
	} {
		n, ok := ParseKey([]byte(c.key), c.prefix)
		if ok != (c.resource != "") {
			t.Errorf("%q: %v", c.key, ok)
			continue
		}
		if string(n.Group) != c.group || string(n.Resource) != c.resource || string(n.Namespace) != c.namespace || string(n.Name) != c.name {
			t.Errorf("%q: group %q, resource %q, namespace %q, name %q", c.key, n.Group, n.Resource, n.Namespace, n.Name)
		}
		if !ok {
			continue
		}
		if got := c.key[n.NamespaceEnd():]; got != c.name {
			t.Errorf("%q: behind the namespace is %q", c.key, got)
		}
	}
}

func TestPrefixIsFoundOut(t *testing.T) {
	for _, c := range []struct {
		key, prefix string
		found       bool
	}{
		{"/registry/pods/default/web-0", "/registry", true},
		{"/kubernetes.io/secrets/a/b", "/kubernetes.io", true},
		{"/openshift.io/routes/a/b", "/openshift.io", true},
		{"/my/own/services/specs/default/kubernetes", "/my/own", true},
		{"/my/own/services/endpoints/default/kubernetes", "/my/own", true},
		{"/own/namespaces/kube-system", "/own", true},
		{"/own/apiregistration.k8s.io/apiservices/v1.apps", "/own", true},
		{"/namespaces/kube-system", "", true},
		{"/own/pods/default/web-0", "", false},
		{"/own/namespaces/kube-system/x", "", false},
		{"own/namespaces/kube-system", "", false},
		{"//namespaces/kube-system", "", false},
		{"/registry", "", false},
		{"compact_rev_key", "", false},
		{"", "", false},
		{"/" + strings.Repeat("x", maxPrefix) + "/namespaces/kube-system", "", false},
	} {
		if prefix, found := PrefixOf([]byte(c.key)); found != c.found || found && prefix != c.prefix {
			t.Errorf("%q: %q, %v", c.key, prefix, found)
		}
	}
}
