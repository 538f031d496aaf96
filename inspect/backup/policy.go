package backup

import (
	"fmt"
	"time"

	"etcd-forensics/inspect"
)

// A Policy is what is asked of backups beside being sound. The zero values ask for
// nothing.
type Policy struct {
	FailOn      inspect.Severity // least severity of findings that fails a backup
	Now         time.Time        // for MaxAge
	MaxAge      time.Duration
	MinKeys     int64
	MinRevision int64
	Required    []Required
	// MaxDrop is the part of the keys, in percent, that may have gone since the
	// backup before.
	MaxDrop float64
	// Against is the backup that each is compared with, as if it had come before it.
	Against string
	// Chain has the paths that are no folders form one series, in the order given.
	Chain bool
}

// Required is a prefix that must hold a number of keys.
type Required struct {
	Prefix []byte
	Count  int64
}

// DefaultMaxDrop is the drop in percent that fails a backup when none is named.
const DefaultMaxDrop = 30

// clockSlack is how far the clocks of nodes may be ahead of the one here.
const clockSlack = 5 * time.Minute

func (p *Policy) prefixes() [][]byte {
	var list [][]byte
	for _, r := range p.Required {
		list = append(list, r.Prefix)
	}
	return list
}

// check asks what one backup can tell by itself.
func (p *Policy) check(b *Backup) {
	t := b.tally
	if t.Live == 0 {
		b.find(CheckNotEmpty, inspect.CodeBackupEmpty, *p, "no key is in it; its revision is %d", t.Revision)
	} else {
		b.pass(CheckNotEmpty, "%s at revision %d", keys(t.Live), t.Revision)
	}
	if p.MinKeys > 0 {
		if t.Live < p.MinKeys {
			b.find(CheckKeys, inspect.CodeBackupFewKeys, *p, "%s, fewer than %d", keys(t.Live), p.MinKeys)
		} else {
			b.pass(CheckKeys, "%s, at least %d", keys(t.Live), p.MinKeys)
		}
	}
	if p.MinRevision > 0 {
		if t.Revision < p.MinRevision {
			b.find(CheckRevision, inspect.CodeBackupLowRevision, *p, "revision %d, below %d", t.Revision, p.MinRevision)
		} else {
			b.pass(CheckRevision, "revision %d, at least %d", t.Revision, p.MinRevision)
		}
	}
	for i, r := range p.Required {
		name := CheckPrefix + " " + quote(r.Prefix)
		if n := t.Under[i]; n < r.Count {
			b.find(name, inspect.CodeBackupPrefixMissing, *p, "%s under %s, fewer than %d", keys(n), quote(r.Prefix), r.Count)
		} else {
			b.pass(name, "%s under %s, at least %d", keys(n), quote(r.Prefix), r.Count)
		}
	}
}

// skip says why what the policy asks of one backup was not examined.
func (p *Policy) skip(b *Backup, why string) {
	if p.MinKeys > 0 {
		b.skip(CheckKeys, "%s", why)
	}
	if p.MinRevision > 0 {
		b.skip(CheckRevision, "%s", why)
	}
	for _, r := range p.Required {
		b.skip(CheckPrefix+" "+quote(r.Prefix), "%s", why)
	}
}

func (p *Policy) checkAge(b *Backup) {
	age := p.Now.Sub(b.Time.UTC)
	says := fmt.Sprintf("of %s by %s", b.Time.UTC.Format(time.RFC3339), b.Time.By)
	switch {
	case age > p.MaxAge:
		b.find(CheckAge, inspect.CodeBackupTooOld, *p, "%s old, more than %s: %s", round(age), round(p.MaxAge), says)
	case age < -clockSlack:
		b.find(CheckAge, inspect.CodeBackupTooOld, *p, "%s ahead of the clock here, so its age cannot be told: %s", round(-age), says)
	default:
		b.pass(CheckAge, "%s old, at most %s: %s", round(max(age, 0)), round(p.MaxAge), says)
	}
}

func round(d time.Duration) time.Duration { return d.Round(time.Second) }

func keys(n int64) string {
	if n == 1 {
		return "1 key"
	}
	return fmt.Sprintf("%d keys", n)
}
