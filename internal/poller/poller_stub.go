//go:build !unix && !windows

package poller

import (
	"errors"
	"fmt"
	"runtime"
)

// A Poller cannot be made on this system.
type Poller struct{}

var errUnsupported = fmt.Errorf("watching sockets: %w on %s", errors.ErrUnsupported, runtime.GOOS)

// New returns an error that wraps errors.ErrUnsupported and names the system.
func New() (*Poller, error) { return nil, errUnsupported }

// Add returns the error of New.
func (*Poller) Add(uintptr, uint64) error { return errUnsupported }

// Replace returns the error of New.
func (*Poller) Replace(uintptr, uint64) error { return errUnsupported }

// Remove does nothing.
func (*Poller) Remove(uintptr, uint64) {}

// Wait returns the error of New.
func (*Poller) Wait() ([]Event, error) { return nil, errUnsupported }

// Close does nothing.
func (*Poller) Close() error { return nil }
