package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"etcd-forensics/snapdb/kube"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"sigs.k8s.io/yaml"
)

var noon = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

const (
	protobufPrefix = "k8s\x00"
	cborPrefix     = "\xd9\xd9\xf7"
)

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

func printer(tb testing.TB) *Printer {
	tb.Helper()
	p, err := NewPrinter()
	if err != nil {
		tb.Fatal(err)
	}
	return p
}

func samplePod() *corev1.Pod {
	pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: fullMeta()}
	pod.Annotations = map[string]string{"note": "a\nb"}
	pod.Spec.Containers = []corev1.Container{{Name: "web", Image: "nginx:1"}}
	pod.Status.PodIP = "10.0.0.1"
	return pod
}

const podYAML = `apiVersion: v1
kind: Pod
metadata:
  annotations:
    note: |-
      a
      b
  finalizers:
  - example.org/hold
  labels:
    app: web
  name: web-0
  namespace: default
spec:
  containers:
  - image: nginx:1
    name: web
    resources: {}
`

func sampleSecret() *corev1.Secret {
	s := &corev1.Secret{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"}, ObjectMeta: metav1.ObjectMeta{
		Name: "token", Namespace: "default", Annotations: map[string]string{lastApplied: `{"data":{"password":"aHVudGVyMg=="}}`}}}
	s.Data = map[string][]byte{"password": []byte("hunter2")}
	s.Type = corev1.SecretTypeOpaque
	return s
}

const maskedYAML = `apiVersion: v1
data:
  password: (masked)
kind: Secret
metadata:
  annotations: {}
  name: token
  namespace: default
type: Opaque
`

func TestBuiltInObjectsAsYAML(t *testing.T) {
	p := printer(t)
	for _, c := range []struct {
		name   string
		object runtime.Object
		want   string
	}{{"pod", samplePod(), podYAML}, {"secret", sampleSecret(), maskedYAML}} {
		inProtobuf, inJSON, inCBOR := stored(t, c.object)
		for _, value := range [][]byte{inProtobuf, inJSON, inCBOR} {
			encoding := kube.DecodeEnvelope(value).Encoding
			got, err := p.ToYAML(value, false)
			if err != nil {
				t.Errorf("%s as %s: %v", c.name, encoding, err)
			}
			// JSON and CBOR may be a custom resource, whose status may be its data.
			text, _, _ := strings.Cut(string(got), "status:")
			if text != c.want {
				t.Errorf("%s as %s:\n%s", c.name, encoding, got)
			}
		}
	}
	value, _, _ := stored(t, sampleSecret())
	if got, err := p.ToYAML(value, true); err != nil || !strings.Contains(string(got), "password: aHVudGVyMg==\n") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestSecretsAreMaskedWhateverTheyHold(t *testing.T) {
	p := printer(t)
	for _, data := range []string{`{"a":"aHVudGVyMg=="}`, `["aHVudGVyMg=="]`, `"aHVudGVyMg=="`, `{"a":{"b":"aHVudGVyMg=="}}`} {
		for _, field := range []string{"data", "stringData"} {
			got, err := p.ToYAML([]byte(`{"kind":"Secret","apiVersion":"v1","metadata":{"annotations":"aHVudGVyMg=="},"`+field+`":`+data+`}`), false)
			if err != nil || strings.Contains(string(got), "aHVudGVyMg") {
				t.Errorf("%s %s: %s, %v", field, data, got, err)
			}
		}
	}
}

func TestJobsLoseTheSelectorOfTheirOldUID(t *testing.T) {
	labels := func() map[string]string {
		return map[string]string{"app": "x", "controller-uid": "f00d", "batch.kubernetes.io/controller-uid": "f00d"}
	}
	job := &batchv1.Job{TypeMeta: metav1.TypeMeta{APIVersion: "batch/v1", Kind: "Job"}, ObjectMeta: metav1.ObjectMeta{Name: "j", Labels: labels()}}
	job.Spec.Selector = &metav1.LabelSelector{MatchLabels: labels()}
	job.Spec.Template.Labels = labels()
	value, _, _ := stored(t, job)
	got, err := printer(t).ToYAML(value, false)
	if err != nil || strings.Contains(string(got), "f00d") || strings.Contains(string(got), "selector") || strings.Count(string(got), "app: x") != 2 {
		t.Errorf("%s, %v", got, err)
	}
	job.Spec.ManualSelector = new(bool)
	*job.Spec.ManualSelector = true
	value, _, _ = stored(t, job)
	if got, err := printer(t).ToYAML(value, false); err != nil || !strings.Contains(string(got), "selector") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestCustomResourcesKeepAllTheirData(t *testing.T) {
	value := `{"apiVersion":"a.b/v1","kind":"Site","metadata":{"name":"home","uid":"1","generation":2,"managedFields":[{}]},"spec":{"n":9007199254740993,"f":1.5,"on":"yes","uid":"kept"},"status":{"seen":true}}`
	want := "apiVersion: a.b/v1\nkind: Site\nmetadata:\n  name: home\nspec:\n  f: 1.5\n  \"n\": 9007199254740993\n  \"on\": \"yes\"\n  uid: kept\nstatus:\n  seen: true\n"
	got, err := printer(t).ToYAML([]byte(value), false)
	if err != nil || string(got) != want {
		t.Errorf("%s, %v", got, err)
	}
}

func TestObjectsThatATerminalMustNotSee(t *testing.T) {
	p := printer(t)
	// Right-to-left override, escape, zero-width blank, delete, a private character
	// beyond 16 bits.
	hostile := "x\u202ey\x1b[31m\u200b\x7f\U000e0001<&"
	value, err := json.Marshal(map[string]any{"apiVersion": "a.b/v1", "kind": "Site", "metadata": map[string]any{"name": "home"}, hostile: hostile})
	if err != nil {
		t.Fatal(err)
	}
	got, err := p.ToYAML(value, false)
	if err != nil || !isPlain(got) {
		t.Fatalf("%q, %v", got, err)
	}
	var back map[string]any
	if err := json.Unmarshal(got, &back); err != nil || back[hostile] != hostile {
		t.Errorf("%q, %v", got, err)
	}
	plain, err := p.ToYAML([]byte(`{"kind":"Site","escape":"\u001b[31m","tab":"a\tb\nc"}`), false)
	if err != nil || !isPlain(plain) || plain[0] == '{' {
		t.Errorf("%q, %v", plain, err)
	}
}

func TestObjectsBeyondTheLimits(t *testing.T) {
	p := printer(t)
	deep := `{"kind":"Site","a":` + strings.Repeat(`{"a":`, 3000) + "1" + strings.Repeat("}", 3001)
	got, err := p.ToYAML([]byte(deep), false)
	if err != nil || got[0] != '{' || len(got) > 2*len(deep) {
		t.Errorf("%d bytes of %d, %v", len(got), len(deep), err)
	}
	containers := protobufPrefix + lengthDelimited(1, lengthDelimited(1, "v1")+lengthDelimited(2, "Pod")) +
		lengthDelimited(2, lengthDelimited(2, strings.Repeat(lengthDelimited(2, ""), maxFields)))
	for name, value := range map[string]string{
		"too large":           `{"kind":"` + strings.Repeat("x", maxObject) + `"}`,
		"too many containers": containers,
	} {
		if _, err := p.ToYAML([]byte(value), false); !errors.Is(err, ErrObjectLimits) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestValuesThatAreNoObject(t *testing.T) {
	p := printer(t)
	typed := func(apiVersion, kind, raw string) string {
		return protobufPrefix + lengthDelimited(1, lengthDelimited(1, apiVersion)+lengthDelimited(2, kind)) + lengthDelimited(2, raw)
	}
	for value, want := range map[string]string{
		"k8s:enc:aescbc:v1:key1:x":       ErrEncrypted.Error(),
		"5987":                           ErrNoObject.Error(),
		"":                               ErrNoObject.Error(),
		"{":                              ErrNoObject.Error(),
		"{}":                             ErrNoObject.Error(),
		cborPrefix + "\xff":              ErrNoObject.Error(),
		typed("v1", "Pod", "\x7f"):       ErrNoObject.Error(),
		typed("a.b/v1", "\x1b[", ""):     `"\x1b[" of "a.b/v1" is no known type`,
		typed("v1", "CreateOptions", ""): `"CreateOptions" of "v1" is not kept as protobuf`,
	} {
		if got, err := p.ToYAML([]byte(value), false); err == nil || err.Error() != want {
			t.Errorf("%.40q: %q, %v", value, got, err)
		}
	}
}

// What is printed says what the value says, without what the server sets.
func sameObject(tb testing.TB, p *Printer, value, text []byte) {
	tb.Helper()
	want, err := p.decode(kube.DecodeEnvelope(value))
	if err != nil {
		tb.Fatal(err)
	}
	prune(want)
	var got map[string]any
	if text[0] == '{' {
		err = json.Unmarshal(text, &got)
	} else {
		err = yaml.Unmarshal(text, &got)
	}
	if err != nil {
		tb.Fatalf("%q: %v", text, err)
	}
	a, errA := json.Marshal(got)
	b, errB := json.Marshal(want)
	if errA != nil || errB != nil {
		tb.Fatal(errA, errB)
	}
	var left, right any
	if json.Unmarshal(a, &left) != nil || json.Unmarshal(b, &right) != nil || !reflect.DeepEqual(left, right) && !bytes.Equal(a, b) {
		tb.Fatalf("%s\n%s", a, b)
	}
}

// seeds gives stored objects to a fuzz target.
func seeds(tb testing.TB, add func([]byte)) {
	tb.Helper()
	for _, o := range []runtime.Object{samplePod(), sampleSecret()} {
		inProtobuf, inJSON, inCBOR := stored(tb, o)
		add(inProtobuf)
		add(inJSON)
		add(inCBOR)
	}
}

func TestSeedsExist(t *testing.T) {
	n := 0
	seeds(t, func([]byte) { n++ })
	if n < 6 {
		t.Fatalf("%d seeds", n)
	}
}

func FuzzObject(f *testing.F) {
	seeds(f, func(b []byte) { f.Add(b) })
	p := printer(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := p.ToYAML(b, true)
		if err != nil {
			return
		}
		if !isPlain(text) {
			t.Fatalf("%q", text)
		}
		sameObject(t, p, b, text)
	})
}
