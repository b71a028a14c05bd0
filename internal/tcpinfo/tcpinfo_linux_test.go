package tcpinfo

import (
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

// needsCounters skips a test where TCP_INFO is an int, as under an emulator: it has room
// for the state and no more.
func needsCounters(t *testing.T) {
	t.Helper()
	conn, _ := livenesstest.Pair(t, "tcp4")
	var n uint32
	control(t, conn, func(fd uintptr) {
		var raw unix.TCPInfo
		n, _ = getsockopt(fd, unsafe.Pointer(&raw), unix.SizeofTCPInfo)
	})
	if n == 4 {
		t.Skip("TCP_INFO is an int on this system")
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

// The counters move when, and as, what they count happens.
func TestCountersCount(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	before := get(t, conn)
	require.True(t, before.Full)
	assert.Zero(t, before.Retransmits+before.Probes+before.Backoff+before.InFlight+int(before.Unsent))
	const n = 10_000
	_, err := conn.Write(make([]byte, n))
	require.NoError(t, err)
	_, err = io.ReadFull(peer, make([]byte, n))
	require.NoError(t, err)
	after := waitFor(t, conn, "acknowledged", func(info *Info) bool { return !info.Outstanding() })
	assert.EqualValues(t, n, after.Acked-before.Acked)
	if after.RTT <= 0 || after.RTT > patience || after.RTO < after.RTT || after.PeerWindow <= 0 || after.OurWindow <= 0 {
		t.Errorf("%+v", after)
	}
}

// The ages tell the two directions apart, and grow while nothing comes.
func TestAgesTellTheDirections(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	const silence = 50 * time.Millisecond
	start := time.Now()
	silent := func(info *Info) bool { return info.Silence() >= silence }
	older := waitFor(t, conn, "silence", silent)
	assert.LessOrEqual(t, max(older.SinceData, older.SinceAck), time.Since(start)+time.Second, "longer than it exists")

	peer.Write([]byte("x"))
	data := waitFor(t, conn, "data", func(info *Info) bool { return info.SinceData < older.SinceData })
	assert.Equal(t, data.SinceData, data.Silence())

	// An acknowledgement brings no data, and is a sign of life.
	waitFor(t, conn, "silence", silent)
	conn.Write([]byte("x"))
	ack := waitFor(t, conn, "acknowledgement", func(info *Info) bool { return info.SinceAck < silence })
	assert.GreaterOrEqual(t, ack.SinceData, silence)
	assert.Equal(t, ack.SinceAck, ack.Silence())
}

// Data that cannot arrive are in flight, and retransmitted.
func TestCutDataAreRetransmitted(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	mend := cut(t, peer)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	waitFor(t, conn, "two retransmissions", func(info *Info) bool {
		return info.InFlight == 1 && info.Outstanding() && info.Retransmits >= 2 && info.Backoff >= 2
	})
	mend()
	waitFor(t, conn, "an answer", func(info *Info) bool {
		return !info.Outstanding() && info.Retransmits == 0 && info.Backoff == 0
	})
}

// writeAll writes until nothing is taken any more.
func writeAll(conn net.Conn) (sent int64) {
	for {
		conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Write(make([]byte, 1<<20))
		if sent += int64(n); err != nil && n == 0 && sent > 0 {
			return sent // nothing was taken for all that time
		}
	}
}

// A peer that takes nothing closes its window, and what was written waits unsent.
func TestPeerThatDoesNotReadClosesTheWindow(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	sent := writeAll(conn)
	stalled := waitFor(t, conn, "a closed window", func(info *Info) bool { return info.PeerWindow == 0 && info.Unsent > 0 })
	if acked := stalled.Acked; acked <= 0 || acked+stalled.Unsent > sent+1 {
		t.Errorf("wrote %d: %+v", sent, stalled)
	}
	if theirs := get(t, peer.NetConn()); theirs.OurWindow > 1<<16 { // what is left is less than a segment of loopback
		t.Errorf("the other side of a closed window: %+v", theirs)
	}
	_, err := io.CopyN(io.Discard, peer, sent)
	require.NoError(t, err)
	waitFor(t, conn, "an open window", func(info *Info) bool { return info.PeerWindow > 0 && !info.Outstanding() })
}

// The kernel fills as much as it is given room for, and says how much that was.
func TestKernelFillsNoMoreThanTheRoom(t *testing.T) {
	needsCounters(t)
	conn, _ := livenesstest.Pair(t, "tcp4")
	control(t, conn, func(fd uintptr) {
		for _, size := range []uint32{0, 1, 8, uint32(unsafe.Offsetof(unix.TCPInfo{}.Total_retrans)), unix.SizeofTCPInfo} {
			var buf [unix.SizeofTCPInfo + 8]byte
			for i := range buf {
				buf[i] = 0xa5
			}
			n, err := getsockopt(fd, unsafe.Pointer(&buf), size)
			if err != nil || n > size || n < min(size, 8) {
				t.Errorf("room for %d: %d, %v", size, n, err)
			}
			for i := int(n); i < len(buf); i++ {
				if buf[i] != 0xa5 {
					t.Errorf("room for %d, told %d, and byte %d was written", size, n, i)
					break
				}
			}
			if n > 0 && state(buf[0]) != Open {
				t.Errorf("room for %d: state %d", size, buf[0])
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

// An answer of four bytes is an int, whatever the byte order; any other is a struct.
func TestAnswerOfFourBytesIsAnInt(t *testing.T) {
	answer := make([]byte, 4)
	binary.NativeEndian.PutUint32(answer, 8|7<<24) // CLOSE_WAIT, and 7 probes
	if got := headState(answer, 4); got != CloseWait {
		t.Errorf("an int: %v; want %v", got, CloseWait)
	}
	for _, n := range []uint32{1, 8, unix.SizeofTCPInfo} {
		if got := headState([]byte{8, 0, 0, 7}, n); got != CloseWait {
			t.Errorf("%d bytes: %v; want %v", n, got, CloseWait)
		}
	}
	if got := headState([]byte{8, 0, 0, 0}, 0); got != Unknown {
		t.Errorf("nothing: %v", got)
	}
}

// What poses as Linux may give the whole struct with nothing in it.
func TestStructOfZerosIsNotFull(t *testing.T) {
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
