//go:build unix && !linux && !aix

package livenesstest

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// dieWithParent covers what the end of its standard input does not: a stopped process cannot read that. But when the end of
// a parent leaves a process group with nobody to care for it, and one of the group is stopped, POSIX has them all sent SIGHUP
// and SIGCONT. So the process gets a group of its own.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// foreign would tell of a program that an emulator interprets, which other systems do not do.
func foreign(error) bool { return false }

// awaitStop waits until a child has stopped, and reports whether it has, or has died. In the latter case it also reaps it,
// since wait4 has no WNOWAIT; the wait that owns the child then fails, which is an end as well.
func awaitStop(pid int) bool {
	for {
		var status unix.WaitStatus
		_, err := unix.Wait4(pid, &status, unix.WUNTRACED, nil)
		if err != unix.EINTR {
			return err == nil && status.Stopped()
		}
	}
}
