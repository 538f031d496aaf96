// Package redact writes a copy of evidence that may be shown to others: what is
// stored is overwritten, what it is stored in stays, so that an examination of the copy
// finds what one of the evidence does.
//
// Names become pseudonyms of the same length and the same classes of characters, the same name
// the same one everywhere; values become noise of the same length; the checksums and hashes
// over them are computed anew, and wrong ones stay as wrong as they were. Whatever is not
// understood as structure is overwritten: free pages, remains behind the last record of a page, what follows
// a fault.
package redact

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"

	"etcd-forensics/inspect/source"
)

// Options control a run.
type Options struct {
	// Seed is what the pseudonyms follow from, for tests. Without one they follow from random
	// bytes, which are nowhere written.
	Seed string
}

// Counts say what was replaced.
type Counts struct {
	Keys      int64 `json:"keys"`      // in records, requests and ranges
	Values    int64 `json:"values"`    // of keys
	Names     int64 `json:"names"`     // of users, roles, members and buckets, and words such as the kind of an object
	URLs      int64 `json:"urls"`      // of peers and clients
	Passwords int64 `json:"passwords"` // and their hashes, and tokens
	Records   int64 `json:"records"`   // of WALs, whose checksums are computed anew
	Blotted   int64 `json:"blotted"`   // bytes that belong to nothing that is understood
}

// A Copy is one source and where its copy lies.
type Copy struct {
	Source string `json:"source"`
	Copy   string `json:"copy"`
}

// A Summary is what a run did.
type Summary struct {
	Copies   []Copy   `json:"copies"`
	Files    int      `json:"files"`
	Bytes    int64    `json:"bytes"`
	Replaced Counts   `json:"replaced"`
	Notes    []string `json:"notes"` // what is not as in the evidence, beside what was replaced
}

// A redactor is one run over all sources. The names of one are those of the others.
type redactor struct {
	cipher   *cipher
	names    *names
	prefixes []string        // of API servers
	cuts     []int           // lengths at which names are cut, see name
	ids      map[string]bool // of members, as texts
	survey   bool            // nothing is replaced yet: names are collected
	count    Counts
	freeID   []byte // of the request that was redacted last, see record
	depth    int    // of the message or bucket that is redacted
}

// maxKeys bounds the keys of a run that are tried, see errNoFit.
const maxKeys = 64

// Run writes the copy to dir, which must not exist. When it fails nothing is left there.
func Run(ctx context.Context, sources []*source.Source, dir string, o Options) (s *Summary, err error) {
	plans := planned(sources, dir)
	r := &redactor{cipher: newCipher(o.Seed), names: newNames(), prefixes: knownPrefixes(), ids: map[string]bool{}, survey: true}
	for _, p := range plans {
		if err := r.all(ctx, p); err != nil {
			return nil, err
		}
	}
	r.survey = false
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	for try := range maxKeys {
		if try > 0 {
			if err := empty(dir); err != nil {
				return nil, err
			}
			if o.Seed != "" {
				o.Seed += "+"
			}
			r.cipher = newCipher(o.Seed)
		}
		r.count = Counts{}
		r.names.settle(r.cipher)
		if s, err = r.write(ctx, plans); !errors.Is(err, errNoFit) {
			return s, err
		}
	}
	return nil, errors.New("no checksums were found that fit their places")
}

func empty(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	return os.Mkdir(dir, 0o700)
}

func (r *redactor) write(ctx context.Context, plans []*plan) (*Summary, error) {
	s := &Summary{Notes: []string{}}
	for _, p := range plans {
		s.Copies = append(s.Copies, Copy{p.source.Path, p.root})
		if err := r.all(ctx, p); err != nil {
			return nil, err
		}
	}
	for _, p := range plans {
		for _, f := range p.files() {
			s.Files++
			s.Bytes += f.Size()
		}
	}
	s.Replaced = r.count
	if r.names.dropped {
		s.Notes = append(s.Notes, "there are more names of users, roles and unknown records than are kept in order: those of the others do not sort as they did")
	}
	return s, nil
}

// A plan says where the copies of one source's files go. Names that a user gave may be
// secrets, so they are not taken over.
type plan struct {
	source *source.Source
	root   string // the copy of the source
	db     string
	snap   string // folders
	wal    string
}

func planned(sources []*source.Source, dir string) []*plan {
	var plans []*plan
	for i, s := range sources {
		root := dir
		if len(sources) > 1 {
			root = filepath.Join(dir, "source-"+strconv.Itoa(i+1))
		}
		p := &plan{source: s, root: root}
		switch s.Kind {
		case source.KindDataDir:
			p.snap, p.wal = filepath.Join(root, "member", "snap"), filepath.Join(root, "member", "wal")
			p.db = filepath.Join(p.snap, "db")
		case source.KindMemberDir:
			p.snap, p.wal = filepath.Join(root, "snap"), filepath.Join(root, "wal")
			p.db = filepath.Join(p.snap, "db")
		case source.KindWALDir:
			p.wal = root
		case source.KindSnapshot:
			p.root = filepath.Join(root, "snapshot.db")
			p.db = p.root
		default:
			p.root = filepath.Join(root, "db")
			p.db = p.root
		}
		plans = append(plans, p)
	}
	return plans
}

// files lists what is copied: all files but the archive that they come from.
func (p *plan) files() []*source.File {
	files := p.source.Files()
	if p.source.Archive != nil {
		files = files[1:]
	}
	return files
}

// all redacts the files of one source: the log first, because its checksums can ask for another
// key of the run.
func (r *redactor) all(ctx context.Context, p *plan) error {
	s := p.source
	if err := r.folders(p); err != nil {
		return err
	}
	if err := r.segments(ctx, p); err != nil {
		return err
	}
	for _, f := range s.Snaps {
		if err := r.one(f, filepath.Join(p.snap, r.fileName(f.Name())), func(w *writer) error { return r.snapshot(ctx, f, f.Size(), w) }); err != nil {
			return err
		}
	}
	databases := s.Received
	for _, f := range databases {
		if err := r.one(f, filepath.Join(p.snap, r.fileName(f.Name())), func(w *writer) error { return r.database(ctx, f, f.Size(), w) }); err != nil {
			return err
		}
	}
	if f := s.DB; f != nil {
		return r.one(f, p.db, func(w *writer) error { return r.database(ctx, f, f.Size(), w) })
	}
	return nil
}

// folders makes the folders of a member, which are there even when nothing is in them, and files without
// content for those that etcd does not read.
func (r *redactor) folders(p *plan) error {
	if r.survey {
		return nil
	}
	for _, dir := range []string{p.snap, p.wal} {
		if dir == "" {
			continue
		}
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	for _, stray := range p.source.Strays {
		dir := p.snap
		if stray.WAL {
			dir = p.wal
		}
		w, err := create(filepath.Join(dir, r.fileName(stray.Name)))
		if err != nil {
			return err
		}
		if err := w.f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// one redacts one file.
func (r *redactor) one(f *source.File, to string, copy func(*writer) error) error {
	if r.survey {
		return inFile(f, copy(nil))
	}
	w, err := create(to)
	if err != nil {
		return err
	}
	if err := copy(w); err != nil {
		w.f.Close()
		return inFile(f, err)
	}
	return w.close(f.ModTime())
}

func inFile(f *source.File, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", f.Path, err)
}

// segments redacts the WAL.
func (r *redactor) segments(ctx context.Context, p *plan) (err error) {
	var in []input
	var outs []*writer
	defer func() {
		for i, w := range outs {
			if err != nil {
				w.f.Close()
			} else {
				err = w.close(p.source.WAL[i].ModTime())
			}
		}
	}()
	for _, f := range p.source.WAL {
		in = append(in, input{name: f.Name(), r: f, size: f.Size()})
		if r.survey {
			continue
		}
		w, err := create(filepath.Join(p.wal, r.fileName(f.Name())))
		if err != nil {
			return err
		}
		outs = append(outs, w)
	}
	return r.log(ctx, in, outs)
}

// etcdNames are names that etcd gives to files.
var etcdNames = regexp.MustCompile(`^([0-9a-fA-F]{1,16}(-[0-9a-fA-F]{1,16})?)((\.snap|\.wal|\.snap\.db|\.tmp|\.broken|\.bak|\.old|\.orig)+)$|^(db\.tmp\.|tmp)[0-9]*$|^[0-9]+\.tmp$`)

// fileName gives the name of a copy: that of the file, when it is etcd's, else a pseudonym with the
// same suffix.
func (r *redactor) fileName(name string) string {
	if etcdNames.MatchString(name) {
		return name
	}
	stem, suffix := name, ""
	for _, known := range []string{".broken", ".snap.db", ".snap", ".wal", ".tmp"} {
		if len(stem) > len(known) && stem[len(stem)-len(known):] == known {
			stem, suffix = stem[:len(stem)-len(known)], known+suffix
		}
	}
	b := []byte(stem)
	r.cipher.permute(b, "file")
	return string(b) + suffix
}
