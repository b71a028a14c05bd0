package tcpinfo

import (
	"errors"
	"net"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
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
	want := map[uint32]State{0: Closed, 1: NotEstablished, 2: NotEstablished, 3: Open, 4: Open, 5: Open, 6: Open, 7: CloseWait, 8: Finishing, 9: Finishing, 10: Finishing}
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
func TestConnectionTellsItsState(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	ask := func() (state State, info Info, err error) {
		require.NoError(t, raw.Control(func(fd uintptr) {
			if state, err = GetState(fd); err == nil {
				err = Get(fd, &info)
			}
		}))
		return state, info, err
	}
	expect := func(want State) {
		require.Eventually(t, func() bool {
			state, info, err := ask()
			require.NoError(t, err)
			return state == want && info.State == want
		}, 10*time.Second, time.Millisecond)
	}
	if wine() {
		state, info, err := ask()
		assert.ErrorIs(t, err, errors.ErrUnsupported)
		assert.ErrorIs(t, err, windows.WSAEOPNOTSUPP)
		assert.Equal(t, Info{State: state}, info)
		assert.Equal(t, Unknown, state)
	} else {
		expect(Open)
		peer.CloseWrite()
		expect(CloseWait)
	}
	for _, fd := range []uintptr{0, uintptr(windows.InvalidHandle)} {
		state, err := GetState(fd)
		assert.Error(t, err, fd)
		assert.Equal(t, Unknown, state, fd)
	}
}
