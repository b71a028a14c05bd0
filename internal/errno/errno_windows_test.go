package errno

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"golang.org/x/sys/windows"
)

// Each errno of Winsock that ends a connection is a RST or a time-out.
func TestReasons(t *testing.T) {
	for errno, want := range map[syscall.Errno][2]bool{
		windows.WSAECONNRESET: {true, false}, windows.WSAENETRESET: {false, true}, windows.WSAECONNABORTED: {false, true},
		windows.WSAETIMEDOUT: {false, true}, windows.WSAEHOSTUNREACH: {false, true}, windows.WSAENETUNREACH: {false, true}, windows.WSAEHOSTDOWN: {false, true},
		windows.WSAENETDOWN: {false, true}, windows.WSAECONNREFUSED: {false, true}, windows.WSAEWOULDBLOCK: {}, windows.WSAESHUTDOWN: {},
	} {
		in := In(os.NewSyscallError("wsarecv", errno))
		if got := [2]bool{IsReset(in), IsLost(in)}; got != want || IsEnd(in) != (want[0] || want[1]) {
			t.Errorf("%v: %v; want %v", errno, got, want)
		}
		if !errors.Is(in, errno) {
			t.Errorf("%v is not matched by itself", errno)
		}
	}
	if !errors.Is(Reset, syscall.ECONNRESET) {
		t.Error("Reset is not matched by its portable name")
	}
}
