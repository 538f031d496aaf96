package source

import (
	"archive/tar"
	"archive/zip"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/therootcompany/xz"

	"etcd-forensics/inspect/scratch"
)

const (
	// DefaultScratchLimit is the most bytes that one archive may unpack to: eight
	// databases of the largest size that etcd's documentation suggests.
	DefaultScratchLimit = 64 << 30

	maxLayers = 4         // of archives and compression in each other
	maxNames  = 16 << 20  // bytes of the names of entries
	maxWindow = 128 << 20 // bytes that a format may ask to look back; xz -9 takes 64 MiB, zstd --long 128
	blockSize = 64 << 10  // bytes copied at once
	spared    = 64 << 20  // bytes that are left free in the scratch folder
	askSpace  = 256 << 20 // bytes written after which the free space is asked again
)

// An unpacker copies what may be etcd's out of one archive. The names inside say
// where a file lay and are never used as names of files.
type unpacker struct {
	ctx     context.Context
	archive *File
	opts    Options
	tree    *unpackedTree
	head    *bufio.Reader // of the entry being looked at

	left int64 // bytes that may still be unpacked

	written int64 // bytes of the files kept so far, zeros included
	names   int   // bytes of names so far
	space   int64 // bytes that may be written until the free space is asked again
	free    func(dir string) (bytes int64, known bool)
}

func newUnpacker(ctx context.Context, f *File, opts Options) *unpacker {
	if opts.ScratchLimit <= 0 {
		opts.ScratchLimit = DefaultScratchLimit
	}
	return &unpacker{ctx: ctx, archive: f, opts: opts, tree: newUnpackedTree(f.Path), left: opts.ScratchLimit, free: scratch.Free}
}

// unpack goes through an archive of the format that packedAs named.
func (u *unpacker) unpack(format string) error {
	switch format {
	case "zip", "empty zip":
		return u.zip()
	}
	name := strings.TrimSuffix(u.archive.Name(), path.Ext(u.archive.Name()))
	return u.stream(io.NewSectionReader(u.archive, 0, u.archive.Size()), entry{shown: name, at: "/" + name, alone: true, size: -1, time: u.archive.ModTime()}, 0)
}

// An entry is one file in an archive.
type entry struct {
	shown string // its name as the archive has it
	at    string // its place in the tree
	alone bool   // nothing else is in the archive
	size  int64  // bytes as announced; -1 when they are not
	time  time.Time
}

// below gives the entry called name in an archive that is e.
func (e entry) below(name string, size int64, modified time.Time) entry {
	shown, at := name, path.Clean("/"+strings.ReplaceAll(name, "\\", "/"))
	if !e.alone {
		shown, at = e.shown+"!"+name, path.Join(e.at, at)
	}
	return entry{shown: shown, at: at, size: size, time: modified}
}

// stream goes through bytes of a kind that is not known yet.
func (u *unpacker) stream(r io.Reader, e entry, layers int) error {
	if layers > maxLayers {
		return brokenError{fmt.Sprintf("more than %d archives in each other; unpack the outer ones first", maxLayers)}
	}
	br := bufio.NewReaderSize(r, probeSize)
	head, err := br.Peek(probeSize)
	if err != nil && err != io.EOF {
		return err
	}
	switch format := packedAs(head); format {
	case "":
		return u.file(br, head, e)
	case "tar":
		if err := u.tar(br, e, layers); err != nil {
			return err
		}
		_, err := io.Copy(io.Discard, br) // up to the checksum, which lies behind what is of use
		return err
	case "gzip", "zstd", "xz":
		unpacked, done, err := u.decompressor(format, br)
		if err != nil {
			return damaged(format, err)
		}
		defer done()
		return u.stream(&measured{u, unpacked, format}, e, layers+1)
	case "zip", "empty zip":
		if e.alone {
			return brokenError{show(e.shown) + " is a zip file inside another archive; unpack the outer one first"}
		}
		return nil
	default:
		if e.alone {
			return fmt.Errorf("%s data, which is not read; unpack it first", format)
		}
		return nil
	}
}

// decompressor opens a compressed stream. done frees what it holds.
func (u *unpacker) decompressor(format string, r io.Reader) (unpacked io.Reader, done func(), err error) {
	switch format {
	case "gzip":
		unpacked, err = newGzip(r)
	case "xz":
		unpacked, err = xz.NewReader(r, maxWindow)
	default:
		var z *zstd.Decoder
		z, err = zstd.NewReader(r, zstd.WithDecoderMaxWindow(maxWindow), zstd.WithDecoderConcurrency(1))
		if err == nil {
			return z, z.Close, nil
		}
	}
	return unpacked, func() {}, err
}

// gzipped reads gzip data behind which zeros may lie, as tapes and dd leave them.
type gzipped struct {
	*gzip.Reader
	from *bufio.Reader
}

func newGzip(r io.Reader) (io.Reader, error) {
	from := bufio.NewReader(r)
	z, err := gzip.NewReader(from)
	return &gzipped{z, from}, err
}

func (g *gzipped) Read(b []byte) (int, error) {
	n, err := g.Reader.Read(b)
	if err == gzip.ErrHeader && g.onlyZeros() {
		err = io.EOF
	}
	return n, err
}

func (g *gzipped) onlyZeros() bool {
	for {
		b, err := g.from.ReadByte()
		if err != nil {
			return err == io.EOF
		}
		if b != 0 {
			return false
		}
	}
}

// damaged says what is wrong with packed data, once.
func damaged(format string, err error) error {
	switch {
	case err == nil || err == io.EOF, errors.As(err, new(limitError)), errors.As(err, new(brokenError)),
		errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, errNothing):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return brokenError{"the " + format + " data ends early"}
	case errors.Is(err, gzip.ErrChecksum), errors.Is(err, zip.ErrChecksum), errors.Is(err, zstd.ErrCRCMismatch):
		return brokenError{"the " + format + " data does not fit its checksum"}
	case errors.Is(err, xz.ErrMemlimit), errors.Is(err, zstd.ErrWindowSizeExceeded), errors.Is(err, zstd.ErrDecoderSizeExceeded):
		return brokenError{fmt.Sprintf("the %s data needs more than %s of memory to unpack", format, humanize.IBytes(maxWindow))}
	}
	return brokenError{fmt.Sprintf("damaged %s data: %v", format, err)}
}

// A brokenError says what is wrong with an archive.
type brokenError struct{ text string }

func (e brokenError) Error() string { return e.text }

// A limitError says that an archive is larger than may be unpacked.
type limitError struct{ text string }

func (e limitError) Error() string { return e.text }

// IsLimit says whether a problem is that an archive unpacks to more than was
// allowed or than there is room for.
func IsLimit(problem error) bool { return errors.As(problem, new(limitError)) }

// measured counts what is unpacked against the limit, and ends with the context.
type measured struct {
	u      *unpacker
	r      io.Reader
	format string
}

func (m *measured) Read(b []byte) (int, error) {
	if err := m.u.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := m.r.Read(b)
	if m.u.left -= int64(n); m.u.left < 0 {
		return 0, m.u.tooLarge()
	}
	return n, damaged(m.format, err)
}

func (u *unpacker) tooLarge() error {
	return limitError{fmt.Sprintf("unpacks to more than %s; --scratch-limit allows more", humanize.IBytes(uint64(u.opts.ScratchLimit)))}
}

func (u *unpacker) tar(r io.Reader, e entry, layers int) error {
	if layers == 0 { // nothing counts an uncompressed archive
		r = &measured{u, r, "tar"}
	}
	t := tar.NewReader(r)
	for {
		h, err := t.Next()
		switch {
		case err == io.EOF:
			return nil
		case err != nil && !errors.Is(err, tar.ErrInsecurePath):
			return damaged("tar", err)
		}
		in := e.below(h.Name, h.Size, h.ModTime)
		if err := u.count(in); err != nil {
			return err
		}
		switch h.Typeflag {
		case tar.TypeReg, tar.TypeGNUSparse:
			err = u.entry(t, in, layers)
		case tar.TypeSymlink, tar.TypeLink:
			if wanted(in.at) {
				u.tree.add(in.at, &unpackedFile{problem: errLink})
			}
		}
		if err != nil {
			return damaged("tar", err)
		}
	}
}

func (u *unpacker) zip() error {
	z, err := zip.NewReader(u.archive, u.archive.Size())
	if err != nil && !errors.Is(err, zip.ErrInsecurePath) {
		return damaged("zip", err)
	}
	for _, f := range z.File {
		in := entry{alone: true}.below(f.Name, int64(min(f.UncompressedSize64, 1<<62)), f.Modified)
		if err := u.count(in); err != nil {
			return err
		}
		if !f.Mode().IsRegular() {
			continue
		}
		if f.Flags&1 != 0 {
			return fmt.Errorf("%s is encrypted; unpack it first", show(f.Name))
		}
		r, err := f.Open()
		if err != nil {
			return damaged("zip", err)
		}
		err = u.entry(&measured{u, r, "zip"}, in, 0)
		if cerr := r.Close(); err == nil {
			err = damaged("zip", cerr)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// count sees to it that names do not fill the memory.
func (u *unpacker) count(e entry) error {
	if u.names += len(e.at) + 16; u.names > maxNames {
		return limitError{"more files in it than a backup or a data directory has; unpack what is etcd's"}
	}
	u.tree.openShift = u.tree.openShift || strings.Contains(e.at, "/static-pod-resources/")
	return nil
}

// entry looks at one file of an archive.
func (u *unpacker) entry(r io.Reader, e entry, layers int) error {
	if wanted(e.at) {
		return u.save(r, e, false)
	}
	if u.head == nil {
		u.head = bufio.NewReaderSize(nil, probeSize)
	}
	u.head.Reset(r)
	head, err := u.head.Peek(probeSize)
	if err != nil && err != io.EOF {
		return err
	}
	if packedAs(head) != "" {
		// The reader is needed for what is inside.
		br := u.head
		u.head = nil
		return u.stream(br, e, layers+1)
	}
	return u.file(u.head, head, e)
}

// wanted says whether a file is etcd's by its place.
func wanted(at string) bool {
	dir, name := path.Base(path.Dir(at)), path.Base(at)
	return strings.HasSuffix(name, ".wal") || dir == "snap" && (name == "db" || strings.HasSuffix(name, ".snap") || strings.HasSuffix(name, ".snap.db"))
}

// file keeps a file when its content is etcd's, or its name when it lies beside
// such files.
func (u *unpacker) file(r io.Reader, head []byte, e entry) error {
	_, isMeta := byMeta(head[:min(len(head), headSize)], 0)
	if !isMeta {
		isMeta = pagesIn(head)
	}
	switch {
	case isMeta:
		return u.save(r, e, true)
	case e.alone && isWALFrame(head):
		return errors.New("a WAL segment by itself; give the directory that holds it")
	case e.alone && len(head) == 0:
		return sentence{"nothing is packed in it", errNothing}
	case e.alone:
		return sentence{"what is packed in it is " + errNoPages.text, errNothing}
	case slices.Contains([]string{"wal", "snap"}, path.Base(path.Dir(e.at))):
		u.tree.add(e.at, &unpackedFile{})
	}
	return nil
}

// save copies an entry into a private file.
func (u *unpacker) save(r io.Reader, e entry, database bool) error {
	if e.size > u.left {
		return u.tooLarge()
	}
	f, err := scratch.New(u.opts.Scratch)
	if err != nil {
		return err
	}
	kept := &File{Path: u.archive.Path + "!" + e.shown, name: path.Base(e.at), f: f.File, closer: f, unpacked: true, modified: u.timeOf(e), progress: u.opts.Progress}
	err = u.copy(f, r)
	if err == nil {
		kept.before, err = f.Stat()
	}
	if err != nil {
		kept.Close()
		return err
	}
	u.tree.add(e.at, &unpackedFile{file: kept, database: database})
	return nil
}

// timeOf gives an entry's time, or the archive's when it has none: a tar without one has
// that of 1970, a zip that of 1980.
func (u *unpacker) timeOf(e entry) time.Time {
	if e.time.Year() <= 1980 {
		return u.archive.ModTime()
	}
	return e.time
}

// copy writes r to f. Blocks of zeros, of which preallocated files are full, take
// no space.
func (u *unpacker) copy(f *scratch.File, r io.Reader) error {
	b := make([]byte, blockSize)
	zeros := make([]byte, blockSize)
	var at int64
	for {
		if err := u.ctx.Err(); err != nil {
			return err
		}
		n, err := io.ReadFull(r, b)
		if u.written += int64(n); u.written > u.opts.ScratchLimit {
			return u.tooLarge() // the holes of sparse files, which take no space in the archive
		}
		if n > 0 && string(b[:n]) != string(zeros[:n]) {
			if err := u.reserve(int64(n)); err != nil {
				return err
			}
			if _, err := f.WriteAt(b[:n], at); err != nil {
				return fmt.Errorf("writing to the scratch folder: %w", err)
			}
		}
		at += int64(n)
		switch err {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			return f.Truncate(at)
		default:
			return err
		}
	}
}

// reserve asks whether n more bytes fit into the scratch folder.
func (u *unpacker) reserve(n int64) error {
	if u.space -= n; u.space >= 0 {
		return nil
	}
	dir := scratch.Dir(u.opts.Scratch)
	free, known := u.free(dir)
	if !known {
		u.space = askSpace
		return nil
	}
	if u.space = min(free-spared, askSpace) - n; u.space < 0 {
		return limitError{fmt.Sprintf("needs more than the %s that are free in %s; --scratch names another folder", humanize.IBytes(uint64(free)), show(dir))}
	}
	return nil
}
