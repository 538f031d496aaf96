package kube

import (
	"cmp"
	"slices"
	"strings"
)

// maxCensus bounds the rows of a Census: key names are the evidence's to choose.
const maxCensus = 4096

// Other is the resource of the row that takes what finds no room of its own.
const Other = "(other)"

// A Census counts how the values of each resource are kept.
type Census struct {
	rows    map[string]*CensusRow
	scratch []byte
}

// A CensusRow counts the keys of one resource that are kept in one way.
type CensusRow struct {
	Resource string
	// Provider, Version, KeyName and KeyID are empty where nothing is encrypted.
	Provider, Version, KeyName, KeyID string
	Keys                              int64
}

// Encrypted says whether the row counts encrypted values.
func (r *CensusRow) Encrypted() bool { return r.Provider != "" }

// Add counts one live key. The resource is as kept: secrets,
// cert-manager.io/certificates.
func (c *Census) Add(resource []byte, e *Envelope) {
	// Lengths first, so that no two rows have the same name.
	c.scratch = c.scratch[:0]
	for _, part := range [][]byte{resource, e.Provider, e.Version, e.KeyName, e.KeyID} {
		n := len(part)
		c.scratch = append(c.scratch, byte(n), byte(n>>8), byte(n>>16), byte(n>>24))
		c.scratch = append(c.scratch, part...)
	}
	row := c.rows[string(c.scratch)]
	if row == nil {
		row = c.newRow(resource, e)
	}
	row.Keys++
}

func (c *Census) newRow(resource []byte, e *Envelope) *CensusRow {
	if c.rows == nil {
		c.rows = map[string]*CensusRow{}
	}
	name := string(c.scratch)
	row := &CensusRow{Resource: string(resource), Provider: string(e.Provider), Version: string(e.Version), KeyName: string(e.KeyName), KeyID: string(e.KeyID)}
	if len(c.rows) >= maxCensus {
		name, row = Other, &CensusRow{Resource: Other, Provider: row.Provider}
		if row.Encrypted() {
			name, row.Provider = Other+encryptedPrefix, Other
		}
		if old := c.rows[name]; old != nil {
			return old
		}
	}
	c.rows[name] = row
	return row
}

// Rows gives all rows, sorted.
func (c *Census) Rows() []CensusRow {
	rows := make([]CensusRow, 0, len(c.rows))
	for _, r := range c.rows {
		rows = append(rows, *r)
	}
	slices.SortFunc(rows, func(a, b CensusRow) int {
		return cmp.Or(strings.Compare(a.Resource, b.Resource), strings.Compare(a.Provider, b.Provider),
			strings.Compare(a.Version, b.Version), strings.Compare(a.KeyName, b.KeyName), strings.Compare(a.KeyID, b.KeyID))
	})
	return rows
}

// Mixed gives the resources of which some values are encrypted, and others are
// not or with another key, sorted.
func (c *Census) Mixed() []string {
	mixed := []string{}
	rows := c.Rows()
	for len(rows) > 0 {
		n, encrypted := 0, false
		for ; n < len(rows) && rows[n].Resource == rows[0].Resource; n++ {
			encrypted = encrypted || rows[n].Encrypted()
		}
		if n > 1 && encrypted && rows[0].Resource != Other {
			mixed = append(mixed, rows[0].Resource)
		}
		rows = rows[n:]
	}
	return mixed
}
