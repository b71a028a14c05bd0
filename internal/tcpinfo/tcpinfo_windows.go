package tcpinfo

import (
	"errors"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// sioTCPInfo is there since Windows 10 version 1703. Wine does not have it.
const sioTCPInfo = 0xd8000027

// tcpInfoV0 is TCP_INFO_v0 of mstcpip.h.
type tcpInfoV0 struct {
	State             uint32
	Mss               uint32
	ConnectionTimeMs  uint64
	TimestampsEnabled uint8
	RttUs             uint32
	MinRttUs          uint32
	BytesInFlight     uint32
	Cwnd              uint32
	SndWnd            uint32
	RcvWnd            uint32
	RcvBuf            uint32
	BytesOut          uint64
	BytesIn           uint64
	BytesReordered    uint32
	BytesRetrans      uint32
	FastRetrans       uint32
	DupAcksIn         uint32
	TimeoutEpisodes   uint32
	SynRetrans        uint8
}

// Windows numbers the states in its own order (TCPSTATE of mstcpip.h).
var states = [...]State{
	0: Closed,
	1: NotEstablished, 2: NotEstablished, // LISTEN, SYN_SENT
	3: Open, 4: Open, 5: Open, 6: Open, // SYN_RCVD, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2
	7: CloseWait,
	8: Finishing, 9: Finishing, 10: Finishing, // CLOSING, LAST_ACK, TIME_WAIT
}

func state(n uint32) State {
	if n < uint32(len(states)) {
		return states[n]
	}
	return Unknown
}

// GetState asks for the state.
func GetState(fd uintptr) (State, error) {
	var raw tcpInfoV0
	if err := ask(fd, &raw); err != nil {
		return Unknown, err
	}
	return state(raw.State), nil
}

// Get fills info as far as Windows tells: it has no ages, and counts nothing that
// is unanswered.
func Get(fd uintptr, info *Info) error {
	var raw tcpInfoV0
	if err := ask(fd, &raw); err != nil {
		return err
	}
	raw.fill(info)
	return nil
}

func (raw *tcpInfoV0) fill(info *Info) {
	*info = Info{
		State:      state(raw.State),
		RTT:        time.Duration(raw.RttUs) * time.Microsecond,
		InFlight:   int((raw.BytesInFlight + max(raw.Mss, 1) - 1) / max(raw.Mss, 1)),
		Sent:       int64(raw.BytesOut),
		Acked:      int64(raw.BytesOut) - int64(raw.BytesInFlight),
		Received:   int64(raw.BytesIn),
		PeerWindow: int64(raw.SndWnd),
		OurWindow:  int64(raw.RcvWnd),
		PeerMSS:    int64(raw.Mss),
	}
}

func ask(fd uintptr, raw *tcpInfoV0) error {
	var version, n uint32
	err := windows.WSAIoctl(windows.Handle(fd), sioTCPInfo, (*byte)(unsafe.Pointer(&version)), uint32(unsafe.Sizeof(version)),
		(*byte)(unsafe.Pointer(raw)), uint32(unsafe.Sizeof(*raw)), &n, nil, 0)
	switch {
	case errors.Is(err, windows.WSAEOPNOTSUPP):
		return fmt.Errorf("SIO_TCP_INFO: %w on this windows: %w", errors.ErrUnsupported, err)
	case err != nil:
		return os.NewSyscallError("WSAIoctl", err)
	case n < uint32(unsafe.Sizeof(*raw)) || state(raw.State) == Unknown:
		return ErrShort
	default:
		return nil
	}
}
