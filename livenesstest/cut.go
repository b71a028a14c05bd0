package livenesstest

import (
	"errors"
	"fmt"
	"net"
	"sync"
)

// Cut cuts the cable: nothing that arrives at the ends given is seen there any more, no data, no acknowledgement, no FIN and
// no RST. If one end of a connection is cut, what it sends on its own still arrives at the other, and stays unanswered; if
// both are cut, nothing passes in either direction. Neither end learns of it. What was received before stays readable.
//
// mend undoes the cut. What was sent meanwhile arrives when its sender retransmits it, which may take as long again as the
// cut lasted. Calling mend again does nothing. An end that was closed while it was cut cannot be mended, which is no error:
// its kernel retransmits the FIN and hears no answer, until it gives up. The first mend mends an end that was cut twice.
//
// Each conn is a TCP connection, or covers one: a *Peer, a *tls.Conn, and whatever leads to a socket by methods NetConn or
// SyscallConn. If one of them cannot be cut, none is. Neither Cut nor mend blocks, not even while other goroutines wait in
// Read or Write. Multiple goroutines may call them simultaneously.
//
// Cut needs Linux, and no privileges: it has the socket refuse whatever does not arrive with the highest time to live
// (IP_MINTTL and IPV6_MINHOPCOUNT 255, and 0 after mend), which no host sends unless configured so. The error is
// errors.ErrUnsupported on other systems and emulators of this one that lack these options, on AF_UNIX, which has no cable, and
// on Multipath TCP, whose subflows are out of reach.
func Cut(conns ...net.Conn) (mend func() error, err error) {
	var cut []net.Conn
	undo := func() error {
		var errs []error
		for _, conn := range cut {
			if err := control(conn, mendSocket); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, fmt.Errorf("livenesstest: mend: %w", err))
			}
		}
		return errors.Join(errs...)
	}
	for _, conn := range conns {
		if err := control(conn, cutSocket); err != nil {
			return nil, errors.Join(fmt.Errorf("livenesstest: cut: %w", err), undo())
		}
		cut = append(cut, conn)
	}
	return sync.OnceValue(undo), nil
}
