//go:build aix || solaris

package sock

// EndBehind reports no end: these systems offer no way to look behind unread data.
func EndBehind(uintptr) (ended bool, errno error) { return false, nil }
