package poller

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// Ends are the addresses of a connection, to tell it from the next one that has its
// handle. Connections without addresses are alike.
type ends struct{ local, peer name }

type name [unsafe.Sizeof(windows.RawSockaddrInet6{})]byte

var (
	ws2_32      = windows.NewLazySystemDLL("ws2_32.dll")
	getsockname = ws2_32.NewProc("getsockname")
	getpeername = ws2_32.NewProc("getpeername")
)

func endsOf(fd uintptr) (e ends) {
	e.local.ask(getsockname, fd)
	e.peer.ask(getpeername, fd)
	return e
}

func (n *name) ask(proc *windows.LazyProc, fd uintptr) {
	length := int32(len(n))
	if r, _, _ := syscall.SyscallN(proc.Addr(), fd, uintptr(unsafe.Pointer(n)), uintptr(unsafe.Pointer(&length))); r != 0 {
		*n = name{}
	}
}

// differ reports whether e and other are surely of two connections. One that has
// ended may have lost the address of its peer.
func (e *ends) differ(other *ends) bool {
	return e.local != other.local || e.peer != name{} && other.peer != name{} && e.peer != other.peer
}
