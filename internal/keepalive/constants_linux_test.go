package keepalive

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestNumbersAreThoseOfXSys(t *testing.T) {
	sameNumbers(t, unix.TCP_KEEPIDLE, unix.TCP_KEEPINTVL, unix.TCP_KEEPCNT, 0)
	if own.userTimeout != unix.TCP_USER_TIMEOUT || own.maxRTO != unix.TCP_RTO_MAX_MS {
		t.Errorf("%d, %d", own.userTimeout, own.maxRTO)
	}
}
