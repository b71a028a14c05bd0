package tcpinfo

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	solMPTCP     = 284
	mptcpTCPInfo = 2

	// MaxSubflows is how many subflows GetSubflows asks for. Linux allows eight.
	MaxSubflows = 8

	subflowHeader = 16 // struct mptcp_subflow_data of linux/mptcp.h
	subflowSize   = int(unsafe.Sizeof(unix.TCPInfo{}))
)

// GetSubflows fills infos with the evidence of each subflow of an MPTCP connection and
// returns how many it filled. It fails where the kernel is older than 5.16, and on a
// connection that fell back to TCP before that.
func GetSubflows(fd uintptr, infos []Info) (n int, err error) {
	var buf [subflowHeader + MaxSubflows*subflowSize]byte
	binary.NativeEndian.PutUint32(buf[0:], subflowHeader)
	binary.NativeEndian.PutUint32(buf[12:], uint32(subflowSize))
	size := uint32(len(buf))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, solMPTCP, mptcpTCPInfo,
		uintptr(unsafe.Pointer(&buf)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return 0, errno
	}
	return subflowsIn(buf[:min(int(size), len(buf))], infos)
}

// subflowsIn takes over into infos what an answer tells: the header with the number of
// subflows and the size that each has in the answer, and then one struct tcp_info for
// each (mptcp_getsockopt_tcpinfo in net/mptcp/sockopt.c).
func subflowsIn(answer []byte, infos []Info) (n int, err error) {
	if len(answer) < subflowHeader {
		return 0, ErrShort
	}
	header := int64(binary.NativeEndian.Uint32(answer[0:]))
	count := int64(binary.NativeEndian.Uint32(answer[4:]))
	kernel := int64(binary.NativeEndian.Uint32(answer[8:]))
	user := int64(binary.NativeEndian.Uint32(answer[12:]))
	if header < subflowHeader || header > int64(len(answer)) || count > 0 && user < 1 {
		return 0, ErrShort
	}
	rest := answer[header:]
	for int64(n) < count && n < len(infos) && user <= int64(len(rest)) {
		var raw unix.TCPInfo
		told := copy(unsafe.Slice((*byte)(unsafe.Pointer(&raw)), subflowSize), rest[:min(user, kernel)])
		if err := fill(&infos[n], &raw, uint32(told)); err != nil {
			return n, err
		}
		rest = rest[user:]
		n++
	}
	return n, nil
}
