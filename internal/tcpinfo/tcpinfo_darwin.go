package tcpinfo

import (
	"time"

	"golang.org/x/sys/unix"
)

const option = unix.TCP_CONNECTION_INFO

// Get fills in the state and the round-trip time. The kernel does not tell when it
// heard from the peer, nor what is unacknowledged.
func Get(fd uintptr, info *Info) error {
	raw, err := unix.GetsockoptTCPConnectionInfo(int(fd), unix.IPPROTO_TCP, option)
	if err != nil {
		return err
	}
	*info = Info{State: bsdState(raw.State), Sent: -1, Received: -1, PeerWindow: -1, OurWindow: -1}
	info.RTT = time.Duration(raw.Srtt) * time.Millisecond
	return nil
}
