package report

import (
	"fmt"
	"strings"
	"time"

	"etcd-forensics/snapdb/kube"
)

// An estimateView is an estimate of a time as JSON has it.
type estimateView struct {
	Time     string `json:"estimate"`
	Earliest string `json:"earliest,omitempty"`
	Latest   string `json:"latest,omitempty"`
	From     string `json:"from"`
}

func viewEstimate(e *kube.Estimate) *estimateView {
	if e == nil {
		return nil
	}
	return &estimateView{timeWord(e.Time), timeWord(e.Earliest), timeWord(e.Latest), e.How.String()}
}

// timeFormat has milliseconds: what an estimate is drawn from may have microseconds.
const timeFormat = "2006-01-02T15:04:05.000Z"

func timeWord(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeFormat)
}

// appendEstimate does what viewEstimate does, for rows of which there are millions.
func appendEstimate(b []byte, e *kube.Estimate) []byte {
	b = appendTime(append(b, `{"estimate":`...), e.Time)
	if !e.Earliest.IsZero() {
		b = appendTime(append(b, `,"earliest":`...), e.Earliest)
	}
	if !e.Latest.IsZero() {
		b = appendTime(append(b, `,"latest":`...), e.Latest)
	}
	b = appendString(append(b, `,"from":`...), e.How.String())
	return append(b, '}')
}

func appendTime(b []byte, t time.Time) []byte {
	return append(t.UTC().AppendFormat(append(b, '"'), timeFormat), '"')
}

// roughly writes a duration as exactly as it deserves.
func roughly(d time.Duration) string {
	switch {
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	case d < 10*time.Minute:
		return d.Round(time.Second).String()
	case d < 10*time.Hour:
		return strings.TrimSuffix(d.Round(time.Minute).String(), "0s")
	}
	return fmt.Sprintf("%dh", int64(d.Round(time.Hour)/time.Hour))
}

// timeHeader stands above estimates.
const timeHeader = "TIME (ESTIMATE, UTC)"

// timeCell writes an estimate with how far it may be off.
func timeCell(e *kube.Estimate) string {
	if e == nil {
		return "-"
	}
	at := "~" + e.Time.UTC().Format("2006-01-02 15:04:05")
	if d, ok := e.Uncertainty(); ok {
		return at + " +-" + roughly(d)
	}
	if e.Latest.IsZero() {
		return "after " + at
	}
	return "before " + at
}
