//go:build !windows

package testutil

import (
	"runtime"
	"sync"
	"testing"

	"github.com/go-liveness/liveness/livenesstest"
)

// Notices says that this system reports an end by an event, also behind unread data. On other systems a call of the
// application, or the sweep, has to check, and neither sees behind unread data.
const Notices = runtime.GOOS == "linux" || runtime.GOOS == "darwin" || runtime.GOOS == "ios" || runtime.GOOS == "freebsd" ||
	runtime.GOOS == "openbsd" || runtime.GOOS == "netbsd" || runtime.GOOS == "dragonfly"

// KeepsUnread says that what was received before a reset can be read after it.
const KeepsUnread = true

// ErrnoReset is what this system calls a reset. The system itself is asked.
var ErrnoReset = sync.OnceValue(func() error {
	p := new(probe)
	defer p.cleanup()
	conn, peer := livenesstest.Pair(p, "tcp4")
	peer.Reset()
	return Innermost(ReadAll(conn).Err)
})

// Wine reports whether this is Windows as Wine has it.
func Wine() bool { return false }

// A probe is a testing.TB outside of a test.
type probe struct {
	testing.TB
	cleanups []func()
}

func (*probe) Helper()                        {}
func (p *probe) Cleanup(f func())             { p.cleanups = append(p.cleanups, f) }
func (*probe) Skipf(format string, _ ...any)  { panic(format) }
func (*probe) Fatalf(format string, _ ...any) { panic(format) }
func (p *probe) cleanup() {
	for _, f := range p.cleanups {
		f()
	}
}
