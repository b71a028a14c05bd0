package liveness

import (
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// kernelCounts says that Windows tells neither when something was last heard nor
// what is unanswered. So the stack's own timers judge, and silence is that of the
// Reads.
const kernelCounts = false

// streamsMayBeTCP: identify does not tell them apart.
const streamsMayBeTCP = true

// sampleAt takes the evidence for Status.
func (s *socket) sampleAt(fd uintptr, out *sample) bool {
	out.unread = s.unreadAt(fd)
	if tcpinfo.Get(fd, &out.info) == nil {
		out.unacked = int(out.info.Sent - out.info.Acked)
	}
	return true
}

// unreadAt counts the bytes received that nobody has read.
func (*socket) unreadAt(fd uintptr) int {
	var n, length uint32
	if windows.WSAIoctl(windows.Handle(fd), fionread, nil, 0, (*byte)(unsafe.Pointer(&n)), uint32(unsafe.Sizeof(n)),
		&length, nil, 0) != nil {
		return 0
	}
	return int(n)
}
