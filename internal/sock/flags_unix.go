//go:build unix && !aix

package sock

import "syscall"

const msgDontWait = syscall.MSG_DONTWAIT
