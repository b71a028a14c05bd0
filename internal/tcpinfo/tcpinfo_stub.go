//go:build !darwin && !freebsd && !linux && !openbsd && !windows

package tcpinfo

import (
	"errors"
	"fmt"
	"runtime"
)

var errUnsupported = fmt.Errorf("TCP_INFO: %w on %s", errors.ErrUnsupported, runtime.GOOS)

// GetState returns an error that wraps errors.ErrUnsupported.
func GetState(uintptr) (State, error) { return Unknown, errUnsupported }

// Get returns an error that wraps errors.ErrUnsupported.
func Get(uintptr, *Info) error { return errUnsupported }
