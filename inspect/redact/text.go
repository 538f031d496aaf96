package redact

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"regexp"
)

// staying are texts that are no secret and on which findings depend: versions, ids and
// times.
var staying = regexp.MustCompile(`^(v?[0-9]{1,3}\.[0-9]{1,3}(\.[0-9]{1,3})?|[0-9a-f]{12,16}|[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})|)$`)

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

// stays says whether a text is no secret.
func stays(b []byte) bool { return ownWords[string(b)] || staying.Match(b) }

// json overwrites the texts in JSON, those in JSON that is itself a text in it as well.
// What is no JSON is blotted, but for its first byte.
func (r *redactor) json(b []byte) {
	switch {
	case r.survey || stays(b):
		return
	case !json.Valid(b):
		if b[0] == '{' {
			b = b[1:]
		}
		r.blot(b)
		return
	}
	for len(b) > 0 {
		end, next := toQuote(b)
		if p := b[:end]; !between.Match(p) {
			r.word(p)
		}
		b = b[next:]
	}
}

// between is what stands between two texts of JSON.
var between = regexp.MustCompile(`^[-+0-9.eEtrufalsn\s]*[\[\]{}:,][-+0-9.eEtrufalsn\s\[\]{}:,]*$`)

// toQuote gives the place of the next quote, with the slashes before it by which it is one of a text in
// a text, and the place behind it.
func toQuote(b []byte) (end, next int) {
	i := bytes.IndexByte(b, '"')
	if i < 0 {
		return len(b), len(b)
	}
	return len(bytes.TrimRight(b[:i], `\`)), i + 1
}

// word overwrites one text of etcd's own records: a name, a URL, a path of the store of version 2.
func (r *redactor) word(b []byte) {
	switch {
	case r.survey || stays(b):
	case bytes.Contains(b, []byte("://")):
		r.url(b)
	case len(b) > 0 && b[0] == '/':
		for part := range bytes.SplitSeq(b[1:], []byte("/")) {
			if !stays(part) {
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
	rest := b[bytes.Index(b, []byte("://"))+3:]
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
		host = host[:i]
	}
	r.host(host)
}

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
	if !r.survey && !stays(b) {
		r.cipher.permute(b, "name")
	}
}
