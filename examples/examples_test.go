// Package examples_test starts every example and checks it with real clients.
package examples_test

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/examples/internal/program"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// never is a step of work that no test waits for: it has to be stopped.
const never = "-step=1h"

func TestMain(m *testing.M) {
	livenesstest.Main()
	testutil.MostlyWait(100)
	os.Exit(m.Run())
}

func TestExamples(t *testing.T) {
	dir := program.Build(t, "./...")
	for name, test := range map[string]func(*testing.T, string){
		"vanish":     testVanish,
		"heartbeat":  testHeartbeat,
		"server":     testServer,
		"httpserver": testHTTPServer,
		"tlsserver":  testTLSServer,
		"pool":       testPool,
		"proxy":      testProxy,
		"shutdown":   testShutdown,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, program.Path(dir, name))
		})
	}
}

// needCheck skips the test where an idle connection shows nothing.
func needCheck(t *testing.T) {
	t.Helper()
	conn, _ := livenesstest.Pair(t, "tcp4")
	if err := liveness.Check(conn); errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("no end is seen without a Read: %v", err)
	}
}

func testServer(t *testing.T, path string) {
	program.NeedEvents(t)
	minute := program.PeerTimeout(t, time.Minute)
	t.Run("answers", func(t *testing.T) {
		p := program.Start(t, path, "-step=1ms", minute)
		peer := program.Dial(t, p.Addr)
		fmt.Fprintln(peer, "hello")
		if line := program.ReadLine(t, peer); line != "hello\n" {
			t.Errorf("got %q", line)
		}
		peer.Close()
		p.Expect(t, ": left")
	})
	t.Run("reset is not left", func(t *testing.T) {
		p := program.Start(t, path, "-step=1ms", minute)
		peer := program.Dial(t, p.Addr)
		p.Expect(t, ": connected")
		peer.Reset()
		p.ExpectNext(t, peer.LocalAddr().String(), []string{": gone: ", liveness.ErrPeerReset.Error()}, "left")
	})
	t.Run("long line is not left", func(t *testing.T) {
		p := program.Start(t, path, "-step=1ms", minute)
		peer := program.Dial(t, p.Addr)
		p.Expect(t, ": connected")
		peer.Write(bytes.Repeat([]byte("x"), 65<<10))
		p.ExpectNext(t, peer.LocalAddr().String(), []string{": refused: ", bufio.ErrTooLong.Error()}, "left")
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
			p := program.Start(t, path, never, minute)
			peer := program.Dial(t, p.Addr)
			fmt.Fprint(peer, "hello\nand more, which is not read\n")
			p.Expect(t, `working on "hello"`)
			if err := end.end(peer); err != nil {
				t.Fatal(err)
			}
			p.Expect(t, "stopped: ", end.reason.Error())
		})
	}
	t.Run("cable cut", func(t *testing.T) {
		t.Parallel()
		p := program.Start(t, path, never, "-peer-timeout=4s")
		peer := program.Dial(t, p.Addr)
		fmt.Fprintln(peer, "hello")
		p.Expect(t, `working on "hello"`)
		program.Cut(t, peer)
		p.Expect(t, "stopped: ", liveness.ErrPeerLost.Error())
	})
}

func testHTTPServer(t *testing.T, path string) {
	program.NeedEvents(t)
	minute := program.PeerTimeout(t, time.Minute)
	p := program.Start(t, path, never, minute)
	const unread = "POST /work HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf of the body"
	const large = 1 << 20 // more than the receive buffer takes
	for _, end := range []struct {
		name, request string
		end           func(*livenesstest.Peer) error
		reason        error
	}{
		{"unread body", unread, (*livenesstest.Peer).Close, liveness.ErrPeerClosed},
		{"reset", unread, (*livenesstest.Peer).Reset, liveness.ErrPeerReset},
		// net/http reads on here and notices the end too; the reason must be the library's.
		{"no body", "GET /work HTTP/1.1\r\nHost: localhost\r\n\r\n", (*livenesstest.Peer).Close, liveness.ErrPeerClosed},
		{"large body, spooled", fmt.Sprintf("POST /spool HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%s",
			large, strings.Repeat("x", large)), (*livenesstest.Peer).Close, liveness.ErrPeerClosed},
	} {
		t.Run(end.name, func(t *testing.T) {
			peer := program.Dial(t, p.Addr)
			io.WriteString(peer, end.request)
			p.Expect(t, peer.LocalAddr().String()+": 0 % done")
			if err := end.end(peer); err != nil {
				t.Fatal(err)
			}
			p.Expect(t, peer.LocalAddr().String()+": stopped: ", end.reason.Error())
		})
	}
	t.Run("answers", func(t *testing.T) {
		p := program.Start(t, path, "-step=1ms", minute)
		client := &http.Client{Timeout: program.Patience, Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + p.Addr + "/work")
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil || string(body) != "done\n" {
			t.Errorf("got %q, %v", body, err)
		}
	})
	t.Run("cable cut", func(t *testing.T) {
		t.Parallel()
		p := program.Start(t, path, never, "-peer-timeout=4s")
		peer := program.Dial(t, p.Addr)
		io.WriteString(peer, unread)
		p.Expect(t, ": 0 % done")
		program.Cut(t, peer)
		p.Expect(t, ": stopped: ", liveness.ErrPeerLost.Error())
	})
}

// testHeartbeat has one client answer each ping, and another one hang: a process
// that was stopped, whose kernel acknowledges the pings in its name.
func testHeartbeat(t *testing.T, path string) {
	server := program.Start(t, path, "-silence=500ms")
	hung, err := livenesstest.StartProcess("tcp", server.Addr)
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
	well := program.Dial(t, server.Addr)
	name := well.LocalAddr().String()
	for range 4 { // longer than the other one lasts
		for _, want := range []string{"ping\n", "heard: pong\n"} {
			if line := program.ReadLine(t, well); line != want {
				t.Fatalf("read %q instead of %q", line, want)
			}
			if want == "ping\n" {
				fmt.Fprintln(well, "pong")
			}
		}
	}
	server.Expect(t, "hangs", liveness.ErrPeerIdle.Error())
	well.Close()
	server.Expect(t, name, "left")
}

func testTLSServer(t *testing.T, path string) {
	program.NeedEvents(t)
	minute := program.PeerTimeout(t, time.Minute)
	// No client trusts the certificate, which is made anew at each start.
	config := &tls.Config{InsecureSkipVerify: true}
	t.Run("answers", func(t *testing.T) {
		p := program.Start(t, path, "-step=1ms", minute)
		conn := tls.Client(program.Dial(t, p.Addr), config)
		fmt.Fprintln(conn, "hello")
		if line := program.ReadLine(t, conn); line != "hello\n" {
			t.Errorf("got %q", line)
		}
		conn.Close()
		p.ExpectNext(t, conn.LocalAddr().String()+": ", nil, "stopped", "nil")
	})
	// What TLS sent to the client, tickets for the next session, is unread: a Close of the
	// *tls.Conn would send a reset for it. The Peer's Close reads it first.
	for _, end := range []struct {
		name   string
		end    func(*livenesstest.Peer) error
		reason error
	}{
		{"close", (*livenesstest.Peer).Close, liveness.ErrPeerClosed},
		{"reset", (*livenesstest.Peer).Reset, liveness.ErrPeerReset},
	} {
		t.Run(end.name, func(t *testing.T) {
			p := program.Start(t, path, never, minute)
			peer := program.Dial(t, p.Addr)
			conn := tls.Client(peer, config)
			fmt.Fprint(conn, "hello\nand more, which is not read\n")
			p.Expect(t, `working on "hello"`)
			if err := end.end(peer); err != nil {
				t.Fatal(err)
			}
			p.Expect(t, "stopped: ", end.reason.Error())
		})
	}
	t.Run("cable cut", func(t *testing.T) {
		t.Parallel()
		p := program.Start(t, path, never, "-peer-timeout=4s")
		peer := program.Dial(t, p.Addr)
		fmt.Fprintln(tls.Client(peer, config), "hello")
		p.Expect(t, `working on "hello"`)
		program.Cut(t, peer)
		p.Expect(t, "stopped: ", liveness.ErrPeerLost.Error())
	})
}

// testShutdown ends the server while one client waits for an answer and one is idle.
func testShutdown(t *testing.T, path string) {
	program.NeedEvents(t)
	if runtime.GOOS == "windows" {
		t.Skip("no interrupt is sent to another process on windows")
	}
	p := program.Start(t, path, "-step=500ms", program.PeerTimeout(t, time.Minute))
	idle, busy := program.Dial(t, p.Addr), program.Dial(t, p.Addr)
	fmt.Fprintln(idle, "first")
	if line := program.ReadLine(t, idle); line != "first\n" {
		t.Errorf("got %q", line)
	}
	fmt.Fprintln(busy, "hello")
	p.Expect(t, `working on "hello"`)
	if err := p.Cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	p.Expect(t, "ending, 2 clients are connected")
	if line := program.ReadLine(t, busy); line != "hello\n" {
		t.Errorf("got %q", line)
	}
	if _, err := idle.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the idle client got %v", err)
	}
	p.Expect(t, "ended: ", "Open:0", "Wrapped:2", "Local:2")
	p.Success(t)
}

func testPool(t *testing.T, path string) {
	needCheck(t)
	p := program.Start(t, path)
	p.Expect(t, "pool: dialling")
	p.Expect(t, "answer: one")
	p.Expect(t, "pool: using a connection again")
	p.Expect(t, "answer: two")
	p.Expect(t, "pool: dropping a connection", liveness.ErrPeerClosed.Error())
	p.Expect(t, "pool: dialling")
	p.Expect(t, "answer: three")
	p.Success(t)
}

func testProxy(t *testing.T, path string) {
	program.NeedEvents(t)
	backend, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	to := "-to=" + backend.Addr().String()
	p := program.Start(t, path, to, program.PeerTimeout(t, time.Minute))
	// connect returns the two sides, once the proxy is between them.
	connect := func(t *testing.T, p *program.Program) (client, server *livenesstest.Peer) {
		client = program.Dial(t, p.Addr)
		conn, err := backend.Accept()
		if err != nil {
			t.Fatal(err)
		}
		server = livenesstest.NewPeer(conn)
		t.Cleanup(func() { server.Close() })
		server.SetDeadline(time.Now().Add(program.Patience))
		fmt.Fprintln(client, "hello")
		if line := program.ReadLine(t, server); line != "hello\n" {
			t.Fatalf("the server got %q", line)
		}
		return client, server
	}

	t.Run("both ways", func(t *testing.T) {
		client, server := connect(t, p)
		exchange(t, p, client, server)
	})
	t.Run("client resets", func(t *testing.T) {
		client, server := connect(t, p)
		client.Reset()
		wantReset(t, server)
		p.Expect(t, ": both directions are over")
	})
	t.Run("server resets", func(t *testing.T) {
		client, server := connect(t, p)
		server.Reset()
		wantReset(t, client)
		p.Expect(t, ": both directions are over")
	})
	t.Run("client vanishes", func(t *testing.T) {
		p := program.Start(t, path, to, "-peer-timeout=4s")
		client, server := connect(t, p)
		program.Cut(t, client)
		wantReset(t, server)
		p.Expect(t, "client: ", liveness.ErrPeerLost.Error())
	})
}

// exchange sends much through the proxy, first one way and then the other.
func exchange(t *testing.T, p *program.Program, client, server *livenesstest.Peer) {
	t.Helper()
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
	p.Expect(t, client.LocalAddr().String()+": both directions are over")
	if after, _ := copied(t, p); counted && after-before > len(question)/2 {
		t.Errorf("%d bytes went through the proxy's memory: no splice", after-before)
	}
}

// copied returns how many bytes the system calls read and write have moved between
// a program and its kernel so far, where that is counted. Splice is not in it.
func copied(t *testing.T, p *program.Program) (n int, counted bool) {
	t.Helper()
	counts, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", p.Cmd.Process.Pid))
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
