//go:build unix

package tcpinfo

import (
	"errors"
	"syscall"
	"testing"
	"unsafe"
)

// What a BSD kernel answers, and what it means.
func TestStateOfBSD(t *testing.T) {
	numbers := []State{Closed, NotEstablished, NotEstablished, Open, Open, CloseWait, Open, Finishing, Finishing, Open, Finishing, Unknown}
	for n, want := range numbers {
		// The bytes that follow the state are other fields.
		answer := [4]byte{byte(n), 0xff, 1, 0x80}
		got, err := stateIn(int(*(*int32)(unsafe.Pointer(&answer))), nil)
		if got != want || errors.Is(err, ErrShort) != (want == Unknown) {
			t.Errorf("state %d is %d, %v; want %d", n, got, err, want)
		}
	}
	for errno, want := range map[syscall.Errno]State{
		syscall.ECONNRESET: Closed, syscall.EINVAL: Closed, syscall.ENOTCONN: Closed,
		syscall.EBADF: Unknown, syscall.ENOTSOCK: Unknown, syscall.ENOPROTOOPT: Unknown, syscall.EOPNOTSUPP: Unknown,
		syscall.ENOSYS: Unknown, syscall.EPERM: Unknown,
	} {
		if got, err := stateIn(0, errno); got != want || (err == nil) != (want == Closed) {
			t.Errorf("%v means %d, %v; want %d", errno, got, err, want)
		}
	}
}
