package tcpinfo

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

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
	if err != nil {
		t.Fatal(err)
	}
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
	if err != nil {
		t.Fatal(err)
	}
	if err := raw.Control(f); err != nil {
		t.Fatal(err)
	}
}

func get(t *testing.T, conn net.Conn) (info Info) {
	t.Helper()
	control(t, conn, func(fd uintptr) {
		if err := Get(fd, &info); err != nil {
			t.Fatalf("Get: %v", err)
		}
	})
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
func TestStates(t *testing.T) {
	t.Parallel()
	for _, network := range []string{"tcp4", "tcp6"} {
		t.Run(network, func(t *testing.T) {
			t.Run("the peer first", func(t *testing.T) {
				conn, peer := livenesstest.Pair(t, network)
				expectState(t, conn, Open)
				peer.CloseWrite()
				expectState(t, conn, CloseWait)
				mend := cut(t, peer) // or our FIN were acknowledged at once
				conn.(*net.TCPConn).CloseWrite()
				expectState(t, conn, Finishing) // LAST-ACK
				mend()
				expectState(t, conn, Closed)
			})
			t.Run("we first", func(t *testing.T) {
				conn, peer := livenesstest.Pair(t, network)
				conn.(*net.TCPConn).CloseRead()
				expectState(t, conn, Open) // nothing that the network sees
				mend := cut(t, peer)
				conn.(*net.TCPConn).CloseWrite()
				expectState(t, conn, Open) // FIN-WAIT-1
				mend()
				expectState(t, conn, Open) // FIN-WAIT-2
				peer.CloseWrite()
				expectState(t, conn, Closed) // TIME-WAIT no longer belongs to the socket
			})
			t.Run("both at once", func(t *testing.T) {
				conn, peer := livenesstest.Pair(t, network)
				mend := cut(t, peer)
				conn.(*net.TCPConn).CloseWrite()
				peer.CloseWrite()
				expectState(t, conn, Finishing) // CLOSING
				mend()
				expectState(t, conn, Closed)
			})
			t.Run("reset", func(t *testing.T) {
				conn, peer := livenesstest.Pair(t, network)
				peer.Reset()
				expectState(t, conn, Closed)
			})
			t.Run("reset behind a FIN and data", func(t *testing.T) {
				conn, peer := livenesstest.Pair(t, network)
				peer.Write([]byte("x"))
				peer.CloseWrite()
				expectState(t, conn, CloseWait)
				peer.Reset()
				expectState(t, conn, Closed)
			})
		})
	}
}

// Every state that Linux knows is known, and none that it does not.
func TestStateNumbers(t *testing.T) {
	want := map[uint8]State{
		1:  Open,           // ESTABLISHED
		2:  NotEstablished, // SYN_SENT
		3:  Open,           // SYN_RECV
		4:  Open,           // FIN_WAIT1
		5:  Open,           // FIN_WAIT2
		6:  Finishing,      // TIME_WAIT
		7:  Closed,         // CLOSE
		8:  CloseWait,      // CLOSE_WAIT
		9:  Finishing,      // LAST_ACK
		10: NotEstablished, // LISTEN
		11: Finishing,      // CLOSING
		12: Open,           // NEW_SYN_RECV
	}
	for n := range 256 {
		if got := state(uint8(n)); got != want[uint8(n)] {
			t.Errorf("state %d: %v; want %v", n, got, want[uint8(n)])
		}
	}
}

// The counters move when, and as, what they count happens.
func TestCounters(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	before := get(t, conn)
	if !before.Full {
		t.Fatal("the kernel told nothing but the state")
	}
	if before.Outstanding() || before.Retransmits != 0 || before.Probes != 0 || before.Backoff != 0 {
		t.Errorf("at the beginning: %+v", before)
	}

	const n = 10_000
	if _, err := conn.Write(make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(peer, make([]byte, n)); err != nil {
		t.Fatal(err)
	}
	after := waitFor(t, conn, "acknowledged", func(info *Info) bool { return !info.Outstanding() })
	if got := after.Acked - before.Acked; got != n {
		t.Errorf("%d bytes acknowledged; want %d", got, n)
	}
	if after.RTT <= 0 || after.RTT > patience || after.RTO < after.RTT {
		t.Errorf("RTT %v, RTO %v", after.RTT, after.RTO)
	}
	if after.PeerWindow <= 0 || after.OurWindow <= 0 {
		t.Errorf("windows: peer %d, ours %d", after.PeerWindow, after.OurWindow)
	}
}

// The ages tell the two directions apart, and grow while nothing comes.
func TestAges(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	start := time.Now()
	older := waitFor(t, conn, "silence", func(info *Info) bool { return info.Silence() >= 50*time.Millisecond })
	if elapsed := time.Since(start) + time.Second; older.SinceData > elapsed || older.SinceAck > elapsed {
		t.Errorf("silent for longer than it exists: %+v", older)
	}

	if _, err := peer.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	data := waitFor(t, conn, "data", func(info *Info) bool { return info.SinceData < older.SinceData })
	if data.Silence() != data.SinceData {
		t.Errorf("data came, and Silence is %v: %+v", data.Silence(), data)
	}

	// An acknowledgement brings no data, and is a sign of life.
	waitFor(t, conn, "silence", func(info *Info) bool { return info.Silence() >= 50*time.Millisecond })
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	ack := waitFor(t, conn, "acknowledgement", func(info *Info) bool { return info.SinceAck < 50*time.Millisecond })
	if ack.SinceData < 50*time.Millisecond || ack.Silence() != ack.SinceAck {
		t.Errorf("an acknowledgement came: %+v", ack)
	}
}

// Data that cannot arrive are in flight, and retransmitted.
func TestRetransmits(t *testing.T) {
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

// A peer that takes nothing closes its window, and what was written waits unsent.
func TestClosedWindow(t *testing.T) {
	t.Parallel()
	needsCounters(t)
	conn, peer := livenesstest.Pair(t, "tcp4")
	sent := 0
	for data := make([]byte, 1<<20); ; {
		conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		n, err := conn.Write(data)
		sent += n
		if n == 0 && sent > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	stalled := waitFor(t, conn, "a closed window", func(info *Info) bool { return info.PeerWindow == 0 && info.Unsent > 0 })
	if acked := stalled.Acked; acked <= 0 || acked+stalled.Unsent > int64(sent)+1 {
		t.Errorf("wrote %d: %+v", sent, stalled)
	}
	if theirs := get(t, peer.NetConn()); theirs.OurWindow > 1<<16 { // what is left is less than a segment of loopback
		t.Errorf("the other side of a closed window: %+v", theirs)
	}
	if _, err := io.CopyN(io.Discard, peer, int64(sent)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, conn, "an open window", func(info *Info) bool { return info.PeerWindow > 0 && !info.Outstanding() })
}

// The kernel fills as much as it is given room for, and says how much that was.
func TestShortBuffers(t *testing.T) {
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
func TestOthers(t *testing.T) {
	check := func(name string, fd uintptr) {
		info := Info{State: Open}
		if err := Get(fd, &info); err == nil {
			t.Errorf("%s: %+v", name, info)
		}
		if state, err := GetState(fd); err == nil || state != Unknown {
			t.Errorf("%s: %v, %v", name, state, err)
		}
	}
	conn, _ := livenesstest.Pair(t, "unix")
	control(t, conn, func(fd uintptr) { check("AF_UNIX", fd) })
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	raw, err := packets.(*net.UDPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { check("UDP", fd) })
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	check("a pipe", r.Fd())
	check("no descriptor", ^uintptr(0))
}

// An answer of four bytes is an int, whatever the byte order; any other is a struct.
func TestIntAnswers(t *testing.T) {
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
func TestZeros(t *testing.T) {
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
