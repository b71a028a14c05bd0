//go:build !linux

package liveness

import (
	"runtime"
	"testing"
)

// NeedsMemoryOfFIN skips a test in which the only look comes when a FIN and something
// behind it have both arrived.
func NeedsMemoryOfFIN(t *testing.T) {
	t.Helper()
	if !RemembersFIN() {
		t.Skipf("of a FIN and a reset %s shows the reset alone", runtime.GOOS)
	}
}

// RemembersFIN: AFD tells of a reset what it would tell without the FIN before it, and
// whether a Read then meets the one or the other is a matter of luck.
func RemembersFIN() bool { return runtime.GOOS != "windows" }

// NeedsTCPInfo is as on Linux: nothing is counted elsewhere, and the tests know.
func NeedsTCPInfo(*testing.T) {}
