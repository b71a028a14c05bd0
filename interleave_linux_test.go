package liveness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/livenesstest"
)

// The same again on a real connection, with a fakeSocket beside it that foretells
// what the calls return: so the fake behaves as the kernel does, and the real looks
// tell what the fake's do. Each end is waited for before the next step, and so is
// told by an event alone.
func TestInterleavingsOnKernel(t *testing.T) {
	listener, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	keeper := newKernelEpisode(t, listener, false, 1) // keeps the hub from starting and stopping
	defer keeper.end()

	depth := 4
	if testing.Short() || RaceBuild {
		depth = 3
	}
	moves := kernelMoves
	if !RemembersFIN() {
		t.Log("a FIN behind which something came, or which ended a connection that was shut down behind our back, cannot be told from a reset on this system: left out")
		moves = slices.DeleteFunc(slices.Clone(moves), func(m move) bool { return m.name == "NetConn().CloseWrite" })
		reset := &moves[slices.IndexFunc(moves, func(m move) bool { return m.name == "RST arrives" })]
		may := reset.may
		reset.may = func(e *episode) bool { return may(e) && !e.sock.fin }
	}
	// A FIN behind a page of unread data is hidden from one of the questions that a
	// look asks the kernel.
	for _, size := range []int{1, 5000} {
		for _, allow := range []bool{false, true} {
			t.Run(fmt.Sprintf("AllowHalfClose=%t,size=%d", allow, size), func(t *testing.T) {
				goroutines := runtime.NumGoroutine()
				var last *episode
				all := explore(t, depth, moves, func() *episode {
					if last != nil {
						last.end()
					}
					last = newKernelEpisode(t, listener, allow, size)
					return last
				})
				last.end()
				settle(t, goroutines, moves, all)
				t.Logf("%d sequences of %d steps", len(all), depth)
			})
		}
	}
}

func newKernelEpisode(t *testing.T, listener *net.TCPListener, allow bool, size int) *episode {
	peer, err := livenesstest.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	bare, err := listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := bare.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Wrap(bare, &Config{AllowHalfClose: allow})
	if err != nil {
		t.Fatal(err)
	}
	e := &episode{t: t, sock: new(fakeSocket), conn: c, allow: allow, told: new(callbacks)}
	e.realEnd = &realEnd{size: size, bare: bare, raw: raw, peer: peer}
	e.register()
	return e
}

// end closes the connection, which is told if nothing else was.
func (e *episode) end() {
	e.expect(net.ErrClosed)
	e.told.want = e.want
	e.conn.Close()
	e.peer.Reset()
}

// eventually waits for what the kernel does on its own.
func (e *episode) eventually(what string, done func(fd uintptr) bool) {
	for deadline := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		var ok bool
		if err := e.raw.Control(func(fd uintptr) { ok = done(fd) }); err != nil || ok {
			return
		}
		if time.Now().After(deadline) {
			e.fail("%s did not come", what)
			return
		}
	}
}

// received counts the bytes that can be read.
func received(fd uintptr) int {
	n, err := unix.IoctlGetUint32(int(fd), unix.SIOCINQ) // the kernel's int has 32 bits
	if err != nil {
		return -1
	}
	return int(n)
}

// waitTold waits for the end that an event must tell, if there is one.
func (e *episode) waitTold() {
	if e.want != nil || e.truth() == nil {
		return
	}
	select {
	case <-e.conn.Done():
	case <-time.After(10 * time.Second):
		e.fail("no event told of it: %v", e.truth())
	}
	e.looked()
}

// same compares a result with what was foretold.
func (e *episode) same(call string, got, want error) {
	ok := got == nil && want == nil || got == io.EOF && want == io.EOF
	for _, err := range []error{errReset, errBrokenPipe, net.ErrClosed} {
		ok = ok || errors.Is(got, err) && errors.Is(want, err)
	}
	if !ok {
		e.fail("%s returned %v; want %v", call, got, want)
	}
}

// may and do are those of a move that the kernel shares with the fake.
func may(moves []move, name string) func(*episode) bool { return named(moves, name).may }
func do(moves []move, name string) func(*episode)       { return named(moves, name).do }

func named(moves []move, name string) move {
	return moves[slices.IndexFunc(moves, func(m move) bool { return m.name == name })]
}

// Two shutdowns of ours make the kernel answer data with a reset of its own.
var kernelMoves = []move{
	{"data arrives", true,
		func(e *episode) bool {
			return !e.sock.fails() && !e.sock.fin && e.sock.unread == 0 && !(e.sock.readShut && e.sock.writeShut)
		},
		func(e *episode) {
			e.sock.dataArrives()
			_, err := e.peer.Write(make([]byte, e.size))
			e.same("the peer's Write", err, nil)
			e.eventually("data", func(fd uintptr) bool { return received(fd) == e.size })
		}},
	{"FIN arrives", true,
		may(networkMoves, "FIN arrives"),
		func(e *episode) {
			e.sock.finArrives()
			e.same("the peer's CloseWrite", e.peer.CloseWrite(), nil)
			e.eventually("FIN", func(fd uintptr) bool {
				state, _ := tcpinfo.GetState(fd)
				return state != tcpinfo.Open
			})
			e.waitTold()
		}},
	{"RST arrives", true,
		may(networkMoves, "RST arrives"),
		func(e *episode) {
			e.sock.dies(errReset)
			e.same("the peer's Reset", e.peer.Reset(), nil)
			e.eventually("RST", func(fd uintptr) bool {
				state, _ := tcpinfo.GetState(fd)
				return state == tcpinfo.Closed
			})
			e.waitTold()
		}},
	{"Alive, Status", false, nil, do(applicationMoves, "Alive, Status")},
	{"Read", false,
		func(e *episode) bool { return e.sock.mayRead() },
		func(e *episode) {
			if e.overruled && !e.sock.closed && e.sock.unread == 0 && !e.sock.fin {
				_, err := e.conn.Read(make([]byte, 1))
				if err != io.EOF || !e.sock.readShut { // or it is our own end of file
					e.judge(true, os.ErrDeadlineExceeded, err)
				}
				return
			}
			e.sock.expired.Store(false) // what was received is read in spite of it
			_, want := fakeConn{e.sock}.Read(nil)
			e.sock.expired.Store(e.overruled)
			_, err := io.ReadAtLeast(onlyReader{e.conn}, make([]byte, e.size), e.size)
			if want == io.EOF && !e.sock.fin && e.sock.over != nil {
				want = e.sock.over // a stream that was cut off
			}
			e.same("Read", err, want)
			if want != nil {
				e.looked()
			}
		}},
	{"Write", false, nil, func(e *episode) {
		if e.overruled && !e.sock.closed {
			_, err := e.conn.Write(make([]byte, 1))
			e.judge(false, os.ErrDeadlineExceeded, err)
			return
		}
		_, want := fakeConn{e.sock}.Write(nil)
		_, err := e.conn.Write(make([]byte, 1))
		e.same("Write", err, want)
		if want != nil {
			e.looked()
		}
	}},
	{"Close", false, nil, func(e *episode) {
		want := fakeConn{e.sock}.Close()
		e.expect(net.ErrClosed)
		e.same("Close", e.conn.Close(), want)
	}},
	{"CloseRead", true, may(applicationMoves, "CloseRead"), func(e *episode) {
		e.same("CloseRead", e.conn.CloseRead(), fakeConn{e.sock}.CloseRead())
	}},
	{"CloseWrite", false, may(applicationMoves, "CloseWrite"), func(e *episode) {
		want := fakeConn{e.sock}.CloseWrite()
		e.same("CloseWrite", e.conn.CloseWrite(), want)
		e.looked()
	}},
	{"NetConn().Write", true, may(socketMoves, "NetConn().Write"), func(e *episode) {
		_, want := fakeConn{e.sock}.Write(nil)
		_, err := e.bare.Write(make([]byte, 1))
		e.same("NetConn().Write", err, want)
	}},
	{"NetConn().CloseWrite", true, may(socketMoves, "NetConn().CloseWrite"), func(e *episode) {
		want := fakeConn{e.sock}.CloseWrite()
		e.same("NetConn().CloseWrite", e.bare.CloseWrite(), want)
		e.waitTold()
	}},
	// The kernel of a connection that the clock has given up goes on.
	{"clock: lost", false, alive, func(e *episode) {
		e.conn.overrule(ErrPeerLost, errTimedOut, new(sample), 0)
		e.expect(ErrPeerLost)
		e.overruled = true
		e.sock.expired.Store(true)
	}},
}

// onlyReader hides everything but Read.
type onlyReader struct{ io.Reader }

// What ended before Wrap, or before Check, is told by the first look, which has
// nothing but what the kernel keeps; and the stream can still be read to its true
// end.
func TestFirstLook(t *testing.T) {
	for _, size := range []int{0, 1, 4000, 5000, 100_000} {
		for _, test := range []struct {
			name        string
			fin, rst    bool
			end, halves error // without and with AllowHalfClose
		}{
			{"alive", false, false, nil, nil},
			{"FIN", true, false, ErrPeerClosed, nil},
			{"RST", false, true, ErrPeerReset, ErrPeerReset},
			{"FIN, RST", true, true, ErrPeerClosed, ErrPeerReset},
		} {
			for allow, want := range map[bool]error{false: test.end, true: test.halves} {
				t.Run(fmt.Sprintf("%s behind %d bytes, AllowHalfClose=%t", test.name, size, allow), func(t *testing.T) {
					if test.fin && test.rst {
						NeedsMemoryOfFIN(t)
					}
					bare, peer := livenesstest.Pair(t, "tcp4")
					raw, err := bare.(*net.TCPConn).SyscallConn()
					if err != nil {
						t.Fatal(err)
					}
					if _, err := peer.Write(make([]byte, size)); err != nil {
						t.Fatal(err)
					}
					e := &episode{t: t, conn: new(Conn), realEnd: &realEnd{raw: raw}}
					e.eventually("data", func(fd uintptr) bool { return received(fd) == size })
					if test.fin {
						peer.CloseWrite()
						e.eventually("FIN", func(fd uintptr) bool {
							state, _ := tcpinfo.GetState(fd)
							return state == tcpinfo.CloseWait
						})
					}
					if test.rst {
						peer.Reset()
						e.eventually("RST", func(fd uintptr) bool {
							state, _ := tcpinfo.GetState(fd)
							return state == tcpinfo.Closed
						})
					}
					if err := Check(bare); !errors.Is(err, test.end) {
						t.Errorf("Check: %v; want %v", err, test.end)
					}
					c, err := Wrap(bare, &Config{AllowHalfClose: allow})
					if err != nil {
						t.Fatal(err)
					}
					if err := c.Err(); !errors.Is(err, want) {
						t.Errorf("Err: %v; want %v", err, want)
					}
					if test.end == nil {
						return
					}
					n, err := io.Copy(io.Discard, onlyReader{c})
					switch {
					case n != int64(size):
						t.Errorf("read %d bytes", n)
					case test.fin && err != nil:
						t.Errorf("read %v from a stream that is complete", err)
					case !test.fin && !errors.Is(err, errReset):
						t.Errorf("read %v from a stream that was cut off", err)
					}
				})
			}
		}
	}
}

// AF_UNIX has no state, but a FIN that was seen is remembered: the stream is
// complete, whatever comes behind.
func TestResetBehindFINOnUnix(t *testing.T) {
	bare, peer := livenesstest.Pair(t, "unix")
	c, err := Wrap(bare, &Config{AllowHalfClose: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write([]byte{0}); err != nil { // and the peer does not read it
		t.Fatal(err)
	}
	peer.CloseWrite()
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("Read after a FIN: %v", err)
	}
	if err := peer.Reset(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("nobody was told")
	}
	if err := c.Err(); !errors.Is(err, ErrPeerReset) {
		t.Errorf("Err: %v", err)
	}
	// The socket has its error still, and then the end of file again.
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, errReset) {
		t.Errorf("Read: %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Read of a stream that is complete: %v", err)
	}
}

// The reset of an AF_UNIX peer is one whoever takes the error from the socket: a
// Read, a Write, or a copy.
func TestResetTakenOnUnix(t *testing.T) {
	for name, use := range map[string]func(*Conn){
		"nobody":  func(*Conn) {},
		"Read":    func(c *Conn) { io.Copy(io.Discard, onlyReader{c}) },
		"WriteTo": func(c *Conn) { io.Copy(io.Discard, c) },
		"Write": func(c *Conn) {
			for {
				if _, err := c.Write(make([]byte, 1)); err != nil {
					return
				}
			}
		},
		"ReadFrom": func(c *Conn) { io.Copy(c, endless{}) },
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				bare, peer := livenesstest.Pair(t, "unix")
				c, err := Wrap(bare, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := bare.Write([]byte{0}); err != nil { // and the peer does not read it
					t.Fatal(err)
				}
				used := make(chan struct{})
				go func() {
					use(c)
					close(used)
				}()
				runtime.Gosched()
				if err := peer.Reset(); err != nil {
					t.Fatal(err)
				}
				select {
				case <-c.Done():
				case <-time.After(10 * time.Second):
					t.Fatal("nobody was told")
				}
				if err := c.Err(); !errors.Is(err, ErrPeerReset) {
					t.Fatalf("Err: %v", err)
				}
				<-used
			}
		})
	}
}

// endless has always more to read.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return min(len(b), 100), nil }
