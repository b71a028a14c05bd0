//go:build !unix && !windows

package liveness

import "github.com/go-liveness/liveness/internal/supervise"

const (
	kernelCounts    = false
	streamsMayBeTCP = false
)

// identify finds nothing that could be checked.
func identify(uintptr) (family, error) { return familyUnknown, errNoSocket }

func identifyStream(uintptr) (family, error) { return familyUnknown, errNoSocket }

func (*socket) checkAt(uintptr, trigger) observation { return observation{} }

func (*socket) quickCheckAt(uintptr) bool { return false }

func (*socket) sampleAt(uintptr, *supervise.Sample) bool { return false }

func (*socket) countsAt(uintptr) bool { return false }
