//go:build !windows

package liveness_test

import (
	"runtime"
	"sync"
	"testing"

	"github.com/go-liveness/liveness/livenesstest"
)

// noticed says that this system tells of an end by itself. On the others, some
// call has to look, or the sweep does, and neither looks behind unread data.
const noticed = runtime.GOOS == "linux" || kqueues

const kqueues = runtime.GOOS == "darwin" || runtime.GOOS == "ios" || runtime.GOOS == "freebsd" ||
	runtime.GOOS == "openbsd" || runtime.GOOS == "netbsd" || runtime.GOOS == "dragonfly"

// keepsUnread says that what was received before a reset can be read after it.
const keepsUnread = true

// errnoReset is what this system calls a reset, asked of the system.
var errnoReset = sync.OnceValue(func() error {
	t := new(probe)
	defer t.cleanup()
	conn, peer := livenesstest.Pair(t, "tcp4")
	peer.Reset()
	return innermost(readAll(conn).err)
})

func wine() bool { return false }

// needsFINBehindData skips a test of a FIN behind bytes that nobody reads.
func needsFINBehindData(t *testing.T) {
	t.Helper()
	needsEndsBehindData(t)
}

// needsEndsBehindData skips a test of an end behind bytes that nobody reads.
func needsEndsBehindData(t *testing.T) {
	t.Helper()
	if !noticed {
		t.Skipf("no look on %s sees an end behind unread data", runtime.GOOS)
	}
}
