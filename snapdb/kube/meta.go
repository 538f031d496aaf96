package kube

import (
	"errors"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protowire"
	"sigs.k8s.io/json"
)

// maxListed bounds each list of a Meta: a hostile list of empty entries would
// otherwise take many times the memory of its bytes.
const maxListed = 1024

// A Meta is what an object says of itself: its type, metav1.ObjectMeta, and the
// times that some kinds keep beside it. Unset times are zero.
//
// Labels and annotations are left out: annotations hold copies of whole objects,
// Secrets among them.
type Meta struct {
	APIVersion, Kind   string
	Name, Namespace    string
	UID                string
	Created            time.Time // whole seconds
	Deleted            time.Time // when it may go: the request to delete it, and the grace period
	GracePeriodSeconds int64
	Owners             []Owner
	Finalizers         []string // with spec.finalizers of a Namespace
	Managed            []ManagedFields

	// Of a Lease of coordination.k8s.io.
	Renewed, Acquired time.Time // microseconds
	LeaseSeconds      int64

	// Observed is the newest of an Event's times.
	Observed time.Time
}

// An Owner is one of metadata.ownerReferences.
type Owner struct{ APIVersion, Kind, Name, UID string }

// ManagedFields says who wrote, and when last.
type ManagedFields struct {
	Manager, Operation, Subresource string
	Time                            time.Time // whole seconds
}

var errMeta = errors.New("not an object of Kubernetes")

// DecodeMeta reads the metadata of a value that is neither encrypted nor unknown.
// It needs no type to be known: field 1 of every stored protobuf object is its
// ObjectMeta.
func DecodeMeta(e Envelope) (Meta, error) {
	switch e.Encoding {
	case Protobuf:
		return metaFromProtobuf(e)
	case JSON:
		return metaFromText(e.Raw, json.UnmarshalCaseSensitivePreserveInts)
	case CBOR:
		return metaFromText(e.Raw, cborMode.Unmarshal)
	}
	return Meta{}, errMeta
}

// Fields of metav1.ObjectMeta, OwnerReference, ManagedFieldsEntry (apimachinery
// v0.34.4, pkg/apis/meta/v1/generated.proto).
const (
	fieldName              = 1
	fieldNamespace         = 3
	fieldUID               = 5
	fieldCreationTimestamp = 8
	fieldDeletionTimestamp = 9
	fieldGracePeriod       = 10
	fieldOwnerReferences   = 13
	fieldFinalizers        = 14
	fieldManagedFields     = 17
)

func metaFromProtobuf(e Envelope) (Meta, error) {
	m := Meta{APIVersion: string(e.APIVersion), Kind: string(e.Kind)}
	ok := true
	whole := eachField(e.Raw, func(num protowire.Number, content []byte) {
		switch {
		case num == 1:
			ok = m.readObjectMeta(content) && ok
		case m.isLease() && num == 2:
			m.readLeaseSpec(content)
		case m.isEvent():
			m.readEventTime(num, content)
		case m.isNamespace() && num == 2:
			m.readNamespaceSpec(content)
		}
	})
	if !whole || !ok {
		return Meta{}, errMeta
	}
	return m, nil
}

func (m *Meta) readObjectMeta(message []byte) bool {
	m.GracePeriodSeconds = varintField(message, fieldGracePeriod)
	return eachField(message, func(num protowire.Number, content []byte) {
		switch num {
		case fieldName:
			m.Name = string(content)
		case fieldNamespace:
			m.Namespace = string(content)
		case fieldUID:
			m.UID = string(content)
		case fieldCreationTimestamp:
			m.Created = seconds(content)
		case fieldDeletionTimestamp:
			m.Deleted = seconds(content)
		case fieldOwnerReferences:
			if len(m.Owners) < maxListed {
				m.Owners = append(m.Owners, readOwner(content))
			}
		case fieldFinalizers:
			if len(m.Finalizers) < maxListed {
				m.Finalizers = append(m.Finalizers, string(content))
			}
		case fieldManagedFields:
			if len(m.Managed) < maxListed {
				m.Managed = append(m.Managed, readManagedFields(content))
			}
		}
	})
}

func readOwner(message []byte) Owner {
	var o Owner
	eachField(message, func(num protowire.Number, content []byte) {
		switch num {
		case 1:
			o.Kind = string(content)
		case 3:
			o.Name = string(content)
		case 4:
			o.UID = string(content)
		case 5:
			o.APIVersion = string(content)
		}
	})
	return o
}

func readManagedFields(message []byte) ManagedFields {
	var f ManagedFields
	eachField(message, func(num protowire.Number, content []byte) {
		switch num {
		case 1:
			f.Manager = string(content)
		case 2:
			f.Operation = string(content)
		case 4:
			f.Time = seconds(content)
		case 8:
			f.Subresource = string(content)
		}
	})
	return f
}

// readLeaseSpec reads LeaseSpec: 2 leaseDurationSeconds, 3 acquireTime,
// 4 renewTime (api v0.34.4, coordination/v1/generated.proto).
func (m *Meta) readLeaseSpec(message []byte) {
	m.LeaseSeconds = varintField(message, 2)
	m.Acquired = micros(stringField(message, 3))
	m.Renewed = micros(stringField(message, 4))
}

// readEventTime reads those fields of a core Event that hold a time: 6
// firstTimestamp, 7 lastTimestamp, 10 eventTime, 11 series (2 lastObservedTime).
// API servers keep the events of both API groups in this form (api v0.34.4,
// core/v1/generated.proto).
func (m *Meta) readEventTime(num protowire.Number, content []byte) {
	switch num {
	case 6, 7:
		m.observe(seconds(content))
	case 10:
		m.observe(micros(content))
	case 11:
		m.observe(micros(stringField(content, 2)))
	}
}

// readNamespaceSpec reads NamespaceSpec: 1 finalizers (api v0.34.4,
// core/v1/generated.proto).
func (m *Meta) readNamespaceSpec(message []byte) {
	eachField(message, func(num protowire.Number, content []byte) {
		if num == 1 && len(m.Finalizers) < maxListed {
			m.Finalizers = append(m.Finalizers, string(content))
		}
	})
}

func (m *Meta) observe(t time.Time) {
	if t.After(m.Observed) {
		m.Observed = t
	}
}

func (m *Meta) isLease() bool {
	return m.Kind == "Lease" && group(m.APIVersion) == "coordination.k8s.io"
}

func (m *Meta) isEvent() bool { return m.Kind == "Event" && m.APIVersion == "v1" }

func (m *Meta) isNamespace() bool { return m.Kind == "Namespace" && m.APIVersion == "v1" }

// group gives the API group of an apiVersion, "" for the core group.
func group(apiVersion string) string {
	g, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return g
}

// seconds reads a metav1.Time: 1 seconds. Its nanoseconds mean nothing, and a
// message of zeros is an unset time (apimachinery v0.34.4,
// pkg/apis/meta/v1/time_proto.go).
func seconds(message []byte) time.Time {
	return moment(varintField(message, 1), 0)
}

// micros reads a metav1.MicroTime: 1 seconds, 2 nanos.
func micros(message []byte) time.Time {
	nanos := varintField(message, 2)
	if nanos < 0 || nanos >= int64(time.Second) {
		nanos = 0
	}
	return moment(varintField(message, 1), nanos)
}

// moment gives a UTC time, zero for what lies outside 1970 to 9999.
func moment(seconds, nanos int64) time.Time {
	const year10000 = 253402300800
	if seconds < 0 || seconds >= year10000 || seconds == 0 && nanos == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, nanos).UTC()
}
