package restore

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A Version is a version of etcd 3: a minor one, and a patch where it is known.
type Version struct {
	Minor int
	Patch int    // -1 when it is not known
	pre   string // alpha.0 of 3.8.0-alpha.0
}

// oldest and newest are the minor versions of etcd 3 that plans are made for.
const oldest, newest = 4, 8

// ParseVersion reads 3.5, 3.5.21 or v3.8.0-alpha.0.
func ParseVersion(s string) (Version, error) {
	wrong := fmt.Errorf("%q is no version of etcd such as 3.5 or 3.5.21", s)
	text, pre, hasPre := strings.Cut(strings.TrimPrefix(s, "v"), "-")
	parts := strings.Split(text, ".")
	if len(parts) < 2 || len(parts) > 3 || hasPre && (len(parts) == 2 || pre == "" || strings.Trim(pre, preBytes) != "") {
		return Version{}, wrong
	}
	var n [3]int
	for i, p := range parts {
		v, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return Version{}, wrong
		}
		n[i] = int(v)
	}
	if n[0] != 3 || n[1] < oldest || n[1] > newest {
		return Version{}, errors.New("plans are made for etcd 3.4 to 3.8")
	}
	v := Version{Minor: n[1], Patch: -1, pre: pre}
	if len(parts) == 3 {
		v.Patch = n[2]
	}
	return v, nil
}

// preBytes are those that may stand behind the patch (semver.org).
const preBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-"

func (v Version) String() string {
	if v.Patch < 0 {
		return fmt.Sprintf("3.%d", v.Minor)
	}
	if v.pre != "" {
		return fmt.Sprintf("3.%d.%d-%s", v.Minor, v.Patch, v.pre)
	}
	return fmt.Sprintf("3.%d.%d", v.Minor, v.Patch)
}

// printed is how the version stands in what `etcdutl version` and `etcdctl version` print: the
// version of the API follows on a line of its own.
func (v Version) printed() string {
	if v.Patch < 0 {
		return " version: " + v.String() + "."
	}
	return " version: " + v.String() + "\n"
}

// A since is the first patch of each minor version that has a feature. Minors above
// those listed have it, those below do not.
type since map[int]int

// When flags came, and when defects were mended (CHANGELOG-3.4.md to CHANGELOG-3.6.md).
var (
	sinceBump      = since{4: 27, 5: 10} // --bump-revision, --mark-compacted
	sinceMemoryMap = since{5: 14}        // --initial-memory-map-size
	// --force-new-cluster goes on from the consistent index when that is ahead of the
	// log's commit; before, members stayed in the v3 store (PR 20339).
	sinceForcedIndex = since{5: 22, 6: 1}
	// --force-new-cluster removes learners of a snapshot's conf state (PR 20896).
	sinceForcedLearners = since{5: 25, 6: 6}
	// --force-new-cluster does not panic on learners (PR 12288).
	sinceForcedSurvives = since{4: 16}
	// zombies are removed from the v3 store at start; an upgrade to 3.6 comes through here.
	sinceZombies = since{5: 26}
	// learners whose promotion the v3 store missed are mended at start
	sincePromotions = since{5: 24}
)

// has says whether a version has a feature. When only some patches of the minor have
// it and the patch is not known, needs names the first.
func (s since) has(v Version) (has bool, needs string) {
	first, listed := s[v.Minor]
	if !listed {
		for minor := range s {
			if v.Minor > minor {
				has = true
			}
		}
		return has, ""
	}
	if v.Patch < 0 {
		return true, fmt.Sprintf("3.%d.%d", v.Minor, first)
	}
	return v.Patch >= first, ""
}

// restoreTool is the command that restores: etcdctl of 3.4 has it itself, etcdutl came
// with 3.5, and 3.6 took it out of etcdctl (CHANGELOG-3.5.md, CHANGELOG-3.6.md).
func (v Version) restoreTool() string {
	if v.Minor == 4 {
		return "etcdctl"
	}
	return "etcdutl"
}

// refusesEmptyDir says whether restoring into a directory that exists is refused even
// when it is empty (etcd v3.4.23, clientv3/snapshot/v3_snapshot.go).
func (v Version) refusesEmptyDir() bool { return v.Minor == 4 }
