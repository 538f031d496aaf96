package cli_test

import (
	"bytes"
	"context"
	"path/filepath"
	"strings"
	"testing"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/raft/v3/raftpb"
	"google.golang.org/protobuf/encoding/protowire"

	"etcd-forensics/cmd/etcd-forensics/internal/cli"
)

// etcd 3.4 writes passwords into its log as they are. Nothing that looks at the log
// shows them, nor values of keys.
func TestSecretsInALogAreNotShown(t *testing.T) {
	const secret = "hunter2-plain-as-3.4-has-it"
	text := func(num protowire.Number, s string) []byte {
		return protowire.AppendString(protowire.AppendTag(nil, num, protowire.BytesType), s)
	}
	request := func(num protowire.Number, fields ...[]byte) []byte {
		return protowire.AppendBytes(protowire.AppendTag(nil, num, protowire.BytesType), bytes.Join(fields, nil))
	}
	// Field numbers of api/etcdserverpb/raft_internal.proto and rpc.proto, v3.7.3.
	requests := [][]byte{
		request(1100, text(1, "alice"), text(2, secret)),                  // auth_user_add
		request(1103, text(1, "alice"), text(2, secret)),                  // auth_user_change_password
		request(1012, text(1, "alice"), text(2, secret), text(3, secret)), // authenticate
		request(4, text(1, "some/key"), text(2, secret)),                  // put
		request(1000), // auth_enable
	}
	dir := filepath.Join(t.TempDir(), "wal")
	w, err := wal.Create(nil, dir, []byte{0x08, 0x11, 0x10, 0x22})
	if err != nil {
		t.Fatal(err)
	}
	var entries []*raftpb.Entry
	term, vote, commit := uint64(2), uint64(0x11), uint64(len(requests))
	for i, r := range requests {
		index := uint64(i + 1)
		entries = append(entries, &raftpb.Entry{Index: &index, Term: &term, Data: r})
	}
	if err := w.Save(&raftpb.HardState{Term: &term, Vote: &vote, Commit: &commit}, entries); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"wal", dir}, {"wal", "-w", "json", dir}, {"wal", "--stats", dir}, {"wal", "--stats", "-w", "json", dir},
		{"wal", "--values", "full", dir}, {"inspect", dir}, {"inspect", "-w", "json", dir},
	} {
		var out, errs bytes.Buffer
		cli.Run(context.Background(), cli.Streams{Out: &out, Err: &errs}, args)
		if strings.Contains(out.String()+errs.String(), secret) {
			t.Errorf("%v shows the secret:\n%s", args, out.String())
		}
		if args[0] == "wal" && len(args) == 2 && !strings.Contains(out.String(), `auth_user_add user "alice"`) {
			t.Errorf("%v does not show the entries:\n%s%s", args, out.String(), errs.String())
		}
	}
}
