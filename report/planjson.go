package report

import (
	"io"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
)

// PlanJSON writes a plan as JSON.
func PlanJSON(w io.Writer, p *restore.Plan) error {
	view := struct {
		SchemaVersion int `json:"schemaVersion"`
		*restore.Plan
		ClusterID    *inspect.ID       `json:"clusterID"` // null when it is not the plan that gives it
		Losses       []lossView        `json:"losses"`
		Alternatives []alternativeView `json:"alternatives"`
	}{1, p, nil, make([]lossView, len(p.Losses)), make([]alternativeView, len(p.Alternatives))}
	if p.Refused == nil && !p.IDsByPlatform {
		view.ClusterID = &p.ClusterID
	}
	for i, l := range p.Losses {
		view.Losses[i] = viewLoss(l)
	}
	for i, a := range p.Alternatives {
		view.Alternatives[i] = alternativeView{a, viewLoss(a.Loss)}
	}
	return Value(w, view)
}

type lossView struct {
	restore.Loss
	Prefixes []prefixLossView `json:"prefixes,omitempty"`
}

type prefixLossView struct {
	Prefix      string `json:"prefix"`
	KeyEncoding string `json:"keyEncoding,omitempty"`
	restore.PrefixLoss
}

type alternativeView struct {
	restore.Alternative
	Loss lossView `json:"loss"`
}

func viewLoss(l restore.Loss) lossView {
	v := lossView{Loss: l}
	for _, p := range l.Prefixes {
		text, encoding := Key(p.Prefix)
		v.Prefixes = append(v.Prefixes, prefixLossView{text, encoding, p})
	}
	return v
}
