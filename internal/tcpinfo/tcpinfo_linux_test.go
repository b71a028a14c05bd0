package tcpinfo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/livenesstest"
)

const patience = 10 * time.Second

// cut pulls the cable, where that can be done.
func cut(t *testing.T, peer net.Conn) (mend func() error) {
	t.Helper()
	mend, err := livenesstest.Cut(peer)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	require.NoError(t, err)
	return mend
}

// needsCounters skips a test where TCP_INFO tells the state and no more, as under an emulator.
func needsCounters(t *testing.T) {
	t.Helper()
	if !Told() {
		t.Skip("TCP_INFO has no more than the state here")
	}
}

// control runs f with the descriptor of conn held open.
func control(t *testing.T, conn net.Conn, f func(fd uintptr)) {
	t.Helper()
	raw, err := conn.(syscall.Conn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(f))
}

func get(t *testing.T, conn net.Conn) (info Info) {
	t.Helper()
	control(t, conn, func(fd uintptr) { require.NoError(t, Get(fd, &info)) })
	return info
}

// waitFor asks until the kernel tells what is wanted: what a peer does arrives
// when it does.
func waitFor(t *testing.T, conn net.Conn, what string, ok func(*Info) bool) Info {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		info := get(t, conn)
		if ok(&info) {
			return info
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %+v", what, info)
		}
	}
}

// expectState waits for a state, and compares the two ways to ask for it.
func expectState(t *testing.T, conn net.Conn, want State) {
	t.Helper()
	waitFor(t, conn, "state", func(info *Info) bool { return info.State == want })
	control(t, conn, func(fd uintptr) {
		if state, err := GetState(fd); state != want || err != nil {
			t.Errorf("GetState: %v, %v; want %v", state, err, want)
		}
	})
}

// The states in the order in which a connection passes through them, whoever ends
// it, however.
func TestStatesFollowTheConnection(t *testing.T) {
	t.Parallel()
	for name, steps := range map[string]string{
		"the peer first":     "Open peerFIN CloseWait cut ownFIN Finishing mend Closed",    // LAST-ACK
		"this side first":    "Open ownShut Open cut ownFIN Open mend Open peerFIN Closed", // FIN-WAIT-1 and -2; TIME-WAIT is not the socket's
		"both at once":       "cut ownFIN peerFIN Finishing mend Closed",                   // CLOSING
		"reset":              "Open reset Closed",
		"reset behind a FIN": "data peerFIN CloseWait reset Closed",
	} {
		for _, network := range []string{"tcp4", "tcp6"} {
			t.Run(name+","+network, func(t *testing.T) {
				conn, peer := livenesstest.Pair(t, network)
				own := conn.(*net.TCPConn)
				var mend func() error
				for step := range strings.FieldsSeq(steps) {
					switch step {
					case "peerFIN":
						peer.CloseWrite()
					case "ownFIN":
						own.CloseWrite()
					case "ownShut":
						own.CloseRead() // nothing that the network sees
					case "data":
						peer.Write([]byte("x"))
					case "reset":
						peer.Reset()
					case "cut":
						mend = cut(t, peer) // or a FIN were acknowledged at once
					case "mend":
						mend()
					default:
						expectState(t, conn, map[string]State{"Open": Open, "CloseWait": CloseWait, "Finishing": Finishing, "Closed": Closed}[step])
					}
				}
			})
		}
	}
}

// Every state that Linux knows is known, and none that it does not.
func TestStateNumbers(t *testing.T) {
	want := []State{
		unix.BPF_TCP_ESTABLISHED: Open, unix.BPF_TCP_SYN_SENT: NotEstablished, unix.BPF_TCP_SYN_RECV: Open, unix.BPF_TCP_FIN_WAIT1: Open,
		unix.BPF_TCP_FIN_WAIT2: Open, unix.BPF_TCP_TIME_WAIT: Finishing, unix.BPF_TCP_CLOSE: Closed, unix.BPF_TCP_CLOSE_WAIT: CloseWait,
		unix.BPF_TCP_LAST_ACK: Finishing, unix.BPF_TCP_LISTEN: NotEstablished, unix.BPF_TCP_CLOSING: Finishing, unix.BPF_TCP_NEW_SYN_RECV: Open,
		255: Unknown,
	}
	for n, want := range want {
		assert.Equal(t, want, state(uint8(n)), n)
	}
}

// The counters and the ages move when, and as, what they count happens.
func TestCountersFollowTheConnection(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	const silence = 50 * time.Millisecond
	const n = 10_000
	start, first, sent := time.Now(), get(t, conn), int64(0)
	acted := start
	since := func(age time.Duration) bool { return age <= time.Since(acted)+silence/2 } // or it is of the silence before
	require.True(t, first.Full)
	var mend func() error
	write := func(from net.Conn, n int) { _, err := from.Write(make([]byte, n)); require.NoError(t, err) }
	for _, step := range []struct {
		what string
		act  func()
		ok   func(i *Info) bool
	}{
		{"nothing outstanding", func() {}, func(i *Info) bool {
			return i.Retransmits+i.Probes+i.Backoff+i.InFlight+int(i.Unsent) == 0 && !i.Outstanding()
		}},
		{"a silence, not longer than it exists", func() {}, func(i *Info) bool {
			return i.Silence() >= silence && max(i.SinceData, i.SinceAck) <= time.Since(start)+time.Second
		}},
		{"data", func() { write(peer, 1) }, func(i *Info) bool { return since(i.SinceData) && i.Silence() == i.SinceData }},
		{"another silence", func() {}, func(i *Info) bool { return i.Silence() >= silence }},
		{"an acknowledgement, which is a sign of life and no data", func() { write(conn, n) }, func(i *Info) bool {
			return since(i.SinceAck) && !since(i.SinceData) && i.Silence() == i.SinceAck
		}},
		{"all of it acknowledged", func() { _, _ = io.ReadFull(peer, make([]byte, n)) }, func(i *Info) bool {
			return !i.Outstanding() && i.Acked-first.Acked == n && i.RTT > 0 && i.RTT <= patience && i.RTO >= i.RTT && i.OurWindow > 0
		}},
		{"a closed window, and the rest unsent", func() { sent = writeAll(conn) }, func(i *Info) bool {
			return i.PeerWindow == 0 && i.Unsent > 0 && i.Acked > n && i.Acked+i.Unsent <= n+sent+1
		}},
		{"the other side of it", func() { // what is left is less than a segment of loopback
			assert.LessOrEqual(t, get(t, peer.NetConn()).OurWindow, int64(1<<16))
		}, func(*Info) bool { return true }},
		{"an open window", func() { _, _ = io.CopyN(io.Discard, peer, sent) }, func(i *Info) bool {
			return i.PeerWindow > 0 && !i.Outstanding()
		}},
		{"two retransmissions", func() { mend = cut(t, peer); write(conn, 1) }, func(i *Info) bool {
			return i.InFlight == 1 && i.Outstanding() && i.Retransmits >= 2 && i.Backoff >= 2
		}},
		{"an answer", func() { _ = mend() }, func(i *Info) bool { return !i.Outstanding() && i.Retransmits == 0 && i.Backoff == 0 }},
	} {
		acted = time.Now()
		step.act()
		waitFor(t, conn, step.what, step.ok)
	}
}

// writeAll writes until nothing is taken any more.
func writeAll(conn net.Conn) (sent int64) {
	defer conn.SetWriteDeadline(time.Time{})
	for {
		conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Write(make([]byte, 1<<20))
		if sent += int64(n); err != nil && n == 0 && sent > 0 {
			return sent // nothing was taken for all that time
		}
	}
}

// The kernel fills as much as it is given room for, and says how much that was.
func TestKernelFillsNoMoreThanTheRoom(t *testing.T) {
	needsCounters(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	control(t, conn, func(fd uintptr) {
		for _, size := range []uint32{0, 1, 8, uint32(unsafe.Offsetof(unix.TCPInfo{}.Total_retrans)), unix.SizeofTCPInfo} {
			var buf [unix.SizeofTCPInfo + 8]byte
			n, err := getsockopt(fd, unsafe.Pointer(&buf), size)
			if err != nil || n > size || n < min(size, 8) || n > 0 && state(buf[0]) != Open || !bytes.Equal(buf[n:], make([]byte, len(buf)-int(n))) {
				t.Errorf("room for %d: told %d, %v: %x", size, n, err, buf)
			}
		}
	})
}

// What is no TCP connection is an error, and no state.
func TestOtherDescriptorsAreErrors(t *testing.T) {
	check := func(name string, fd uintptr) {
		info := Info{State: Open}
		state, err := GetState(fd)
		assert.Error(t, Get(fd, &info), name)
		assert.Error(t, err, name)
		assert.Equal(t, Unknown, state, name)
	}
	conn, _ := livenesstest.Pair(t, "unix")
	control(t, conn, func(fd uintptr) { check("AF_UNIX", fd) })
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer packets.Close()
	control(t, packets.(*net.UDPConn), func(fd uintptr) { check("UDP", fd) })
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	check("a pipe", r.Fd())
	check("no descriptor", ^uintptr(0))
}

// An answer of four bytes is an int, whatever the byte order; any other is a struct. What poses as Linux may give the whole
// struct with nothing in it.
func TestAnswersOfWhatPosesAsLinux(t *testing.T) {
	integer := binary.NativeEndian.AppendUint32(nil, 8|7<<24) // CLOSE_WAIT, and 7 probes
	structure := []byte{8, 0, 0, 7}
	for _, c := range []struct {
		answer []byte
		n      uint32
		want   State
	}{
		{integer, 4, CloseWait},
		{structure, 0, Unknown}, {structure, 1, CloseWait}, {structure, 8, CloseWait}, {structure, unix.SizeofTCPInfo, CloseWait},
	} {
		assert.Equal(t, c.want, headState(c.answer, c.n), "%d bytes", c.n)
	}
	for name, c := range map[string]struct {
		raw  unix.TCPInfo
		full bool
	}{
		"a connection": {unix.TCPInfo{State: 1, Rto: 200000, Snd_mss: 536}, true},
		"gVisor":       {unix.TCPInfo{State: 1, Rto: 200000, Snd_cwnd: 10}, false},
	} {
		var info Info
		if err := fill(&info, &c.raw, unix.SizeofTCPInfo); err != nil || info.State != Open || info.Full != c.full {
			t.Errorf("%s: %+v, %v", name, info, err)
		}
	}
}
