package rehearse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// A child is a process of this program that carries out an order.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	words  chan word     // closed when it says no more
	exited chan struct{} // closed when it has ended
	log    string
}

// start starts a child with an order. What it and etcd have to say goes to log.
func (m *room) start(o order, log string) (*child, error) {
	f, err := os.OpenFile(log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	cmd := exec.Command(m.self[0], m.self[1:]...)
	cmd.Stderr = f
	cmd.Dir = filepath.Dir(m.dir)
	cmd.Env = m.environment()
	cmd.SysProcAttr = attributes(o.Sweep != "")
	c := &child{cmd: cmd, words: make(chan word, 4), exited: make(chan struct{}), log: log}
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	line, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("no child process: %w", err)
	}
	m.mu.Lock()
	m.children = append(m.children, c)
	m.mu.Unlock()
	go func() {
		for d := json.NewDecoder(stdout); ; {
			var w word
			if d.Decode(&w) != nil {
				break
			}
			c.words <- w
		}
		close(c.words)
		cmd.Wait()
		close(c.exited)
	}()
	_, err = c.stdin.Write(append(line, '\n'))
	if err != nil {
		c.kill()
	}
	return c, err
}

// errTimeout says that a child took too long.
var errTimeout = errors.New("it took too long")

// await waits until the child says event.
func (c *child) await(ctx context.Context, event string, timeout time.Duration) error {
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for {
		select {
		case w, ok := <-c.words:
			switch {
			case !ok:
				<-c.exited
				return fmt.Errorf("the process ended (%s)%s", c.cmd.ProcessState, c.lastWords())
			case w.Event == event:
				return nil
			case w.Event == eventFailed:
				return errors.New(w.Error)
			case w.Event == eventEnded:
				return errors.New(w.Error + c.lastWords())
			}
		case <-timer.C:
			return fmt.Errorf("%w: %s", errTimeout, timeout.Round(time.Second))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// stop asks the child to end.
func (c *child) stop() error {
	c.stdin.Close()
	select {
	case <-c.exited:
		return nil
	case <-time.After(stopTimeout + 5*time.Second):
		c.kill()
		return errors.New("it did not end when asked, and was killed")
	}
}

// kill ends the child and all that it started.
func (c *child) kill() {
	if !c.running() {
		return // its number may be another's by now
	}
	c.stdin.Close()
	if runtime.GOOS == "windows" { // where what it started does not end with it
		select {
		case <-c.exited:
		case <-time.After(5 * time.Second):
		}
	}
	killGroup(c.cmd.Process)
	for range c.words {
	}
	<-c.exited
}

// running says whether the child has not ended.
func (c *child) running() bool {
	select {
	case <-c.exited:
		return false
	default:
		return true
	}
}

// lastWords gives what a child wrote last that says why it ended: etcd's panics and
// errors.
func (c *child) lastWords() string {
	f, err := os.Open(c.log)
	if err != nil {
		return ""
	}
	defer f.Close()
	const most = 64 << 10
	if info, err := f.Stat(); err == nil && info.Size() > most {
		f.Seek(-most, io.SeekEnd)
	}
	text, _ := io.ReadAll(f)
	lines := bytes.Split(text, []byte("\n"))
	slices.Reverse(lines)
	for _, says := range []func(string) string{logged, printed} {
		for _, line := range lines {
			if s := says(string(line)); s != "" {
				return ": " + s
			}
		}
	}
	return ""
}

// logged gives what a line of etcd's log complains of.
func logged(line string) string {
	var entry struct{ Level, Msg, Error string }
	if json.Unmarshal([]byte(line), &entry) != nil {
		return ""
	}
	switch entry.Level {
	case "error", "fatal", "panic", "dpanic":
		if entry.Error != "" {
			return entry.Msg + ": " + entry.Error
		}
		return entry.Msg
	}
	return ""
}

// printed gives the line that a program ends with.
func printed(line string) string {
	for _, start := range []string{"panic: ", "fatal error: ", "Error: "} {
		if strings.HasPrefix(line, start) {
			return line
		}
	}
	return ""
}
