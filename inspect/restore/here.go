package restore

import (
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"strings"
)

// hereSteps are done where the evidence is: make the file when there is none yet, and
// bring it to the hosts.
func (b *builder) hereSteps() {
	p := b.p
	if b.made() {
		p.File.Path = "recovered-" + p.Tag + ".db"
	}
	switch p.Way {
	case WayForceNewCluster:
		p.Here = append(p.Here, b.phase(PhaseHere, b.recoverFromCopy())...)
	case WayRollForward:
		p.Here = append(p.Here, b.phase(PhaseHere, b.rollForward())...)
	case WaySalvage:
		p.Here = append(p.Here, b.phase(PhaseHere, b.salvage())...)
	}
	file := p.File.Path
	if archive, name, ok := inArchive(file); ok {
		unpacked := "snapshot-" + b.p.Tag + ".db"
		step := Step{
			Why:      "the file lies in an archive",
			Argv:     unpackCommand(archive, name),
			StdoutTo: unpacked,
			Check:    fmt.Sprintf("%s has %d bytes", unpacked, p.File.Size),
			IfNot:    "unpack it by hand",
		}
		if len(step.Argv) == 0 {
			step.Why, step.StdoutTo = fmt.Sprintf("unpack %s to %s", file, unpacked), ""
		}
		p.Here = append(p.Here, b.phase(PhaseHere, []Step{step})...)
		file = unpacked
	}
	digest := Step{
		Why:   "this digest must be found on every host",
		Argv:  []string{"sha256sum", file},
		Check: "note it",
		IfNot: "the file cannot be read: copy it anew",
	}
	if b.platform.local || len(p.Members) == 1 {
		digest.Why = "the file must be the one that was examined"
	}
	if p.File.SHA256 != nil {
		digest.Expect, digest.Check = &Expect{Contains: *p.File.SHA256}, "it prints "+*p.File.SHA256
		digest.IfNot = "the file has changed since it was examined: plan again"
	}
	p.Here = append(p.Here, b.phase(PhaseHere, []Step{digest})...)
	if b.platform.local {
		p.File.OnHost = file
		return
	}
	for _, m := range p.Members {
		host := hostOf(m.PeerURLs[0])
		if strings.Contains(host, ":") {
			host = "[" + host + "]"
		}
		p.Here = append(p.Here, b.phase(PhaseHere, []Step{{
			Why:   fmt.Sprintf("bring the file to the host of %q as %s; any way will do that keeps its bytes", m.Name, p.File.OnHost),
			Argv:  []string{"scp", "-p", file, host + ":" + p.File.OnHost},
			Check: "its digest on the host, which the first step there looks at",
			IfNot: "make the folder " + p.WorkDir + " on the host first",
		}})...)
	}
}

// unpackCommand writes one file of an archive to standard output; nil when one command
// does not do it.
func unpackCommand(archive, name string) []string {
	inner := strings.Contains(name, "!")
	lower := strings.ToLower(archive)
	ends := func(suffixes ...string) bool {
		for _, s := range suffixes {
			if strings.HasSuffix(lower, s) {
				return true
			}
		}
		return false
	}
	switch {
	case inner:
		return nil
	case ends(".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.xz", ".txz"):
		return []string{"tar", "-xOf", archive, "--", name}
	case ends(".zip"):
		return []string{"unzip", "-p", archive, name}
	case ends(".gz"):
		return []string{"gzip", "-dc", "--", archive}
	case ends(".zst"):
		return []string{"zstd", "-dc", "--", archive}
	case ends(".xz"):
		return []string{"xz", "-dc", "--", archive}
	}
	return nil
}

// copyMember makes a data directory of a member's two folders. It follows links: a copy
// of a link would let etcd write to the evidence.
const copyMember = `mkdir -p "$3/member" && cp -RLp -- "$1" "$3/member/snap" && cp -RLp -- "$2" "$3/member/wal" && chmod -R u+rwX "$3"`

// recoverFromCopy starts a copy of the member alone, so that etcd applies its log, and
// takes a snapshot of it.
func (b *builder) recoverFromCopy() []Step {
	const client, peer = "http://127.0.0.1:31379", "http://127.0.0.1:31380"
	data := "copy-" + b.p.Tag
	name := "default"
	if b.member.Name != nil && badMember(*b.member.Name, []string{client}) == "" {
		name = *b.member.Name
	}
	copied := Step{
		Why:    "work on a copy: starting etcd changes its directory",
		Argv:   []string{"sh", "-c", copyMember, "sh", filepath.Dir(b.member.Backend.File), b.member.WAL.Dir, data},
		Clears: []string{data},
		Check:  data + "/member/snap/db and " + data + "/member/wal are there",
		IfNot:  "free disk space for a second copy",
	}
	if _, _, packed := inArchive(b.member.Backend.File); packed {
		copied.Argv, copied.Clears = nil, nil
		copied.Why = fmt.Sprintf("unpack %s: the folders snap and wal of the member in it to %s/member", b.p.Copy, data)
	}
	steps := []Step{copied, {
		Why: "etcd applies the committed entries of its log, and makes itself the only member",
		Argv: []string{
			"etcd", "--name=" + name, "--data-dir=" + data, "--force-new-cluster",
			"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
			"--listen-peer-urls=" + peer, "--quota-backend-bytes=" + strconv.FormatInt(max(2*b.backend().Size, 8<<30), 10),
		},
		Background: true, LogTo: data + ".log", PIDFile: data + ".pid",
		Check: data + ".log says \"ready to serve client requests\"",
		IfNot: "restore the database instead: plan --from the directory's snap/db",
	}}
	if b.authEnabled() {
		return append(steps, Step{
			Why:    "wait until it is up",
			Argv:   []string{"grep", "-c", "ready to serve client requests", data + ".log"},
			Expect: &Expect{Seconds: upSeconds},
			Check:  "it prints a number above 0",
			IfNot:  "read " + data + ".log",
		}, b.endCopy(data), Step{
			Why:   "its database now holds what the log held",
			Argv:  []string{"cp", data + "/member/snap/db", b.p.File.Path},
			Check: b.p.File.Path + " is there",
			IfNot: "free disk space for it",
		})
	}
	return append(steps, Step{
		Why:    "wait until it is up",
		Argv:   []string{"etcdctl", "--endpoints=" + client, "endpoint", "health"},
		Expect: &Expect{Contains: "is healthy", Seconds: upSeconds},
		Check:  "it says \"is healthy\"",
		IfNot:  "read " + data + ".log",
	}, Step{
		Why:   "take a snapshot, which carries its hash",
		Argv:  []string{"etcdctl", "--endpoints=" + client, "snapshot", "save", b.p.File.Path},
		Check: "etcd-forensics verify " + b.p.File.Path,
		IfNot: "read " + data + ".log",
	}, b.endCopy(data))
}

func (b *builder) endCopy(data string) Step {
	return Step{
		Why:   "end the copy",
		Argv:  []string{"sh", "-c", `p=$(cat "$1") && kill "$p" && while kill -0 "$p" 2>/dev/null; do sleep 1; done`, "sh", data + ".pid"},
		Check: "no etcd runs on " + data,
		IfNot: "end it by hand",
	}
}

// listenURL is the address on which a server listens for what is advertised as u.
func listenURL(u string) string {
	parsed, err := url.Parse(u)
	if err != nil {
		return u
	}
	if isIP(parsed.Hostname()) || parsed.Hostname() == "localhost" {
		return u
	}
	parsed.Host = "0.0.0.0:" + parsed.Port()
	return parsed.String()
}
