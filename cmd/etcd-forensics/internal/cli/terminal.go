package cli

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/cheggaaa/pb/v3"

	"etcd-forensics/inspect/source"
)

// progressMode is the value of --progress.
type progressMode string

func (m *progressMode) String() string { return string(*m) }
func (m *progressMode) Type() string   { return "when" }
func (m *progressMode) Set(s string) error {
	if s != "auto" && s != "always" && s != "never" {
		return errors.New("must be auto, always or never")
	}
	*m = progressMode(s)
	return nil
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// color says whether standard output may be painted (https://no-color.org).
func (p *program) color() bool {
	out, file := p.streams.Out.(*os.File)
	return !p.noColor && os.Getenv("NO_COLOR") == "" && p.output == "" && file && isTerminal(out) && paints(out)
}

// A bar shows progress on stderr; the zero bar shows nothing.
type bar struct {
	pb    *pb.ProgressBar
	delay time.Duration

	mu             sync.Mutex
	started, ended bool
	once           int64 // what reading everything once counts
}

// barDelay keeps the bar away from work that takes no time.
const barDelay = 500 * time.Millisecond

// shows says whether progress is shown.
func (p *program) shows() bool {
	return p.progress == "always" || p.progress == "auto" && isTerminal(p.streams.Err)
}

func (p *program) newBar() *bar { return p.newBarOf(true) }

// newCountBar shows the progress of something that is not counted in bytes.
func (p *program) newCountBar() *bar { return p.newBarOf(false) }

func (p *program) newBarOf(bytes bool) *bar {
	if !p.shows() {
		return &bar{}
	}
	b := pb.New64(0)
	b.Set(pb.Bytes, bytes)
	b.SetWriter(p.streams.Err)
	b.SetTemplate(pb.Full)
	b.SetRefreshRate(barDelay)
	if p.progress == "always" {
		return &bar{pb: b}
	}
	return &bar{pb: b, delay: barDelay}
}

func (b *bar) add(n int64) {
	if b.pb == nil {
		return
	}
	if b.pb.Add64(n); b.pb.Current() > b.pb.Total() {
		b.again()
	}
}

// again moves the end when everything has been read and something is read once more, as
// members are whose contents are compared.
func (b *bar) again() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.once > 0 && b.pb.Current() > b.pb.Total() {
		b.pb.SetTotal(b.pb.Total() + b.once)
	}
}

func (b *bar) start(sources []*source.Source) {
	var total int64
	for _, s := range sources {
		total += s.Size()
	}
	b.startAt(total)
}

// startAt shows the bar, of which total is the end.
func (b *bar) startAt(total int64) {
	if b.pb == nil {
		return
	}
	b.mu.Lock()
	b.once = total
	b.mu.Unlock()
	b.pb.SetTotal(total)
	show := func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		if !b.ended {
			b.pb.Start()
			b.started = true
		}
	}
	if b.delay == 0 {
		show()
	} else {
		time.AfterFunc(b.delay, show)
	}
}

// more says that sources are read once more.
func (b *bar) more(sources []*source.Source) {
	if b.pb == nil {
		return
	}
	total := b.pb.Total()
	for _, s := range sources {
		total += s.Size()
	}
	b.pb.SetTotal(total)
}

func (b *bar) finish() {
	if b.pb == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ended = true
	if b.once > 0 && b.pb.Total() > b.once {
		b.pb.SetTotal(b.pb.Current()) // how much of it was to be read again, nobody knew
	}
	if b.started {
		b.pb.Finish()
	}
}
