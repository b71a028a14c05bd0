package keepalive

import (
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

func TestNumbersAreThoseOfXSys(t *testing.T) {
	if runtime.GOOS == "illumos" {
		sameNumbers(t, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, unix.TCP_ABORT_THRESHOLD)
	} else { // x/sys has the numbers of illumos for the first three
		sameNumbers(t, 0x1d, 0x1e, 0x1f, unix.TCP_ABORT_THRESHOLD)
	}
}
