//go:build !unix && !windows

package keepalive

import (
	"errors"
	"runtime"
)

// Tune returns an error that wraps errors.ErrUnsupported.
func Tune(_ uintptr, _ bool, cfg *Want) (*Tuning, error) {
	return nil, bad(cfg.field(), "not built on %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Undo does nothing.
func (*Tuning) Undo(uintptr) {}

// Read finds nothing.
func Read(uintptr) *Limits { return new(Limits) }
