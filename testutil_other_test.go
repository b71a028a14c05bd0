//go:build !linux

package liveness

import "testing"

// NeedsMemoryOfFIN is as on Linux. What other systems remember, the tests say themselves.
func NeedsMemoryOfFIN(*testing.T) {}

// RemembersFIN is as on Linux.
func RemembersFIN() bool { return true }

// NeedsTCPInfo is as on Linux: nothing is counted elsewhere, and the tests know.
func NeedsTCPInfo(*testing.T) {}
