package keepalive

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNumbersAreThoseOfXSys(t *testing.T) {
	sameNumbers(t, unix.TCP_KEEPALIVE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, unix.TCP_RXT_CONNDROPTIME)
}
