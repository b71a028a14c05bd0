//go:build unix && !linux

package liveness

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// kernelCounts says that these systems do not tell both when something was last heard
// and what is unanswered. So their own timers judge, and silence is that of the Reads.
// Nor does the send buffer tell whether anything was taken: it is as full as before as
// soon as a Write that waits has filled it up again.
const kernelCounts = false

const streamsMayBeTCP = false

// sampleAt takes the evidence for Status.
func (s *socket) sampleAt(fd uintptr, out *sample) bool {
	out.unread = s.unreadAt(fd)
	if s.family == familyTCP {
		out.unacked = keepalive.SendQueue(fd)
		_ = tcpinfo.Get(fd, &out.info) // not everywhere
	}
	return true
}

// unreadAt counts the bytes received that nobody has read.
func (*socket) unreadAt(fd uintptr) int {
	const fionread = 0x4004667f // _IOR('f', 127, int), which x/sys does not name
	n, err := unix.IoctlGetInt(int(fd), fionread)
	if err != nil {
		return 0
	}
	return int(*(*int32)(unsafe.Pointer(&n)))
}
