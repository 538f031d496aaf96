package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// stored gives an object as API servers keep it.
func stored(tb testing.TB, o runtime.Object) (inProtobuf, inJSON, inCBOR []byte) {
	tb.Helper()
	var b bytes.Buffer
	if err := protobuf.NewSerializer(nil, nil).Encode(o, &b); err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(o)
	if err != nil {
		tb.Fatal(err)
	}
	binary, err := direct.Marshal(o)
	if err != nil {
		tb.Fatal(err)
	}
	return b.Bytes(), text, append([]byte(cborPrefix), binary...)
}

func fullMeta() metav1.ObjectMeta {
	deleted, grace := metav1.NewTime(noon.Add(time.Hour)), int64(30)
	return metav1.ObjectMeta{
		Name: "web-0", Namespace: "default", UID: "f00d", ResourceVersion: "7", Generation: 3,
		CreationTimestamp: metav1.NewTime(noon), DeletionTimestamp: &deleted, DeletionGracePeriodSeconds: &grace,
		Labels: map[string]string{"app": "web"}, Annotations: map[string]string{"note": "{}"},
		OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "StatefulSet", Name: "web", UID: "beef"}},
		Finalizers:      []string{"example.org/hold"},
		ManagedFields: []metav1.ManagedFieldsEntry{{
			Manager: "kubectl", Operation: "Update", APIVersion: "v1", Subresource: "status",
			Time: &metav1.Time{Time: noon.Add(time.Minute)}, FieldsType: "FieldsV1", FieldsV1: &metav1.FieldsV1{Raw: []byte(`{"f:spec":{}}`)},
		}},
	}
}

func samples() map[string]runtime.Object {
	micro := metav1.NewMicroTime(noon.Add(123456 * time.Microsecond))
	seconds := int32(40)
	kind := func(apiVersion, kind string) metav1.TypeMeta {
		return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
	}
	return map[string]runtime.Object{
		"pod":   &corev1.Pod{TypeMeta: kind("v1", "Pod"), ObjectMeta: fullMeta(), Spec: corev1.PodSpec{NodeName: "n"}},
		"bare":  &corev1.ConfigMap{TypeMeta: kind("v1", "ConfigMap"), ObjectMeta: metav1.ObjectMeta{Name: "bare"}},
		"lease": &coordinationv1.Lease{TypeMeta: kind("coordination.k8s.io/v1", "Lease"), ObjectMeta: metav1.ObjectMeta{Name: "n", Namespace: nodeLeases}, Spec: coordinationv1.LeaseSpec{RenewTime: &micro, AcquireTime: &micro, LeaseDurationSeconds: &seconds}},
		"event": &corev1.Event{TypeMeta: kind("v1", "Event"), ObjectMeta: metav1.ObjectMeta{Name: "e"}, FirstTimestamp: metav1.NewTime(noon), LastTimestamp: metav1.NewTime(noon.Add(time.Second))},
		"series": &corev1.Event{TypeMeta: kind("v1", "Event"), ObjectMeta: metav1.ObjectMeta{Name: "s"},
			EventTime: metav1.NewMicroTime(noon), Series: &corev1.EventSeries{Count: 2, LastObservedTime: micro}},
		"namespace": &corev1.Namespace{TypeMeta: kind("v1", "Namespace"), ObjectMeta: metav1.ObjectMeta{Name: "doomed"}, Spec: corev1.NamespaceSpec{Finalizers: []corev1.FinalizerName{"kubernetes"}}},
	}
}

func TestMetadataOfAllEncodings(t *testing.T) {
	micro := noon.Add(123456 * time.Microsecond)
	for name, want := range map[string]Meta{
		"pod": {
			APIVersion: "v1", Kind: "Pod", Name: "web-0", Namespace: "default", UID: "f00d",
			Created: noon, Deleted: noon.Add(time.Hour), GracePeriodSeconds: 30,
			Owners:     []Owner{{"apps/v1", "StatefulSet", "web", "beef"}},
			Finalizers: []string{"example.org/hold"},
			Managed:    []ManagedFields{{"kubectl", "Update", "status", noon.Add(time.Minute)}},
		},
		"bare":      {APIVersion: "v1", Kind: "ConfigMap", Name: "bare"},
		"lease":     {APIVersion: "coordination.k8s.io/v1", Kind: "Lease", Name: "n", Namespace: nodeLeases, Renewed: micro, Acquired: micro, LeaseSeconds: 40},
		"event":     {APIVersion: "v1", Kind: "Event", Name: "e", Observed: noon.Add(time.Second)},
		"series":    {APIVersion: "v1", Kind: "Event", Name: "s", Observed: micro},
		"namespace": {APIVersion: "v1", Kind: "Namespace", Name: "doomed", Finalizers: []string{"kubernetes"}},
	} {
		p, j, c := stored(t, samples()[name])
		for i, value := range [][]byte{p, j, c} {
			e := DecodeEnvelope(value)
			if wanted := []Encoding{Protobuf, JSON, CBOR}[i]; e.Encoding != wanted {
				t.Errorf("%s: %s is taken for %s", name, wanted, e.Encoding)
			}
			got, err := DecodeMeta(e)
			if err != nil {
				t.Errorf("%s as %s: %v", name, e.Encoding, err)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%s as %s:\n%+v\n%+v", name, e.Encoding, got, want)
			}
		}
	}
}

func TestMetadataOfCustomResources(t *testing.T) {
	// Anything may lie beside the metadata, under names that other kinds use and
	// in other cases.
	m, err := DecodeMeta(DecodeEnvelope([]byte(`{"Kind":1,"kind":"Site","apiVersion":"a.b/v1","METADATA":{"name":"no"},"metadata":{"name":"home","finalizers":null},"spec":[],"series":7,"eventTime":{}}`)))
	if want := (Meta{APIVersion: "a.b/v1", Kind: "Site", Name: "home"}); err != nil || !reflect.DeepEqual(m, want) {
		t.Errorf("%+v, %v", m, err)
	}
	// A custom Lease is none of coordination.k8s.io.
	m, err = DecodeMeta(DecodeEnvelope([]byte(`{"kind":"Lease","apiVersion":"a.b/v1","spec":{"renewTime":"2026-11-21T12:00:00Z"}}`)))
	if err != nil || !m.Renewed.IsZero() {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMetadataThatIsNone(t *testing.T) {
	for _, value := range []string{
		"", "5987", "{", `{"metadata":7}`, `{"metadata":{"ownerReferences":{}}}`, "\xd9\xd9\xf7\xff", "k8s:enc:aescbc:v1:k:x",
		"k8s\x00\x12\x02\x0a\x7f", "k8s\x00\x12\x04\x0a\x02\x0a\x7f", strings.Repeat(`{"metadata":`, 20000),
		cborPrefix + strings.Repeat("\x81", 100),
	} {
		if m, err := DecodeMeta(DecodeEnvelope([]byte(value))); err == nil {
			t.Errorf("%.20q: %+v", value, m)
		}
	}
}

func TestTimesThatAreNone(t *testing.T) {
	for _, c := range []struct{ seconds, nanos int64 }{{0, 0}, {-1, 0}, {1 << 62, 0}, {-1 << 63, 5}, {253402300800, 0}} {
		if got := moment(c.seconds, c.nanos); !got.IsZero() {
			t.Errorf("%d: %v", c.seconds, got)
		}
	}
	if got := moment(253402300799, 0); got.Year() != 9999 {
		t.Errorf("%v", got)
	}
	for _, s := range []stamp{"", "noon", "0001-01-01T00:00:00Z", "2026-13-01T00:00:00Z"} {
		if got := s.time(); !got.IsZero() {
			t.Errorf("%q: %v", s, got)
		}
	}
}

func TestHostileListsAreCutShort(t *testing.T) {
	const entries = 200_000
	inJSON := `{"metadata":{"finalizers":[""` + strings.Repeat(`,""`, entries) + `],"ownerReferences":[{}` + strings.Repeat(`,{}`, entries) + `]}}`
	metadata := bytes.Repeat([]byte("\x6a\x00\x72\x00\x8a\x01\x00"), entries) // empty owners, finalizers, managed fields
	inProtobuf := protobufPrefix + lengthDelimited(2, lengthDelimited(1, string(metadata)))
	for _, value := range []string{inJSON, inProtobuf} {
		m, err := DecodeMeta(DecodeEnvelope([]byte(value)))
		if err != nil || len(m.Owners) != maxListed || len(m.Finalizers) != maxListed || len(m.Managed) > maxListed {
			t.Errorf("%d owners, %d finalizers, %d managed fields, %v", len(m.Owners), len(m.Finalizers), len(m.Managed), err)
		}
	}
}

// lengthDelimited makes a field; num is below 16.
func lengthDelimited(num byte, content string) string {
	head := []byte{num<<3 | 2}
	for n := len(content); ; n >>= 7 {
		if n < 0x80 {
			return string(append(head, byte(n))) + content
		}
		head = append(head, byte(n)|0x80)
	}
}

func TestMetadataCutAtEveryByte(t *testing.T) {
	for name, o := range samples() {
		p, j, c := stored(t, o)
		for _, value := range [][]byte{p, j, c} {
			for n := range value {
				e := DecodeEnvelope(value[:n])
				if m, err := DecodeMeta(e); err == nil && e.Encoding != Protobuf {
					t.Errorf("%s, %s cut at %d: %+v", name, e.Encoding, n, m)
				}
			}
		}
	}
}

func ExampleDecodeMeta() {
	value := []byte(`{"kind":"Site","apiVersion":"example.org/v1","metadata":{"name":"home","namespace":"team"}}`)
	m, err := DecodeMeta(DecodeEnvelope(value))
	fmt.Println(m.Kind, m.Namespace, m.Name, err)
	// Output: Site team home <nil>
}
