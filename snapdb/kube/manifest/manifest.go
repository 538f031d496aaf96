// Package manifest prints the objects that the API server of Kubernetes keeps in
// etcd as YAML that kubectl takes. It stands by itself because the types of
// k8s.io/api make a program some twenty megabytes larger.
package manifest

import (
	stdjson "encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1alpha1 "k8s.io/api/admissionregistration/v1alpha1"
	admissionregistrationv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	apiserverinternalv1alpha1 "k8s.io/api/apiserverinternal/v1alpha1"
	appsv1 "k8s.io/api/apps/v1"
	appsv1beta1 "k8s.io/api/apps/v1beta1"
	appsv1beta2 "k8s.io/api/apps/v1beta2"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	autoscalingv2beta1 "k8s.io/api/autoscaling/v2beta1"
	autoscalingv2beta2 "k8s.io/api/autoscaling/v2beta2"
	batchv1 "k8s.io/api/batch/v1"
	batchv1beta1 "k8s.io/api/batch/v1beta1"
	certificatesv1 "k8s.io/api/certificates/v1"
	certificatesv1alpha1 "k8s.io/api/certificates/v1alpha1"
	certificatesv1beta1 "k8s.io/api/certificates/v1beta1"
	coordinationv1 "k8s.io/api/coordination/v1"
	coordinationv1alpha2 "k8s.io/api/coordination/v1alpha2"
	coordinationv1beta1 "k8s.io/api/coordination/v1beta1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	discoveryv1beta1 "k8s.io/api/discovery/v1beta1"
	eventsv1 "k8s.io/api/events/v1"
	extensionsv1beta1 "k8s.io/api/extensions/v1beta1"
	flowcontrolv1 "k8s.io/api/flowcontrol/v1"
	flowcontrolv1beta1 "k8s.io/api/flowcontrol/v1beta1"
	flowcontrolv1beta2 "k8s.io/api/flowcontrol/v1beta2"
	flowcontrolv1beta3 "k8s.io/api/flowcontrol/v1beta3"
	networkingv1 "k8s.io/api/networking/v1"
	networkingv1beta1 "k8s.io/api/networking/v1beta1"
	nodev1 "k8s.io/api/node/v1"
	nodev1alpha1 "k8s.io/api/node/v1alpha1"
	nodev1beta1 "k8s.io/api/node/v1beta1"
	policyv1 "k8s.io/api/policy/v1"
	policyv1beta1 "k8s.io/api/policy/v1beta1"
	rbacv1 "k8s.io/api/rbac/v1"
	rbacv1alpha1 "k8s.io/api/rbac/v1alpha1"
	rbacv1beta1 "k8s.io/api/rbac/v1beta1"
	resourcev1 "k8s.io/api/resource/v1"
	resourcev1alpha3 "k8s.io/api/resource/v1alpha3"
	resourcev1beta1 "k8s.io/api/resource/v1beta1"
	resourcev1beta2 "k8s.io/api/resource/v1beta2"
	schedulingv1 "k8s.io/api/scheduling/v1"
	schedulingv1alpha1 "k8s.io/api/scheduling/v1alpha1"
	schedulingv1beta1 "k8s.io/api/scheduling/v1beta1"
	storagev1 "k8s.io/api/storage/v1"
	storagev1alpha1 "k8s.io/api/storage/v1alpha1"
	storagev1beta1 "k8s.io/api/storage/v1beta1"
	storagemigrationv1alpha1 "k8s.io/api/storagemigration/v1alpha1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/cbor/direct"

	"etcd-forensics/snapdb/kube"

	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/json"
	"sigs.k8s.io/yaml"
)

const (
	// maxObject bounds what ToYAML takes. An API server takes requests of 3 MiB
	// (apiserver v0.34.4, pkg/server/config.go, MaxRequestBodyBytes).
	maxObject = 4 << 20
	// maxFields bounds the fields of a protobuf object: an empty entry of a list
	// takes two bytes there, and hundreds in memory.
	maxFields = 100_000
	// maxDepth bounds how deep objects lie in each other.
	maxDepth = 64
)

// MaskedSecret stands for each value of a Secret. It is not base64, so that
// no server accepts it.
const MaskedSecret = "(masked)"

// Why an object cannot be printed.
var (
	ErrEncrypted    = errors.New("the value is encrypted")
	ErrNoObject     = errors.New("the value is not an object of Kubernetes")
	ErrObjectLimits = errors.New("the object is larger than an API server takes")
)

// knownTypes makes the types that API servers keep as protobuf.
func knownTypes() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistrationv1.AddToScheme, admissionregistrationv1alpha1.AddToScheme, admissionregistrationv1beta1.AddToScheme,
		apiserverinternalv1alpha1.AddToScheme,
		appsv1.AddToScheme, appsv1beta1.AddToScheme, appsv1beta2.AddToScheme,
		autoscalingv1.AddToScheme, autoscalingv2.AddToScheme, autoscalingv2beta1.AddToScheme, autoscalingv2beta2.AddToScheme,
		batchv1.AddToScheme, batchv1beta1.AddToScheme,
		certificatesv1.AddToScheme, certificatesv1alpha1.AddToScheme, certificatesv1beta1.AddToScheme,
		coordinationv1.AddToScheme, coordinationv1alpha2.AddToScheme, coordinationv1beta1.AddToScheme,
		corev1.AddToScheme,
		discoveryv1.AddToScheme, discoveryv1beta1.AddToScheme,
		eventsv1.AddToScheme,
		extensionsv1beta1.AddToScheme,
		flowcontrolv1.AddToScheme, flowcontrolv1beta1.AddToScheme, flowcontrolv1beta2.AddToScheme, flowcontrolv1beta3.AddToScheme,
		networkingv1.AddToScheme, networkingv1beta1.AddToScheme,
		nodev1.AddToScheme, nodev1alpha1.AddToScheme, nodev1beta1.AddToScheme,
		policyv1.AddToScheme, policyv1beta1.AddToScheme,
		rbacv1.AddToScheme, rbacv1alpha1.AddToScheme, rbacv1beta1.AddToScheme,
		resourcev1.AddToScheme, resourcev1alpha3.AddToScheme, resourcev1beta1.AddToScheme, resourcev1beta2.AddToScheme,
		schedulingv1.AddToScheme, schedulingv1alpha1.AddToScheme, schedulingv1beta1.AddToScheme,
		storagev1.AddToScheme, storagev1alpha1.AddToScheme, storagev1beta1.AddToScheme,
		storagemigrationv1alpha1.AddToScheme,
	} {
		if err := add(s); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// A Printer prints objects as YAML.
type Printer struct {
	scheme *runtime.Scheme
}

// NewPrinter knows the types of k8s.io/api.
func NewPrinter() (*Printer, error) {
	s, err := knownTypes()
	if err != nil {
		return nil, err
	}
	return &Printer{s}, nil
}

// ToYAML gives a value as an object that kubectl apply takes: what the server
// sets is left out, so that the object can be made anew. Owners are left out as
// well, for the garbage collector deletes an object whose owner has another uid
// now. The status goes too where the type is known to keep it apart; a custom
// resource may keep its own data there. The values of a Secret are masked
// unless showSecrets. An object with characters that must not reach a terminal
// becomes JSON with escapes, which is YAML.
func (p *Printer) ToYAML(value []byte, showSecrets bool) ([]byte, error) {
	if len(value) > maxObject {
		return nil, ErrObjectLimits
	}
	object, err := p.decode(kube.DecodeEnvelope(value))
	if err != nil {
		return nil, err
	}
	prune(object)
	if object["kind"] == "Secret" && object["apiVersion"] == "v1" && !showSecrets {
		mask(object)
	}
	return render(object, len(value))
}

func (p *Printer) decode(e kube.Envelope) (map[string]any, error) {
	object := map[string]any{}
	switch e.Encoding {
	case kube.Encrypted:
		return nil, ErrEncrypted
	case kube.JSON:
		if err := json.UnmarshalCaseSensitivePreserveInts(e.Raw, &object); err != nil {
			return nil, ErrNoObject
		}
	case kube.CBOR:
		if err := direct.Unmarshal(e.Raw, &object); err != nil {
			return nil, ErrNoObject
		}
	case kube.Protobuf:
		return p.decodeProtobuf(e)
	default:
		return nil, ErrNoObject
	}
	if kind, ok := object["kind"].(string); !ok || kind == "" {
		return nil, ErrNoObject
	}
	return object, nil
}

func (p *Printer) decodeProtobuf(e kube.Envelope) (map[string]any, error) {
	kind := schema.FromAPIVersionAndKind(string(e.APIVersion), string(e.Kind))
	typed, err := p.scheme.New(kind)
	if err != nil {
		return nil, fmt.Errorf("%q of %q is no known type", e.Kind, e.APIVersion)
	}
	message, ok := typed.(interface {
		metav1.Object
		Unmarshal([]byte) error
	})
	if !ok {
		return nil, fmt.Errorf("%q of %q is not kept as protobuf", e.Kind, e.APIVersion)
	}
	if countFields(e.Raw, 0) > maxFields {
		return nil, ErrObjectLimits
	}
	if err := message.Unmarshal(e.Raw); err != nil {
		return nil, ErrNoObject
	}
	message.SetManagedFields(nil) // holds raw JSON, which may be none
	text, err := stdjson.Marshal(typed)
	if err != nil {
		return nil, ErrNoObject
	}
	object := map[string]any{}
	if err := json.UnmarshalCaseSensitivePreserveInts(text, &object); err != nil {
		return nil, ErrNoObject
	}
	object["apiVersion"], object["kind"] = string(e.APIVersion), string(e.Kind)
	delete(object, "status")
	return object, nil
}

// countFields counts the fields of a message and of everything in it that may be
// a message; 0 for what is none.
func countFields(message []byte, depth int) int {
	n := 0
	for len(message) > 0 {
		num, typ, head := protowire.ConsumeTag(message)
		if head < 0 {
			return 0
		}
		size := protowire.ConsumeFieldValue(num, typ, message[head:])
		if size < 0 {
			return 0
		}
		n++
		if typ == protowire.BytesType && depth < maxDepth && n <= maxFields {
			content, _ := protowire.ConsumeBytes(message[head:])
			n += countFields(content, depth+1)
		}
		message = message[head+size:]
	}
	return n
}

// prune takes out what the server sets.
func prune(object map[string]any) {
	if m, ok := object["metadata"].(map[string]any); ok {
		for _, name := range []string{
			"uid", "resourceVersion", "generation", "selfLink", "creationTimestamp", "deletionTimestamp",
			"deletionGracePeriodSeconds", "managedFields", "ownerReferences",
		} {
			delete(m, name)
		}
	}
	if object["kind"] == "Job" && strings.HasPrefix(fmt.Sprint(object["apiVersion"]), "batch/") {
		pruneJob(object)
	}
}

// pruneJob takes out the selector that the server made of the old uid: it refuses
// one that it did not make itself (kubernetes v1.34,
// pkg/apis/batch/validation/validation.go).
func pruneJob(object map[string]any) {
	spec, _ := object["spec"].(map[string]any)
	if spec == nil || spec["manualSelector"] == true {
		return
	}
	delete(spec, "selector")
	template, _ := spec["template"].(map[string]any)
	metadata, _ := template["metadata"].(map[string]any)
	own, _ := object["metadata"].(map[string]any)
	for _, holder := range []map[string]any{metadata, own} {
		labels, _ := holder["labels"].(map[string]any)
		for _, name := range []string{"controller-uid", "batch.kubernetes.io/controller-uid"} {
			delete(labels, name)
		}
	}
}

// lastApplied is where kubectl apply keeps the object as it was given.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// mask hides the values of a Secret, and the copy of them that kubectl keeps.
func mask(secret map[string]any) {
	for _, name := range []string{"data", "stringData"} {
		values, ok := secret[name].(map[string]any)
		if !ok {
			delete(secret, name)
			continue
		}
		for k := range values {
			values[k] = MaskedSecret
		}
	}
	if metadata, ok := secret["metadata"].(map[string]any); ok {
		annotations, ok := metadata["annotations"].(map[string]any)
		if !ok {
			delete(metadata, "annotations")
			return
		}
		delete(annotations, lastApplied)
	}
}

// render writes YAML, or JSON where YAML would show more than it should or grow
// far beyond the value: deep nesting costs indentation.
func render(object map[string]any, size int) ([]byte, error) {
	if indentation(object, 0) <= int64(16*size+1<<16) {
		text, err := yaml.Marshal(object)
		if err == nil && isPlain(text) {
			return text, nil
		}
	}
	text, err := stdjson.Marshal(object)
	if err != nil {
		return nil, ErrNoObject
	}
	return append(escape(text), '\n'), nil
}

// indentation gives the blanks that YAML needs before the lines of v.
func indentation(v any, depth int64) int64 {
	n := 2 * depth
	switch v := v.(type) {
	case map[string]any:
		for _, inner := range v {
			n += indentation(inner, depth+1)
		}
	case []any:
		for _, inner := range v {
			n += indentation(inner, depth+1)
		}
	}
	return n
}

// isPlain says whether a text holds printable characters, tabs and line ends
// alone.
func isPlain(text []byte) bool {
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if r == utf8.RuneError && n < 2 || r != '\n' && r != '\t' && !strconv.IsPrint(r) {
			return false
		}
		text = text[n:]
	}
	return true
}

// escape makes JSON of printable characters alone. In JSON, others can stand in
// strings only.
func escape(text []byte) []byte {
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		r, n := utf8.DecodeRune(text)
		if strconv.IsPrint(r) {
			out = append(out, text[:n]...)
		} else {
			for _, unit := range utf16.Encode([]rune{r}) {
				out = fmt.Appendf(out, `\u%04x`, unit)
			}
		}
		text = text[n:]
	}
	return out
}
