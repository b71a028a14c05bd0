//go:build aix || dragonfly || freebsd || linux || netbsd

package keepalive

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNumbersAreThoseOfXSys(t *testing.T) {
	sameNumbers(t, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, 0)
}
