package tcpinfo

import (
	"encoding/binary"
	"errors"
	"net"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/livenesstest"
)

// answerOf is a kernel's answer with subflows of size bytes each.
func answerOf(count, size int, raw unix.TCPInfo) []byte {
	answer := make([]byte, subflowHeader, subflowHeader+count*size)
	for n, v := range []int{subflowHeader, count, size, size} {
		binary.NativeEndian.PutUint32(answer[4*n:], uint32(v))
	}
	for range count {
		answer = append(answer, unsafe.Slice((*byte)(unsafe.Pointer(&raw)), subflowSize)[:size]...)
	}
	return answer
}

// Each subflow's evidence is taken, however much of it a kernel knows.
func TestSubflowsIn(t *testing.T) {
	raw := unix.TCPInfo{State: 1, Snd_mss: 1460, Unacked: 3, Retransmits: 2, Rcv_wnd: 1000}
	for size, window := range map[int]int64{subflowSize: 1000, int(unsafe.Offsetof(raw.Rcv_wnd)): -1} {
		var infos [MaxSubflows]Info
		if n, err := subflowsIn(answerOf(2, size, raw), infos[:]); n != 2 || err != nil || infos[1].InFlight != 3 || infos[1].OurWindow != window {
			t.Errorf("%d bytes each: %d, %v, %+v", size, n, err, infos[1])
		}
	}
	var infos [1]Info
	if n, err := subflowsIn(answerOf(3, subflowSize, raw), infos[:]); n != 1 || err != nil {
		t.Errorf("room for one: %d, %v", n, err)
	}
	for _, short := range [][]byte{nil, make([]byte, 15)} {
		if n, err := subflowsIn(short, infos[:]); n != 0 || !errors.Is(err, ErrShort) {
			t.Errorf("%d bytes: %d, %v", len(short), n, err)
		}
	}
}

// No bytes of a foreign kernel make GetSubflows or Get fail otherwise than by an error.
func FuzzSubflows(f *testing.F) {
	f.Add(answerOf(2, subflowSize, unix.TCPInfo{State: 1, Snd_mss: 1460}))
	f.Add(make([]byte, subflowHeader))
	f.Fuzz(func(t *testing.T, answer []byte) {
		var infos [MaxSubflows]Info
		n, err := subflowsIn(answer, infos[:])
		if n < 0 || n > len(infos) || n == 0 && err == nil && len(answer) < subflowHeader {
			t.Errorf("%d, %v", n, err)
		}
		for _, i := range infos[:n] {
			if i.State == Unknown {
				t.Errorf("a subflow without a state")
			}
		}
		Combine(infos[:n], 1)
	})
}

// What a broken path still has in flight does not count once another one has brought it, and
// until that one is asked, too.
func TestCombineTellsWhatMPTCPHasAcknowledged(t *testing.T) {
	broken := Info{State: Open, Full: true, InFlight: 3, Retransmits: 2}
	for n, c := range []struct {
		other             Info
		unacked           int64
		allAcked, unasked bool
	}{
		{Info{State: Open, Full: true}, 100, false, false},
		{Info{State: Open, Full: true}, -1, false, false},
		{Info{State: Open, Full: true}, 0, true, true},
		{Info{State: Open, Full: true, Probes: 1}, 0, true, false},
		{Info{State: Closed, Full: true}, 0, true, false},
	} {
		all, live := Combine([]Info{broken, c.other}, c.unacked)
		if !live || all.AllAcked != c.allAcked || all.Unasked != c.unasked || all.InFlight != 3 {
			t.Errorf("%d: %+v, %v", n, all, live)
		}
	}
}

func FuzzInfo(f *testing.F) {
	f.Add([]byte{1}, uint32(1))
	f.Fuzz(func(t *testing.T, answer []byte, told uint32) {
		var raw unix.TCPInfo
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), subflowSize), answer)
		var info Info
		err := fill(&info, &raw, told)
		if (err != nil) != (info.State == Unknown) || info.Full && err != nil {
			t.Errorf("%+v, %v", info, err)
		}
	})
}

// A real MPTCP connection shows its subflow, and what waits in it when the peer does not
// read.
func TestSubflowsOfAConnection(t *testing.T) {
	conn, _ := livenesstest.Pair(t, "mptcp")
	var infos [MaxSubflows]Info
	subflows := func() (all Info, live bool) {
		var n int
		var err error
		control(t, conn, func(fd uintptr) { n, err = GetSubflows(fd, infos[:]) })
		if err == unix.EOPNOTSUPP || err == unix.ENOPROTOOPT {
			t.Skipf("MPTCP_TCPINFO is in Linux 5.16 and later: %v", err)
		}
		require.NoError(t, err)
		require.Positive(t, n)
		return Combine(infos[:n], 0)
	}
	if all, live := subflows(); !live || all.State != Open || all.Outstanding() || all.PeerWindow <= 0 || all.RTO <= 0 {
		t.Errorf("idle: %+v, %v", all, live)
	}
	writeAll(conn)
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		all, live := subflows()
		if live && all.Acked > 1000 && all.SinceAck < patience {
			break
		}
		require.False(t, time.Now().After(deadline), "the peer does not read: %+v, %v", all, live)
	}
	control(t, conn, func(fd uintptr) {
		n, err := GetSubflows(fd, nil)
		assert.NoError(t, err)
		assert.Zero(t, n)
	})
	_, err := GetSubflows(^uintptr(0), infos[:])
	assert.Error(t, err)
}

// The estimate for kernels before 6.2 is closed where this kernel's window is, and open where it is open, whatever is unread.
func TestEstimatedWindow(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	unread := 0
	compare := func() (window, estimated int64) {
		i := get(t, conn)
		used, limit := memoryOf(t, conn)
		return i.OurWindow, estimatedWindow(used, limit, i.PeerMSS)
	}
	for _, more := range []int{1, 999, 59_000} {
		peer.Write(make([]byte, more))
		unread += more
		waitFor(t, conn, "the bytes", func(i *Info) bool { return i.Received == int64(unread) })
		if window, estimated := compare(); window < 0 {
			t.Skip("tcpi_rcv_wnd is in Linux 6.2 and later")
		} else if estimated == 0 {
			t.Errorf("%d bytes unread: window %d, estimated 0", unread, window)
		}
	}
	writeAll(peer)
	if window, estimated := compare(); window > 1<<16 || estimated != 0 {
		t.Errorf("full: window %d, estimated %d", window, estimated)
	}
}

func memoryOf(t *testing.T, conn net.Conn) (used, limit int64) {
	t.Helper()
	control(t, conn, func(fd uintptr) {
		var err error
		used, limit, err = memory(fd)
		require.NoError(t, err)
	})
	return used, limit
}

// Tiny segments take memory far beyond their bytes; the estimate does not take them for a full buffer.
func TestEstimatedWindowOfTinySegments(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	for n := int64(1); n <= 2000; n++ {
		peer.Write([]byte("x"))
		if n%100 != 0 {
			continue
		}
		waitFor(t, conn, "the bytes", func(i *Info) bool { return i.Received == n })
		used, limit := memoryOf(t, conn)
		if used > limit*3/4 {
			break // a kernel that does not merge them fills the buffer indeed
		}
		if estimatedWindow(used, limit, 1) == 0 {
			t.Fatalf("%d segments of one byte: %d of %d, estimated 0", n, used, limit)
		}
	}
}
