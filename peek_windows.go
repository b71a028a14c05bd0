package liveness

import (
	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/internal/afd"
	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/sock"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

const (
	kernelCounts    = false
	streamsMayBeTCP = true
)

// identify takes TCP for a stream like others: only some versions tell the state of a
// connection, and the counters are not enough to go by.
func identify(fd uintptr) (family, error) {
	const soType = 0x1008 // x/sys does not name it
	switch kind, err := windows.GetsockoptInt(windows.Handle(fd), windows.SOL_SOCKET, soType); {
	case err != nil:
		return familyUnknown, errNoSocket
	case kind != windows.SOCK_STREAM:
		return familyUnknown, errNoStream
	default:
		return familyStream, nil
	}
}

func identifyStream(fd uintptr) (family, error) { return identify(fd) }

// checkAt asks the AFD driver what has happened so far: one call, which takes nothing
// and does not wait. A recv with MSG_PEEK would wait on an idle connection, because
// sockets of package net are in blocking mode, and Close would wait for it. A local
// CloseRead or CloseWrite does not show, and a FIN shows behind unread data.
func (s *socket) checkAt(fd uintptr, t trigger) observation {
	events, err := afd.Now(fd, afd.Disconnect|afd.Abort)
	fin := events&afd.Disconnect != 0
	switch {
	case err != nil:
		return observation{}
	case events&afd.Abort != 0:
		if fin {
			s.history.NoteFIN()
		}
		return s.causeOfEnd(fd, t.err, errno.Reset)
	case events&afd.ConnectFail != 0:
		// This is how Wine tells a time-out; a connection that was made has no other use.
		return s.causeOfEnd(fd, t.err, errno.TimedOut)
	case fin && errno.IsEnd(errno.In(t.err)):
		return s.causeOfEnd(fd, t.err, errno.Reset)
	case !fin:
		return observation{outcome: connected}
	}
	// Both sides may be done. The state of a connection can be had since Windows 10.
	state, _ := tcpinfo.GetState(fd)
	if s.history.WriteShut() || state == tcpinfo.Finishing || state == tcpinfo.Closed {
		return observation{outcome: bothFinished}
	}
	return observation{outcome: peerFinished}
}

func (s *socket) quickCheckAt(fd uintptr) bool {
	return s.checkAt(fd, trigger{}).outcome == connected
}

// causeOfEnd returns why a connection is over: by the errno that the application was
// given, or else the one that a Read would be given now, or else what is likely.
func (s *socket) causeOfEnd(fd uintptr, ioErr, likely error) observation {
	why := errno.In(ioErr)
	if !errno.IsEnd(why) || why == errno.Aborted {
		// A write to a connection that was reset fails with WSAECONNABORTED too.
		if now := readErrno(fd); errno.IsEnd(now) {
			why = now
		} else if why != errno.Aborted {
			why = likely
		}
	}
	return observation{outcome: aborted, fin: s.history.FINSeen(), errno: why}
}

// readErrno returns the errno that a Read would fail with. It is for a connection that
// the driver has shown to be over: from then on the errno stays, however often it is
// read.
func readErrno(fd uintptr) error {
	_, err := afd.Recv(fd, make([]byte, 1), windows.MSG_PEEK)
	return errno.In(err)
}

func (s *socket) sampleAt(fd uintptr, out *supervise.Sample) bool {
	out.Unread = sock.Unread(fd)
	if tcpinfo.Get(fd, &out.Info) == nil {
		out.Unacked = int(out.Info.Sent - out.Info.Acked)
	}
	return true
}

func (*socket) countsAt(uintptr) bool { return false }
