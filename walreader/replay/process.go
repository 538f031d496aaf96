package replay

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"etcd-forensics/walreader/raftlog"
)

// A Process is a child that applies entries.
type Process struct {
	Marks []Mark // told so far; to be read behind Finish

	cmd     *exec.Cmd
	stdin   io.WriteCloser
	out     *bufio.Writer
	opened  chan State
	stopped atomic.Bool
	exited  chan struct{}
	head    []byte
	log     lastBytes

	finished chan struct{} // closed when done is set
	done     *Done
	complete chan struct{} // closed when written is set
	written  *Written
	failed   *Failure
	ended    error // how the process ended

	garbled error // what is wrong with what it said; nil for nothing
}

// Start starts self, the program and its arguments as a child, with an order, and waits
// until the copy is open. It ends with ctx.
func Start(ctx context.Context, self []string, o Order) (*Process, State, error) {
	p := &Process{opened: make(chan State, 1), finished: make(chan struct{}), complete: make(chan struct{}), exited: make(chan struct{})}
	p.cmd = exec.CommandContext(ctx, self[0], self[1:]...)
	p.cmd.Stderr = &p.log
	p.cmd.SysProcAttr = group()
	p.cmd.Cancel = func() error { return killGroup(p.cmd.Process) }
	p.cmd.WaitDelay = 10 * time.Second
	if o.Work != "" {
		p.cmd.Dir = filepath.Dir(o.Work)
	}
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, State{}, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, State{}, err
	}
	line, err := json.Marshal(o)
	if err != nil {
		return nil, State{}, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, State{}, fmt.Errorf("no child process: %w", err)
	}
	p.out = bufio.NewWriterSize(p.stdin, 1<<20)
	go p.listen(stdout)
	p.out.Write(append(line, '\n'))
	p.out.Flush() // a child that is gone says why
	select {
	case s := <-p.opened:
		return p, s, nil
	case <-p.exited:
		p.stdin.Close()
		return nil, State{}, p.why(ctx)
	}
}

// listen takes what the child says until it ends.
func (p *Process) listen(stdout io.Reader) {
	for d := json.NewDecoder(stdout); ; {
		var e event
		if err := d.Decode(&e); err != nil {
			if !errors.Is(err, io.EOF) {
				p.garbled = err
				killGroup(p.cmd.Process) // it may wait for more, as may whoever started it
			}
			break
		}
		switch {
		case e.Opened != nil:
			select {
			case p.opened <- *e.Opened:
			default: // it is opened once
			}
		case e.Mark != nil:
			p.Marks = append(p.Marks, *e.Mark)
		case e.Stopped:
			p.stopped.Store(true)
		case e.Done != nil && p.done == nil:
			p.done = e.Done
			close(p.finished)
		case e.Written != nil && p.written == nil:
			p.written = e.Written
			close(p.complete)
		case e.Failed != nil:
			p.failed = e.Failed
			p.stopped.Store(true)
		}
	}
	p.ended = p.cmd.Wait()
	close(p.exited)
}

// Send hands an entry on. No error is given when the child is gone: Finish tells why.
func (p *Process) Send(e raftlog.Entry) {
	p.head = appendHead(p.head[:0], e, byte(e.Type))
	p.out.Write(p.head)
	if _, err := p.out.Write(e.Data); err != nil {
		p.stopped.Store(true)
	}
}

// Stopped says that the child takes no further entry.
func (p *Process) Stopped() bool { return p.stopped.Load() }

// Finish says that no entry follows, and waits until the file can be read. That it has its
// hash and is on the disk, Wait tells.
func (p *Process) Finish(ctx context.Context) (*Done, error) {
	p.end()
	select {
	case <-p.finished:
	case <-p.exited:
	}
	// Both have happened when the child was quick: what was done is said before the end.
	select {
	case <-p.finished:
		return p.done, nil
	default:
		p.stdin.Close()
		return nil, p.why(ctx)
	}
}

// end sends a frame of typeEnd. A child that is gone says why.
func (p *Process) end() {
	p.out.Write(appendHead(nil, raftlog.Entry{}, typeEnd))
	p.out.Flush()
}

// Wait says that the file was looked at, and waits until it is complete and on the disk
// and the child has ended.
func (p *Process) Wait(ctx context.Context) (*Written, error) {
	p.end()
	select {
	case <-p.complete:
	case <-p.exited:
	}
	p.stdin.Close() // earlier it would say that nobody waits for the file
	<-p.exited
	if p.done == nil || p.written == nil || p.ended != nil || p.garbled != nil {
		return nil, p.why(ctx)
	}
	return p.written, nil
}

// Kill ends the child and waits for its end.
func (p *Process) Kill() {
	killGroup(p.cmd.Process)
	p.stdin.Close()
	<-p.exited
}

// why says why the child has not done what it was to do.
func (p *Process) why(ctx context.Context) error {
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case p.failed != nil:
		return p.failed
	}
	text := "the process that applies entries has ended"
	if p.ended != nil {
		text += ": " + p.ended.Error()
	}
	if p.garbled != nil {
		text += ": what it said cannot be read: " + p.garbled.Error()
	}
	words, applier := p.log.words()
	if words != "" {
		text += ": " + words
	}
	if applier {
		return &Failure{Reason: ReasonApplier, Text: text}
	}
	return &Failure{Reason: ReasonEnded, Text: text}
}

// lastBytes keeps the begin and the end of what is written to it.
type lastBytes struct {
	mu    sync.Mutex
	bytes []byte
}

// maxLog bounds what is kept of a child's log.
const maxLog = 64 << 10

func (l *lastBytes) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if room := maxLog - len(l.bytes); room > 0 {
		l.bytes = append(l.bytes, b[:min(room, len(b))]...)
	}
	return len(b), nil
}

// words gives the line that says why a Go program ended, and whether it was code that
// gave up, and not the system that ended it or let it have no more memory.
func (l *lastBytes) words() (line string, gaveUp bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(string(l.bytes)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") {
			return line, true
		}
		if strings.HasPrefix(line, "fatal error: ") {
			return line, false
		}
		var entry struct{ Msg, Error string }
		if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg != "" {
			return strings.TrimSuffix(entry.Msg+": "+entry.Error, ": "), true
		}
	}
	return "", false
}

// IsFailure gives the failure in an error.
func IsFailure(err error) (*Failure, bool) { return errors.AsType[*Failure](err) }
