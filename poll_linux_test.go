package liveness

import (
	"net"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/livenesstest"
)

// TestPollInterrupted looks while signals arrive, as from a scheduler that wants to
// preempt. A look that failed would go on to peek, which takes the socket's error.
func TestPollInterrupted(t *testing.T) {
	conn, _ := livenesstest.Pair(t, "tcp4")
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var over atomic.Bool
	thread, failed := make(chan int), make(chan int)
	go func() {
		runtime.LockOSThread()
		thread <- unix.Gettid()
		n := 0
		raw.Control(func(fd uintptr) {
			for !over.Load() {
				if events, ok := pollNow(fd); !ok || events != 0 {
					n++
				}
			}
		})
		failed <- n
	}()
	id := <-thread
	for began := time.Now(); time.Since(began) < time.Second; {
		if err := unix.Tgkill(unix.Getpid(), id, unix.SIGURG); err != nil {
			t.Fatal(err)
		}
	}
	over.Store(true)
	if n := <-failed; n > 0 {
		t.Errorf("%d looks failed", n)
	}
}
