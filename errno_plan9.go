package liveness

import "syscall"

// Plan 9 has error strings and no errnos, so nothing can be told apart.
var errReset, errTimedOut error = syscall.NewError("connection reset"), syscall.NewError("connection timed out")

func isLost(error) bool      { return false }
func errnoIn(error) error    { return nil }
func noResources(error) bool { return false }
