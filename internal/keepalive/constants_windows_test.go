package keepalive

import (
	"net"
	"testing"
	"time"

	"golang.org/x/sys/windows"

	"github.com/go-liveness/liveness/livenesstest"
)

func TestNumbersAreThoseOfXSys(t *testing.T) {
	sameNumbers(t, windows.TCP_KEEPIDLE, windows.TCP_KEEPINTVL, windows.TCP_KEEPCNT, windows.TCP_MAXRT)
	if windowsBefore1709.dataLimit != own.dataLimit {
		t.Error(windowsBefore1709.dataLimit)
	}
}

// The call that stands for the options before version 1709 works on every Windows.
func TestKeepAliveVals(t *testing.T) {
	conn, _ := livenesstest.Pair(t, "tcp4")
	raw, _ := conn.(*net.TCPConn).SyscallConn()
	_ = raw.Control(func(fd uintptr) {
		tuning, err := windowsBefore1709.tune(access(fd), &Want{PeerTimeout: time.Minute})
		if on, _ := getOption(fd, switchOn); err != nil || on == 0 || tuning.Limits.Count != 10 {
			t.Errorf("%v, %d, %+v", err, on, tuning.Limits)
		}
	})
}
