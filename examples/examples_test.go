// Package examples_test starts every example and checks it with real clients.
package examples_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// patience bounds every wait, for a machine that has much else to do.
const patience = 20 * time.Second

// never is a step of work that no test waits for: it has to be stopped.
const never = "-step=1h"

func TestMain(m *testing.M) {
	livenesstest.Main()
	os.Exit(m.Run())
}

func TestExamples(t *testing.T) {
	switch runtime.GOOS {
	case "js", "wasip1", "ios", "android", "plan9":
		t.Skipf("no programs are built and started on %s", runtime.GOOS)
	}
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skipf("no go command to build the examples with: %v", err)
	}
	dir := t.TempDir()
	build := exec.Command(goTool, "build", "-o", dir+string(filepath.Separator), "./...")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", build, err, out)
	}
	for name, test := range map[string]func(*testing.T, string){
		"vanish":     testVanish,
		"heartbeat":  testHeartbeat,
		"server":     testServer,
		"httpserver": testHTTPServer,
		"tlsserver":  testTLSServer,
		"pool":       testPool,
		"proxy":      testProxy,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" {
				name += ".exe"
			}
			test(t, filepath.Join(dir, name))
		})
	}
}

// needLook skips the test where an idle connection shows nothing.
func needLook(t *testing.T) {
	t.Helper()
	conn, _ := livenesstest.Pair(t, "tcp4")
	if err := liveness.Check(conn); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no ending is seen without a Read: %v", err)
	}
}

// needNotice skips the test where nobody is told of an ending without a look.
func needNotice(t *testing.T) {
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
		t.Skipf("no notice of an ending on %s", runtime.GOOS)
	}
}

func testVanish(t *testing.T, path string) {
	if runtime.GOOS != "linux" {
		t.Skipf("vanish cuts cables, which it cannot on %s", runtime.GOOS)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, path)
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(out), "how the client went")
	if !found {
		t.Fatal("no table")
	}
	for row, said := range map[string]string{
		"close":                      "ErrPeerClosed",
		"close behind unread data":   "ErrPeerClosed",
		"half-close":                 "ErrPeerClosed",
		"half-close, AllowHalfClose": "half-closed",
		"reset":                      "ErrPeerReset",
		"reset behind unread data":   "ErrPeerReset",
		"SIGKILL":                    "ErrPeerClosed",
		"SIGKILL with unread data":   "ErrPeerReset",
		"TLS close":                  "ErrPeerClosed",
		"cable cut while idle":       "ErrPeerLost",
		"cable cut, data in flight":  "ErrPeerLost",
		"hung program (SIGSTOP)":     "ErrPeerIdle",
		"stopped reading":            "ErrPeerStalled",
		"it stays":                   "alive",
	} {
		shown := false
		for line := range strings.Lines(table) {
			shown = shown || strings.HasPrefix(line, "  "+row+"  ") && strings.Contains(line, said)
		}
		if !shown {
			t.Errorf("no row %q that says %s", row, said)
		}
	}
	for line := range strings.Lines(string(out)) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 100 {
			t.Errorf("too long: %s", line)
		}
	}
	if bytes.ContainsRune(out, '\x1b') {
		t.Error("colour, and no terminal")
	}
}

func testServer(t *testing.T, path string) {
	needNotice(t)
	t.Run("answers", func(t *testing.T) {
		p := start(t, path, "-step=1ms")
		peer := dial(t, p.addr)
		fmt.Fprintln(peer, "hello")
		if line := readLine(t, peer); line != "hello\n" {
			t.Errorf("got %q", line)
		}
		peer.Close()
		p.expect(t, ": left")
	})
	for _, end := range []struct {
		name   string
		end    func(*livenesstest.Peer) error
		reason error
	}{
		{"close", (*livenesstest.Peer).Close, liveness.ErrPeerClosed},
		{"half-close", (*livenesstest.Peer).CloseWrite, liveness.ErrPeerClosed},
		{"reset", (*livenesstest.Peer).Reset, liveness.ErrPeerReset},
	} {
		t.Run(end.name, func(t *testing.T) {
			p := start(t, path, never)
			peer := dial(t, p.addr)
			fmt.Fprint(peer, "hello\nand more, which is not read\n")
			p.expect(t, `working on "hello"`)
			if err := end.end(peer); err != nil {
				t.Fatal(err)
			}
			p.expect(t, "stopped: ", end.reason.Error())
		})
	}
}

func testHTTPServer(t *testing.T, path string) {
	needNotice(t)
	p := start(t, path, never)
	t.Run("unread body", func(t *testing.T) {
		peer := dial(t, p.addr)
		fmt.Fprint(peer, "POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf of the body")
		p.expect(t, "POST "+peer.LocalAddr().String()+": 0 % done")
		peer.Close()
		p.expect(t, "POST "+peer.LocalAddr().String()+": stopped: ", liveness.ErrPeerClosed.Error())
	})
	t.Run("reset", func(t *testing.T) {
		peer := dial(t, p.addr)
		fmt.Fprint(peer, "POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf of the body")
		p.expect(t, "POST "+peer.LocalAddr().String()+": 0 % done")
		peer.Reset()
		p.expect(t, "POST "+peer.LocalAddr().String()+": stopped: ", liveness.ErrPeerReset.Error())
	})
	t.Run("no body", func(t *testing.T) {
		// net/http reads on here and notices the end too; the reason must be ours.
		peer := dial(t, p.addr)
		fmt.Fprint(peer, "GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n")
		p.expect(t, "GET "+peer.LocalAddr().String()+": 0 % done")
		peer.Close()
		p.expect(t, "GET "+peer.LocalAddr().String()+": stopped: ", liveness.ErrPeerClosed.Error())
	})
	t.Run("answers", func(t *testing.T) {
		p := start(t, path, "-step=1ms")
		client := &http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + p.addr + "/work")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || string(body) != "done\n" {
			t.Errorf("got %q, %v", body, err)
		}
	})
}

// testHeartbeat has one client answer each ping, and another one hang: a process
// that was stopped, whose kernel acknowledges the pings in its name.
func testHeartbeat(t *testing.T, path string) {
	server := start(t, path, "-silence=500ms")
	hung, err := livenesstest.StartProcess("tcp", server.addr)
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer hung.Release()
	if err := hung.Drain(); err != nil {
		t.Fatal(err)
	}
	if err := hung.Stop(); err != nil {
		t.Skipf("no process can be stopped: %v", err)
	}
	well := dial(t, server.addr)
	name := well.LocalAddr().String()
	for range 4 { // longer than the other one lasts
		for _, want := range []string{"ping\n", "heard: pong\n"} {
			if line := readLine(t, well); line != want {
				t.Fatalf("read %q instead of %q", line, want)
			}
			if want == "ping\n" {
				fmt.Fprintln(well, "pong")
			}
		}
	}
	server.expect(t, "hangs", liveness.ErrPeerIdle.Error())
	well.Close()
	server.expect(t, name, "left")
}

func testTLSServer(t *testing.T, path string) {
	needNotice(t)
	// Its certificate is made anew whenever it starts, and nobody vouches for it.
	config := &tls.Config{InsecureSkipVerify: true}
	t.Run("answers", func(t *testing.T) {
		p := start(t, path, "-step=1ms")
		conn := tls.Client(dial(t, p.addr), config)
		fmt.Fprintln(conn, "hello")
		if line := readLine(t, conn); line != "hello\n" {
			t.Errorf("got %q", line)
		}
		conn.Close()
		p.expect(t, ": left")
	})
	t.Run("stops", func(t *testing.T) {
		p := start(t, path, never)
		peer := dial(t, p.addr)
		conn := tls.Client(peer, config)
		fmt.Fprint(conn, "hello\nand more, which is not read\n")
		p.expect(t, `working on "hello"`)
		// What TLS sent us, tickets for the next session, is unread: that would make
		// of its Close a reset.
		peer.Close()
		p.expect(t, "stopped: ", liveness.ErrPeerClosed.Error())
	})
}

func testPool(t *testing.T, path string) {
	needLook(t)
	p := start(t, path)
	p.expect(t, "pool: dialling")
	p.expect(t, "answer: one")
	p.expect(t, "pool: using a connection again")
	p.expect(t, "answer: two")
	p.expect(t, "pool: dropping a connection", liveness.ErrPeerClosed.Error())
	p.expect(t, "pool: dialling")
	p.expect(t, "answer: three")
	select {
	case <-p.ended:
		if !p.cmd.ProcessState.Success() {
			t.Error(p.cmd.ProcessState)
		}
	case <-time.After(patience):
		t.Error("it does not end")
	}
}

func testProxy(t *testing.T, path string) {
	needNotice(t)
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	p := start(t, path, "-to="+backend.Addr().String())
	// connect returns the two sides, once the proxy is between them.
	connect := func(t *testing.T) (client, server *livenesstest.Peer) {
		client = dial(t, p.addr)
		conn, err := backend.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server = livenesstest.NewPeer(conn)
		t.Cleanup(func() { server.Close() })
		server.SetDeadline(time.Now().Add(patience))
		fmt.Fprintln(client, "hello")
		if line := readLine(t, server); line != "hello\n" {
			t.Fatalf("the server got %q", line)
		}
		return client, server
	}

	t.Run("both ways", func(t *testing.T) {
		client, server := connect(t)
		before, counted := copied(t, p)
		question, answer := make([]byte, 4<<20), make([]byte, 4<<20)
		rand.Read(question)
		rand.Read(answer)
		// The client is done before the server begins: the half-close must pass, and
		// the other half stay.
		var sent sync.WaitGroup
		sent.Go(func() {
			client.Write(question)
			client.CloseWrite()
		})
		got, err := io.ReadAll(server)
		if err != nil || !bytes.Equal(got, question) {
			t.Errorf("the server got %d bytes of %d, %v", len(got), len(question), err)
		}
		sent.Wait()
		sent.Go(func() {
			server.Write(answer)
			server.CloseWrite()
		})
		got, err = io.ReadAll(client)
		if err != nil || !bytes.Equal(got, answer) {
			t.Errorf("the client got %d bytes of %d, %v", len(got), len(answer), err)
		}
		sent.Wait()
		p.expect(t, client.LocalAddr().String()+": both directions are over")
		if after, _ := copied(t, p); counted && after-before > len(question)/2 {
			t.Errorf("%d bytes went through the proxy's memory: no splice", after-before)
		}
	})
	t.Run("client resets", func(t *testing.T) {
		client, server := connect(t)
		client.Reset()
		wantReset(t, server)
		p.expect(t, ": both directions are over")
	})
	t.Run("server resets", func(t *testing.T) {
		client, server := connect(t)
		server.Reset()
		wantReset(t, client)
		p.expect(t, ": both directions are over")
	})
}

// copied returns how many bytes the system calls read and write have moved between
// a program and its kernel so far, where that is counted. Splice is not in it.
func copied(t *testing.T, p *program) (n int, counted bool) {
	t.Helper()
	counts, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.cmd.Process.Pid))
	if runtime.GOOS != "linux" || errors.Is(err, os.ErrNotExist) {
		return 0, false // also a kernel without CONFIG_TASK_IO_ACCOUNTING
	}
	if err != nil {
		t.Fatal(err)
	}
	var in, out int
	if _, err := fmt.Sscanf(string(counts), "rchar: %d\nwchar: %d\n", &in, &out); err != nil {
		t.Fatalf("%v in\n%s", err, counts)
	}
	t.Logf("read %d bytes, wrote %d", in, out)
	return in + out, true
}

// wantReset checks that conn ends, and does not look complete.
func wantReset(t *testing.T, conn net.Conn) {
	t.Helper()
	_, err := conn.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || err == io.EOF || errors.As(err, &timeout) && timeout.Timeout() {
		t.Errorf("got %v, want a reset", err)
	}
}

// dial returns a client of a program.
func dial(t *testing.T, addr string) *livenesstest.Peer {
	t.Helper()
	peer, err := livenesstest.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	peer.SetDeadline(time.Now().Add(patience))
	return peer
}

func readLine(t *testing.T, conn net.Conn) string {
	t.Helper()
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// A program is an example that runs.
type program struct {
	cmd   *exec.Cmd
	addr  string        // from its first line
	lines chan string   // what it prints
	ended chan struct{} // closed when it is reaped
}

// start starts a program on a port of its own. It is killed at the end of the test.
func start(t *testing.T, path string, args ...string) *program {
	t.Helper()
	p := &program{cmd: exec.Command(path, append(args, "-addr=127.0.0.1:0")...)}
	p.lines, p.ended = make(chan string, 1000), make(chan struct{})
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = p.cmd.Stdout
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			p.lines <- scanner.Text()
		}
		close(p.lines)
		p.cmd.Wait()
		close(p.ended)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.ended
	})
	p.addr = strings.TrimPrefix(p.expect(t, "listening on "), "listening on ")
	return p
}

// expect waits for a line that contains all of words, and returns it. Lines before
// it are skipped.
func (p *program) expect(t *testing.T, words ...string) string {
	t.Helper()
	timeout := time.After(patience)
	var skipped []string
lines:
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("it ended without printing %q\n%s", words, strings.Join(skipped, "\n"))
			}
			for _, word := range words {
				if !strings.Contains(line, word) {
					skipped = append(skipped, line)
					continue lines
				}
			}
			t.Log(line)
			return line
		case <-timeout:
			t.Fatalf("it does not print %q\n%s", words, strings.Join(skipped, "\n"))
		}
	}
}
