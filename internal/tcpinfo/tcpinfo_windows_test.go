package tcpinfo

import (
	"errors"
	"net"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/livenesstest"
)

// wine reports whether this is Wine, which does not have SIO_TCP_INFO.
func wine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// The structure is TCP_INFO_v0 of mstcpip.h, on 32 bits too.
func TestLayout(t *testing.T) {
	var raw tcpInfoV0
	for name, offset := range map[string][2]uintptr{
		"the end":          {unsafe.Sizeof(raw), 88},
		"ConnectionTimeMs": {unsafe.Offsetof(raw.ConnectionTimeMs), 8},
		"RttUs":            {unsafe.Offsetof(raw.RttUs), 20},
		"BytesInFlight":    {unsafe.Offsetof(raw.BytesInFlight), 28},
		"RcvBuf":           {unsafe.Offsetof(raw.RcvBuf), 44},
		"BytesOut":         {unsafe.Offsetof(raw.BytesOut), 48},
		"BytesReordered":   {unsafe.Offsetof(raw.BytesReordered), 64},
		"SynRetrans":       {unsafe.Offsetof(raw.SynRetrans), 84},
	} {
		if offset[0] != offset[1] {
			t.Errorf("%s is at %d; want %d", name, offset[0], offset[1])
		}
	}
}

// The states are TCPSTATE of mstcpip.h.
func TestStateNumbers(t *testing.T) {
	want := map[uint32]State{
		0:  Closed,         // CLOSED
		1:  NotEstablished, // LISTEN
		2:  NotEstablished, // SYN_SENT
		3:  Open,           // SYN_RCVD
		4:  Open,           // ESTABLISHED
		5:  Open,           // FIN_WAIT_1
		6:  Open,           // FIN_WAIT_2
		7:  CloseWait,      // CLOSE_WAIT
		8:  Finishing,      // CLOSING
		9:  Finishing,      // LAST_ACK
		10: Finishing,      // TIME_WAIT
	}
	for n := range uint32(100) {
		if got := state(n); got != want[n] {
			t.Errorf("state %d: %v; want %v", n, got, want[n])
		}
	}
}

func TestFill(t *testing.T) {
	raw := tcpInfoV0{State: 4, Mss: 1460, RttUs: 1500, BytesInFlight: 2921, SndWnd: 5, RcvWnd: 6, BytesOut: 10_000}
	var got Info
	raw.fill(&got)
	want := Info{State: Open, RTT: 1500 * time.Microsecond, InFlight: 3, Sent: 10_000, Acked: 7079, PeerWindow: 5, OurWindow: 6, PeerMSS: 1460}
	if got != want {
		t.Errorf("%+v; want %+v", got, want)
	}
	raw = tcpInfoV0{State: 7} // nothing in flight, and no size of segments
	if raw.fill(&got); got != (Info{State: CloseWait}) {
		t.Errorf("%+v", got)
	}
}

// A connection tells its state where Windows has the question, and everything else
// is an error that leaves no state.
func TestAsk(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ask := func() (state State, info Info, err error) {
		cerr := raw.Control(func(fd uintptr) {
			if state, err = GetState(fd); err == nil {
				err = Get(fd, &info)
			}
		})
		if cerr != nil {
			t.Fatal(cerr)
		}
		return state, info, err
	}
	if wine() {
		state, info, err := ask()
		if !errors.Is(err, errors.ErrUnsupported) || !errors.Is(err, windows.WSAEOPNOTSUPP) || state != Unknown || info != (Info{}) {
			t.Errorf("%v, %+v, %v", state, info, err)
		}
	} else {
		expect := func(want State) {
			t.Helper()
			for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
				state, info, err := ask()
				if err != nil {
					t.Fatal(err)
				}
				if state == want && info.State == want {
					return
				}
				if time.Now().After(deadline) {
					t.Fatalf("%v, %+v; want %v", state, info, want)
				}
			}
		}
		expect(Open)
		peer.CloseWrite()
		expect(CloseWait)
	}

	packets, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err == nil { // Wine cannot
		defer packets.Close()
		raw, err := packets.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		raw.Control(func(fd uintptr) {
			if state, err := GetState(fd); state != Unknown || err == nil {
				t.Errorf("UDP: %v, %v", state, err)
			}
		})
	}
	for _, fd := range []uintptr{0, uintptr(windows.InvalidHandle)} {
		if state, err := GetState(fd); state != Unknown || err == nil {
			t.Errorf("%#x: %v, %v", fd, state, err)
		}
	}
}
