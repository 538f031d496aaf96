package inspect

import "fmt"

// lastMinor is the newest minor version of etcd 3 whose files are known.
var lastMinor = minors[len(minors)-1]

// checkVersion tells of files that no version of etcd reads of which anything is known.
func (x *examination) checkVersion() {
	b := x.member.Backend
	if b == nil {
		return
	}
	for _, v := range []struct {
		name string
		of   *string
	}{{"storage", b.StorageVersion}, {"cluster", b.ClusterVersion}} {
		if v.of == nil {
			continue
		}
		if minor, ok := minorOf(*v.of); ok && minor > lastMinor {
			x.find(newFinding(CodeVersionNotSupported, x.src.Path, fmt.Sprintf("the %s version is %s, and etcd 3.%d is the newest that is known here",
				v.name, quoteKey([]byte(*v.of)), lastMinor)).inFile(b.File))
			return
		}
	}
}
