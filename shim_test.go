//go:build unix || windows

package liveness

import "github.com/go-liveness/liveness/internal/errno"

// Only to run the old tests against the prototype.
var errReset, errTimedOut = errno.Reset, errno.TimedOut

func errnoIn(err error) error { return errno.In(err) }
func isLost(err error) bool   { return errno.IsLost(err) }
