//go:build !unix && !windows

package liveness

// identify finds nothing that could be looked at.
func identify(uintptr) (family, error) { return familyUnfit, errNoSocket }

func (*socket) lookAt(uintptr, hint) sight { return sight{} }

func (*socket) calmAt(uintptr) bool { return false }

func drainAt(uintptr, []byte) (int, error) { return 0, errNoSocket }

func lingerZeroAt(uintptr) {}
