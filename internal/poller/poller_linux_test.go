package poller

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/livenesstest"
)

// Linux raises EPOLLERR, which nobody can mask, for what is in the error queue:
// time stamps of what was sent are no end. An end behind them is one.
func TestErrorQueueIsSilent(t *testing.T) {
	w := newWatcher(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	peer.Drain()
	id := w.add(conn)
	control(t, conn, func(fd uintptr) {
		const flags = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE |
			unix.SOF_TIMESTAMPING_OPT_ID | unix.SOF_TIMESTAMPING_OPT_TSONLY
		if err := unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TIMESTAMPING, flags); err != nil {
			t.Skip("no time stamps: ", err)
		}
	})
	for range 20 {
		_, err := conn.Write([]byte("x"))
		must(t, err)
		// The stamps must be there, or nothing was shown.
		control(t, conn, func(fd uintptr) {
			fds := []unix.PollFd{{Fd: int32(fd)}}
			if n, err := unix.Poll(fds, int(patience/time.Millisecond)); n != 1 || fds[0].Revents != unix.POLLERR {
				t.Fatalf("poll: %d, %v, %#x", n, err, fds[0].Revents)
			}
		})
	}
	w.silent()
	peer.CloseWrite()
	w.expect(id)
}

// Data do not even wake a goroutine: the kernel is not asked for them.
func TestDataWakesNobody(t *testing.T) {
	w := newWatcher(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	id := w.add(conn)
	text, _ := os.ReadFile(fmt.Sprintf("/proc/self/fdinfo/%d", w.epfd))
	for line := range strings.Lines(string(text)) {
		var fd, events, data uint64
		if n, _ := fmt.Sscanf(line, "tfd: %d events: %x data: %x", &fd, &events, &data); n == 3 && data == id {
			if asked := events &^ (unix.EPOLLERR | unix.EPOLLHUP); asked != unix.EPOLLRDHUP|unix.EPOLLET {
				t.Errorf("the kernel is asked for %#x", asked)
			}
			return
		}
	}
	t.Skipf("fdinfo does not tell: %q", text)
}

// The self-test sees whether the kernel tells of a FIN.
func TestSelfTest(t *testing.T) {
	if !tells(mask) {
		t.Error("epoll does not tell of a FIN")
	}
	if tells(mask &^ unix.EPOLLRDHUP) { // what a kernel makes of the mask that does not know the flag
		t.Error("epoll told of a FIN without being asked")
	}
}
