//go:build unix

package tcpinfo

import (
	"encoding/binary"
	"syscall"
)

// The BSDs number the states as 4.4BSD did (tcp_fsm.h).
var bsdStates = [...]State{
	0: Closed,
	1: NotEstablished, 2: NotEstablished, // LISTEN, SYN_SENT
	3: Open, 4: Open, 6: Open, 9: Open, // SYN_RECEIVED, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2
	5: CloseWait,
	7: Finishing, 8: Finishing, 10: Finishing, // CLOSING, LAST_ACK, TIME_WAIT
}

func bsdState(n uint8) State {
	if int(n) < len(bsdStates) {
		return bsdStates[n]
	}
	return Unknown
}

// stateIn returns the state in what a BSD answers to a request for TCP_INFO with room for
// an int only. That is the beginning of a structure whose first byte is the state: the
// kernels copy what there is room for (sooptcopyout in uipc_socket.c, sys_getsockopt of
// OpenBSD in uipc_syscalls.c).
//
// Of a connection that is over the kernel has forgotten what it knew, and whatever is
// asked of it fails, with ECONNRESET or EINVAL (tcp_ctloutput in tcp_usrreq.c), or
// ENOTCONN. That takes no error from the socket.
func stateIn(value int, err error) (State, error) {
	switch err {
	case nil:
	case syscall.ECONNRESET, syscall.EINVAL, syscall.ENOTCONN:
		return Closed, nil
	default: // such as that of a sandbox
		return Unknown, err
	}
	var bytes [4]byte
	binary.NativeEndian.PutUint32(bytes[:], uint32(value))
	if s := bsdState(bytes[0]); s != Unknown {
		return s, nil
	}
	return Unknown, ErrShort
}
