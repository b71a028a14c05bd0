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
func TestStructuresHaveTheSizesOfTheDriver(t *testing.T) {
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
func TestBaseIsAskedOfLayeredProviders(t *testing.T) {
	refused := errors.New("refused")
	// Each socket with what it answers.
	type answers map[windows.Handle]map[uint32]windows.Handle
	for name, c := range map[string]struct {
		sockets answers
		want    windows.Handle // 0 is an error
	}{
		"none":           {answers{1: {sioBaseHandle: 1}}, 1},
		"honest":         {answers{1: {sioBaseHandle: 9}}, 9},
		"intercepts":     {answers{1: {sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}}, 9},
		"select alone":   {answers{1: {sioBSPHandleSelect: 9}, 9: {sioBaseHandle: 9}}, 9},
		"handle alone":   {answers{1: {sioBSPHandle: 9}, 9: {sioBaseHandle: 9}}, 9},
		"answers itself": {answers{1: {sioBSPHandleSelect: 1, sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}}, 9},
		"two":            {answers{1: {sioBSPHandleSelect: 2}, 2: {sioBSPHandlePoll: 9}, 9: {sioBaseHandle: 9}}, 9},
		"nothing":        {answers{1: {}}, 0},
		"only itself":    {answers{1: {sioBSPHandleSelect: 1, sioBSPHandlePoll: 1, sioBSPHandle: 1}}, 0},
		"circle":         {answers{1: {sioBSPHandleSelect: 2}, 2: {sioBSPHandleSelect: 1}}, 0},
	} {
		got, err := base(1, func(socket windows.Handle, code uint32) (windows.Handle, error) {
			if h, ok := c.sockets[socket][code]; ok {
				return h, nil
			}
			return 0, refused
		})
		if c.want == 0 && err == nil || c.want != 0 && (got != c.want || err != nil) {
			t.Errorf("%s: %d, %v; want %d", name, got, err, c.want)
		}
	}
	asked := 0
	_, err := base(1, func(windows.Handle, uint32) (windows.Handle, error) { asked++; return 0, windows.WSAENOTSOCK })
	if err != windows.WSAENOTSOCK || asked != 1 {
		t.Errorf("no socket: %v, asked %d times", err, asked)
	}
}

// Whatever the driver writes into a Poll, it is an error, nothing, or the events that it
// counted.
func FuzzEvents(f *testing.F) {
	f.Add(int32(0), uint32(1), uint32(Disconnect), int32(0))
	f.Add(int32(0), uint32(1), uint32(Disconnect|Abort|LocalClose), int32(0))
	f.Add(int32(0), uint32(0), uint32(Abort), int32(0))
	f.Add(int32(-0x3ffffee0), uint32(1), uint32(Abort), int32(0)) // STATUS_CANCELLED
	f.Add(int32(windows.STATUS_PENDING), ^uint32(0), ^uint32(0), int32(-1))
	f.Fuzz(func(t *testing.T, request int32, count, events uint32, handle int32) {
		p := new(Poll)
		p.status.Status = windows.NTStatus(request)
		p.info.count, p.info.events, p.info.status = count, events, handle
		got, err := p.Events()
		switch {
		case request < 0 && (got != 0 || err == nil):
			t.Errorf("a request that failed with %#x: %#x, %v", request, got, err)
		case request >= 0 && err != nil:
			t.Errorf("a request that succeeded with %#x: %v", request, err)
		case request >= 0 && count == 0 && got != 0:
			t.Errorf("no socket has answered: %#x", got)
		case request >= 0 && count != 0 && got != events:
			t.Errorf("%#x instead of %#x", got, events)
		}
	})
}
