package liveness

import (
	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// identify finds out what fd is. TCP is a stream like others: the state of the
// connection is told by Windows only, and its counters are not enough to go by.
func identify(fd uintptr) (family, error) {
	switch kind, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soType); {
	case err != nil:
		return familyUnfit, errNoSocket
	case kind != windows.SOCK_STREAM:
		return familyUnfit, errNoStream
	default:
		return familyStream, nil
	}
}

// lookAt asks the driver what has happened so far: one call, which takes nothing
// and waits for nothing. A recv with MSG_PEEK would do both: sockets of package net
// are in blocking mode, so on an idle one it waits for data, and Close for it. Our
// own CloseRead and CloseWrite do not show, and a FIN shows behind unread data.
func (s *socket) lookAt(fd uintptr, h hint) sight {
	events, err := afd.Now(fd, afd.Disconnect|afd.Abort)
	fin := events&afd.Disconnect != 0
	switch {
	case err != nil:
		return sight{}
	case events&afd.Abort != 0:
		return s.autopsy(fd, fin, h.err, errno.Reset)
	case events&afd.ConnectFail != 0:
		// The word of Wine for a time-out; a connection that was made has no other.
		return s.autopsy(fd, false, h.err, errno.TimedOut)
	case fin && errno.IsEnd(errno.In(h.err)):
		return s.autopsy(fd, false, h.err, errno.Reset)
	case !fin:
		return sight{outcome: open}
	}
	// Both sides may be done. A state of the connection can be had since Windows 10.
	state, _ := tcpinfo.GetState(fd)
	if s.writeShut.Load() || state == tcpinfo.Finishing || state == tcpinfo.Closed {
		return sight{outcome: finished}
	}
	return sight{outcome: finSeen}
}

func (s *socket) calmAt(fd uintptr) bool { return s.lookAt(fd, hint{}).outcome == open }

// autopsy tells why a connection is over: by the errno that the application was
// given, or else the one that a Read would be given now, or else what is likely.
func (s *socket) autopsy(fd uintptr, fin bool, err, likely error) sight {
	why := errno.In(err)
	if !errno.IsEnd(why) || why == errno.Aborted {
		// A write to a connection that was reset fails with WSAECONNABORTED too.
		if now := readErrno(fd); errno.IsEnd(now) {
			why = now
		} else if why != errno.Aborted {
			why = likely
		}
	}
	return sight{outcome: aborted, fin: fin || s.finSeen.Load(), errno: why}
}

// readErrno returns the errno that a Read would fail with. It is for a connection
// that the driver has shown to be over: from then on the errno stays, however often
// it is read.
func readErrno(fd uintptr) error {
	_, err := afd.Recv(fd, make([]byte, 1), windows.MSG_PEEK)
	return errno.In(err)
}

// drainAt reads what was received, and does not wait for more.
func drainAt(fd uintptr, b []byte) (int, error) { return afd.Recv(fd, b, 0) }

func lingerZeroAt(fd uintptr) {
	_ = windows.SetsockoptLinger(windows.Handle(fd), windows.SOL_SOCKET, windows.SO_LINGER, &windows.Linger{Onoff: 1})
}

// What x/sys does not name.
const (
	soType   = 0x1008
	fionread = 0x4004667f
)
