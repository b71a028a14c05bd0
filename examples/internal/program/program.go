// Package program starts the examples and checks what they print.
package program

import (
	"bufio"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// Patience bounds every wait, for a machine that has much else to do.
const Patience = 20 * time.Second

// A Program is an example that runs.
type Program struct {
	Addr  string        // from the first line of a server
	Ended chan struct{} // closed when it is reaped
	Cmd   *exec.Cmd

	lines chan string // what it prints
}

// Build builds the programs of the pattern into a folder, which it returns. It skips the
// test where programs cannot be built and started.
func Build(t *testing.T, pattern string) (dir string) {
	t.Helper()
	switch runtime.GOOS {
	case "js", "wasip1", "ios", "android", "plan9":
		t.Skipf("no programs are built and started on %s", runtime.GOOS)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("no go command to build the examples with: %v", err)
	}
	dir = t.TempDir()
	build := exec.Command(goTool, "build", "-o", dir+string(filepath.Separator), pattern)
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	return dir
}

// Path is where Build has put a program.
func Path(dir, name string) string {
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	return filepath.Join(dir, name)
}

// Start runs a server on a port of its own.
func Start(t *testing.T, path string, args ...string) *Program {
	t.Helper()
	p := Run(t, path, append(args, "-addr=127.0.0.1:0")...)
	p.Addr = strings.TrimPrefix(p.Expect(t, "listening on "), "listening on ")
	return p
}

// Run starts a program. It is killed at the end of the test.
func Run(t *testing.T, path string, args ...string) *Program {
	t.Helper()
	p := &Program{Cmd: exec.Command(path, args...)}
	p.lines, p.Ended = make(chan string, 10000), make(chan struct{})
	out, err := p.Cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.Cmd.Stderr = p.Cmd.Stdout
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		close(p.lines)
		p.Cmd.Wait()
		close(p.Ended)
	}()
	t.Cleanup(func() {
		p.Cmd.Process.Kill()
		<-p.Ended
	})
	return p
}

// Expect waits for a line that contains all words, and returns it. It skips the lines
// before.
func (p *Program) Expect(t *testing.T, words ...string) string {
	t.Helper()
	timeout := time.After(Patience)
	var skipped []string
	for {
		select {
		case line, ok := <-p.lines:
			switch {
			case !ok:
				t.Fatalf("it ended without printing %q\n%s", words, strings.Join(skipped, "\n"))
			case hasAll(line, words):
				t.Log(line)
				return line
			}
			skipped = append(skipped, line)
		case <-timeout:
			t.Fatalf("it does not print %q\n%s", words, strings.Join(skipped, "\n"))
		}
	}
}

// ExpectNext waits for the next line that contains word, and fails unless it contains
// all other words and none of the forbidden ones too.
func (p *Program) ExpectNext(t *testing.T, word string, others []string, forbidden ...string) {
	t.Helper()
	line := p.Expect(t, word)
	if !hasAll(line, others) {
		t.Errorf("it prints %q, want %q", line, others)
	}
	for _, bad := range forbidden {
		if strings.Contains(line, bad) {
			t.Errorf("it prints %q, with %q", line, bad)
		}
	}
}

func hasAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}

// Success waits until the program has ended, and fails unless its exit status is 0.
func (p *Program) Success(t *testing.T) {
	t.Helper()
	select {
	case <-p.Ended:
		if !p.Cmd.ProcessState.Success() {
			t.Error(p.Cmd.ProcessState)
		}
	case <-time.After(Patience):
		t.Error("it does not end")
	}
}

// Dial returns a client of a program.
func Dial(t *testing.T, addr string) *livenesstest.Peer {
	t.Helper()
	peer, err := livenesstest.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	peer.SetDeadline(time.Now().Add(Patience))
	return peer
}

// ReadLine returns the next line that conn receives, and nothing behind it may have come.
func ReadLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// NeedEvents skips the test where the library does not see an end without a check.
func NeedEvents(t *testing.T) {
	t.Helper()
	bare, peer := livenesstest.Pair(t, "tcp4")
	conn, err := liveness.Wrap(bare, nil)
	if err != nil {
		t.Fatal(err)
	}
	peer.Close()
	select {
	case <-conn.Done():
	case <-time.After(5 * time.Second):
		t.Skipf("no end is seen without a Read on %s", runtime.GOOS)
	}
}

// Cut keeps everything from arriving at the peer, which then acknowledges nothing. It
// skips the test where that cannot be done, and mends the cut when the test ends.
func Cut(t *testing.T, peer *livenesstest.Peer) {
	t.Helper()
	mend, err := livenesstest.Cut(peer)
	if err != nil {
		t.Skipf("no cable is cut on %s: %v", runtime.GOOS, err)
	}
	t.Cleanup(func() { mend() })
}

// PeerTimeout returns the flag that asks for the time, or for none where the system
// cannot keep it.
func PeerTimeout(t *testing.T, d time.Duration) string {
	t.Helper()
	bare, _ := livenesstest.Pair(t, "tcp4")
	if _, err := liveness.Wrap(bare, &liveness.Config{PeerTimeout: d}); err != nil {
		t.Logf("without -peer-timeout: %v", err)
		d = 0
	}
	return "-peer-timeout=" + d.String()
}

// Golden fails unless the file holds want; with update it writes the file.
func Golden(t *testing.T, name, want string, update bool, same func(a, b string) bool) {
	t.Helper()
	if update {
		if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if !same(string(got), want) {
		t.Errorf("%s is not what the program shows; go test ./examples -run Examples/vanish -update writes it", name)
	}
}
