package page

import "encoding/binary"

// A RawElement is the fixed part of a branch or leaf element as it stands on the
// page, whatever it points to.
type RawElement struct {
	Flags     uint32 // of a leaf element
	Position  uint64 // of the key, from the start of the page
	KeySize   uint32 // bytes
	ValueSize uint32 // bytes, of a leaf element
}

// Raw gives the fixed part of element i.
func (l *Leaf) Raw(i int) RawElement {
	at := HeaderSize + i*ElementSize
	e := l.b[at : at+ElementSize]
	return RawElement{
		Flags: binary.LittleEndian.Uint32(e), Position: uint64(at) + uint64(binary.LittleEndian.Uint32(e[4:])),
		KeySize: binary.LittleEndian.Uint32(e[8:]), ValueSize: binary.LittleEndian.Uint32(e[12:]),
	}
}

// Raw gives the fixed part of element i.
func (p *Branch) Raw(i int) RawElement {
	at := HeaderSize + i*ElementSize
	e := p.b[at : at+ElementSize]
	return RawElement{Position: uint64(at) + uint64(binary.LittleEndian.Uint32(e)), KeySize: binary.LittleEndian.Uint32(e[4:])}
}
