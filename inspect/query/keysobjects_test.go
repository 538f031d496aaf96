package query_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"
	"go.etcd.io/etcd/server/v3/lease"
	"go.etcd.io/etcd/server/v3/storage/mvcc"
	"google.golang.org/protobuf/encoding/protowire"

	"etcd-forensics/fixtures"
	"etcd-forensics/inspect"
	"etcd-forensics/inspect/query"
	"etcd-forensics/inspect/source"
	"etcd-forensics/snapdb/keyspace"
)

// TestResourcesAreInspects compares the resources that inspect names with those that
// are counted by prefix, for whole fixtures and for some in which pages are damaged.
func TestResourcesAreInspects(t *testing.T) {
	compared := 0
	for _, name := range []string{"healthy-3.4", "healthy-3.5", "healthy-3.6", "healthy-3.7", "healthy-3.8", "pagesize-512", "compaction-unfinished-3.6", "leaf-zeroed"} {
		path := fixtures.Databases(t, name)[0]
		c, err := inspect.Inspect(t.Context(), []*source.Source{openSource(t, path)}, inspect.Options{})
		if err != nil {
			t.Fatal(err)
		}
		theirs, mine := c.Members[0].Backend.Kubernetes, countKeys(t, path, defaults()).Kubernetes
		if (theirs == nil) != (mine == nil) {
			t.Errorf("%s: %v and %v", name, theirs, mine)
		}
		if theirs == nil || mine == nil {
			continue
		}
		want := []inspect.KubernetesResource{}
		for _, r := range mine.Resources {
			if r.Live > 0 {
				want = append(want, inspect.KubernetesResource{Resource: string(r.Resource), Live: r.Live, Bytes: r.LiveBytes})
			}
		}
		slices.SortFunc(want, func(a, b inspect.KubernetesResource) int { return strings.Compare(a.Resource, b.Resource) })
		if !reflect.DeepEqual(theirs.Resources, want) || theirs.Prefix != mine.Prefix {
			t.Errorf("%s: %+v, want %+v", name, theirs, want)
		}
		compared += len(want)
	}
	if compared < 30 {
		t.Errorf("only %d resources were compared", compared)
	}
}

// object spells an object as JSON, metadata and the rest.
func object(apiVersion, kind, metadata, rest string) []byte {
	return fmt.Appendf(nil, `{"apiVersion":%q,"kind":%q,"metadata":{%s}%s}`, apiVersion, kind, metadata, rest)
}

func nodeLease(renewed string) []byte {
	return object("coordination.k8s.io/v1", "Lease", `"namespace":"kube-node-lease"`, `,"spec":{"leaseDurationSeconds":40,"renewTime":"`+renewed+`"}`)
}

func lookInto(t *testing.T, path string, opts query.KeysOptions) *query.Objects {
	t.Helper()
	opts.Objects = true
	k := countKeys(t, path, opts).Kubernetes
	if k == nil {
		t.Fatal("not an API server's")
	}
	return k.Objects
}

func TestNotesOnObjects(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		put := func(key string, value []byte) { kv.Put([]byte(key), value, lease.NoLease) }
		put("/registry/replicasets/a/rs", object("apps/v1", "ReplicaSet", `"uid":"there"`, ""))
		put("/registry/replicasets/a/gone", object("apps/v1", "ReplicaSet", `"uid":"gone"`, ""))
		put("/registry/pods/a/owned", object("v1", "Pod", `"uid":"1","ownerReferences":[{"kind":"ReplicaSet","apiVersion":"apps/v1","name":"rs","uid":"there"}]`, ""))
		put("/registry/pods/a/orphan", object("v1", "Pod", `"uid":"2","ownerReferences":[{"kind":"ReplicaSet","apiVersion":"apps/v1","name":"gone","uid":"gone"}]`, ""))
		put("/registry/pods/a/was-orphan", object("v1", "Pod", `"uid":"3","ownerReferences":[{"kind":"ReplicaSet","apiVersion":"apps/v1","name":"gone","uid":"gone"}]`, ""))
		put("/registry/pods/a/was-orphan", object("v1", "Pod", `"uid":"3"`, ""))
		put("/registry/namespaces/stuck", object("v1", "Namespace", `"deletionTimestamp":"2024-01-01T09:00:00Z"`, `,"spec":{"finalizers":["kubernetes"]}`))
		put("/registry/leases/kube-node-lease/n1", nodeLease("2024-01-01T11:00:00.5Z"))
		for i := range 5 {
			put("/registry/leases/kube-node-lease/n2", nodeLease(fmt.Sprintf("2024-01-01T12:00:%02d.000000Z", i)))
		}
		kv.DeleteRange([]byte("/registry/replicasets/a/gone"), nil)
		put("/registry/secrets/a/s", []byte("k8s:enc:aescbc:v1:key1:xx"))
	})
	o := lookInto(t, path, defaults())
	var got []string
	for _, n := range o.Notes {
		got = append(got, fmt.Sprintf("%s %s %d %s%s%s", n.Kind, n.Key, n.Revision, n.Owner.UID, n.Since.Format(time.TimeOnly), strings.Join(n.Finalizers, "")))
	}
	want := []string{
		"node-silent /registry/leases/kube-node-lease/n1 9 11:00:00",
		"deleting /registry/namespaces/stuck 8 09:00:00kubernetes",
		"owner-missing /registry/pods/a/orphan 5 gone00:00:00",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if !o.Whole || o.Unreadable != 1 || o.Newest.Format(time.TimeOnly) != "12:00:04" || o.Missing != nil {
		t.Errorf("%+v", o)
	}
	before := defaults()
	before.Revision = 9 // the second node had not begun, the owner was there
	if o := lookInto(t, path, before); len(o.Notes) != 1 || o.Notes[0].Key != "/registry/namespaces/stuck" {
		t.Errorf("as of 9: %+v", o.Notes)
	}
}

// TestLeasesWhoseKeysAreGone has leases of a key that is there, of one that is gone, of
// one that has another lease by now, and one that no key ever had.
func TestLeasesWhoseKeysAreGone(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		kv.Put([]byte("/registry/events/a/there"), []byte("{}"), 1)
		kv.Put([]byte("/registry/events/a/gone"), []byte("{}"), 2)
		kv.Put([]byte("/registry/events/a/gone"), []byte("{}"), 2)
		kv.DeleteRange([]byte("/registry/events/a/gone"), nil)
		kv.Put([]byte("/registry/masterleases/m"), []byte("{}"), 3)
		kv.Put([]byte("/registry/masterleases/m"), []byte("{}"), 4)
	})
	db, err := bolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	err = db.Update(func(tx *bolt.Tx) error {
		b, err := tx.CreateBucketIfNotExists([]byte(keyspace.BucketLease))
		for id := int64(1); id <= 5 && err == nil; id++ {
			value := protowire.AppendVarint([]byte{1 << 3}, uint64(id))
			err = b.Put(binary.BigEndian.AppendUint64(nil, uint64(id)), value)
		}
		return err
	})
	if err = errors.Join(err, db.Close()); err != nil {
		t.Fatal(err)
	}
	o := lookInto(t, path, defaults())
	if len(o.Notes) != 1 || o.Notes[0].Kind != query.LeaseUnused || o.Notes[0].Lease != 2 || o.Notes[0].Key != "/registry/events/a/gone" || o.Notes[0].Revision != 4 {
		t.Errorf("%+v", o.Notes)
	}
}

// TestMissingKeysAreNamed has a key that the configuration has, one that it lacks and a
// KMS; what it opens is looked into.
func TestMissingKeysAreNamed(t *testing.T) {
	path := writeStore(t, func(kv mvcc.KV) {
		for key, value := range map[string]string{
			"/registry/secrets/a/x": "k8s:enc:aescbc:v1:key1:xx", "/registry/secrets/a/y": "k8s:enc:aescbc:v1:key2:xx",
			"/registry/configmaps/a/z": "k8s:enc:kms:v1:vault:xx", "/registry/pods/a/p": "{}",
		} {
			kv.Put([]byte(key), []byte(value), lease.NoLease)
		}
	})
	d, err := query.NewDecryption([]byte(`{kind: EncryptionConfiguration, resources: [{resources: [secrets], providers: [{aescbc: {keys: [{name: key1, secret: MDEyMzQ1Njc4OWFiY2RlZg==}]}}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	opts := defaults()
	opts.Decryption = d
	o := lookInto(t, path, opts)
	want := []inspect.KubernetesEncryption{
		{Resource: "configmaps", Provider: "kms", Version: "v1", KeyName: "vault", Keys: 1},
		{Resource: "secrets", Provider: "aescbc", Version: "v1", KeyName: "key2", Keys: 1},
	}
	if !reflect.DeepEqual(o.Missing, want) || len(o.Encryption) != 3 {
		t.Errorf("%+v of %+v", o.Missing, o.Encryption)
	}
}

// TestOwnersCostNoMoreThanTheirBytes looks into an object with a million owners.
func TestOwnersCostNoMoreThanTheirBytes(t *testing.T) {
	owners := bytes.Repeat(protowire.AppendBytes(protowire.AppendTag(nil, 13, protowire.BytesType), nil), 1_000_000)
	inner := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), owners)
	value := append([]byte("k8s\x00"), protowire.AppendBytes(protowire.AppendTag(nil, 2, protowire.BytesType), inner)...)
	path := writeStore(t, func(kv mvcc.KV) { kv.Put([]byte("/registry/pods/a/p"), value, lease.NoLease) })
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	o := lookInto(t, path, defaults())
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > uint64(16*len(value)) {
		t.Errorf("%d bytes for %d", grown, len(value))
	}
	if len(o.Notes) > 0 || o.Unreadable > 0 {
		t.Errorf("%+v", o)
	}
}
