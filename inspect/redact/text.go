package redact

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
	"slices"
)

// staying are texts that are no secret and on which findings depend: versions and times.
var staying = regexp.MustCompile(`^(v?[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})|)$`)

// ownWords are the words of etcd's own JSON, of the store of version 2, and of requests to it.
var ownWords = setOf(`0 1 id ID name Name peerURLs clientURLs isLearner isPromote raftAttributes attributes members removed_members
	machines version removed voters learners votersOutgoing learnersNext autoLeave voters_outgoing learners_next auto_leave
	Root Path CreatedIndex ModifiedIndex ExpireTime Value Children WatcherHub EventHistory Queue Events StartIndex
	LastIndex DuplicateRemoved CurrentIndex Stats CurrentVersion Events Size Front Back Capacity
	GetSuccess GetFail SetSuccess SetFail DeleteSuccess DeleteFail CreateSuccess CreateFail UpdateSuccess
	UpdateFail CompareAndSwapSuccess CompareAndSwapFail CompareAndDeleteSuccess CompareAndDeleteFail ExpireCount Watchers
	getsSuccess getsFail setsSuccess setsFail deleteSuccess deleteFail createSuccess createFail updateSuccess updateFail
	compareAndSwapSuccess compareAndSwapFail compareAndDeleteSuccess compareAndDeleteFail expireCount watchers
	action node prevNode key value dir nodes createdIndex modifiedIndex expiration ttl
	set get create update delete compareAndSwap compareAndDelete expire
	target-version targetVersion enabled true false PUT POST GET DELETE QGET SYNC HEAD`)

// stays says whether a text is no secret: one of those, or the id of a member.
func (r *redactor) stays(b []byte) bool {
	return ownWords[string(b)] || r.ids[string(b)] || staying.Match(b)
}

// json overwrites the texts in JSON, those in JSON that is itself a text in it as well.
// What is no JSON is blotted, but for its first byte.
func (r *redactor) json(b []byte) {
	switch {
	case r.survey:
		r.noteIDs(b)
	case r.stays(b):
	case len(b) == 0 || b[0] != '{' || !json.Valid(b):
		if len(b) > 0 && b[0] == '{' {
			b = b[1:]
		}
		r.blot(b)
	default:
		r.texts(b, 0)
	}
}

// maxLevel is the most texts in each other that are taken for JSON: what is in a text of the store of version 2
// is one, and a request to it can hold one in a text of its own.
const maxLevel = 3

// texts overwrites the texts of JSON that is itself within as many texts. Numbers stay where the JSON is
// etcd's own; in a text they can be anybody's.
func (r *redactor) texts(b []byte, level int) {
	for len(b) > 0 {
		begin := quote(b, level)
		if level > 0 {
			r.digits(b[:min(begin, len(b))])
		}
		if begin >= len(b) {
			return
		}
		b = b[begin+1:]
		end := quote(b, level)
		if end >= len(b) {
			r.blot(b)
			return
		}
		r.textIn(b[:end-(1<<level-1)], level)
		b = b[end+1:]
	}
}

// quote gives the place of the next quote that begins or ends a text within as many texts. Each of these
// doubles the slashes before it and puts one there, and two slashes stand for one that
// belongs to the text.
func quote(b []byte, level int) int {
	for at := 0; at < len(b); at++ {
		if b[at] != '"' {
			continue
		}
		slashes := at - len(bytes.TrimRight(b[:at], `\`))
		if slashes%(2<<level) == 1<<level-1 {
			return at
		}
	}
	return len(b)
}

// textIn overwrites one text of JSON, which is JSON itself or not.
func (r *redactor) textIn(b []byte, level int) {
	plain := b
	for range level + 1 {
		var text string
		if json.Unmarshal(slices.Concat([]byte{'"'}, plain, []byte{'"'}), &text) != nil {
			r.escaped(b)
			return
		}
		plain = []byte(text)
	}
	if level < maxLevel && len(plain) > 0 && plain[0] == '{' && json.Valid(plain) {
		r.texts(b, level+1)
		return
	}
	r.word(b)
}

// digits overwrites digits.
func (r *redactor) digits(b []byte) {
	for at := 0; at < len(b); at++ {
		end := at
		for end < len(b) && b[end] >= '0' && b[end] <= '9' {
			end++
		}
		r.cipher.permute(b[at:end], "number")
		at = end
	}
}

// noteIDs notes the ids of members that paths of the store of version 2 name.
func (r *redactor) noteIDs(b []byte) {
	for _, m := range memberPath.FindAllSubmatch(b, maxIDs) {
		r.noteID(m[1])
	}
}

func (r *redactor) noteID(id []byte) {
	if len(r.ids) < maxIDs {
		r.ids[string(id)] = true
	}
}

// maxIDs bounds the ids of members that are known.
const maxIDs = 1 << 14

var memberPath = regexp.MustCompile(`members\\*/([0-9a-f]{12,16})\b`)

// word overwrites one text of etcd's own records: a name, a URL, a path of the store of version 2.
func (r *redactor) word(b []byte) {
	switch {
	case r.survey:
		r.noteIDs(b)
	case r.stays(b):
	case bytes.Contains(b, []byte("://")):
		r.url(b)
	case len(b) > 0 && b[0] == '/':
		for part := range bytes.SplitSeq(b[1:], []byte("/")) {
			if !r.stays(part) {
				r.escaped(part)
			}
		}
	default:
		r.count.Names++
		r.escaped(b)
	}
}

// escaped exchanges a text that may have escapes of JSON in it, which stay what they are.
func (r *redactor) escaped(b []byte) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\\')
		if i < 0 {
			r.cipher.permute(b, "name")
			return
		}
		r.cipher.permute(b[:i], "name")
		n := 2
		if i+1 < len(b) && b[i+1] == 'u' {
			n = 6
		}
		b = b[min(i+n, len(b)):]
	}
}

// url overwrites host and path of a URL. Scheme and port stay, and so do hosts that
// every machine has.
func (r *redactor) url(b []byte) {
	r.count.URLs++
	at := bytes.Index(b, []byte("://"))
	if !schemes[string(b[:at])] {
		r.escaped(b[:at])
	}
	rest := b[at+3:]
	host := rest
	if i := bytes.IndexByte(rest, '/'); i >= 0 {
		host = rest[:i]
		for part := range bytes.SplitSeq(rest[i:], []byte("/")) {
			r.escaped(part)
		}
	}
	if i := bytes.LastIndexByte(host, '@'); i >= 0 {
		r.cipher.smear(host[:i])
		host = host[i+1:]
	}
	if i := bytes.LastIndexByte(host, ':'); i >= 0 && bytes.IndexByte(host[i:], ']') < 0 {
		if port := host[i+1:]; len(port) > maxPort || len(bytes.Trim(port, "0123456789")) > 0 {
			r.escaped(port)
		}
		host = host[:i]
	}
	r.host(host)
}

// schemes are those of URLs that etcd listens on (client/pkg/types, v3.7.3), and maxPort the digits of a port.
var schemes = setOf("http https unix unixs")

const maxPort = 5

func (r *redactor) host(b []byte) {
	if string(b) == "localhost" {
		return
	}
	if a, err := netip.ParseAddr(string(bytes.Trim(b, "[]"))); err == nil {
		if !a.IsLoopback() && !a.IsUnspecified() {
			r.address(b, a)
		}
		return
	}
	for label := range bytes.SplitSeq(b, []byte(".")) {
		r.cipher.permute(label, "name")
	}
}

// address overwrites an IP address with another of the same length.
func (r *redactor) address(b []byte, a netip.Addr) {
	if a.Is4() {
		for part := range bytes.SplitSeq(b, []byte(".")) {
			for r.cipher.permute(part, "octet"); len(part) > 1 && part[0] == '0' || len(part) == 3 && string(part) > "255"; {
				r.cipher.permute(part, "octet")
			}
		}
		return
	}
	if i := bytes.IndexByte(b, '%'); i >= 0 { // a zone, which names an interface
		r.cipher.permute(bytes.TrimRight(b[i+1:], "]"), "name")
		b = b[:i]
	}
	for part := range bytes.FieldsFuncSeq(b, func(c rune) bool { return c == ':' || c == '[' || c == ']' || c == '.' }) {
		sum := r.cipher.digest("group", string(part))
		for i := range part {
			part[i] = "0123456789abcdef"[sum[i%len(sum)]&0xf]
		}
	}
}

// asVersion overwrites what should be a version and is none.
func (r *redactor) asVersion(b []byte) {
	if !r.survey && !r.stays(b) {
		r.cipher.permute(b, "name")
	}
}
