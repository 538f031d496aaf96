package inspect

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"etcd-forensics/fixtures"
	"etcd-forensics/snapdb"
	"etcd-forensics/snapdb/scan"
	"etcd-forensics/walreader"
)

func TestEveryFaultHasACode(t *testing.T) {
	for _, k := range snapdb.FaultKinds() {
		if _, ok := catalogue[backendCodes[k]]; !ok {
			t.Errorf("fault %q has no code in the catalogue", k)
		}
	}
	for _, k := range walreader.FaultKinds() {
		if _, ok := catalogue[walCodes[k]]; !ok {
			t.Errorf("WAL fault %q has no code in the catalogue", k)
		}
	}
	for _, k := range scan.RecordFaultKinds() {
		if _, ok := catalogue[mvccCodes[k]]; !ok {
			t.Errorf("record fault %d has no code in the catalogue", k)
		}
	}
}

func TestEveryCodeIsExplained(t *testing.T) {
	shape := regexp.MustCompile(`^[a-z]+(-[a-z0-9]+)+$`)
	for code, e := range catalogue {
		if !shape.MatchString(string(code)) {
			t.Errorf("%s is not kebab-case", code)
		}
		if e.severity == 0 || e.means == "" || e.shows == "" || e.do == "" {
			t.Errorf("%s is not explained: %+v", code, e)
		}
		if strings.HasSuffix(e.means, ".") || strings.HasSuffix(e.do, ".") {
			t.Errorf("%s: an explanation ends with a period", code)
		}
		if e.blocks && e.severity != SeverityError {
			t.Errorf("%s blocks a restore and is no error", code)
		}
	}
}

// madeByTests lists the codes that no stored fixture can have, with the test
// that produces them.
var madeByTests = map[Code]string{
	CodeBackendMetaPageSize: "TestPageSizeOfAMetaIsTakenForWhatItIs",
	CodeSourceChanged:       "TestChangeWhileReadingIsNoticed",
	CodeWALUnreadable:       "TestLogCutShortWhileReadingIsNoticed",
	CodeBackendUnreadable:   "TestOneUnreadablePageCostsOnePage",
	CodeClusterDiverged:     "TestDivergenceNamesMemberRevisionAndKey",
	CodeClusterOtherStore:   "TestOthersAreNotCompared",
	CodeClusterQuorumLost:   "TestQuorumIsLostWithTwoOfThree",
	CodeSpaceNearQuota:      "TestSpaceIsToldOfOnlyWhenItIsShort",
	CodeSpaceFragmented:     "TestSpaceIsToldOfOnlyWhenItIsShort",
	CodeKubeEncryptionMixed: "TestEncryptionAtRestIsCounted",
	CodeKubeEncryptedAtRest: "TestEncryptionAtRestIsCounted",
	CodeVersionNotSupported: "TestVersionsBeyondTheNewestAreToldOf",
}

func TestEveryCodeIsProducedByAFixture(t *testing.T) {
	produced := map[string]bool{}
	for _, f := range fixtures.All() {
		for _, c := range f.Codes {
			produced[c] = true
		}
	}
	tests := ""
	for _, file := range []string{"inspect_test.go", "page_size_test.go", "check_space_test.go", "compare_test.go", "kubernetes_test.go", "check_version_test.go", "../snapdb/scan/scan_test.go"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		tests += string(b)
	}
	for _, code := range Codes() {
		name, made := madeByTests[code]
		switch {
		case strings.HasPrefix(string(code), "backup-"): // the tests of package backup see to them
		case made && !strings.Contains(tests, "func "+name+"("):
			t.Errorf("%s: test %s is not there", code, name)
		case !made && !produced[string(code)]:
			t.Errorf("%s: no fixture produces it", code)
		}
	}
	for c := range produced {
		if !slices.Contains(Codes(), Code(c)) {
			t.Errorf("a fixture expects %s, which is not in the catalogue", c)
		}
	}
}
