package rehearse

import (
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dustin/go-humanize"

	"etcd-forensics/inspect/scratch"
)

// A room is the private folder of a rehearsal, with the processes that work in it.
type room struct {
	dir  string
	self []string // the program as a child

	guard  net.Listener // see environment
	turned atomic.Int64 // connections that the guard turned away

	mu       sync.Mutex
	children []*child
}

// Sizes of what etcd lays out: a WAL segment and the next one, allocated beforehand
// (etcd v3.7.3, server/storage/wal/wal.go, SegmentSizeBytes; file_pipeline.go), and
// what a rehearsal may take besides.
const (
	walBytes    = 2 * 64 << 20
	marginBytes = 64 << 20
)

// noSpaceError says that the rehearsal does not fit where it would take place.
type noSpaceError struct {
	dir          string
	needed, free int64
}

func (e noSpaceError) Error() string {
	return fmt.Sprintf("the rehearsal needs %s (%d bytes) in %s, and %s (%d bytes) are free; name a larger folder with --scratch",
		humanize.IBytes(uint64(e.needed)), e.needed, e.dir, humanize.IBytes(uint64(e.free)), e.free)
}

// newRoom makes the folder in dir, when needed bytes are free there.
func newRoom(dir string, self []string, space Space) (*room, error) {
	dir, err := filepath.Abs(scratch.Dir(dir)) // children work elsewhere
	if err != nil {
		return nil, err
	}
	if space.Free != nil && *space.Free < space.Needed {
		return nil, noSpaceError{dir, space.Needed, *space.Free}
	}
	guard, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("no port on loopback: %w", err)
	}
	made, err := os.MkdirTemp(dir, "etcd-forensics-rehearse-*") // 0700
	if err != nil {
		guard.Close()
		return nil, fmt.Errorf("no scratch folder: %w", err)
	}
	m := &room{dir: made, self: self, guard: guard}
	go m.turnAway()
	// The sweeper removes the folder when this process is killed.
	if _, err := m.start(order{Sweep: made}, m.path("sweeper.log")); err != nil {
		m.close()
		return nil, err
	}
	return m, nil
}

// path names something in the folder.
func (m *room) path(elements ...string) string {
	return filepath.Join(append([]string{m.dir}, elements...)...)
}

// close kills what still runs and removes the folder.
func (m *room) close() error {
	m.mu.Lock()
	children := m.children
	m.mu.Unlock()
	for _, c := range children {
		c.kill()
	}
	m.guard.Close()
	return os.RemoveAll(m.dir)
}

// turnAway closes every connection to the guard.
func (m *room) turnAway() {
	for {
		c, err := m.guard.Accept()
		if err != nil {
			return
		}
		m.turned.Add(1)
		c.Close()
	}
}

// environment is that of every child. etcd and its tools take options from ETCD_ and
// ETCDCTL_; one of them says that this machine will do. Peers are asked through the proxy of the environment (etcd v3.7.3,
// client/pkg/transport/transport.go; the same since 3.4), which net/http does not do for
// loopback: with the guard as proxy nothing else is reached.
func (m *room) environment() []string {
	var env []string
	for _, e := range os.Environ() {
		name, _, _ := strings.Cut(e, "=")
		upper := strings.ToUpper(name)
		if strings.HasPrefix(upper, "ETCD") && name != "ETCD_UNSUPPORTED_ARCH" || strings.HasSuffix(upper, "_PROXY") {
			continue
		}
		env = append(env, e)
	}
	guard := m.guardURL()
	return append(env, "HTTP_PROXY="+guard, "HTTPS_PROXY="+guard, "ETCDCTL_API=3")
}

func (m *room) guardURL() string { return "http://" + m.guard.Addr().String() }

// used counts the bytes in the folder.
func (m *room) used() (bytes int64) {
	filepath.WalkDir(m.dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // gone meanwhile
		}
		if info, err := d.Info(); err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return nil
	})
	return bytes
}
