package afd

import (
	"io"
	"math"
	"os"
	"runtime"

	"golang.org/x/sys/windows"
)

// Recv is recv that does not wait, on a socket in whatever mode, and beside Reads
// that do: the request is made without the completion port of package net, and
// cancelled if it is not answered at once. Should data come in between, it ends with
// them. If there are none, the error is windows.ERROR_OPERATION_ABORTED; the end of
// the stream is io.EOF. b must not be empty.
func Recv(fd uintptr, b []byte, flags uint32) (int, error) {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return 0, os.NewSyscallError("CreateEvent", err)
	}
	defer windows.CloseHandle(event)
	// The lowest bit keeps the packet from the port (GetQueuedCompletionStatus).
	overlapped := &windows.Overlapped{HEvent: event | 1}
	var pinner runtime.Pinner
	defer pinner.Unpin()
	pinner.Pin(overlapped)
	pinner.Pin(&b[0])
	socket := windows.Handle(fd)
	buf := windows.WSABuf{Len: uint32(min(len(b), math.MaxInt32)), Buf: &b[0]}
	var n uint32
	err = windows.WSARecv(socket, &buf, 1, &n, &flags, overlapped, nil)
	if err == windows.ERROR_IO_PENDING {
		_ = windows.CancelIoEx(socket, overlapped) // unless it has been answered meanwhile
		if _, err := windows.WaitForSingleObject(event, windows.INFINITE); err != nil {
			return 0, os.NewSyscallError("WaitForSingleObject", err)
		}
		err = windows.WSAGetOverlappedResult(socket, overlapped, &n, false, &flags)
	}
	switch {
	case err != nil:
		return 0, os.NewSyscallError("WSARecv", err)
	case n == 0:
		return 0, io.EOF
	default:
		return int(n), nil
	}
}
