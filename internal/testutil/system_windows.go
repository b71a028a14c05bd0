package testutil

import "golang.org/x/sys/windows"

// Notices says that this system reports an end by an event, also behind unread data.
const Notices = true

// KeepsUnread says that what was received before a reset can be read after it. Here a reset takes it along.
const KeepsUnread = false

// ErrnoReset is what this system calls a reset. The system is not asked: under Wine a Read after a reset returns io.EOF as
// often as not.
func ErrnoReset() error { return windows.WSAECONNRESET }

// Wine reports whether this is Windows as Wine has it. Wine shows no FIN behind unread data.
func Wine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}
