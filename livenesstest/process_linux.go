package livenesstest

import (
	"errors"
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent covers what the end of its standard input does not: a stopped process cannot read that.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// foreign reports whether a process could not be started because this program is of a kind that the kernel cannot run: an
// emulator interprets it, and is not told of the processes that it starts.
func foreign(err error) bool { return errors.Is(err, syscall.ENOEXEC) }

// awaitStop waits until all threads of a child have stopped (/proc/pid/stat tells of the first one only), and reports whether
// they have, or the child has died. WNOWAIT leaves it to be reaped by the wait that owns it.
func awaitStop(pid int) bool {
	const stopped = 5 // CLD_STOPPED
	for {
		var info unix.Siginfo
		err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			return err == nil && info.Code == stopped
		}
	}
}
