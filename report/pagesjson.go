package report

import (
	"cmp"
	"encoding/hex"
	"encoding/json"
	"io"

	"etcd-forensics/inspect/query"
)

// PagesJSON writes pages in full, one after the other as look gives them; those before an error
// are a whole answer.
func PagesJSON(w io.Writer, file string, look func(visit func(*query.Page) error) error) error {
	name, err := json.Marshal(file)
	if err != nil {
		return err
	}
	t := &textWriter{w: w}
	t.printf("{\n  \"file\": %s,\n  \"pages\": [", escapeUnprintable(name))
	separator := "\n    "
	err = look(func(v *query.Page) error {
		b, err := json.MarshalIndent(viewPage(v), "    ", "  ")
		if err != nil {
			return err
		}
		t.printf("%s%s", separator, escapeUnprintable(b))
		separator = ",\n    "
		return t.err
	})
	t.printf("\n  ]\n}\n")
	return cmp.Or(err, t.err)
}

type pageView struct {
	Page       uint64          `json:"page"`
	Offset     int64           `json:"offset"`
	Size       int64           `json:"size"`
	Class      string          `json:"class"`
	PartOf     *uint64         `json:"partOf"`
	Header     *query.Header   `json:"header"`
	Bucket     *string         `json:"bucket"`
	Path       []uint64        `json:"path"`
	References []referenceView `json:"references"`
	Findings   []findingView   `json:"findings"`
	UsedBytes  int64           `json:"usedBytes"`
	Leftover   bool            `json:"leftover"`
	Notes      []string        `json:"notes"`
	Meta       *query.Meta     `json:"meta"`
	Freelist   *query.Freelist `json:"freelist"`
	Elements   []elementView   `json:"elements"`
	Hex        string          `json:"hex,omitempty"`
	Masked     []query.Span    `json:"masked,omitempty"`
}

type referenceView struct {
	Holder  uint64   `json:"holder"`
	Element *int     `json:"element"`
	Field   string   `json:"field,omitempty"`
	Lo      *keyView `json:"from"`
	Hi      *keyView `json:"before"`
}

type keyView struct {
	Key         *string `json:"key"`
	KeyEncoding string  `json:"keyEncoding,omitempty"`
	Revision    string  `json:"revision,omitempty"`
	Tombstone   bool    `json:"tombstone,omitempty"`
}

type elementView struct {
	Index     int    `json:"index"`
	Position  uint64 `json:"position"`
	KeySize   uint32 `json:"keySize"`
	ValueSize uint32 `json:"valueSize"`
	keyView
	EtcdKey         *string        `json:"etcdKey,omitempty"`
	EtcdKeyEncoding string         `json:"etcdKeyEncoding,omitempty"`
	Child           *uint64        `json:"child,omitempty"`
	Bucket          *subBucketView `json:"subBucket,omitempty"`
	Faults          []string       `json:"faults"`
}

type subBucketView struct {
	Root     uint64        `json:"root"`
	Sequence uint64        `json:"sequence"`
	Elements []elementView `json:"elements"`
}

func viewPage(v *query.Page) pageView {
	view := pageView{
		Page: v.Page, Offset: v.Offset, Size: v.Size, Class: v.Class, PartOf: v.PartOf, Header: v.Header, Bucket: v.Bucket, Path: v.Path,
		References: make([]referenceView, len(v.References)), Findings: viewFindings(v.Findings), UsedBytes: v.Used, Leftover: v.Leftover,
		Notes: orEmpty(v.Notes), Meta: v.Meta, Freelist: v.Freelist, Elements: viewElements(v.Elements, v.Header != nil && v.Header.Type == "branch"),
		Hex: hex.EncodeToString(v.Bytes), Masked: v.Masked,
	}
	for i, r := range v.References {
		view.References[i] = referenceView{Holder: r.Holder, Field: r.Field, Lo: viewKey(r.Lo), Hi: viewKey(r.Hi)}
		if r.Element >= 0 {
			view.References[i].Element = &r.Element
		}
	}
	return view
}

func viewKey(k *query.Key) *keyView {
	if k == nil {
		return nil
	}
	if k.Hidden {
		return &keyView{}
	}
	text, encoding := Key(k.Raw)
	return &keyView{&text, encoding, k.Revision, k.Tombstone}
}

func viewElements(elements []query.Element, branch bool) []elementView {
	views := make([]elementView, len(elements))
	for i, e := range elements {
		v := elementView{Index: e.Index, Position: e.Position, KeySize: e.KeySize, ValueSize: e.ValueSize, keyView: *viewKey(&e.Key), Faults: orEmpty(e.Faults)}
		if e.EtcdKey != nil {
			text, encoding := Key(e.EtcdKey)
			v.EtcdKey, v.EtcdKeyEncoding = &text, encoding
		}
		if branch {
			v.Child = &e.Child
		}
		if b := e.Bucket; b != nil {
			v.Bucket = &subBucketView{b.Root, b.Sequence, viewElements(b.Elements, false)}
		}
		views[i] = v
	}
	return views
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
