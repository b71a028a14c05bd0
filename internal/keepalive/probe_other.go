//go:build !linux

package keepalive

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

var errNotTold = fmt.Errorf("not told by %s: %w", runtime.GOOS, errors.ErrUnsupported)

// Send reports that no other system probes at a given moment.
func (*Probe) Send(uintptr, time.Duration, int) error { return errNotTold }

// Disarm does nothing.
func (*Probe) Disarm(uintptr, time.Duration) {}

// Restore does nothing.
func (*Probe) Restore(uintptr) {}

// SetMaxRTO does nothing: nothing is set that could have to be raised.
func SetMaxRTO(uintptr, time.Duration) {}
