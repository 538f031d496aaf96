package query

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"

	"etcd-forensics/inspect"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/snapdb/page"
)

// maxShown bounds the bytes read of one page with its overflow.
const maxShown = 64 << 20

// A Page is one page in full.
type Page struct {
	Page       uint64
	Offset     int64 // from the start of the file
	Size       int64 // bytes, overflow pages included
	Class      string
	PartOf     *uint64 // of an overflow page: the page that it goes on
	Header     *Header // nil when it cannot be read
	Bucket     *string // "" for the root bucket, nil when it belongs to none
	Path       []uint64
	References []Reference
	Findings   []inspect.Finding
	Used       int64 // bytes of header, elements, keys and values
	Leftover   bool  // what stands on it is of an earlier transaction
	Notes      []string
	Elements   []Element // of a branch or leaf
	Meta       *Meta
	Freelist   *Freelist
	Bytes      []byte // with Options.Hex
	Masked     []Span // of Bytes: not shown, asterisks in their place
}

// A Header is a page header as it stands in the file.
type Header struct {
	ID       uint64 `json:"id"`
	Flags    uint16 `json:"flags"`
	Type     string `json:"type"`
	Count    uint16 `json:"count"`
	Overflow uint32 `json:"overflow"`
}

// A Reference is one place that names a page.
type Reference struct {
	Holder  uint64
	Element int    // on Holder, -1 for a field of a meta page
	Field   string // that field
	Lo, Hi  *Key   // the keys that it promises: from Lo to before Hi; nil is unbounded
}

// A Key is the key of a record as it stands in the database.
type Key struct {
	Raw       []byte
	Hidden    bool   // its bytes may be those of a value, so Raw is nil
	Revision  string // main.sub, in bucket key
	Tombstone bool
}

// An Element is one element of a branch or leaf page.
type Element struct {
	Index              int
	Position           uint64 // of the key, from the start of the page
	KeySize, ValueSize uint32
	Key                Key
	EtcdKey            []byte // in bucket key: of the record's value
	Child              uint64 // of a branch
	Bucket             *SubBucket
	Faults             []string
}

// A SubBucket is the bucket that an element names.
type SubBucket struct {
	Root     uint64 // 0 when it lies inline
	Sequence uint64
	Elements []Element // of an inline bucket; positions count from the start of its own page
}

// A Meta is one meta page.
type Meta struct {
	Slot          int      `json:"slot"`
	Valid         bool     `json:"valid"`
	Active        bool     `json:"active"`
	Magic         string   `json:"magic"` // hex
	Version       uint32   `json:"version"`
	PageSize      uint32   `json:"pageSize"`
	Flags         uint32   `json:"flags"`
	Root          uint64   `json:"root"`
	Sequence      uint64   `json:"sequence"`
	Freelist      *uint64  `json:"freelist"` // nil when it is not stored
	HighWaterMark uint64   `json:"highWaterMark"`
	Txid          uint64   `json:"txid"`
	Checksum      string   `json:"checksum"` // hex, as are the next
	Computed      string   `json:"computed"` // from the bytes
	Problems      []string `json:"problems"`
}

// A Freelist is a stored list of free pages, in the order in which they stand.
type Freelist struct {
	Count int       `json:"count"`
	Runs  []FreeRun `json:"runs"`
}

// A FreeRun is a number of page numbers that rise by one, as a freelist lists
// them.
type FreeRun struct {
	First uint64 `json:"first"`
	Count uint64 `json:"count"`
}

// A Span is the half-open range [From, To).
type Span struct {
	From int64 `json:"from"`
	To   int64 `json:"to"`
}

// PageOptions control Look.
type PageOptions struct {
	Hex    bool // give the pages' bytes
	Values bool // also of pages that hold values
}

// Look visits pages in the order of ids, each in full.
func (p *Pages) Look(ctx context.Context, ids []uint64, opts PageOptions, visit func(*Page) error) error {
	wanted := map[page.ID]bool{}
	for _, id := range ids {
		wanted[page.ID(id)] = true
		if head := p.head(id); head != id {
			wanted[page.ID(head)] = true
		}
	}
	references := map[page.ID][]snapdb.Reference{}
	for _, r := range p.Tree.References(func(id page.ID) bool { return wanted[id] }) {
		references[r.To] = append(references[r.To], r)
	}
	for _, id := range ids {
		if err := ctx.Err(); err != nil {
			return err
		}
		v := p.look(id, references[page.ID(p.head(id))], opts)
		if err := visit(v); err != nil {
			return err
		}
	}
	return nil
}

// MayDump says why a page's bytes may not be shown, nil when they may.
func (p *Pages) MayDump(id uint64, values bool) error {
	head := p.head(id)
	c := p.class(int64(head))
	switch c {
	case snapdb.ClassMeta:
		if p.isMeta(id) {
			return nil
		}
	case snapdb.ClassBranch, snapdb.ClassFreelist:
		if !p.isFaulty(int64(head)) {
			return nil
		}
	}
	b := p.owner(head)
	switch {
	case b > 0 && !keyspace.IsOpen(p.TopBucket(b)):
		return fmt.Errorf("page %d is of bucket %s: records of auth are never shown, and what is no other bucket of etcd's may hold them", id, p.Bucket(b))
	case b <= 0 && head < uint64(len(p.Pages.Class)) && p.isFaulty(int64(head)) && c != snapdb.ClassFreelist:
		// The root bucket's page holds the small buckets whole.
		return fmt.Errorf("page %d is damaged, so records of auth, which are never shown, cannot be told from others on it", id)
	}
	if !values {
		return fmt.Errorf("page %d (%s) may hold values of keys, which are shown only when asked for", id, classNames[c])
	}
	return nil
}

// isMeta says whether a meta page is one, and its bytes behind the meta are zero, as
// bbolt writes them.
func (p *Pages) isMeta(id uint64) bool {
	if id >= uint64(len(p.Metas)) || !p.Metas[id].Read || p.Metas[id].Meta.Magic != page.Magic {
		return false
	}
	buf := make([]byte, p.DB.PageSize)
	n, _ := p.DB.ReaderAt().ReadAt(buf, p.Metas[id].Offset)
	return n > page.HeaderSize+page.MetaSize && isZero(buf[page.HeaderSize+page.MetaSize:n])
}

// isAuth says whether a bucket's records hold passwords or what they allow.
func isAuth(bucket string) bool {
	return bucket == keyspace.BucketAuth || bucket == keyspace.BucketAuthUsers || bucket == keyspace.BucketAuthRoles
}

// head gives the page that an overflow page belongs to, and any other page
// itself.
func (p *Pages) head(id uint64) uint64 {
	for id > 0 && p.class(int64(id)) == snapdb.ClassOverflow {
		id--
	}
	return id
}

// owner gives the bucket of a first page, -1 for none.
func (p *Pages) owner(id uint64) int {
	if id < uint64(len(p.owners)) {
		return int(p.owners[id]) - 1
	}
	return -1
}

// look describes one page. references lead to it, or to the page that it goes on.
func (p *Pages) look(id uint64, references []snapdb.Reference, opts PageOptions) *Page {
	head, size := p.head(id), int64(p.DB.PageSize)
	c := p.class(int64(id))
	v := &Page{Page: id, Offset: int64(id) * size, Class: classNames[c], Path: []uint64{}, References: []Reference{}, Findings: p.On(page.ID(id))}
	v.Size = min(p.extent(id)*size, p.DB.DataSize-v.Offset)
	b := p.owner(head)
	for _, r := range references {
		if b < 0 {
			b = r.Bucket
		}
		v.References = append(v.References, p.reference(r))
	}
	if b >= 0 {
		name := p.Bucket(b)
		v.Bucket = &name
	}
	if len(references) > 0 && references[0].Bucket >= 0 {
		for _, at := range references[0].Path {
			v.Path = append(v.Path, uint64(at))
		}
		v.Path = append(v.Path, head)
	}
	buf, err := p.DB.ReadPage(page.ID(id), maxShown, nil)
	if err != nil {
		v.Notes = append(v.Notes, "its bytes cannot be read: "+err.Error())
		return v
	}
	if c == snapdb.ClassOverflow {
		v.PartOf = &head
	} else {
		p.read(v, buf, c, b)
	}
	if opts.Hex && p.MayDump(id, opts.Values) == nil {
		p.dump(v, buf, c, b)
	}
	return v
}

// extent gives the pages that a page takes with those that it goes on in.
func (p *Pages) extent(id uint64) int64 {
	n := int64(1)
	switch p.class(int64(id)) {
	case snapdb.ClassBranch, snapdb.ClassLeaf, snapdb.ClassFreelist:
		for p.class(int64(id)+n) == snapdb.ClassOverflow {
			n++
		}
	}
	return n
}

func (p *Pages) reference(r snapdb.Reference) Reference {
	shown := Reference{Holder: uint64(r.Holder), Element: r.Element}
	if r.Element < 0 {
		shown.Field = "root"
		if r.Bucket < 0 {
			shown.Field = "freelist"
		}
	}
	inKey := p.TopBucket(max(r.Bucket, 0)) == keyspace.BucketKey
	if r.Lo != nil {
		shown.Lo = recordKey(r.Lo, inKey)
	}
	if r.Hi != nil {
		shown.Hi = recordKey(r.Hi, inKey)
	}
	return shown
}

// recordKey gives a key of a bucket; those of bucket key are revisions.
func recordKey(b []byte, inKey bool) *Key {
	k := &Key{Raw: b}
	if r, ok := keyspace.DecodeRevision(b); ok && inKey {
		k.Revision, k.Tombstone = fmt.Sprintf("%d.%d", r.Main, r.Sub), r.Tombstone
	}
	return k
}

// read gives the bytes of a first page their meaning. b is its bucket, -1 when it
// belongs to none.
func (p *Pages) read(v *Page, buf []byte, c snapdb.Class, b int) {
	if len(buf) < page.HeaderSize {
		v.Notes = append(v.Notes, fmt.Sprintf("the file ends %d bytes behind its beginning", len(buf)))
		return
	}
	h := page.DecodeHeader((*[page.HeaderSize]byte)(buf))
	v.Header = &Header{uint64(h.ID), h.Flags, h.Kind().String(), h.Count, h.Overflow}
	if isZero(buf) {
		v.Notes = append(v.Notes, "all its bytes are zero")
		return
	}
	switch c {
	case snapdb.ClassFree, snapdb.ClassUnreachable, snapdb.ClassBeyondEnd:
		if h.ID != page.ID(v.Page) || !page.LaidOut(buf) {
			v.Notes = append(v.Notes, "its bytes are not those of a branch or leaf page")
			return
		}
		v.Leftover = true
	}
	switch h.Kind() {
	case page.KindLeaf:
		v.readLeaf(buf, p.contentOf(b, v.Leftover && allRevisions(buf)))
	case page.KindBranch:
		v.readBranch(buf, p.contentOf(b, v.Leftover && allRevisions(buf)))
	case page.KindFreelist:
		v.readFreelist(buf)
	}
	if v.Page < 2 && p.Metas[v.Page].Read {
		v.Meta = &p.metas()[v.Page]
		v.Used = page.HeaderSize + page.MetaSize
	}
}

// contentOf names the bucket of etcd's whose records a page holds. A page that
// belongs to no bucket tells by its keys.
func (p *Pages) contentOf(b int, revisions bool) string {
	if revisions {
		return keyspace.BucketKey
	}
	return p.TopBucket(b)
}

func isZero(b []byte) bool { return len(bytes.TrimLeft(b, "\x00")) == 0 }

// allRevisions says whether every key of a page is a revision, as in bucket key.
func allRevisions(buf []byte) bool {
	leaf, _ := page.OpenLeaf(buf)
	branch, _ := page.OpenBranch(buf)
	n := leaf.Len()
	isLeaf := leaf.Kind() == page.KindLeaf
	if !isLeaf {
		n = branch.Len()
	}
	for i := range n {
		var key []byte
		if isLeaf {
			e, _ := leaf.Element(i)
			key = e.Key
		} else {
			e, _ := branch.Element(i)
			key = e.Key
		}
		if _, ok := keyspace.DecodeRevision(key); !ok {
			return false
		}
	}
	return n > 0
}

func (v *Page) readLeaf(buf []byte, bucket string) {
	leaf, fault := page.OpenLeaf(buf)
	v.noteFault(fault)
	v.Elements = leafElements(&leaf, bucket)
	v.Used = int64(leaf.End())
}

// leafElements decodes the elements of a leaf page, without the values.
func leafElements(leaf *page.Leaf, bucket string) []Element {
	list := make([]Element, 0, leaf.Len())
	read := make([]page.LeafElement, 0, leaf.Len())
	placed := leaf.Len() // elements that lie where they belong, up to the first that does not
	var before []byte
	for i := range leaf.Len() {
		e, fault := leaf.Element(i)
		raw := leaf.Raw(i)
		row := Element{Index: i, Position: raw.Position, KeySize: raw.KeySize, ValueSize: raw.ValueSize}
		row.noteFault(fault)
		row.noteFault(page.OrderFault(i, before, e.Key))
		before = e.Key
		if fault != nil {
			// The sizes of the element before may be what is wrong.
			placed = min(placed, i-1)
			e.Value = nil // it may be anything, and the same for all elements
		}
		read, list = append(read, e), append(list, row)
	}
	for i, e := range read {
		row := &list[i]
		row.Key = shownKey(e, bucket, i < placed)
		switch {
		case e.Bucket && e.Value != nil:
			row.Bucket = row.subBucket(e)
		case row.Key.Revision != "" && e.Value != nil:
			kv, err := keyspace.DecodeKeyValue(e.Value)
			if err != nil {
				row.Faults = append(row.Faults, "value: "+err.Error())
			}
			row.EtcdKey = kv.Key
		}
	}
	return list
}

// shownKey gives the key of a record, unless a wrong size or position may have
// made part of a value of it: then only what reads as a key of its bucket.
func shownKey(e page.LeafElement, bucket string, placed bool) Key {
	k := *recordKey(e.Key, bucket == keyspace.BucketKey)
	hidden := Key{Hidden: true}
	switch {
	case k.Revision != "":
		return k
	case bucket == "" && !e.Bucket && !bytes.Contains(e.Value, e.Key):
		return hidden // of no bucket, so it may be of auth
	case !placed || bucket == keyspace.BucketKey && len(e.Key) > keyspace.MarkedRevisionSize:
		return hidden
	case e.Bucket && !isBucket(e.Value):
		return hidden
	case bucket == keyspace.BucketAuth && !slices.Contains(authKeys, string(e.Key)):
		return hidden
	case isAuth(bucket) && bucket != keyspace.BucketAuth && !bytes.Contains(e.Value, e.Key):
		return hidden // a user or role has its name in its record, too
	}
	return k
}

// isBucket says whether a value is a bucket header, and if the bucket lies inline,
// a leaf page behind it.
func isBucket(value []byte) bool {
	b, fault := page.DecodeBucket(value)
	if fault != nil {
		return false
	}
	leaf, _ := page.OpenLeaf(b.Inline)
	return b.Root != 0 || leaf.Kind() == page.KindLeaf && page.LaidOut(b.Inline)
}

// authKeys are the keys of bucket auth.
var authKeys = []string{keyspace.AuthEnabled, keyspace.AuthRevision}

// subBucket decodes a bucket header, and the leaf behind it.
func (e *Element) subBucket(of page.LeafElement) *SubBucket {
	b, fault := page.DecodeBucket(of.Value)
	e.noteFault(fault)
	s := &SubBucket{Root: uint64(b.Root), Sequence: b.Sequence, Elements: []Element{}}
	if len(b.Inline) >= page.HeaderSize {
		leaf, fault := page.OpenLeaf(b.Inline)
		e.noteFault(fault)
		s.Elements = leafElements(&leaf, string(of.Key))
		for i := range s.Elements {
			s.Elements[i].Bucket = nil // bbolt nests nothing in an inline bucket
		}
	}
	return s
}

func (e *Element) noteFault(f *page.Fault) {
	if f != nil {
		e.Faults = append(e.Faults, f.Error())
	}
}

func (v *Page) noteFault(f *page.Fault) {
	if f != nil {
		v.Notes = append(v.Notes, f.Error())
	}
}

func (v *Page) readBranch(buf []byte, bucket string) {
	br, fault := page.OpenBranch(buf)
	v.noteFault(fault)
	v.Elements = make([]Element, 0, br.Len())
	var before []byte
	placed := true
	for i := range br.Len() {
		e, fault := br.Element(i)
		placed = placed && fault == nil
		raw := br.Raw(i)
		row := Element{Index: i, Position: raw.Position, KeySize: raw.KeySize, Child: uint64(e.Child)}
		// A branch holds no values, but a leaf may have become one.
		if row.Key = *recordKey(e.Key, bucket == keyspace.BucketKey); row.Key.Revision == "" && !placed {
			row.Key = Key{Hidden: true}
		}
		row.noteFault(fault)
		row.noteFault(page.OrderFault(i, before, e.Key))
		before = e.Key
		v.Elements = append(v.Elements, row)
	}
	v.Used = int64(br.End())
}

func (v *Page) readFreelist(buf []byte) {
	list, fault := page.OpenFreelist(buf)
	v.noteFault(fault)
	f := &Freelist{Count: list.Len(), Runs: []FreeRun{}}
	for i := range list.Len() {
		id := uint64(list.At(i))
		if n := len(f.Runs); n > 0 && id > f.Runs[n-1].First && id-f.Runs[n-1].First == f.Runs[n-1].Count {
			f.Runs[n-1].Count++
			continue
		}
		f.Runs = append(f.Runs, FreeRun{id, 1})
	}
	v.Freelist = f
	v.Used = int64(page.HeaderSize + 8*list.Len())
	if list.Count == 0xFFFF {
		v.Used += 8 // the long count
	}
}

// metas describes both meta pages.
func (p *Pages) metas() []Meta {
	list := make([]Meta, len(p.Metas))
	for i, s := range p.Metas {
		m := s.Meta
		list[i] = Meta{
			Slot: i, Valid: s.Valid(), Active: i == p.DB.Active && !p.DB.StandIn, Magic: fmt.Sprintf("%08x", m.Magic), Version: m.Version,
			PageSize: m.PageSize, Flags: m.Flags, Root: uint64(m.Root), Sequence: m.Sequence, HighWaterMark: uint64(m.Pgid), Txid: m.Txid,
			Checksum: fmt.Sprintf("%016x", m.Checksum), Computed: fmt.Sprintf("%016x", m.Sum()), Problems: []string{},
		}
		if m.Freelist != page.NoFreelist {
			id := uint64(m.Freelist)
			list[i].Freelist = &id
		}
		for _, err := range s.Invalid {
			list[i].Problems = append(list[i].Problems, err.Error())
		}
	}
	return list
}

// dump gives the bytes of a page, without what must never be shown.
func (p *Pages) dump(v *Page, buf []byte, c snapdb.Class, b int) {
	if int64(len(buf)) < min(v.Size, maxShown) { // ReadPage leaves out what no element claims
		buf = slices.Grow(buf, int(min(v.Size, maxShown))-len(buf))[:min(v.Size, maxShown)]
		n, err := p.DB.ReaderAt().ReadAt(buf, v.Offset)
		if n < len(buf) {
			v.Notes = append(v.Notes, "its bytes cannot be read: "+err.Error())
			return
		}
	}
	v.Bytes = bytes.Clone(buf[:min(v.Size, int64(len(buf)))])
	if v.Size > maxShown {
		v.Notes = append(v.Notes, "only the first "+strconv.Itoa(maxShown)+" bytes are shown")
	}
	if b > 0 || len(v.Bytes) < page.HeaderSize {
		return
	}
	v.mask(p.mayShow(v, buf, c, b))
}

// mayShow gives the parts of a page that surely hold no record of auth. The page is
// one of the root bucket, in which small buckets lie whole, or belongs to no bucket.
func (p *Pages) mayShow(v *Page, buf []byte, c snapdb.Class, b int) []Span {
	all := []Span{{0, int64(len(v.Bytes))}}
	switch {
	case c == snapdb.ClassOverflow:
		return nil
	case c == snapdb.ClassMeta && p.isMeta(v.Page), c == snapdb.ClassFreelist && !p.isFaulty(int64(v.Page)):
		return all
	case c == snapdb.ClassMeta:
		return []Span{{0, page.HeaderSize + page.MetaSize}}
	case !page.LaidOut(buf):
		return []Span{{0, page.HeaderSize}}
	}
	leaf, _ := page.OpenLeaf(buf)
	if leaf.Kind() != page.KindLeaf {
		return all // a branch has separators and no records
	}
	shown := []Span{{0, int64(page.HeaderSize + leaf.Len()*page.ElementSize)}}
	for i := range leaf.Len() {
		e, fault := leaf.Element(i)
		at := int64(leaf.Offset(i))
		value := at + int64(len(e.Key))
		switch key := shownKey(e, "", fault == nil); {
		case key.Hidden:
		case e.Bucket && !keyspace.IsOpen(string(e.Key)):
			shown = append(shown, Span{at, value + page.BucketHeaderSize})
		case e.Bucket, key.Revision != "":
			shown = append(shown, Span{at, value + int64(len(e.Value))})
		default:
			shown = append(shown, Span{at, value})
		}
	}
	return joined(shown)
}

// mask hides all but some spans, which are in order. They may lie behind the end: elements
// of a damaged page claim more than is of it.
func (v *Page) mask(shown []Span) {
	at, end := int64(0), int64(len(v.Bytes))
	for _, s := range append(shown, Span{end, end}) {
		from := min(s.From, end)
		if from > at && !isZero(v.Bytes[at:from]) {
			v.Masked = append(v.Masked, Span{at, from})
			for k := at; k < from; k++ {
				v.Bytes[k] = '*'
			}
		}
		at = max(at, min(s.To, end))
	}
}

// joined sorts spans and makes one of those that overlap or touch.
func joined(spans []Span) []Span {
	slices.SortFunc(spans, func(a, b Span) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
	out := spans[:0]
	for _, s := range spans {
		if n := len(out); n > 0 && s.From <= out[n-1].To {
			out[n-1].To = max(out[n-1].To, s.To)
			continue
		}
		out = append(out, s)
	}
	return out
}
