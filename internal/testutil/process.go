package testutil

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// aloneVariable names the test that runs in a process of its own.
const aloneVariable = "LIVENESS_TEST_ALONE"

// RunsAlone reports whether this is the process of one test; see Alone.
func RunsAlone() bool { return os.Getenv(aloneVariable) != "" }

// Alone runs the calling test again in a process of its own, so that nothing of other tests is taken for what it looks at,
// and a crash or a deadlock is a failure of this test only. It reports true in that process. The process is started by the
// command in, if there is one.
func Alone(t *testing.T, in ...string) bool {
	t.Helper()
	Deadline(t)
	if os.Getenv(aloneVariable) == t.Name() {
		return true
	}
	if err := processes(); err != nil {
		t.Skip("no process can be started: ", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testDeadline*3/4)
	defer cancel()
	executable, err := os.Executable()
	Must(t, err)
	args := append(in, executable, "-test.run=^"+strings.ReplaceAll(t.Name(), "/", "$/^")+"$", "-test.v", fmt.Sprintf("-test.short=%t", testing.Short()))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = append(os.Environ(), aloneVariable+"="+t.Name())
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	switch skipped := bytes.Contains(out, []byte("--- SKIP: "+t.Name())); {
	case skipped && err == nil:
		t.Skipf("%s", out)
	case err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())):
		t.Errorf("%v\n%s", err, out[:min(len(out), 8<<10)])
	}
	return false
}

// processes reports whether this program can be started again. An emulator may not be able to, and a sandbox may forbid it.
var processes = sync.OnceValue(func() error {
	cmd := exec.Command(os.Args[0], "-test.list=^$")
	if err := cmd.Run(); err != nil && cmd.ProcessState == nil {
		return err
	}
	return nil
})

// MostlyWait lets that many tests run side by side, unless -parallel says otherwise: they wait for timers of the kernel.
func MostlyWait(tests int) {
	flag.Parse()
	if f := flag.Lookup("test.parallel"); f.Value.String() == f.DefValue {
		_ = f.Value.Set(strconv.Itoa(tests))
	}
}

// LibraryGoroutines returns the stacks of the goroutines that the library itself has started and that still run.
func LibraryGoroutines() (stacks []string) {
	const module = "github.com/go-liveness/liveness"
	buf := make([]byte, 1<<20)
	for _, stack := range strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		_, creator, _ := strings.Cut(stack, "created by ")
		name, file, _ := strings.Cut(creator, "\n")
		if strings.Contains(file, "_test.go") || strings.Contains(file, "/testutil/") {
			continue
		}
		for _, prefix := range []string{module + ".", module + "/internal/"} {
			if strings.HasPrefix(name, prefix) {
				stacks = append(stacks, stack)
			}
		}
	}
	return stacks
}

// LeakPatience is how long goleak, with its defaults, goes on looking before it reports a leak.
const LeakPatience = 500 * time.Millisecond

// LeftGoroutines is LibraryGoroutines, once nothing changes any more or LeakPatience is over.
func LeftGoroutines() (stacks []string) {
	for deadline := time.Now().Add(LeakPatience); ; time.Sleep(time.Millisecond) {
		if stacks = LibraryGoroutines(); len(stacks) == 0 || time.Now().After(deadline) {
			return stacks
		}
	}
}

// Descriptors returns the descriptors of this process, each with what it leads to, or nil where the system does not list them.
func Descriptors() map[string]string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil || runtime.GOOS != "linux" { // Wine has the folder of the system beneath
		return nil
	}
	found := make(map[string]string)
	for _, entry := range entries {
		// The descriptor of the directory itself is closed by now.
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			found[entry.Name()] = target
		}
	}
	return found
}
