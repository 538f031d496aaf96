package symptom

import (
	"regexp"
	"slices"
	"strings"
)

// A Fact is a name and a value that stand in a line.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// A Match is a symptom in a line.
type Match struct {
	Symptom *Symptom
	Time    string // as the line writes it; "" when it has none
	Facts   []Fact // by name
}

// Fact gives the value of a fact, "" when the line does not carry it.
func (m Match) Fact(name string) string {
	i := slices.IndexFunc(m.Facts, func(f Fact) bool { return f.Name == name })
	if i < 0 {
		return ""
	}
	return m.Facts[i].Value
}

// Bounds of what is looked at around a saying, and of what is kept, in bytes.
const (
	around    = 4 << 10
	factBytes = 256
)

// Recognise finds the symptom of a line: one, even if the line reports what follows
// from it as well.
func Recognise(line string) (Match, bool) {
	text := plainText(line)
	for _, i := range candidates(text) {
		s := &all[i]
		for _, p := range s.patterns {
			if facts, ok := p.match(text); ok {
				return Match{s, timestamp(line), facts}, true
			}
		}
	}
	return Match{}, false
}

// match says whether the text says it, and with which facts.
func (p *pattern) match(text string) ([]Fact, bool) {
	at := strings.Index(text, p.literal)
	if at < 0 {
		return nil, false
	}
	window := text[max(0, at-around):min(len(text), at+len(p.literal)+around)]
	facts := map[string]string{}
	if p.shape != nil && !groups(p.shape(), window, facts) {
		return nil, false
	}
	if p.facts != nil {
		groups(p.facts(), window, facts)
	}
	fields(window, facts)
	list := []Fact{}
	for name, value := range facts {
		if value != "" {
			list = append(list, Fact{name, value[:min(len(value), factBytes)]})
		}
	}
	slices.SortFunc(list, func(a, b Fact) int { return strings.Compare(a.Name, b.Name) })
	return list, true
}

// groups adds the named groups of a match; an expression may name one twice.
func groups(re *regexp.Regexp, text string, facts map[string]string) bool {
	found := re.FindStringSubmatch(text)
	for i, name := range re.SubexpNames() {
		if found != nil && name != "" && found[i] != "" {
			facts[name] = found[i]
		}
	}
	return found != nil
}

// field is a field of a zap log: of JSON, and of the console, which has a space
// behind the colon.
var field = regexp.MustCompile(`"([a-z][a-z0-9-]*)": ?(?:"([^"]*)"|(-?[0-9][0-9.e+-]*))`)

// factOfField names the fields that are facts.
var factOfField = map[string]string{
	"local-member-id": "member", "member-id": "member",
	"remote-peer-id": "peer", "remote-peer-id-from": "peer", "remote-member-id": "peer", "removed-member-id": "peer",
	"peer-ids":                "peers",
	"local-member-cluster-id": "cluster", "cluster-id": "cluster", "remote-peer-cluster-id": "remoteCluster",
	"remote-peer-server-version": "remoteVersion", "remote-member-cluster-version": "remoteVersion",
	"local-member-server-version": "serverVersion", "current-server-version": "serverVersion",
	"determined-cluster-version": "clusterVersion",
	"path":                       "file", "snapshot-file-path": "file",
	"snapshot-index": "index", "revision-main": "revision",
	"took": "took", "expected-duration": "expected", "quota-size-bytes": "quota",
}

// fields adds the fields of a zap log; what an expression has told stays.
func fields(text string, facts map[string]string) {
	for _, f := range field.FindAllStringSubmatch(text, 64) {
		if name := factOfField[f[1]]; name != "" && facts[name] == "" {
			facts[name] = f[2] + f[3]
		}
	}
}
