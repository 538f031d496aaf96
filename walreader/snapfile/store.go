package snapfile

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"strings"
)

// DefaultMaxMembers is the number of items kept in each list of a Store unless
// told otherwise. The others are counted.
const DefaultMaxMembers = 10000

// maxDepth bounds the nesting of the v2 store.
const maxDepth = 1000

// maxName bounds the length of a path that is kept, in bytes.
const maxName = 4096

// A Store is the membership that the v2 store holds, and what else is there.
type Store struct {
	Members        []Member // by id
	Removed        []uint64 // ids of removed members, ascending
	ClusterVersion string   // "" when the store holds none
	CurrentIndex   uint64
	CurrentVersion int64
	// Custom are the paths of values outside /0 and /1, ascending: keys that a client
	// wrote through the v2 API.
	Custom      []string
	CustomCount int
	// System are the paths of values inside /0 and /1 that are none of the above.
	System      []string
	SystemCount int
	Dropped     int  // members over the limit
	Complete    bool // the store was read to its end
}

// A Member is a member as the v2 store holds it.
type Member struct {
	ID         uint64
	PeerURLs   []string
	IsLearner  bool
	Name       string
	ClientURLs []string
	// HasRaftAttributes and HasAttributes say which of the two values are there.
	// A member that never started has no attributes.
	HasRaftAttributes bool
	HasAttributes     bool
}

// store reads the v2 store as a stream of JSON tokens.
func (r *reader) store(e extent) error {
	src := &sectionReader{r: r, off: e.off, end: e.end}
	p := &storeParser{
		dec: json.NewDecoder(bufio.NewReaderSize(src, int(min(chunkSize, e.end-e.off)))), base: e.off, max: r.opts.MaxMembers,
		store: &Store{}, members: map[uint64]*Member{}, fault: r.fault,
	}
	err := p.document()
	if src.err != nil {
		return src.err
	}
	if err != nil {
		kind := FaultStore
		if errors.Is(err, errDepth) {
			kind = FaultLimit
		}
		r.fault(kind, e.off+p.dec.InputOffset(), err)
	}
	r.file.Store = p.finish()
	r.file.Store.Complete = err == nil
	return nil
}

// A sectionReader reads an extent and keeps a failed read apart from wrong bytes.
type sectionReader struct {
	r        *reader
	off, end int64
	err      error
}

func (s *sectionReader) Read(b []byte) (int, error) {
	if s.off >= s.end {
		return 0, io.EOF
	}
	b = b[:min(int64(len(b)), s.end-s.off)]
	if s.err = s.r.readAt(b, s.off); s.err != nil {
		return 0, s.err
	}
	s.off += int64(len(b))
	return len(b), nil
}

var (
	errDepth = errors.New("nested too deeply")
	errShape = errors.New("not the shape of a v2 store")
)

type storeParser struct {
	dec     *json.Decoder
	base    int64
	max     int
	store   *Store
	members map[uint64]*Member
	removed map[uint64]bool
	fault   func(FaultKind, int64, error)
	faults  int
}

func (p *storeParser) finish() *Store {
	s := p.store
	for _, m := range p.members {
		s.Members = append(s.Members, *m)
	}
	sort.Slice(s.Members, func(i, j int) bool { return s.Members[i].ID < s.Members[j].ID })
	for id := range p.removed {
		s.Removed = append(s.Removed, id)
	}
	sort.Slice(s.Removed, func(i, j int) bool { return s.Removed[i] < s.Removed[j] })
	sort.Strings(s.Custom)
	sort.Strings(s.System)
	return s
}

// open takes the brace that begins an object. null is no object and no error.
func (p *storeParser) open() (bool, error) {
	t, err := p.dec.Token()
	if err != nil {
		return false, err
	}
	if t == nil {
		return false, nil
	}
	if t != json.Delim('{') {
		return false, fmt.Errorf("%w: %v where an object belongs", errShape, describe(t))
	}
	return true, nil
}

// describe names a token without showing text of the evidence.
func describe(t json.Token) string {
	switch t := t.(type) {
	case json.Delim:
		return t.String()
	case string:
		return "a string"
	case nil:
		return "null"
	}
	return fmt.Sprintf("a %T", t)
}

// object visits the names of an object. visit takes the value.
func (p *storeParser) object(visit func(name string) error) error {
	ok, err := p.open()
	if !ok || err != nil {
		return err
	}
	for p.dec.More() {
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		name, ok := t.(string)
		if !ok {
			return errShape
		}
		if err := visit(name); err != nil {
			return err
		}
	}
	_, err = p.dec.Token()
	return err
}

// skip passes over one value of any kind.
func (p *storeParser) skip() error {
	depth := 0
	for {
		t, err := p.dec.Token()
		if err != nil {
			return err
		}
		switch t {
		case json.Delim('{'), json.Delim('['):
			if depth++; depth > maxDepth {
				return errDepth
			}
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
		if depth == 0 {
			return nil
		}
	}
}

func (p *storeParser) document() error {
	root := false
	err := p.object(func(name string) error {
		switch name {
		case "Root":
			root = true
			return p.node("", 0)
		case "CurrentIndex":
			return p.dec.Decode(&p.store.CurrentIndex)
		case "CurrentVersion":
			return p.dec.Decode(&p.store.CurrentVersion)
		}
		return p.skip()
	})
	if err == nil && !root {
		err = fmt.Errorf("%w: no Root", errShape)
	}
	return err
}

// node reads one node. Its path is made of the names that lead to it, because that
// is how etcd finds it; the node's own Path is not relied upon.
func (p *storeParser) node(path string, depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	dir := false
	var value string
	err := p.object(func(name string) error {
		switch name {
		case "Children":
			ok, err := p.open()
			if !ok || err != nil {
				return err
			}
			dir = true
			for p.dec.More() {
				t, err := p.dec.Token()
				if err != nil {
					return err
				}
				child, ok := t.(string)
				if !ok {
					return errShape
				}
				if err := p.node(join(path, child), depth+1); err != nil {
					return err
				}
			}
			_, err = p.dec.Token()
			return err
		case "Value":
			t, err := p.dec.Token()
			if err != nil {
				return err
			}
			var ok bool
			if value, ok = t.(string); !ok && t != nil {
				return fmt.Errorf("%w: %v where a value belongs", errShape, describe(t))
			}
			return nil
		}
		return p.skip()
	})
	if err == nil && !dir {
		p.leaf(path, value)
	}
	return err
}

// join adds a name to a path. What is longer than any path of etcd's own is
// cut, so that depth times length stays small.
func join(path, name string) string {
	if len(path) >= maxName {
		return path
	}
	path += "/" + name
	return path[:min(len(path), maxName)]
}

// leaf takes a value.
func (p *storeParser) leaf(path, value string) {
	parts := strings.Split(path, "/") // "", "0", "members", ...
	switch {
	case path == "/0/version":
		p.store.ClusterVersion = value
	case len(parts) == 5 && strings.HasPrefix(path, "/0/members/"):
		p.member(parts[3], parts[4], path, value)
	case len(parts) == 4 && strings.HasPrefix(path, "/0/removed_members/"):
		p.remove(parts[3], path)
	default:
		p.other(path)
	}
}

func (p *storeParser) other(path string) {
	to, count := &p.store.Custom, &p.store.CustomCount
	if path == "" || path == "/0" || path == "/1" || strings.HasPrefix(path, "/0/") || strings.HasPrefix(path, "/1/") {
		to, count = &p.store.System, &p.store.SystemCount
	}
	*count++
	if len(*to) < p.max {
		*to = append(*to, path)
	}
}

// maxMembershipFaults bounds the faults of the kind FaultMembership.
const maxMembershipFaults = 100

func (p *storeParser) bad(path string, err error) {
	if p.faults++; p.faults <= maxMembershipFaults {
		p.fault(FaultMembership, p.base+p.dec.InputOffset(), fmt.Errorf("%q: %w", path, err))
	}
}

func (p *storeParser) member(hex, what, path, value string) {
	id, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		p.bad(path, err)
		return
	}
	if what != "attributes" && what != "raftAttributes" {
		p.other(path)
		return
	}
	m := p.members[id]
	if m == nil {
		if len(p.members) >= p.max {
			p.store.Dropped++
			return
		}
		m = &Member{ID: id}
		p.members[id] = m
	}
	if what == "attributes" {
		var a struct {
			Name       string   `json:"name"`
			ClientURLs []string `json:"clientURLs"`
		}
		if err = json.Unmarshal([]byte(value), &a); err == nil {
			m.HasAttributes, m.Name, m.ClientURLs = true, a.Name, a.ClientURLs
		}
	} else {
		var a struct {
			PeerURLs  []string `json:"peerURLs"`
			IsLearner bool     `json:"isLearner"`
		}
		if err = json.Unmarshal([]byte(value), &a); err == nil {
			m.HasRaftAttributes, m.PeerURLs, m.IsLearner = true, a.PeerURLs, a.IsLearner
		}
	}
	if err != nil {
		p.bad(path, err)
	}
}

func (p *storeParser) remove(hex, path string) {
	id, err := strconv.ParseUint(hex, 16, 64)
	if err != nil {
		p.bad(path, err)
		return
	}
	if p.removed == nil {
		p.removed = map[uint64]bool{}
	}
	if !p.removed[id] && len(p.removed) >= p.max {
		p.store.Dropped++
		return
	}
	p.removed[id] = true
}
