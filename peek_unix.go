//go:build unix

package liveness

import (
	"io"
	"syscall"

	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// sightOf is what a state other than CLOSE tells by itself.
func sightOf(state tcpinfo.State) sight {
	switch state {
	case tcpinfo.CloseWait:
		return sight{outcome: finSeen}
	case tcpinfo.Finishing:
		return sight{outcome: finished}
	default:
		return sight{outcome: open}
	}
}

// deferToIO leaves the verdict to other Reads and Writes that are under way, if
// there are any: one of them may have taken the errno, and be about to bring it. They
// do not wait, now that the socket is hung up.
func (s *socket) deferToIO(h hint) bool {
	var own int32
	if h.err != nil {
		own = 1
	}
	if h.late || s.inIO.Load() <= own {
		return false
	}
	s.deferred.Store(true)
	// The last of them may have looked for deferred before it was set.
	return s.inIO.Load() > own || !s.deferred.Swap(false)
}

// ended tells how a connection ended whose end can be read, or whose state is that
// there is none any more: gone. errno is what the socket has of it, if it has. What
// cannot be told apart here is told by what is known from before.
func (s *socket) ended(h hint, why error, gone bool) sight {
	if taken := errno.In(h.err); why == nil && (taken == errno.Reset || errno.IsLost(taken)) {
		why = taken
	}
	if why != nil {
		kept := why // a variable of its own: its address is all that allocates
		s.stolen.CompareAndSwap(nil, &kept)
	}
	fin := s.finSeen.Load()
	switch stolen := s.stolen.Load(); {
	case stolen != nil:
		return sight{outcome: aborted, fin: fin, errno: *stolen}
	case !gone && s.readShut.Load():
		return sight{outcome: open} // it is our own shutdown that was seen
	case !gone && !s.writeShut.Load():
		return sight{outcome: finSeen}
	case s.writeShut.Load() || s.family == familyStream:
		return sight{outcome: finished}
	case !(gone && h.err == io.EOF) && s.deferToIO(h):
		// That end of file has to be an errno at once, or it would read as complete.
		return sight{outcome: open}
	default:
		// We have sent no FIN, so it was not by two of them. Somebody took the errno.
		return sight{outcome: aborted, fin: fin, errno: errno.Reset}
	}
}

// peek asks for the next byte to read and leaves it in place, without waiting. Zero
// bytes are the orderly close. Some systems give the socket's error away with it.
func peek(fd uintptr) (n int, err error) {
	var buf [1]byte
	n, _, err = syscall.Recvfrom(int(fd), buf[:], syscall.MSG_PEEK|msgDontWait)
	if err != nil {
		n = -1 // on s390x it is 0
	}
	return n, err
}

// drainAt reads from a descriptor of package net, which is non-blocking, without
// waiting.
func drainAt(fd uintptr, b []byte) (int, error) {
	n, _, err := syscall.Recvfrom(int(fd), b, msgDontWait)
	switch {
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	default:
		return n, nil
	}
}

func lingerZeroAt(fd uintptr) {
	_ = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
}
