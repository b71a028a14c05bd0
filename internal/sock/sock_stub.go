//go:build !unix && !windows

package sock

import "errors"

// Drain is unsupported.
func Drain(uintptr, []byte) (int, error) { return 0, errors.ErrUnsupported }

// AbortOnClose does nothing.
func AbortOnClose(uintptr) {}

// Unread knows of none.
func Unread(uintptr) int { return 0 }
