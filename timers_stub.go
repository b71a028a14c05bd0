//go:build !linux

package liveness

import "errors"

// kernelCounts says that nothing is asked of the kernel here but how a connection
// ended.
const kernelCounts = false

func (*socket) sampleAt(uintptr, *sample) bool { return false }

func (*socket) tune(uintptr, *Config) error { return badConfig("PeerTimeout", "%w", errNoSocket) }

func (*socket) untune(uintptr) {}

func readLimits(uintptr) *limits { return new(limits) }

func readRetries2() (int, error) { return 0, errors.ErrUnsupported }

func (*probe) send(uintptr, *sample) error { return errNoSocket }

func (*probe) disarm(uintptr, *sample) {}

func (*probe) restore(uintptr) {}
