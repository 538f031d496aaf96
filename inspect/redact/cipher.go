package redact

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	mathrand "math/rand/v2"
	"unicode/utf8"
)

// A cipher makes pseudonyms and noise of one run. Its key is nowhere written, so what
// it made cannot be undone, nor compared with what another run made.
type cipher struct {
	key   [32]byte
	free  *mathrand.ChaCha8 // for what nothing else has to agree with
	cache map[string]string
	buf   []byte
}

// maxCache bounds the pseudonyms that are kept to save computing them again.
const maxCache = 1 << 15

func newCipher(seed string) *cipher {
	c := &cipher{cache: map[string]string{}}
	if seed != "" {
		c.key = sha256.Sum256([]byte(seed))
	} else {
		rand.Read(c.key[:])
	}
	c.free = mathrand.NewChaCha8(c.digest("free"))
	return c
}

// digest is a keyed function of its parts, each with its length before it.
func (c *cipher) digest(parts ...string) [32]byte {
	b := append(c.buf[:0], c.key[:]...)
	for _, p := range parts {
		b = binary.LittleEndian.AppendUint64(b, uint64(len(p)))
		b = append(b, p...)
	}
	c.buf = b[:0]
	return sha256.Sum256(b)
}

// noise overwrites b with bytes that depend on b and on what it belongs to, so that
// equal values of one key stay equal wherever they lie.
func (c *cipher) noise(b []byte, of []byte) {
	h := sha256.New()
	h.Write(c.key[:])
	var n [8]byte
	binary.LittleEndian.PutUint64(n[:], uint64(len(of)))
	h.Write(n[:])
	h.Write(of)
	h.Write(b)
	mathrand.NewChaCha8([32]byte(h.Sum(nil))).Read(b)
}

// blot overwrites b with noise that keeps zeros where they are and makes none: runs of
// zeros say that a page or record never reached the disk. It gives the number of bytes replaced.
func (c *cipher) blot(b []byte) (replaced int64) {
	var buf [512]byte
	for len(b) > 0 {
		part := b[:min(len(b), len(buf))]
		b = b[len(part):]
		if zeros(part) {
			continue
		}
		c.free.Read(buf[:len(part)])
		for i := range part {
			if part[i] != 0 {
				part[i] = 1 + buf[i]%255
				replaced++
			}
		}
	}
	return replaced
}

// A class is a run of bytes that are exchanged among each other. All other bytes stay:
// blanks and punctuation, which are structure.
type class struct{ first, size byte }

var (
	digits   = class{'0', 10}
	upper    = class{'A', 26}
	lower    = class{'a', 26}
	controls = class{1, 31}
	high     = class{0x80, 127} // without 0xff, behind which nothing sorts
)

// classOf gives the class of byte i of s; size 0 when the byte stays.
func classOf(b byte, text bool) class {
	switch {
	case b >= '0' && b <= '9':
		return digits
	case b >= 'A' && b <= 'Z':
		return upper
	case b >= 'a' && b <= 'z':
		return lower
	case b >= 1 && b < ' ':
		return controls
	case text && b >= 0x80 && b < 0xc0:
		// The low bits of a continuation byte: with the others as they are, UTF-8
		// stays valid after every first byte.
		return class{b &^ 0x0f, 16}
	case !text && b >= 0x80 && b < 0xff:
		return high
	}
	return class{}
}

// rounds of the network: enough for the two halves of short names to mix.
const rounds = 10

// permute exchanges the bytes of b within their classes. For one use, two texts never
// become the same: it is a Feistel network over the bytes that have a class.
func (c *cipher) permute(b []byte, use string) {
	if len(b) == 0 {
		return
	}
	id := use + "\x00" + string(b)
	if p, ok := c.cache[id]; ok {
		copy(b, p)
		return
	}
	c.network(b, use)
	if len(c.cache) >= maxCache {
		clear(c.cache)
	}
	c.cache[id] = string(b)
}

func (c *cipher) network(b []byte, use string) {
	text := utf8.Valid(b)
	shape := make([]byte, len(b))
	var at [2][]int // places of the two halves
	n := 0
	for i, x := range b {
		k := classOf(x, text)
		if shape[i] = k.first; k.size == 0 {
			shape[i] = x
			continue
		}
		at[n%2] = append(at[n%2], i)
		n++
	}
	other := make([]byte, 0, len(b))
	for round := range rounds {
		other = other[:0]
		for _, i := range at[1-round%2] {
			other = append(other, b[i])
		}
		sum := c.digest(use, string(shape), string(rune(round)), string(other))
		stream := mathrand.NewChaCha8(sum)
		var word [2]byte
		for _, i := range at[round%2] {
			stream.Read(word[:])
			k := classOf(b[i], text)
			shift := uint(binary.LittleEndian.Uint16(word[:])) % uint(k.size)
			b[i] = k.first + byte((uint(b[i]-k.first)+shift)%uint(k.size))
		}
	}
}

// smear overwrites b within its classes, not to be undone by anyone: for passwords.
func (c *cipher) smear(b []byte) {
	text := utf8.Valid(b)
	sum := c.digest("smear", string(b))
	stream := mathrand.NewChaCha8(sum)
	var word [2]byte
	for i, x := range b {
		if k := classOf(x, text); k.size > 0 {
			stream.Read(word[:])
			b[i] = k.first + byte(uint(binary.LittleEndian.Uint16(word[:]))%uint(k.size))
		}
	}
}
