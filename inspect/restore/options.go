package restore

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// Options are what the operator says. The zero value of each leaves it to the evidence.
type Options struct {
	// Single restores one member only, the first of Members when there are any; the others
	// join it afterwards.
	Single  bool
	Members []NewMember // the cluster to be; nil for the old voters
	From    string      // the source to restore from; "" for the best
	Token   string      // of the new cluster; "" for one made from the evidence

	Platform    string // see Platforms; "" for plain
	EtcdVersion string // of the server that will run; "" for that of the evidence

	DataDir string // on the hosts; "" for the platform's
	WALDir  string // on the hosts; "" for the data directory's own
	WorkDir string // on the hosts; "" for DefaultWorkDir
}

// DefaultWorkDir is where the hosts keep what a restore needs.
const DefaultWorkDir = "/var/lib/etcd-restore"

// A NewMember is a member as --member names it.
type NewMember struct {
	Name     string
	PeerURLs []string
}

// ParseMembers reads NAME=PEERURL, one a string. A name that comes again adds a URL.
func ParseMembers(list []string) ([]NewMember, error) {
	var members []NewMember
	for _, text := range list {
		name, url, ok := strings.Cut(text, "=")
		if !ok || name == "" || url == "" {
			return nil, fmt.Errorf("--member %q must be NAME=PEERURL, as m1=https://10.0.0.1:2380", text)
		}
		i := slices.IndexFunc(members, func(m NewMember) bool { return m.Name == name })
		if i < 0 {
			members = append(members, NewMember{Name: name})
			i = len(members) - 1
		}
		members[i].PeerURLs = append(members[i].PeerURLs, url)
	}
	return members, nil
}

// Check finds what makes no sense whatever the evidence is.
func (o *Options) Check() error {
	if o.Platform != "" && platforms[o.Platform] == nil {
		return fmt.Errorf("--platform %q is not known; there are %s", o.Platform, strings.Join(Platforms(), ", "))
	}
	if o.EtcdVersion != "" {
		if _, err := ParseVersion(o.EtcdVersion); err != nil {
			return fmt.Errorf("--etcd-version: %w", err)
		}
	}
	for _, dir := range []struct{ flag, path string }{{"--data-dir", o.DataDir}, {"--new-wal-dir", o.WALDir}, {"--work-dir", o.WorkDir}} {
		if dir.path != "" && !strings.HasPrefix(dir.path, "/") {
			return fmt.Errorf("%s %q must be an absolute path: the commands run on other machines", dir.flag, dir.path)
		}
		if dir.path != "" && strings.Trim(dir.path, "/.") == "" || strings.ContainsFunc(dir.path, unprintable) {
			return fmt.Errorf("%s %q is no directory of its own", dir.flag, dir.path)
		}
	}
	for _, m := range o.Members {
		if why := badMember(m.Name, m.PeerURLs); why != "" {
			return fmt.Errorf("--member: %s", why)
		}
	}
	if err := o.checkPlatform(); err != nil {
		return err
	}
	return checkTogether(o.Members)
}

func unprintable(r rune) bool { return !unicode.IsPrint(r) }
