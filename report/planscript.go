package report

import (
	"bytes"
	_ "embed"
	"encoding/binary"
	"fmt"
	"io/fs"
	"strings"

	"etcd-forensics/inspect"
	"etcd-forensics/inspect/restore"
)

// A Script is one file that carries out a part of a plan.
type Script struct {
	Name string // made of harmless characters, whatever a member is called
	Text []byte
	Mode fs.FileMode
}

// scriptLibrary holds the functions that every script begins with.
//
//go:embed planscript.sh
var scriptLibrary string

// PlanScripts makes one POSIX shell script a host, one for where the evidence is, and the
// runbook.
func PlanScripts(p *restore.Plan) []Script {
	var runbook bytes.Buffer
	if err := PlanMarkdown(&runbook, p); err != nil {
		panic(err) // a buffer takes everything
	}
	list := []Script{{"runbook.md", runbook.Bytes(), 0o600}}
	if len(p.Here) > 0 {
		list = append(list, Script{"00-here.sh", script(p, "where the evidence is", "here", p.Here, append([]restore.Phase{restore.PhaseHere}, restore.Phases...)), 0o700})
	}
	for i, h := range p.Hosts {
		name := fmt.Sprintf("%02d-%s.sh", i+1, harmless(h.Name))
		list = append(list, Script{name, script(p, h.Name, fmt.Sprintf("%02d", i+1), h.Steps, restore.Phases), 0o700})
	}
	return list
}

// harmless keeps of a name what is harmless in a file's name.
func harmless(name string) string {
	b := []byte(name)
	for i, c := range b {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '.' || c == '-') {
			b[i] = '_'
		}
	}
	return string(b[:min(len(b), 64)])
}

// script writes the steps of one host as functions, one a phase.
func script(p *restore.Plan, host, key string, steps []restore.Step, phases []restore.Phase) []byte {
	var b bytes.Buffer
	there := phasesOf(steps, phases)
	folder := p.WorkDir
	if key == "here" {
		folder = "."
	}
	fmt.Fprintf(&b, "#!/bin/sh\n# Made by etcd-forensics plan, for %s.\n# Phases, in their order: %s. No host begins one before all have ended the one before.\n"+
		// Scripts within steps expand their own words; a host may be called like a command.
		"# shellcheck disable=SC2016,SC2209\nset -eu\n\n",
		quoted([]byte(host)), strings.Join(there, " "))
	fmt.Fprintf(&b, "host=%s\nphases=%s\nwork=%s\nstate=%s\n\n", ShellWord(host), ShellWord(strings.Join(there, " ")), ShellWord(folder), ShellWord(folder+"/"+p.Tag+"-state-"+key))
	b.WriteString(scriptLibrary)
	for _, phase := range there {
		fmt.Fprintf(&b, "\nphase_%s() {\n", phase)
		for i, s := range ofPhase(steps, restore.Phase(phase)) {
			if i > 0 {
				b.WriteByte('\n')
			}
			writeStep(&b, fmt.Sprintf("%s-%02d", phase, i+1), s)
		}
		b.WriteString("}\n")
	}
	b.WriteString("\nmain \"$@\"\n")
	return b.Bytes()
}

func phasesOf(steps []restore.Step, phases []restore.Phase) []string {
	var there []string
	for _, phase := range phases {
		if len(ofPhase(steps, phase)) > 0 {
			there = append(there, string(phase))
		}
	}
	return there
}

// writeStep writes one step: a call of the library that says whether it is still to be
// done, the guards, the command.
func writeStep(b *bytes.Buffer, id string, s restore.Step) {
	fmt.Fprintf(b, "\tif begin %s %s %s %s; then\n", id, ShellWord(s.Why), ShellWord(s.Check), ShellWord(s.IfNot))
	for _, g := range s.Refuses {
		fmt.Fprintf(b, "\t\t%s\n", guardCall(g))
	}
	for _, rest := range s.Clears {
		fmt.Fprintf(b, "\t\tclear_rest %s\n", ShellWord(rest))
	}
	call := ShellLine(s.Argv)
	for i := len(s.Env) - 1; i >= 0; i-- {
		call = "env " + ShellWord(s.Env[i]) + " " + call
	}
	switch e := s.Expect; {
	case len(s.Argv) == 0:
		b.WriteString("\t\tby_hand\n")
	case s.Background:
		fmt.Fprintf(b, "\t\tin_background %s %s %s\n", ShellWord(s.LogTo), ShellWord(s.PIDFile), call)
	case s.StdoutTo != "":
		fmt.Fprintf(b, "\t\tto_file %s %s\n", ShellWord(s.StdoutTo), call)
	case s.AppendTo != "":
		fmt.Fprintf(b, "\t\tappend_to %s %s\n", ShellWord(s.AppendTo), call)
	case s.IfThere:
		fmt.Fprintf(b, "\t\tif_there %s\n", call)
	case e != nil && e.Empty:
		fmt.Fprintf(b, "\t\texpect_nothing %d %s\n", e.Seconds, call)
	case e != nil:
		fmt.Fprintf(b, "\t\texpect %d %s %s\n", e.Seconds, ShellWord(e.Contains), call)
	default:
		fmt.Fprintf(b, "\t\trun %s\n", call)
	}
	b.WriteString("\t\tended\n\tfi\n")
}

func guardCall(g restore.Guard) string {
	switch g.Kind {
	case restore.GuardInUse:
		return "refuse_in_use " + ShellWord(g.Path)
	case restore.GuardMissing:
		return "refuse_missing " + ShellWord(g.Path)
	case restore.GuardExists:
		return "refuse_existing " + ShellWord(g.Path)
	case restore.GuardDigest:
		return "refuse_other_digest " + ShellWord(g.Path) + " " + ShellWord(g.SHA256)
	}
	if g.Kind == restore.GuardOther {
		words := []string{"refuse_other_member", ShellWord(g.Path)}
		for _, id := range g.MemberIDs {
			words = append(words, ShellWord(metadataBytes(0x08, id)+"10 "))
		}
		return strings.Join(words, " ")
	}
	words := []string{"refuse_foreign", ShellWord(g.Path)}
	for _, id := range g.ClusterIDs {
		words = append(words, ShellWord(metadataBytes(0x10, id)))
	}
	return strings.Join(words, " ")
}

// metadataBytes are the bytes of an id in the metadata record at the begin of each
// segment, as od writes them: the member's is field 1, the cluster's field 2, both varints
// (etcd v3.7.3, server/storage/wal/wal.go, which fills in etcdserverpb.Metadata).
func metadataBytes(tag byte, id inspect.ID) string {
	var b strings.Builder
	for _, c := range binary.AppendUvarint([]byte{tag}, uint64(id)) {
		fmt.Fprintf(&b, " %02x", c)
	}
	return b.String() + " "
}
