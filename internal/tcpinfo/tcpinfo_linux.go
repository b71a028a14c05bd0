package tcpinfo

import (
	"encoding/binary"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Linux numbers the states in its own order (include/net/tcp_states.h).
var states = [...]State{
	1: Open, 3: Open, 4: Open, 5: Open, // ESTABLISHED, SYN_RECV, FIN_WAIT1, FIN_WAIT2
	8: CloseWait,
	6: Finishing, 9: Finishing, 11: Finishing, // TIME_WAIT, LAST_ACK, CLOSING
	7: Closed,
	2: NotEstablished, 10: NotEstablished, // SYN_SENT, LISTEN
	// A request socket that was accepted before its handshake was complete.
	12: Open,
}

func state(n uint8) State {
	if int(n) < len(states) {
		return states[n]
	}
	return Unknown
}

// GetState asks for the state alone: the first byte of struct tcp_info. The
// kernel copies as much as fits (do_tcp_getsockopt in net/ipv4/tcp.c).
func GetState(fd uintptr) (State, error) {
	var buf [8]uint8
	n, err := getsockopt(fd, unsafe.Pointer(&buf), uint32(len(buf)))
	if err != nil {
		return Unknown, err
	}
	s := headState(buf[:4], n)
	if s == Unknown {
		return Unknown, ErrShort
	}
	return s, nil
}

// headState finds the state in an answer of n bytes that begins with head. Linux has
// more to tell than an int, so four bytes are the answer of an emulator that takes
// every option of TCP for an int and turns it into the byte order of the program: the
// state, which comes first in the struct, is the low byte. Where the first byte is
// the high one, it is the count of unanswered probes, which looks like a state.
func headState(head []uint8, n uint32) State {
	switch {
	case n == 0:
		return Unknown
	case n == 4:
		return state(uint8(binary.NativeEndian.Uint32(head)))
	default:
		return state(head[0])
	}
}

// Get fills info. The length that comes back decides what it holds: an older kernel
// knows fewer fields, an emulator may know only the state.
func Get(fd uintptr, info *Info) error {
	var raw unix.TCPInfo
	n, err := getsockopt(fd, unsafe.Pointer(&raw), unix.SizeofTCPInfo)
	if err != nil {
		return err
	}
	err = fill(info, &raw, n)
	if info.Full && info.OurWindow < 0 {
		// Linux before 6.2.
		if used, limit, err := memory(fd); err == nil {
			info.OurWindow = estimatedWindow(used, limit, info.PeerMSS)
		}
	}
	return err
}

// memory returns how much memory the receive queue of fd takes, and how much it may
// take (sk_get_meminfo in net/core/sock.c, since Linux 4.12).
func memory(fd uintptr) (used, limit int64, err error) {
	var info [9]uint32 // SK_MEMINFO_RMEM_ALLOC, SK_MEMINFO_RCVBUF, ...
	size := uint32(unsafe.Sizeof(info))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, 0, errno
	}
	return memoryIn(&info, size)
}

func memoryIn(info *[9]uint32, size uint32) (used, limit int64, err error) {
	if size < 8 || int32(info[1]) <= 0 {
		return 0, 0, ErrShort
	}
	return int64(info[0]), int64(info[1]), nil
}

// estimatedWindow returns the window that the kernel announces of a receive queue that
// takes used of limit bytes of memory: none while less than a sixteenth of the limit
// is free, or, in its second half, less than a segment (__tcp_select_window in
// net/ipv4/tcp_output.c). By default it takes half of the memory for overhead
// (tcp_adv_win_scale).
func estimatedWindow(used, limit, mss int64) int64 {
	free := max(0, limit-used) / 2
	if full := limit / 2; free < full/2 && (free < full/16 || free < min(mss, full)) {
		return 0
	}
	return free
}

// fill takes over into info what the first n bytes of raw tell.
func fill(info *Info, raw *unix.TCPInfo, n uint32) error {
	head := (*[4]uint8)(unsafe.Pointer(raw))
	*info = Info{State: headState(head[:], n), Sent: -1, Received: -1, PeerWindow: -1, OurWindow: -1}
	if info.State == Unknown {
		return ErrShort
	}
	// Linux 2.6.12 already had the fields up to here, and every connection has a largest
	// segment. gVisor gives the whole struct, with next to nothing in it but the state.
	if n < uint32(unsafe.Offsetof(raw.Total_retrans)) || raw.Snd_mss == 0 {
		return nil
	}
	info.Full = true
	info.FINSent = raw.State == 4 || raw.State == 5 // FIN_WAIT1, FIN_WAIT2
	info.SinceData = time.Duration(raw.Last_data_recv) * time.Millisecond
	info.SinceAck = time.Duration(raw.Last_ack_recv) * time.Millisecond
	info.SinceSent = time.Duration(raw.Last_data_sent) * time.Millisecond
	info.RTT = time.Duration(raw.Rtt) * time.Microsecond
	info.RTO = time.Duration(raw.Rto) * time.Microsecond
	info.Recovering = raw.Ca_state != 0 || raw.Retrans != 0 // TCP_CA_Open
	info.Retransmits = int(raw.Retransmits)
	info.Probes = int(raw.Probes)
	info.Backoff = int(raw.Backoff)
	info.InFlight = int(raw.Unacked)
	info.Sacked = int(raw.Sacked)
	info.MSS = int64(raw.Snd_mss)
	info.PeerMSS = int64(raw.Rcv_mss)
	if n >= uint32(unsafe.Offsetof(raw.Bytes_received)) {
		info.Acked = int64(raw.Bytes_acked)
	}
	if n >= uint32(unsafe.Offsetof(raw.Segs_out)) {
		info.Received = int64(raw.Bytes_received)
	}
	if n >= uint32(unsafe.Offsetof(raw.Delivered_ce)) {
		info.Delivered = raw.Delivered
	}
	if n >= uint32(unsafe.Offsetof(raw.Notsent_bytes)) {
		info.Segments = raw.Segs_in
	}
	if n >= uint32(unsafe.Offsetof(raw.Min_rtt)) {
		info.Unsent = int64(raw.Notsent_bytes)
	}
	if n >= uint32(unsafe.Offsetof(raw.Dsack_dups)) {
		info.Sent = int64(raw.Bytes_sent - raw.Bytes_retrans)
	}
	if n >= uint32(unsafe.Offsetof(raw.Snd_wnd)+unsafe.Sizeof(raw.Snd_wnd)) {
		info.PeerWindow = int64(raw.Snd_wnd)
	}
	if n >= uint32(unsafe.Offsetof(raw.Rcv_wnd)+unsafe.Sizeof(raw.Rcv_wnd)) {
		info.OurWindow = int64(raw.Rcv_wnd)
	}
	return nil
}

// getsockopt returns the length that the kernel filled, which the functions of
// x/sys hide.
func getsockopt(fd uintptr, p unsafe.Pointer, size uint32) (uint32, error) {
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_INFO,
		uintptr(p), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return size, nil
}
