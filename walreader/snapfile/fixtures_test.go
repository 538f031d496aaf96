package snapfile

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/zap"

	"go.etcd.io/etcd/server/v3/etcdserver/api/snap"

	"etcd-forensics/fixtures"
)

// TestEveryFixturesSnapshotsAreReadAsEtcdReadsThem covers what servers of 3.4 to 3.7 and
// the alpha of 3.8 wrote.
func TestEveryFixturesSnapshotsAreReadAsEtcdReadsThem(t *testing.T) {
	n := 0
	for _, name := range fixtures.Names() {
		t.Run(name, func(t *testing.T) {
			err := filepath.WalkDir(fixtures.Dir(t, name), func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() || filepath.Base(filepath.Dir(path)) != "snap" {
					return err
				}
				class, stated := ClassifyName(e.Name())
				if class == NameForeign || class == NameMisspelt {
					t.Errorf("%s: %v", e.Name(), class)
				}
				if class != NameSnap {
					return nil
				}
				n++
				want, err := snap.Read(zap.NewNop(), path)
				if err != nil {
					return err
				}
				src, err := os.Open(path)
				if err != nil {
					return err
				}
				defer src.Close()
				info, err := src.Stat()
				if err != nil {
					return err
				}
				f, err := Read(context.Background(), src, info.Size(), Options{})
				if err != nil {
					return err
				}
				m := want.GetMetadata()
				if !f.Valid || f.Faults != nil || f.Index != m.GetIndex() || f.Term != m.GetTerm() || stated != (Name{f.Term, f.Index}) {
					t.Errorf("%s: %+v", e.Name(), f)
				}
				if len(f.ConfState.Voters) != len(m.GetConfState().Voters) || len(f.ConfState.Learners) != len(m.GetConfState().Learners) {
					t.Errorf("%s: %+v", e.Name(), f.ConfState)
				}
				// Every voter and learner of raft is a member of the v2 store.
				for _, id := range append(f.ConfState.Voters, f.ConfState.Learners...) {
					found := false
					for _, s := range f.Store.Members {
						found = found || s.ID == id && s.HasRaftAttributes && len(s.PeerURLs) > 0
					}
					if !found {
						t.Errorf("%s: no member %x in the v2 store", e.Name(), id)
					}
				}
				if !f.Store.Complete || f.Store.CustomCount != 0 || f.Store.SystemCount != 0 {
					t.Errorf("%s: %+v", e.Name(), f.Store)
				}
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	if n < 20 {
		t.Errorf("only %d snapshots", n)
	}
}
