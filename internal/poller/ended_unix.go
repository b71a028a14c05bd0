//go:build unix

package poller

import (
	"os"
	"syscall"
)

// Ended makes a socket whose peer is gone, so that a Poller to which it is added has
// something to tell. It is one of an AF_UNIX pair, which nobody outside can see. The
// caller closes it.
func Ended() (*os.File, error) {
	syscall.ForkLock.RLock() // not every system makes sockets that are closed on exec
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(pair[0])
		syscall.CloseOnExec(pair[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	syscall.Close(pair[1])
	return os.NewFile(uintptr(pair[0]), "ended"), nil
}
