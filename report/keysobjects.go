package report

import (
	"fmt"
	"strings"
	"time"

	"etcd-forensics/inspect/query"
	"etcd-forensics/snapdb/kube"
)

// An objectsView is what the newest versions of objects tell. Its fields are absent when
// they were not looked into.
type objectsView struct {
	Notes       []noteView        `json:"notes"`
	NotesWhole  bool              `json:"notesComplete"`
	Newest      *string           `json:"newestTime"`
	Unreadable  int64             `json:"unreadable"`
	Encryption  []encryptionView  `json:"encryption"`
	MissingKeys *[]encryptionView `json:"missingKeys,omitempty"`
}

type noteView struct {
	Kind        kube.NoteKind `json:"kind"`
	Key         string        `json:"key"`
	KeyEncoding string        `json:"keyEncoding,omitempty"`
	ModRevision int64         `json:"modRevision"`
	Since       *string       `json:"since,omitempty"`
	Owner       *ownerView    `json:"owner,omitempty"`
	Finalizers  []string      `json:"finalizers,omitempty"`
	Lease       string        `json:"lease,omitempty"`
}

type ownerView struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Name       string `json:"name"`
	UID        string `json:"uid"`
}

func viewObjects(o *query.Objects) *objectsView {
	if o == nil {
		return nil
	}
	v := &objectsView{Notes: make([]noteView, len(o.Notes)), NotesWhole: o.Whole, Newest: stamp(o.Newest), Unreadable: o.Unreadable, Encryption: viewEncryption(o.Encryption)}
	for i, n := range o.Notes {
		text, encoding := Key([]byte(n.Key))
		v.Notes[i] = noteView{Kind: n.Kind, Key: text, KeyEncoding: encoding, ModRevision: n.Revision, Since: stamp(n.Since), Finalizers: n.Finalizers}
		switch n.Kind {
		case kube.OwnerMissing:
			v.Notes[i].Owner = &ownerView{n.Owner.APIVersion, n.Owner.Kind, n.Owner.Name, n.Owner.UID}
		case query.LeaseUnused:
			v.Notes[i].Lease = fmt.Sprintf("%016x", uint64(n.Lease))
		}
	}
	if o.Missing != nil {
		missing := viewEncryption(o.Missing)
		v.MissingKeys = &missing
	}
	return v
}

// stamp gives a time as RFC 3339 has it, nil for none.
func stamp(t time.Time) *string {
	if t.IsZero() {
		return nil
	}
	s := t.UTC().Format(time.RFC3339Nano)
	return &s
}

// noteTitles are the titles of notes, in their order.
var noteTitles = []struct {
	kind  kube.NoteKind
	title string
}{
	{kube.NodeSilent, "nodes whose lease was not renewed any more"},
	{kube.Deleting, "deletions that finalizers hold up"},
	{kube.OwnerMissing, "objects whose owner is not there"},
	{query.LeaseUnused, "leases of etcd whose keys are gone"},
}

// objects writes what is worth a look in the objects of an API server.
func (t *textWriter) objects(o *query.Objects, most int) {
	if o == nil {
		return
	}
	t.printf("\nWorth a look\n")
	if !o.Newest.IsZero() {
		t.wrapHanging("  ", "  ", fmt.Sprintf("newest time that the objects name: %s", short(o.Newest)))
	}
	if o.Unreadable > 0 {
		t.wrapHanging("  ", "  ", fmt.Sprintf("%s could not be read: encrypted, or no objects of Kubernetes", plural(o.Unreadable, "value")))
	}
	for _, group := range noteTitles {
		t.notes(o, group.kind, group.title, most)
	}
	if len(o.Notes) == 0 {
		t.printf("  nothing was found\n")
	}
	if !o.Whole {
		t.wrapHanging("  ", "  ", "there were more candidates than are kept in memory: this is not all")
	}
	if len(o.Encryption) > 0 {
		t.wrapHanging("  encryption: ", "    ", encryptionWords(o.Encryption))
	}
	switch {
	case o.Missing == nil:
	case len(o.Missing) > 0:
		t.wrapHanging("  missing in the EncryptionConfiguration, and needed to read these: ", "    ", encryptionWords(o.Missing))
	case len(o.Encryption) > 0:
		t.printf("  the EncryptionConfiguration has a key for every encrypted object\n")
	}
}

// notes writes the notes of one kind.
func (t *textWriter) notes(o *query.Objects, kind kube.NoteKind, title string, most int) {
	listed, all := 0, 0
	for i := range o.Notes {
		n := &o.Notes[i]
		if n.Kind != kind {
			continue
		}
		if all++; all == 1 {
			t.printf("  %s\n", title)
		}
		if most == 0 || listed < most {
			listed++
			t.wrapHanging("  - ", "    ", shortened([]byte(n.Key))+": "+noteWords(n, o.Newest))
		}
	}
	if all > listed {
		t.printf("  - (%d more)\n", all-listed)
	}
}

func noteWords(n *query.ObjectNote, newest time.Time) string {
	switch n.Kind {
	case kube.NodeSilent:
		return fmt.Sprintf("renewed last at %s (revision %d), %s before the newest time", short(n.Since), n.Revision, newest.Sub(n.Since).Round(time.Second))
	case kube.Deleting:
		quotedNames := make([]string, min(len(n.Finalizers), namedFinalizers))
		for i := range quotedNames {
			quotedNames[i] = shortened([]byte(n.Finalizers[i]))
		}
		if more := len(n.Finalizers) - namedFinalizers; more > 0 {
			quotedNames = append(quotedNames, fmt.Sprintf("%d more", more))
		}
		return fmt.Sprintf("asked for at %s, held up by %s", short(n.Since), strings.Join(quotedNames, ", "))
	case kube.OwnerMissing:
		return fmt.Sprintf("owner %s %s, uid %s", shortened([]byte(n.Owner.Kind)), shortened([]byte(n.Owner.Name)), shortened([]byte(n.Owner.UID)))
	}
	return fmt.Sprintf("the newest version that was bound to lease %016x is revision %d", uint64(n.Lease), n.Revision)
}

// namedFinalizers is the number of an object's finalizers that the text names.
const namedFinalizers = 4

func short(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }
