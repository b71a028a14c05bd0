package liveness_test

import (
	"flag"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestMain fails if the tests leave a goroutine or a descriptor behind, or have brought
// the library to distrust a system that tells.
func TestMain(m *testing.M) {
	livenesstest.Main()
	flag.Parse()
	waitMoreThanWork()
	before := takeInventory()
	stop := machine.watch()
	code := m.Run()
	stop()
	if liveness.Distrusts() {
		fmt.Fprintln(os.Stderr, "the system was taken for one that does not tell of endings")
		code = 1
	}
	if code == 0 {
		code = before.compare()
	}
	os.Exit(code)
}

// waitMoreThanWork lets more tests run at once than there are processors, unless
// the command line says otherwise: most of the time they wait for a kernel.
func waitMoreThanWork() {
	given := false
	flag.Visit(func(f *flag.Flag) { given = given || f.Name == "test.parallel" })
	if !given {
		flag.Set("test.parallel", "32")
	}
}

// An inventory is what a process has: its goroutines, by their number, and its
// descriptors, where the system lists them.
type inventory struct {
	goroutines  map[string]string // the stack of each
	descriptors map[string]string // what each leads to
}

func takeInventory() inventory {
	// The Go runtime keeps the descriptors of its own poller for good once it has
	// them. A socket makes sure that it does.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		l.Close()
	}
	return inventory{goroutines(), descriptors()}
}

// compare waits until nothing is left that before does not have, and tells what
// is. What connections share stops a second after the last of them.
func (before inventory) compare() (code int) {
	var left []string
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		left = left[:0]
		for id, stack := range goroutines() {
			if before.goroutines[id] == "" {
				left = append(left, stack)
			}
		}
		for fd, target := range descriptors() {
			if before.descriptors[fd] != target {
				left = append(left, "descriptor "+fd+": "+target)
			}
		}
		if len(left) == 0 {
			return 0
		}
		runtime.GC() // what is forgotten on purpose goes with its memory
	}
	slices.Sort(left)
	fmt.Fprintf(os.Stderr, "left behind by the tests:\n\n%s\n", strings.Join(left, "\n\n"))
	return 1
}

func goroutines() map[string]string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	found := make(map[string]string)
	for i, stack := range strings.Split(strings.TrimSpace(string(buf)), "\n\n") {
		if i == 0 {
			continue // this one
		}
		id, _, _ := strings.Cut(stack, " [")
		found[id] = stack
	}
	return found
}

func descriptors() map[string]string {
	const dir = "/proc/self/fd"
	found := make(map[string]string)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return found
	}
	for _, entry := range entries {
		// The descriptor of the directory itself is closed by now.
		if target, err := os.Readlink(filepath.Join(dir, entry.Name())); err == nil {
			found[entry.Name()] = target
		}
	}
	return found
}
