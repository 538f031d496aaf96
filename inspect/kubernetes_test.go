package inspect_test

import (
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/pkg/v3/traceutil"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/backend"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"go.uber.org/zap"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/inspecttest"
)

// examineStore lets etcd's own store write a database and examines it. Rows are
// "KEY VALUE", "KEY" for a deletion, or "compact".
func examineStore(t *testing.T, rows ...string) *inspect.Case {
	t.Helper()
	path := filepath.Join(t.TempDir(), "db")
	be := backend.NewDefaultBackend(zap.NewNop(), path)
	store := mvcc.New(zap.NewNop(), be, &lease.FakeLessor{}, mvcc.StoreConfig{})
	for _, row := range rows {
		key, value, put := strings.Cut(row, " ")
		switch {
		case row == "compact":
			_, trace := traceutil.EnsureTrace(t.Context(), zap.NewNop(), "compaction")
			done, err := store.Compact(trace, store.Rev())
			if err != nil {
				t.Fatal(err)
			}
			<-done
		case put:
			store.Put([]byte(key), []byte(value), lease.NoLease)
		default:
			store.DeleteRange([]byte(key), nil)
		}
	}
	store.Commit()
	store.Close()
	if err := be.Close(); err != nil {
		t.Fatal(err)
	}
	return inspecttest.Paths(t, inspect.Options{}, path)
}

const kmsV2 = "k8s:enc:kms:v2:vault:\n\x01x\x12\x017"

// TestEncryptionAtRestIsCounted has every provider, in mixtures, before and behind a
// compaction, with values that are history or deleted and must not count.
func TestEncryptionAtRestIsCounted(t *testing.T) {
	type row = inspect.KubernetesEncryption
	for _, c := range []struct {
		name  string
		rows  []string
		want  []row
		codes string
		says  string
	}{
		{"plain", []string{"/registry/secrets/a/x k8s\x00"}, []row{}, "", ""},
		{"one key", []string{"/registry/secrets/a/x k8s:enc:aescbc:v1:key1:xx", "/registry/pods/a/x k8s\x00"},
			[]row{{"secrets", "aescbc", "v1", "key1", "", 1}}, "kube-encrypted-at-rest", `1 live keys are encrypted, by "aescbc" "v1" key "key1"`},
		{"mixed", []string{"/registry/secrets/a/x k8s:enc:aescbc:v1:key1:xx", "compact", "/registry/secrets/a/y {}", "/registry/secrets/a/z {}"},
			[]row{{"secrets", "aescbc", "v1", "key1", "", 1}, {"secrets", "identity", "", "", "", 2}}, "kube-encryption-mixed kube-encrypted-at-rest",
			`"secrets": 1 "aescbc" "v1" key "key1", 2 not encrypted`},
		{"two keys", []string{"/registry/secrets/a/x k8s:enc:aesgcm:v1:key1:xx", "/registry/secrets/a/y k8s:enc:aesgcm:v1:key2:xx"},
			[]row{{"secrets", "aesgcm", "v1", "key1", "", 1}, {"secrets", "aesgcm", "v1", "key2", "", 1}}, "kube-encryption-mixed kube-encrypted-at-rest", ""},
		{"one key in two resources", []string{"/registry/secrets/a/x k8s:enc:secretbox:v1:k:xx", "/registry/configmaps/a/y k8s:enc:secretbox:v1:k:xx"},
			[]row{{"configmaps", "secretbox", "v1", "k", "", 1}, {"secrets", "secretbox", "v1", "k", "", 1}}, "kube-encrypted-at-rest", "2 live keys"},
		{"a KMS of both versions", []string{"/registry/a.b/things/a/x k8s:enc:kms:v1:vault:xx", "/registry/a.b/things/a/y " + kmsV2},
			[]row{{"a.b/things", "kms", "v1", "vault", "", 1}, {"a.b/things", "kms", "v2", "vault", "7", 1}}, "kube-encryption-mixed kube-encrypted-at-rest", `"vault" id "7"`},
		{"history alone was encrypted", []string{"/registry/secrets/a/x k8s:enc:aescbc:v1:key1:xx", "/registry/secrets/a/y k8s:enc:aescbc:v1:key1:xx",
			"/registry/secrets/a/x {}", "/registry/secrets/a/y"}, []row{}, "", ""},
		{"not of an API server", []string{"/registry/secrets/a/x {}", "k8s k8s:enc:aescbc:v1:key1:xx", "/registry k8s:enc:aescbc:v1:key1:xx"}, nil, "", ""},
		{"hostile names", []string{"/registry/sec\x1brets/a/x k8s:enc:\x1b[31m:v1:\u202e:xx"},
			[]row{{"sec\x1brets", "\x1b[31m", "v1", "\u202e", "", 1}}, "kube-encrypted-at-rest", `by "\x1b[31m" "v1" key "\u202e"`},
		{"cut short", []string{"/registry/secrets/a/x k8s:enc:aescbc", "/registry/secrets/a/y k8s:enc:aescbc:v1:"}, []row{}, "", ""},
	} {
		got := examineStore(t, c.rows...)
		var codes, messages []string
		for _, f := range got.Findings {
			if strings.HasPrefix(string(f.Code), "kube-") {
				codes, messages = append(codes, string(f.Code)), append(messages, f.Message)
			}
		}
		var rows []row
		if k := got.Members[0].Backend.Kubernetes; k != nil {
			rows = k.Encryption
		}
		if !reflect.DeepEqual(rows, c.want) {
			t.Errorf("%s: %+v", c.name, rows)
		}
		if strings.Join(codes, " ") != c.codes || !strings.Contains(strings.Join(messages, "\n"), c.says) {
			t.Errorf("%s: %v %q", c.name, codes, messages)
		}
	}
}

// TestResourcesAreTakenForWhatTheyAre has names that begin alike, in the orders in which
// one could be taken for another.
func TestResourcesAreTakenForWhatTheyAre(t *testing.T) {
	keys := []string{
		"/registry/pods/a/a-long-name-of-a-pod", "/registry/a.b/pods/a/a-long-name-of-a-pod", "/registry/a.b/poda/a/a-long-name-of-a-pod", "/registry/a.b/c/a/a-long-name-of-a-pod",
		"/registry/a.b/d/a/a-long-name-of-a-pod", "/registry/services/specs/a/a-long-name", "/registry/services/endpoints/a/a-long-name",
		"/registry/services/spec/a/a-long-name", "/registry/replicasets/a/a-long-name", "/registry/replicaset/a/a-long-name", "/registry/replicas/a/a-long-name",
		"/registry/cert-manager.io/certificates/a/a", "/registry/cert-manager.io/certificaterequests/a/a", "/registry/cert-manager.io/certificate/a/a",
		"/registry/12345678/aaaaaaaaaaaaaaaaaa", "/registry/1234567/aaaaaaaaaaaaaaaaaa", "/registry/12345678901234/aaaaaaaa", "/registry/123456789012345/aaaaaaaa",
		"/registry/1234567890123456/aaaaaaaa", "/registry/p/a", "/registry/\x00\x00\x00\x00\x00\x00\x00\x00\x00/aaaaaaaaaaa", "/registry//a/bbbbbbbbbbbbbbbb",
		"/registry2/pods/a/a-long-name-of-a-pod", "/registry/compact_rev_key_of_a_cluster", "compact_rev_key",
	}
	var rows []string
	for round := range 3 {
		for i := range keys {
			for _, j := range []int{i, (i + round + 1) % len(keys)} {
				rows = append(rows, fmt.Sprintf("%s-%d value", keys[j], round))
			}
		}
		if round == 1 {
			rows = append(rows, "compact")
		}
	}
	want := map[string]int64{
		"pods": 3, "a.b/pods": 3, "a.b/poda": 3, "a.b/c": 3, "a.b/d": 3, "services/specs": 3, "services/endpoints": 3, "services/spec": 3,
		"replicasets": 3, "replicaset": 3, "replicas": 3, "cert-manager.io/certificates": 3, "cert-manager.io/certificaterequests": 3, "cert-manager.io/certificate": 3,
		"12345678": 3, "1234567": 3, "12345678901234": 3, "123456789012345": 3, "1234567890123456": 3, "p": 3, "\x00\x00\x00\x00\x00\x00\x00\x00\x00": 3, "": 3,
	}
	got := map[string]int64{}
	k := examineStore(t, rows...).Members[0].Backend.Kubernetes
	for _, r := range k.Resources {
		got[r.Resource] = r.Live
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
	if !slices.IsSortedFunc(k.Resources, func(a, b inspect.KubernetesResource) int { return strings.Compare(a.Resource, b.Resource) }) {
		t.Errorf("%+v is not sorted", k.Resources)
	}
}

// TestTooManyResourcesAreOne has more resources than can be told apart.
func TestTooManyResourcesAreOne(t *testing.T) {
	rows := []string{"/registry/secrets/a/x k8s:enc:aescbc:v1:key1:xx"}
	for i := range 1 << 15 {
		rows = append(rows, fmt.Sprintf("/registry/r%d/a v", i))
	}
	k := examineStore(t, rows...).Members[0].Backend.Kubernetes
	if len(k.Resources) != 1 || k.Resources[0].Live != 1<<15+1 || k.Resources[0].Resource != "(other)" || len(k.Encryption) > 0 {
		t.Errorf("%d resources, %+v", len(k.Resources), k.Encryption)
	}
}
