package link

import (
	"bytes"
	"errors"
	"flag"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
)

// insideVariable is set in a process that Require has started.
const insideVariable = "LIVENESS_LINK_INSIDE"

// Require reports whether the test, a top-level one, can make links in this process.
// Where it may not, Require runs the test again in a process with a user namespace of
// its own, shows the result as that of this test, and returns false. It skips the test,
// with the reason, if that does not help either.
func Require(t *testing.T) bool {
	t.Helper()
	l, err := New(Options{})
	if err == nil {
		l.Close()
		return true
	}
	if os.Getenv(insideVariable) != "" || !errors.Is(err, os.ErrPermission) {
		t.Skip(err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	cmd := exec.CommandContext(t.Context(), executable, "-test.run=^"+t.Name()+"$", "-test.v")
	flag.Visit(func(f *flag.Flag) {
		if slices.Contains([]string{"test.timeout", "test.parallel", "test.short"}, f.Name) {
			cmd.Args = append(cmd.Args, "-"+f.Name+"="+f.Value.String())
		}
	})
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	switch {
	case err != nil && cmd.ProcessState == nil:
		t.Skipf("no user namespace: %v", err)
	case err != nil:
		t.Errorf("in a user namespace: %v\n%s", err, out)
	case bytes.Contains(out, []byte("--- SKIP: "+t.Name()+" ")):
		t.Skipf("in a user namespace:\n%s", out)
	case !bytes.Contains(out, []byte("--- PASS: "+t.Name()+" ")):
		t.Errorf("in a user namespace: the test did not run:\n%s", out)
	default:
		t.Logf("in a user namespace:\n%s", out)
	}
	return false
}
