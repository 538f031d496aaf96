package kube

import (
	"bytes"
	stdjson "encoding/json"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// cborMode reads what the API server reads: byte strings as names and text, and
// no more than these nestings and entries (apimachinery v0.34.4,
// pkg/runtime/serializer/cbor/internal/modes/decode.go).
var cborMode = func() cbor.DecMode {
	mode, err := cbor.DecOptions{
		DupMapKey:           cbor.DupMapKeyEnforcedAPF,
		MaxNestedLevels:     64,
		MaxArrayElements:    1024,
		MaxMapPairs:         1024,
		FieldNameMatching:   cbor.FieldNameMatchingCaseSensitive,
		FieldNameByteString: cbor.FieldNameByteStringAllowed,
		ByteStringToString:  cbor.ByteStringToStringAllowed,
	}.DecMode()
	if err != nil {
		panic(err) // the options above contradict each other
	}
	return mode
}()

// metaFromText reads JSON and CBOR, which have the same names. The values under
// spec belong to the kind, so they are looked at only where the kind is known,
// and may be anything.
func metaFromText(raw []byte, unmarshal func([]byte, any) error) (Meta, error) {
	var o textObject
	if err := unmarshal(raw, &o); err != nil {
		return Meta{}, errMeta
	}
	m := o.meta()
	switch {
	case m.isLease():
		var l textLease
		if unmarshal(raw, &l) == nil {
			m.Renewed, m.Acquired = l.Spec.RenewTime.time(), l.Spec.AcquireTime.time()
			m.LeaseSeconds = l.Spec.LeaseDurationSeconds
		}
	case m.isEvent():
		var e textEvent
		if unmarshal(raw, &e) == nil {
			for _, t := range []stamp{e.FirstTimestamp, e.LastTimestamp, e.EventTime, e.Series.LastObservedTime} {
				m.observe(t.time())
			}
		}
	case m.isNamespace():
		var n textNamespace
		if unmarshal(raw, &n) == nil {
			m.Finalizers = append(m.Finalizers, n.Spec.Finalizers...)
		}
	}
	return m, nil
}

type textObject struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name                       string             `json:"name"`
		Namespace                  string             `json:"namespace"`
		UID                        string             `json:"uid"`
		CreationTimestamp          stamp              `json:"creationTimestamp"`
		DeletionTimestamp          stamp              `json:"deletionTimestamp"`
		DeletionGracePeriodSeconds int64              `json:"deletionGracePeriodSeconds"`
		OwnerReferences            short[textOwner]   `json:"ownerReferences"`
		Finalizers                 short[string]      `json:"finalizers"`
		ManagedFields              short[textManager] `json:"managedFields"`
	} `json:"metadata"`
}

type textOwner struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

type textManager struct {
	Manager     string `json:"manager"`
	Operation   string `json:"operation"`
	Subresource string `json:"subresource"`
	Time        stamp  `json:"time"`
}

type textLease struct {
	Spec struct {
		RenewTime            stamp `json:"renewTime"`
		AcquireTime          stamp `json:"acquireTime"`
		LeaseDurationSeconds int64 `json:"leaseDurationSeconds"`
	} `json:"spec"`
}

type textEvent struct {
	FirstTimestamp stamp `json:"firstTimestamp"`
	LastTimestamp  stamp `json:"lastTimestamp"`
	EventTime      stamp `json:"eventTime"`
	Series         struct {
		LastObservedTime stamp `json:"lastObservedTime"`
	} `json:"series"`
}

type textNamespace struct {
	Spec struct {
		Finalizers short[string] `json:"finalizers"`
	} `json:"spec"`
}

func (o *textObject) meta() Meta {
	m := Meta{
		APIVersion: o.APIVersion, Kind: o.Kind,
		Name: o.Metadata.Name, Namespace: o.Metadata.Namespace, UID: o.Metadata.UID,
		Created: o.Metadata.CreationTimestamp.time(), Deleted: o.Metadata.DeletionTimestamp.time(),
		GracePeriodSeconds: o.Metadata.DeletionGracePeriodSeconds,
		Finalizers:         o.Metadata.Finalizers,
	}
	for _, r := range o.Metadata.OwnerReferences {
		m.Owners = append(m.Owners, Owner(r))
	}
	for _, f := range o.Metadata.ManagedFields {
		m.Managed = append(m.Managed, ManagedFields{f.Manager, f.Operation, f.Subresource, f.Time.time()})
	}
	return m
}

// A stamp is a time in the form of RFC 3339.
type stamp string

func (s stamp) time() time.Time {
	t, err := time.Parse(time.RFC3339Nano, string(s))
	if err != nil {
		return time.Time{}
	}
	return moment(t.Unix(), int64(t.Nanosecond()))
}

// A short list keeps its first maxListed entries. CBOR has a limit of its own.
type short[T any] []T

func (s *short[T]) UnmarshalJSON(b []byte) error {
	d := stdjson.NewDecoder(bytes.NewReader(b))
	open, err := d.Token()
	if err != nil || open == nil {
		return err
	}
	if open != stdjson.Delim('[') {
		return errMeta
	}
	for d.More() && len(*s) < maxListed {
		var v T
		if err := d.Decode(&v); err != nil {
			return err
		}
		*s = append(*s, v)
	}
	return nil
}
