//go:build !unix || aix

package livenesstest

import (
	"errors"
	"os"
	"syscall"
)

// dieWithParent has nothing to do: a process that is never stopped sees the end of its standard input.
func dieWithParent() *syscall.SysProcAttr { return nil }

// foreign is as on the other systems but Linux.
func foreign(error) bool { return false }

// stop would work on AIX, if x/sys had WUNTRACED for it.
func stop(*os.Process) error { return errors.ErrUnsupported }

func resume(*os.Process) error { return errors.ErrUnsupported }
