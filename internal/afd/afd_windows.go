package afd

import (
	"errors"
	"math"
	"os"
	"runtime"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"
)

// What a socket can be asked for, and what it answers.
const (
	Receive     = 0x001 // there is something to read
	Disconnect  = 0x008 // the peer's FIN is here; stays so
	Abort       = 0x010 // over, by RST or a time-out of the stack; stays so
	LocalClose  = 0x020 // the last local handle was closed; reported unasked
	ConnectFail = 0x100 // the connection could not be made; also Wine's word for a time-out
)

const ioctlPoll = 0x00012024

// A Poll is one request. While it is under way the driver keeps its address: it
// must be on the heap, and stay reachable, until its completion has arrived.
type Poll struct {
	// First, because it is where the completion port says that the packet is from.
	status windows.IO_STATUS_BLOCK

	info struct { // AFD_POLL_INFO with room for one handle
		timeout   int64 // in 100 ns; of all values, 0 and the maximum need no clock
		count     uint32
		exclusive uint32
		handle    windows.Handle
		events    uint32
		status    int32
	}
}

// Of is the Poll that a packet of a completion port belongs to.
func Of(packet *windows.Overlapped) *Poll { return (*Poll)(unsafe.Pointer(packet)) }

// Events returns what has happened, after the completion has arrived, or the error
// with which the request ended. The status comes first: a request that was
// cancelled or failed still shows the events that were asked for.
func (p *Poll) Events() (uint32, error) {
	if failed(p.status.Status) {
		return 0, p.status.Status
	}
	if p.info.count == 0 {
		return 0, nil
	}
	return p.info.events, nil
}

var (
	ntdll                 = windows.NewLazySystemDLL("ntdll.dll")
	ntDeviceIoControlFile = ntdll.NewProc("NtDeviceIoControlFile")
	ntCancelIoFileEx      = ntdll.NewProc("NtCancelIoFileEx")
)

// request sends p to the driver by way of the handle through.
func (p *Poll) request(through, event windows.Handle, context unsafe.Pointer, socket windows.Handle, events uint32, timeout int64) windows.NTStatus {
	p.status = windows.IO_STATUS_BLOCK{Status: windows.STATUS_PENDING}
	p.info.timeout, p.info.count, p.info.exclusive = timeout, 1, 0
	p.info.handle, p.info.events, p.info.status = socket, events, 0
	r, _, _ := syscall.SyscallN(ntDeviceIoControlFile.Addr(), uintptr(through), uintptr(event), 0, uintptr(context),
		uintptr(unsafe.Pointer(&p.status)), ioctlPoll,
		uintptr(unsafe.Pointer(&p.info)), unsafe.Sizeof(p.info), uintptr(unsafe.Pointer(&p.info)), unsafe.Sizeof(p.info))
	return windows.NTStatus(r)
}

// failed is the opposite of NT_SUCCESS.
func failed(s windows.NTStatus) bool { return int32(s) < 0 }

// A Device is a handle to the driver, through which sockets are polled.
type Device windows.Handle

// Open opens the driver. What is polled through the Device completes on port.
func Open(port windows.Handle) (Device, error) {
	// Whatever follows the name of the driver is the caller's choice.
	name, err := windows.NewNTUnicodeString(`\Device\Afd\Liveness`)
	if err != nil {
		return 0, err
	}
	attributes := &windows.OBJECT_ATTRIBUTES{ObjectName: name}
	attributes.Length = uint32(unsafe.Sizeof(*attributes))
	var device windows.Handle
	var status windows.IO_STATUS_BLOCK
	if err := windows.NtCreateFile(&device, windows.SYNCHRONIZE, attributes, &status, nil, 0,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, windows.FILE_OPEN, 0, 0, 0); err != nil {
		return 0, os.NewSyscallError("NtCreateFile", err)
	}
	if _, err := windows.CreateIoCompletionPort(device, port, 0, 0); err != nil {
		windows.CloseHandle(device)
		return 0, os.NewSyscallError("CreateIoCompletionPort", err)
	}
	// No thread waits on the handle itself.
	if err := windows.SetFileCompletionNotificationModes(device, windows.FILE_SKIP_SET_EVENT_ON_HANDLE); err != nil {
		windows.CloseHandle(device)
		return 0, os.NewSyscallError("SetFileCompletionNotificationModes", err)
	}
	return Device(device), nil
}

// Close closes the handle. It ends no request that was made through it.
func (d Device) Close() error { return windows.CloseHandle(windows.Handle(d)) }

// Start asks for the first of events on a socket, as [Base] returns it. Unless it
// fails, a packet comes to the port, however soon the answer is there.
func (p *Poll) Start(d Device, socket windows.Handle, events uint32) error {
	if status := p.request(windows.Handle(d), 0, unsafe.Pointer(p), socket, events, math.MaxInt64); failed(status) {
		return os.NewSyscallError("NtDeviceIoControlFile", status)
	}
	return nil
}

// Cancel hurries the completion. That there is nothing to cancel is no error: the
// packet is on its way already.
func (p *Poll) Cancel(d Device) {
	var status windows.IO_STATUS_BLOCK
	_, _, _ = syscall.SyscallN(ntCancelIoFileEx.Addr(), uintptr(d),
		uintptr(unsafe.Pointer(&p.status)), uintptr(unsafe.Pointer(&status)))
}

// A glance is a Poll without a port, and the event to wait on.
type glance struct {
	Poll
	event windows.Handle
}

var glances sync.Pool

// Now returns which of events have happened to the socket fd. It does not wait.
func Now(fd uintptr, events uint32) (uint32, error) {
	g, _ := glances.Get().(*glance)
	if g == nil {
		event, err := windows.CreateEvent(nil, 1, 0, nil)
		if err != nil {
			return 0, os.NewSyscallError("CreateEvent", err)
		}
		g = &glance{event: event}
		runtime.AddCleanup(g, func(event windows.Handle) { windows.CloseHandle(event) }, event)
	}
	defer glances.Put(g)
	// Through the socket itself: without a context, the completion port that it
	// belongs to is not told.
	socket := windows.Handle(fd)
	seen, err := g.now(socket, events)
	if err != nil {
		// Perhaps the handle is a layered provider's, which the driver does not know.
		base, berr := Base(fd)
		if berr != nil || base == socket {
			return 0, err
		}
		seen, err = g.now(base, events)
	}
	return seen, err
}

func (g *glance) now(socket windows.Handle, events uint32) (uint32, error) {
	status := g.request(socket, g.event, nil, socket, events, 0)
	if status == windows.STATUS_PENDING {
		// With no time to wait it never comes to that, but the driver has the say.
		if _, err := windows.WaitForSingleObject(g.event, windows.INFINITE); err != nil {
			return 0, os.NewSyscallError("WaitForSingleObject", err)
		}
	} else if failed(status) {
		return 0, os.NewSyscallError("NtDeviceIoControlFile", status)
	}
	return g.Events()
}

// The ways to ask a layered provider for what is beneath it.
const (
	sioBaseHandle      = 0x48000022
	sioBSPHandle       = 0x4800001b
	sioBSPHandleSelect = 0x4800001c
	sioBSPHandlePoll   = 0x4800001d
)

// Base returns the handle by which the driver knows the socket fd: fd itself
// unless a layered service provider is installed.
func Base(fd uintptr) (windows.Handle, error) { return base(windows.Handle(fd), ioctlHandle) }

func base(socket windows.Handle, ask func(windows.Handle, uint32) (windows.Handle, error)) (windows.Handle, error) {
	// Layer by layer: there may be several that do as is said below.
	for range 16 {
		base, err := ask(socket, sioBaseHandle)
		if err == nil {
			return base, nil
		}
		if errors.Is(err, windows.WSAENOTSOCK) {
			return 0, err
		}
		// No provider may answer for SIO_BASE_HANDLE itself, but some intercept it
		// and fail. The other three they do answer, with the next layer.
		beneath := socket
		for _, code := range []uint32{sioBSPHandleSelect, sioBSPHandlePoll, sioBSPHandle} {
			if h, err := ask(socket, code); err == nil && h != socket {
				beneath = h
				break
			}
		}
		if beneath == socket {
			return 0, err
		}
		socket = beneath
	}
	return 0, windows.WSAEINVAL
}

func ioctlHandle(socket windows.Handle, code uint32) (h windows.Handle, err error) {
	var n uint32
	err = windows.WSAIoctl(socket, code, nil, 0, (*byte)(unsafe.Pointer(&h)), uint32(unsafe.Sizeof(h)), &n, nil, 0)
	return h, os.NewSyscallError("WSAIoctl", err)
}
