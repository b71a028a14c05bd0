//go:build unix

package liveness

import (
	"io"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

func identify(fd uintptr) (family, error) {
	switch kind, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_TYPE); {
	case err != nil:
		return familyUnknown, errNoSocket
	case kind != unix.SOCK_STREAM:
		return familyUnknown, errNoStream
	}
	return identifyStream(fd)
}

// observationOf is what a TCP state other than CLOSE tells by itself.
func observationOf(state tcpinfo.State) observation {
	switch state {
	case tcpinfo.CloseWait:
		return observation{outcome: peerFinished}
	case tcpinfo.Finishing:
		return observation{outcome: bothFinished}
	default:
		return observation{outcome: connected}
	}
}

// endsConnection reports whether err ends a connection other than in order.
func endsConnection(err error) bool { return err == errno.Reset || errno.IsLost(err) }

// ended returns how a connection ended whose end a read found. With gone set, the
// kernel has no connection any more. why is the errno that the socket had; nil if it
// had none. What cannot be told apart here follows from the history.
func (s *socket) ended(t trigger, why error, gone bool) observation {
	if ioErr := errno.In(t.err); why == nil && endsConnection(ioErr) {
		why = ioErr
	}
	if why != nil {
		s.history.KeepErrno(why)
	}
	h := &s.history
	fin := h.FINSeen()
	switch taken := s.history.KeptErrno(); {
	case taken != nil:
		return observation{outcome: aborted, fin: fin, errno: taken}
	case !gone && h.ReadShut():
		return observation{outcome: connected} // the local shutdown is all that the read found
	case !gone && !h.WriteShut():
		return observation{outcome: peerFinished}
	case h.WriteShut() || s.family == familyStream:
		return observation{outcome: bothFinished}
	case !(gone && t.err == io.EOF) && s.deferToIO(t):
		// A Read's end of file must become an errno at once, or it would read as complete.
		return observation{outcome: connected}
	default:
		// No local FIN was sent, so two FINs did not end it. Something took the errno.
		return observation{outcome: aborted, fin: fin, errno: errno.Reset}
	}
}
