// Command macho says of each program for macOS whether the system would refuse to start
// it: what can be told without a Mac.
package main

import (
	"bytes"
	"crypto/sha256"
	"debug/macho"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strings"
)

func main() {
	failed := len(os.Args) < 2
	for _, path := range os.Args[1:] {
		b, err := os.ReadFile(path)
		var says string
		if err == nil {
			says, err = check(b)
		}
		if err != nil {
			failed = true
			says = "would not start: " + err.Error()
		}
		fmt.Printf("%s: %s\n", path[strings.LastIndexByte(path, '/')+1:], says)
	}
	if failed {
		os.Exit(1)
	}
}

// Load commands that debug/macho leaves undecoded, and what they say (mach-o/loader.h).
const (
	loadUnixThread    = 0x5
	loadDylinker      = 0xe
	loadCodeSignature = 0x1d
	loadBuildVersion  = 0x32
	loadMain          = 0x80000028

	platformMacOS = 1
)

// ripAt is where the thread state of amd64 has the instruction pointer: behind command, size,
// flavor, count and sixteen registers (mach/i386/_structs.h).
const ripAt = 4*4 + 16*8

// minimum is the oldest macOS that programs of Go 1.26 run on, 12 (go.dev/doc/go1.26),
// as LC_BUILD_VERSION has it: xxxx.yy.zz.
const minimum = 12 << 16

// check gives what was found, or why the program would not start.
func check(b []byte) (string, error) {
	f, err := macho.NewFile(bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	if f.Type != macho.TypeExec || f.Flags&macho.FlagPIE == 0 || f.Flags&macho.FlagDyldLink == 0 {
		return "", fmt.Errorf("type %v, flags %#x: no position independent program", f.Type, f.Flags)
	}
	text := f.Segment("__TEXT")
	if text == nil || text.Offset != 0 {
		return "", errors.New("no __TEXT from the begin of the file on")
	}
	for _, l := range f.Loads {
		if s, ok := l.(*macho.Segment); ok && (s.Offset > uint64(len(b)) || s.Filesz > uint64(len(b))-s.Offset) {
			return "", fmt.Errorf("%s lies beyond the end of the file", s.Name)
		}
	}
	if err := imports(f); err != nil {
		return "", err
	}
	if err := loads(f, text); err != nil {
		return "", err
	}
	signed := "not signed, as it need not be"
	for _, l := range f.Loads {
		if raw := l.Raw(); f.ByteOrder.Uint32(raw) == loadCodeSignature && len(raw) >= 16 {
			pages, err := signature(b, text, uint64(f.ByteOrder.Uint32(raw[8:])), uint64(f.ByteOrder.Uint32(raw[12:])))
			if err != nil {
				return "", fmt.Errorf("signature: %w", err)
			}
			signed = fmt.Sprintf("signed ad hoc, %d pages", pages)
		}
	}
	if f.Cpu == macho.CpuArm64 && strings.HasPrefix(signed, "not") {
		return "", errors.New("not signed, which arm64 must be")
	}
	return fmt.Sprintf("%v for macOS 12 and later, %s", f.Cpu, signed), nil
}

// loads refuses a program that does not say where it begins, what links it, and for which
// system it is.
func loads(f *macho.File, text *macho.Segment) error {
	var entry, linker, version bool
	for _, l := range f.Loads {
		raw := l.Raw()
		switch command := f.ByteOrder.Uint32(raw); {
		case command == loadMain && len(raw) >= 16:
			at := f.ByteOrder.Uint64(raw[8:])
			entry = at > 0 && at < text.Filesz
		case command == loadUnixThread && f.Cpu == macho.CpuAmd64 && len(raw) >= ripAt+8:
			at := f.ByteOrder.Uint64(raw[ripAt:])
			entry = at > text.Addr && at-text.Addr < text.Filesz
		case command == loadDylinker && len(raw) >= 12:
			linker = strings.TrimRight(string(raw[12:]), "\x00") == "/usr/lib/dyld"
		case command == loadBuildVersion && len(raw) >= 16:
			version = f.ByteOrder.Uint32(raw[8:]) == platformMacOS && f.ByteOrder.Uint32(raw[12:]) == minimum
		}
	}
	switch {
	case !entry:
		return errors.New("no entry point in __TEXT")
	case !linker:
		return errors.New("not for /usr/lib/dyld")
	case !version:
		return errors.New("not for macOS 12 and later")
	}
	return nil
}

// imports refuses libraries that are not part of every macOS.
func imports(f *macho.File) error {
	libraries, err := f.ImportedLibraries()
	if err != nil {
		return err
	}
	system := false
	for _, l := range libraries {
		if !strings.HasPrefix(l, "/usr/lib/") && !strings.HasPrefix(l, "/System/Library/Frameworks/") {
			return fmt.Errorf("needs %s", l)
		}
		system = system || l == "/usr/lib/libSystem.B.dylib"
	}
	if !system {
		return errors.New("does not need libSystem, which every program does")
	}
	return nil
}

// Of a signature (xnu, osfmk/kern/cs_blobs.h): magic numbers, flags and a slot's number.
const (
	superBlobMagic     = 0xfade0cc0
	codeDirectoryMagic = 0xfade0c02
	codeDirectorySlot  = 0
	flagAdHoc          = 0x2
	hashSHA256         = 2
	mainBinary         = 1
	execSegVersion     = 0x20400 // from which on the executable segment is named
)

// signature holds every page of the program against the hashes of its signature, as the
// kernel does when it maps the page. All of it is big-endian.
func signature(b []byte, text *macho.Segment, offset, size uint64) (pages int, err error) {
	if offset > uint64(len(b)) || size != uint64(len(b))-offset {
		return 0, fmt.Errorf("%d bytes at %d, of a file of %d", size, offset, len(b))
	}
	code, blob := b[:offset], b[offset:]
	directory, err := codeDirectory(blob)
	if err != nil {
		return 0, err
	}
	word := func(at int) uint64 { return uint64(binary.BigEndian.Uint32(directory[at:])) }
	hashes, slots, limit := word(16), word(28), word(32)
	hashSize, hashType, pageBits := directory[36], directory[37], directory[39]
	switch {
	case word(8) < execSegVersion || word(12)&flagAdHoc == 0:
		return 0, fmt.Errorf("version %#x, flags %#x", word(8), word(12))
	case hashType != hashSHA256 || hashSize != sha256.Size || pageBits != 12 && pageBits != 14:
		return 0, fmt.Errorf("hashes of type %d and %d bytes, pages of 1<<%d", hashType, hashSize, pageBits)
	case limit != offset:
		return 0, fmt.Errorf("covers %d bytes of %d", limit, offset)
	case binary.BigEndian.Uint64(directory[64:]) != text.Offset || binary.BigEndian.Uint64(directory[72:]) != text.Filesz:
		return 0, errors.New("names another segment than __TEXT as the one that is run")
	case binary.BigEndian.Uint64(directory[80:])&mainBinary == 0:
		return 0, errors.New("is not that of a program")
	}
	page := uint64(1) << pageBits
	if want := (limit + page - 1) / page; slots != want {
		return 0, fmt.Errorf("%d hashes for %d pages", slots, want)
	}
	if hashes > uint64(len(directory)) || slots > (uint64(len(directory))-hashes)/sha256.Size {
		return 0, errors.New("the hashes do not fit in")
	}
	for i := range slots {
		sum := sha256.Sum256(code[i*page : min((i+1)*page, limit)])
		if at := hashes + i*sha256.Size; !bytes.Equal(sum[:], directory[at:at+sha256.Size]) {
			return 0, fmt.Errorf("the hash of page %d is another", i)
		}
	}
	return int(slots), nil
}

// codeDirectory finds the code directory, whole and with all fields that are read, among
// the blobs of a signature.
func codeDirectory(blob []byte) ([]byte, error) {
	if len(blob) < 12 || binary.BigEndian.Uint32(blob) != superBlobMagic {
		return nil, errors.New("no signature there")
	}
	for i := range uint64(binary.BigEndian.Uint32(blob[8:])) {
		at := 12 + 8*i
		if at+8 > uint64(len(blob)) {
			break
		}
		offset := uint64(binary.BigEndian.Uint32(blob[at+4:]))
		if binary.BigEndian.Uint32(blob[at:]) != codeDirectorySlot || offset+88 > uint64(len(blob)) {
			continue
		}
		d := blob[offset:]
		length := uint64(binary.BigEndian.Uint32(d[4:]))
		if binary.BigEndian.Uint32(d) == codeDirectoryMagic && length >= 88 && length <= uint64(len(d)) {
			return d[:length], nil
		}
	}
	return nil, errors.New("no code directory in it")
}
