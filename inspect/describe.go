package inspect

import (
	"fmt"
	"strconv"
	"strings"

	"etcd-forensics/snapdb/keyspace"
	"etcd-forensics/walreader/raftlog"
)

// maxListed is the number of changes or URLs that a description names.
const maxListed = 10

// changeWords say what a change of the membership does.
var changeWords = map[raftlog.ChangeType]string{
	raftlog.AddNode: "add member", raftlog.RemoveNode: "remove member", raftlog.UpdateNode: "update member", raftlog.AddLearnerNode: "add learner",
}

// DescribeConfChange says in one line how an entry changes the membership. Text from
// evidence is quoted.
func DescribeConfChange(c raftlog.ConfChange) string {
	if len(c.Changes) == 0 {
		return "no change"
	}
	var parts []string
	for i, ch := range c.Changes {
		if i == maxListed {
			parts = append(parts, fmt.Sprintf("%d more changes", len(c.Changes)-i))
			break
		}
		word, ok := changeWords[ch.Type]
		switch {
		case !ok:
			word = ch.Type.String() + " of member"
		case c.Promotes && ch.Type == raftlog.AddNode:
			word = "promote learner"
		}
		parts = append(parts, word+" "+ID(ch.NodeID).String())
	}
	text := strings.Join(parts, ", ")
	switch {
	case c.Member != nil:
		text += DescribeMember(c.Member)
	case c.ContextErr != nil:
		text += "; its description cannot be read"
	}
	return text
}

// DescribeMember gives what is known of a member beside its id, to be put behind that.
func DescribeMember(m *raftlog.Member) string {
	text := ""
	if m.Name != "" {
		text = ", name " + quoteKey([]byte(m.Name))
	}
	return text + describeURLs(", peer URLs", m.PeerURLs) + describeURLs(", client URLs", m.ClientURLs)
}

func describeURLs(what string, urls []string) string {
	if len(urls) == 0 {
		return ""
	}
	for i, u := range urls {
		if i == maxListed {
			return what + fmt.Sprintf(" and %d more", len(urls)-i)
		}
		what += " " + quoteKey([]byte(u))
	}
	return what
}

var alarmActions = []string{alarmGet: "ask for", alarmActivate: "activate", alarmDeactivate: "deactivate"}

// DescribeAlarm says in one line what a request does to an alarm.
func DescribeAlarm(a *raftlog.Alarm) string {
	action := "action " + strconv.Itoa(int(a.Action)) + " on"
	if i := int(a.Action); i >= 0 && i < len(alarmActions) {
		action = alarmActions[i]
	}
	return action + " " + keyspace.AlarmType(a.Type).String() + " of member " + ID(a.MemberID).String()
}
