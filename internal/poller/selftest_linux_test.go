package poller

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestSelfTest(t *testing.T) {
	if !tells(mask) {
		t.Error("epoll does not tell of a FIN")
	}
	// What a kernel makes of the mask that does not know the flag.
	if tells(mask &^ unix.EPOLLRDHUP) {
		t.Error("epoll told of a FIN without being asked")
	}
}
