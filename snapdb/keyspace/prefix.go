package keyspace

import "bytes"

// PrefixEnd gives the length of the part of a key up to its depth-th delimiter, or the
// last one when it has fewer; 0 when it has none. A delimiter in the first position does
// not count.
func PrefixEnd(key, delimiter []byte, depth int) int {
	end := 0
	for at, n := 0, 0; n < depth; {
		i := bytes.Index(key[at:], delimiter)
		if i < 0 {
			break
		}
		first := at+i == 0
		if at += i + len(delimiter); !first {
			end = at
			n++
		}
	}
	return end
}
