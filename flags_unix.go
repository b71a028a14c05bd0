//go:build unix && !aix

package liveness

import "syscall"

const msgDontWait = syscall.MSG_DONTWAIT
