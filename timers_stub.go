//go:build !unix && !windows

package liveness

import (
	"errors"
	"fmt"
	"runtime"
	"time"
)

// kernelCounts says that nothing is asked of the kernel here but how a connection
// ended.
const kernelCounts = false

func (*socket) sampleAt(uintptr, *sample) bool { return false }

func (*socket) tune(_ uintptr, cfg *Config) error {
	field := ""
	switch {
	case cfg.PeerTimeout > 0:
		field = "PeerTimeout"
	case cfg.KeepAlive.Enable:
		field = "KeepAlive"
	case cfg.StallTimeout > 0:
		field = "StallTimeout"
	default:
		return nil
	}
	return badConfig(field, "%w", fmt.Errorf("not built on %s: %w", runtime.GOOS, errors.ErrUnsupported))
}

func (*socket) untune(uintptr) {}

func readLimits(uintptr) *limits { return new(limits) }

func (*probe) send(uintptr, *sample) error { return errNoSocket }

func (*probe) disarm(uintptr, *sample) {}

func (*probe) restore(uintptr) {}

// Nothing is set that could have to be raised.
func setMaxRTO(uintptr, time.Duration) {}
