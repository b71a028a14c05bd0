package afd

import (
	"errors"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"
)

// What cannot be seen from outside. The other tests have to be there: they want
// connections, and who makes them uses this package.

// The driver takes AFD_POLL_INFO for one handle by its size, which is not that of
// its C structure everywhere.
func TestSizes(t *testing.T) {
	var p Poll
	want := uintptr(16 + 16) // AFD_POLL_HANDLE_INFO behind the rest
	if unsafe.Sizeof(uintptr(0)) == 4 {
		want = 16 + 12
	}
	if got := unsafe.Sizeof(p.info); got != want {
		t.Errorf("AFD_POLL_INFO has %d bytes; want %d", got, want)
	}
	if got, want := unsafe.Sizeof(p.status), 2*unsafe.Sizeof(uintptr(0)); got != want {
		t.Errorf("IO_STATUS_BLOCK has %d bytes; want %d", got, want)
	}
	if unsafe.Offsetof(p.status) != 0 || Of((*windows.Overlapped)(unsafe.Pointer(&p))) != &p {
		t.Error("a packet does not lead to its Poll")
	}
}

// A layered provider's socket has its base asked of it, in the way that it answers.
func TestBase(t *testing.T) {
	refused := errors.New("refused")
	// Each socket with what it answers.
	for name, sockets := range map[string]map[windows.Handle]map[uint32]windows.Handle{
		"none":           {1: {sioBaseHandle: 1}},
		"honest":         {1: {sioBaseHandle: 9}},
		"intercepts":     {1: {sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}},
		"select alone":   {1: {sioBSPHandleSelect: 9}, 9: {sioBaseHandle: 9}},
		"handle alone":   {1: {sioBSPHandle: 9}, 9: {sioBaseHandle: 9}},
		"answers itself": {1: {sioBSPHandleSelect: 1, sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}},
		"two":            {1: {sioBSPHandleSelect: 2}, 2: {sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}},
		"nothing":        {1: {}},
		"only itself":    {1: {sioBSPHandleSelect: 1, sioBSPHandlePoll: 1, sioBSPHandle: 1}},
		"circle":         {1: {sioBSPHandleSelect: 2}, 2: {sioBSPHandleSelect: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := base(1, func(socket windows.Handle, code uint32) (windows.Handle, error) {
				if h, ok := sockets[socket][code]; ok {
					return h, nil
				}
				return 0, refused
			})
			want := windows.Handle(9)
			switch name {
			case "none":
				want = 1
			case "nothing", "only itself", "circle":
				if err == nil {
					t.Errorf("%d", got)
				}
				return
			}
			if got != want || err != nil {
				t.Errorf("%d, %v; want %d", got, err, want)
			}
		})
	}
	t.Run("no socket", func(t *testing.T) {
		asked := 0
		_, err := base(1, func(windows.Handle, uint32) (windows.Handle, error) { asked++; return 0, windows.WSAENOTSOCK })
		if err != windows.WSAENOTSOCK || asked != 1 {
			t.Errorf("%v, asked %d times", err, asked)
		}
	})
}
