package cli

import "errors"

// valuesMode is the value of --values.
type valuesMode string

func (m *valuesMode) String() string { return string(*m) }
func (m *valuesMode) Type() string   { return "what" }
func (m *valuesMode) Set(s string) error {
	if s != "none" && s != "hash" && s != "full" {
		return errors.New("must be none, hash or full")
	}
	*m = valuesMode(s)
	return nil
}
