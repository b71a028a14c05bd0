//go:build unix && !aix

package livenesstest

import (
	"os"
	"syscall"
)

// stop stops a child, and returns when it has stopped.
func stop(process *os.Process) error {
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	if !awaitStop(process.Pid) {
		return os.ErrProcessDone
	}
	return nil
}

// resume makes a stopped child go on. It can run when the system call returns.
func resume(process *os.Process) error {
	return process.Signal(syscall.SIGCONT)
}
