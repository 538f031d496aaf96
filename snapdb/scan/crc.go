package scan

import "hash/crc32"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// castagnoliPoly is the polynomial with its bits reflected, as hash/crc32 has it.
const castagnoliPoly = crc32.Castagnoli

// joinCRC gives the CRC-32C of a message of which a is the CRC of the first part
// and b that of the rest, n bytes long.
//
// Appending n bytes multiplies a CRC by x^(8n) modulo the polynomial; the
// initial and final inversions of the two parts cancel out.
func joinCRC(a, b uint32, n uint64) uint32 {
	for i := 0; n > 0; i, n = i+1, n>>8 {
		if c := byte(n); c != 0 {
			a = multiply(a, shiftPowers[i][c])
		}
	}
	return a ^ b
}

// shiftPowers[i][c] is x^(8 * c * 256^i) modulo the polynomial, reflected.
var shiftPowers = makeShiftPowers()

func makeShiftPowers() (powers [8][256]uint32) {
	const one = 1 << 31      // x^0
	step := uint32(one >> 8) // x^8
	for i := range powers {
		powers[i][0] = one
		for c := 1; c < 256; c++ {
			powers[i][c] = multiply(powers[i][c-1], step)
		}
		step = multiply(powers[i][255], step)
	}
	return powers
}

// multiply multiplies two polynomials modulo the CRC's. They are reflected: the
// highest bit is the term x^0, so a step to the next power is a shift right.
func multiply(a, b uint32) uint32 {
	var product uint32
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ castagnoliPoly&-(b&1)
	}
	return product
}
