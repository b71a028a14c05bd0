package sock

import "golang.org/x/sys/unix"

const msgDontWait = unix.MSG_NONBLOCK // of that name on AIX
