package rehearse

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/recover"
	"etcd-forensics/inspect/source"
	"etcd-forensics/walreader/replay"
)

// rollForward applies the logs that the plan names, and makes the result what is
// restored.
func (h *rehearsal) rollForward(ctx context.Context) error {
	o := recover.RollOptions{Out: h.room.path(madeFile), Scratch: h.room.dir, Self: []string{h.room.self[0], replay.ChildCommand}}
	if h.plan.Base != "" {
		o.Base = h.givenAs(h.plan.Base)
	}
	for _, log := range h.plan.Logs {
		o.WALs = append(o.WALs, h.givenAs(log))
	}
	if slices.Contains(o.WALs, nil) || h.plan.Base != "" && o.Base == nil {
		return failure{errors.New("a source of the plan is not among those given"), CheckMade, h.source.Path, "a database"}
	}
	return h.make(ctx, "roll forward "+h.source.Path, "against the database that was rolled forward", func() error {
		_, err := recover.Roll(ctx, o)
		return err
	})
}

// salvage writes what the damaged database of the plan proves to a new one, which is
// then restored.
func (h *rehearsal) salvage(ctx context.Context) error {
	o := recover.Options{Out: h.room.path(madeFile), Snapshot: true}
	for _, other := range h.plan.With {
		if s := h.givenAs(other); s != nil {
			o.With = append(o.With, s)
		}
	}
	return h.make(ctx, "salvage "+h.source.Path, "against the database that was salvaged", func() error {
		_, err := recover.Salvage(ctx, h.source, o)
		return err
	})
}

// madeFile is the database that is made before anything is restored.
const madeFile = "recovered.db"

// make makes the database that is restored, and takes from it what must come up.
func (h *rehearsal) make(ctx context.Context, stage, of string, how func() error) error {
	const expected = "a database that can be read"
	if err := h.stage(stage, how); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return failure{err, CheckMade, h.source.Path, expected}
	}
	pr := &h.promise
	pr.file, pr.hashed, pr.of = h.room.path(madeFile), true, of
	made, problems := source.Open(ctx, []string{pr.file}, source.Options{})
	if len(made) == 0 {
		return failure{problems[0], CheckMade, h.source.Path, expected}
	}
	h.made, pr.source = made, made[0]
	hash, err := inspect.HashKVAt(ctx, pr.source, 0)
	if err != nil {
		return failure{err, CheckMade, h.source.Path, expected}
	}
	pr.hashKV, pr.revision = &hash, hash.Revision
	h.receipt.compare(CheckMade, h.source.Path, expected, expected, fmt.Sprintf("at revision %d", hash.Revision))
	return nil
}

// givenAs is the source with a path, or with its log there; nil when it is not among those
// given.
func (h *rehearsal) givenAs(path string) *source.Source {
	i := slices.IndexFunc(h.given, func(s *source.Source) bool { return s.Path == path || s.WALDir == path })
	if i < 0 {
		return nil
	}
	s := h.given[i]
	if s.Path != path { // the folder of the log alone, as the plan's command is given it
		return &source.Source{Path: path, Kind: source.KindWALDir, WAL: s.WAL, WALDir: s.WALDir}
	}
	return s
}
