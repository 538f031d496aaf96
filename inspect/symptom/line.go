package symptom

import (
	"regexp"
	"strings"
)

// plainText undoes the escapes that a line got where it was put into JSON: by zap,
// and once more by what collects the logs of containers. A space that is not to be
// broken, which protobuf puts into its errors to keep them from being compared, is a
// space.
func plainText(line string) string {
	for range 3 {
		if !strings.Contains(line, `\`) {
			break
		}
		line = unescape.Replace(line)
	}
	return strings.ReplaceAll(line, "\u00a0", " ")
}

var unescape = strings.NewReplacer(
	`\"`, `"`, `\\`, `\`, `\/`, `/`, `\n`, "\n", `\t`, "\t",
	`\u003c`, "<", `\u003e`, ">", `\u0026`, "&", `\u00a0`, " ", `\u0027`, "'",
)

// timestamps are the ways in which a line says when it was written: the field of
// zap's JSON, which 3.4 may write as a number, zap's console and most collectors,
// capnslog, and syslog.
var timestamps = []*regexp.Regexp{
	regexp.MustCompile(`\\*"ts\\*": ?(?:\\*"([0-9][0-9TZ:.+-]{9,40})\\*"|([0-9]{9,10}(?:\.[0-9]{1,9})?))`),
	regexp.MustCompile(`\b([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)`),
	regexp.MustCompile(`(?:\b|raft)([0-9]{4}[-/][0-9]{2}[-/][0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:[.,][0-9]{1,9})?)`),
	regexp.MustCompile(`^([A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2})\b`),
}

// timestampWithin is how far into a line a timestamp is looked for, in bytes: zap
// writes it first, but a collector may put its own fields before it.
const timestampWithin = 1 << 10

func timestamp(line string) string {
	line = line[:min(len(line), timestampWithin)]
	for _, re := range timestamps {
		if found := re.FindStringSubmatch(line); found != nil {
			return strings.Join(found[1:], "")
		}
	}
	return ""
}
