//go:build linux

package liveness_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestPing is one test for the same reason as TestTimers.
func TestPing(t *testing.T) {
	t.Parallel()
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("Answer", testPingAnswer)
		run("ShareProbes", testPingShareProbes)
		run("InOutage", testPingInOutage)
		run("AndKeepAlive", testPingAndKeepAlive)
		run("AndVanishedPeer", testPingAndVanishedPeer)
		run("WithDataInFlight", testPingWithDataInFlight)
		run("OnLossyPath", testPingOnLossyPath)
		run("AndSlowProcess", testPingAndSlowProcess)
		run("AndDetectWithin", testPingAndDetectWithin)
		run("AndLongUserTimeout", testPingAndLongUserTimeout)
		run("AndVerdict", testPingAndVerdict)
		run("ThenFIN", testPingThenFIN)
		run("Wakes", testPingWakes)
		run("Context", testPingContext)
		run("Limit", testPingLimit)
		run("ThousandPings", testPingThousandPings)
	})
}

// ping pings, and gives up after a while.
func (l *line) ping(patience time.Duration) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(l.Context(), patience)
	defer cancel()
	began := time.Now()
	err := l.conn.Ping(ctx)
	if !liveness.HasTCPInfo(l.T) {
		if !errors.Is(err, errors.ErrUnsupported) {
			l.Errorf("Ping: %v", err)
		}
		liveness.NeedsTCPInfo(l.T)
	}
	return time.Since(began), err
}

// quiet waits until nothing has been heard for a while, so that a Ping has to ask.
func (l *line) quiet(d time.Duration) {
	l.Helper()
	liveness.NeedsTCPInfo(l.T)
	l.wait("quiet", func(s liveness.Status) bool { return s.Silence >= d })
}

// quietOf is how long a connection can be had quiet with these options.
func quietOf(options string) time.Duration {
	if options == "keep-alive 1/1/9" {
		return 900 * time.Millisecond
	}
	return 1100 * time.Millisecond
}

// unanswered checks the error of a Ping that got no answer.
func (l *line) unanswered(err error) {
	l.Helper()
	oe, ok := err.(*net.OpError)
	if !ok || oe.Op != "ping" || !errors.Is(err, context.DeadlineExceeded) {
		l.Errorf("Ping: %v (%T); want the error of the context in a *net.OpError", err, err)
	}
	l.lives()
}

// These are what a user may have set when he pings.
var pingOptions = map[string]func(t *testing.T, conn *net.TCPConn){
	"keep-alive off": func(*testing.T, *net.TCPConn) {},
	"keep-alive on": func(t *testing.T, conn *net.TCPConn) {
		setOptionOf(t, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	},
	"keep-alive 8/2/3": func(t *testing.T, conn *net.TCPConn) {
		conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 8 * time.Second, Interval: 2 * time.Second, Count: 3})
	},
	"keep-alive 1/1/9": func(t *testing.T, conn *net.TCPConn) {
		conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 9})
	},
	"keep-alive 8/2/3, user timeout 2 s": func(t *testing.T, conn *net.TCPConn) {
		conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 8 * time.Second, Interval: 2 * time.Second, Count: 3})
		setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 2000)
	},
	"keep-alive 8/2/3, user timeout 20 s": func(t *testing.T, conn *net.TCPConn) {
		conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 8 * time.Second, Interval: 2 * time.Second, Count: 3})
		setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 20_000)
	},
	"keep-alive off, user timeout 2 s": func(t *testing.T, conn *net.TCPConn) {
		setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 2000)
	},
}

// bareLine is a line with these options.
func bareLine(t *testing.T, options func(*testing.T, *net.TCPConn), cfg *liveness.Config) *line {
	t.Helper()
	conn, peer := livenesstest.Pair(t, "tcp4")
	peer.NetConn().(*net.TCPConn).SetReadBuffer(32 << 10)
	options(t, conn.(*net.TCPConn))
	return lineOf(t, conn, peer, cfg)
}

// A Ping is answered within a round trip and a tick, and leaves everything as it
// was.
func testPingAnswer(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, options := range pingOptions {
			run(name, func(t *testing.T) {
				l := bareLine(t, options, nil)
				before := readOptions(t, l.bare)
				// Heard within a second: nothing is asked.
				l.exchange0()
				began := time.Now()
				took, err := l.ping(5 * time.Second)
				if err != nil || slow(t, took, 0) {
					t.Errorf("right after a sign of life: %v, %v", took, err)
				}
				if l.heardBefore(began) {
					machine.excuse(t, began.Add(-time.Second)) // a second may have passed
					t.Error("a probe was sent although something was heard just before")
				}
				for range 2 {
					l.quiet(quietOf(name))
					asked := time.Now()
					took, err := l.ping(10 * time.Second)
					if err != nil {
						t.Fatalf("after %v: %v", took, err)
					}
					t.Logf("figure %.1f ms", 1000*took.Seconds())
					// A round trip is nothing here; a tick is 10 ms at most, and the library
					// looks again after a millisecond and more.
					if slow(t, took, 30*time.Millisecond) {
						t.Errorf("the answer took %v", took)
					}
					// The kernel's own probe may have been answered in the second before.
					s := l.conn.Status()
					if s.Silence > time.Second+time.Since(asked)+tickOf || s.Probes != 0 || s.State != liveness.Connected {
						machine.excuse(t, asked)
						t.Errorf("afterwards %+v", s)
					}
					l.restored(before)
				}
				if n := len(l.told); n > 0 {
					t.Errorf("ended: %v", l.conn.Err())
				}
			})
		}
	})
}

// exchange0 has something heard without a byte of ours: the peer sends.
func (l *line) exchange0() {
	l.Helper()
	if _, err := l.peer.Write([]byte("x")); err != nil {
		l.Fatal(err)
	}
	if _, err := l.conn.Read(make([]byte, 1)); err != nil {
		l.Fatal(err)
	}
}

// heardBefore reports whether the last sign of life is from after then, as far as
// the kernel's clock can tell.
func (l *line) heardBefore(then time.Time) bool {
	ago := time.Since(then) // first, or what passes between the two counts as heard
	return l.conn.Status().Silence+2*tickOf < ago
}

// restored waits until the options are as they were: that is done by the clock,
// when no Ping waits any more.
func (l *line) restored(before map[string]int) {
	l.Helper()
	var now map[string]int
	for deadline := time.Now().Add(2*time.Second + busyMachine); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		now = readOptions(l.T, l.bare)
		same := true
		for name := range timerOptions {
			same = same && now[name] == before[name]
		}
		if same {
			return
		}
	}
	sameOptions(l.T, "after a Ping", now, before)
}

// What the peer's host receives: segments of a connection, by its own count.
func segmentsIn(t *testing.T, conn net.Conn) int {
	t.Helper()
	n := 0
	controlFD(t, livenesstestTCP(conn), func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			n = int(info.Segs_in)
		}
		return err
	})
	return n
}

func livenesstestTCP(conn net.Conn) *net.TCPConn {
	if p, ok := conn.(*livenesstest.Peer); ok {
		conn = p.NetConn()
	}
	return conn.(*net.TCPConn)
}

// Many Pings at a time ask once.
func testPingShareProbes(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, name := range []string{"keep-alive off", "keep-alive 8/2/3"} {
			run(name, func(t *testing.T) {
				l := bareLine(t, pingOptions[name], nil)
				before := readOptions(t, l.bare)
				l.quiet(1100 * time.Millisecond)
				received := segmentsIn(t, l.peer)
				var all sync.WaitGroup
				for range 50 {
					all.Go(func() {
						if took, err := l.ping(10 * time.Second); err != nil {
							t.Errorf("after %v: %v", took, err)
						}
					})
				}
				all.Wait()
				// An answer may just be late when the second is over; never more.
				if n := segmentsIn(t, l.peer) - received; n < 1 || n > 2 {
					t.Errorf("50 Pings sent %d probes", n)
				}
				l.restored(before)

				// In an outage they send one in a second.
				l.quiet(1100 * time.Millisecond)
				mend := l.cut(weDeaf)
				received = segmentsIn(t, l.peer)
				began := time.Now()
				for range 50 {
					all.Go(func() { l.ping(3500 * time.Millisecond) })
				}
				all.Wait()
				took := time.Since(began)
				if n, most := segmentsIn(t, l.peer)-received, 2+int(took/time.Second); n < 2 || n > most {
					t.Errorf("50 Pings of %v sent %d probes; want %d at most", took, n, most)
				}
				mend()
				if took, err := l.ping(10 * time.Second); err != nil {
					t.Errorf("after the outage: %v, after %v", err, took)
				}
				l.restored(before)
			})
		}
	})
}

// A Ping that gave up, and one that comes in an outage, ends no connection whose
// path mends, nor brings it nearer to its end.
func testPingInOutage(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, options := range pingOptions {
			for _, d := range []direction{peerDeaf, weDeaf} {
				// With 8/2/3 the kernel asks by itself at 8 s; 12 s of silence are
				// survived, so the outages below are.
				for _, pings := range []int{1, 5} {
					run(fmt.Sprintf("%s/%s/%d pings", name, d, pings), func(t *testing.T) {
						l := bareLine(t, options, nil)
						before := readOptions(t, l.bare)
						l.quiet(quietOf(name))
						mend := l.cut(d)
						// What was heard just before is an answer.
						l.quiet(2 * time.Second)
						for range pings {
							took, err := l.ping(time.Second)
							if err == nil {
								t.Fatalf("answered through a cut cable, after %v", took)
							}
							l.unanswered(err)
						}
						if name == "keep-alive 1/1/9" || pings == 5 {
							mend()
						}
						// Without a Ping, for as long as the kernel may take to count.
						time.Sleep(3 * time.Second)
						mend()
						l.lives()
						if took, err := l.ping(10 * time.Second); err != nil {
							t.Errorf("after the outage: %v, after %v", err, took)
						} else if slow(t, took, pingIntervalOf) {
							t.Errorf("after the outage an answer took %v", took)
						}
						l.lives()
						l.restored(before)
						l.exchangeBoth()
					})
				}
			}
		}
	})
}

// pingIntervalOf is the least time between two probes.
const pingIntervalOf = time.Second

// exchangeBoth has data pass in both directions.
func (l *line) exchangeBoth() {
	l.Helper()
	if _, err := l.conn.Write([]byte("x")); err != nil {
		l.Fatal(err)
	}
	l.peer.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := l.peer.Read(make([]byte, 1)); err != nil {
		l.Fatal(err)
	}
	l.exchange0()
}

// The kernel's own probes begin while the peer is pinged, and the path mends just
// before they would be too many.
func testPingAndKeepAlive(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, userTimeout := range []int{0, 2000} {
			for _, length := range []time.Duration{9, 11} {
				run(fmt.Sprintf("user timeout %d ms, %d s", userTimeout, length), func(t *testing.T) {
					l := bareLine(t, func(t *testing.T, conn *net.TCPConn) {
						conn.SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: 8 * time.Second, Interval: 2 * time.Second, Count: 3})
						setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout)
					}, nil)
					before := readOptions(t, l.bare)
					l.exchange0()
					began := time.Now()
					mend := l.cut(bothDeaf)
					for time.Since(began) < length*time.Second/2 {
						l.ping(time.Second)
						l.lives()
					}
					// With a user timeout the kernel alone would end it at the second of its
					// probes, 10 s after the last sign of life.
					for time.Since(began) < length*time.Second {
						time.Sleep(100 * time.Millisecond)
						l.lives()
					}
					mend()
					if took, err := l.ping(10 * time.Second); err != nil {
						t.Errorf("after the outage: %v, after %v", err, took)
					}
					l.lives()
					l.restored(before)
					l.exchangeBoth()
				})
			}
		}
	})
}

// Pings do not keep a peer that vanished from being found.
func testPingAndVanishedPeer(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("PeerTimeout", func(t *testing.T) {
			const timeout = 4 * time.Second
			l := newLine(t, &liveness.Config{PeerTimeout: timeout})
			since, _ := l.vanish(idleLoad, bothDeaf)
			var err error
			for l.conn.Err() == nil && time.Since(since) < 20*time.Second {
				_, err = l.ping(time.Second)
			}
			l.end(liveness.ErrPeerLost, since, timeout/2, idleLoad.within(timeout))
			if _, again := l.ping(time.Second); again != l.conn.Err() {
				t.Errorf("Ping: %v; want what Err says: %v", again, l.conn.Err())
			}
			_ = err
		})
		run("PeerTimeout, one Ping", func(t *testing.T) {
			const timeout = 4 * time.Second
			l := newLine(t, &liveness.Config{PeerTimeout: timeout})
			since, _ := l.vanish(idleLoad, bothDeaf)
			l.quiet(1100 * time.Millisecond)
			_, err := l.ping(20 * time.Second)
			l.end(liveness.ErrPeerLost, since, timeout/2, idleLoad.within(timeout))
			if err != l.conn.Err() {
				t.Errorf("Ping: %v; want what Err says: %v", err, l.conn.Err())
			}
		})
		run("reset", func(t *testing.T) {
			l := newLine(t, nil)
			l.quiet(1100 * time.Millisecond)
			l.cut(bothDeaf)
			time.AfterFunc(200*time.Millisecond, func() { l.conn.Close() })
			took, err := l.ping(10 * time.Second)
			if !errors.Is(err, net.ErrClosed) || slow(t, took, 200*time.Millisecond) {
				t.Errorf("Close in a Ping: %v, after %v", err, took)
			}
		})
		run("keep-alive", func(t *testing.T) {
			// The socket's own bound: 2/2/2 makes 6 s.
			l := newLine(t, &liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: 2 * time.Second, Count: 2}})
			since, _ := l.vanish(idleLoad, bothDeaf)
			for l.conn.Err() == nil && time.Since(since) < 10*time.Second {
				l.ping(time.Second)
			}
			t.Logf("figure: with a Ping in every second, a peer that keep-alive would have given up after 6 s was given up after %v: %v", time.Since(since), l.conn.Err())
		})
	})
}

// With data in flight these are the probe.
func testPingWithDataInFlight(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("in flight", func(t *testing.T) {
			l := bareLine(t, pingOptions["keep-alive 8/2/3, user timeout 20 s"], nil)
			before := readOptions(t, l.bare)
			l.quiet(1100 * time.Millisecond)
			_, mend := l.vanish(flightLoad, peerDeaf)
			_, err := l.ping(1200 * time.Millisecond)
			l.unanswered(err)
			sameOptions(t, "with data in flight", readOptions(t, l.bare), before)
			mend()
			if took, err := l.ping(10 * time.Second); err != nil {
				t.Errorf("after the outage: %v, after %v", err, took)
			}
			l.lives()
			sameOptions(t, "with data in flight", readOptions(t, l.bare), before)
		})
		run("closed window", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: 4 * time.Second})
			l.fill()
			l.waitStalled()
			for range 4 {
				if took, err := l.ping(10 * time.Second); err != nil || slow(t, took, time.Second) {
					t.Errorf("%v, after %v", err, took)
				}
				time.Sleep(700 * time.Millisecond)
			}
		})
		run("busy", func(t *testing.T) {
			l := newLine(t, nil)
			l.take(64<<10, time.Millisecond)
			l.fill()
			for range 20 {
				if took, err := l.ping(10 * time.Second); err != nil || slow(t, took, 0) {
					t.Errorf("%v, after %v", err, took)
				}
			}
		})
		run("written while a Ping waits", func(t *testing.T) {
			l := bareLine(t, pingOptions["keep-alive 8/2/3, user timeout 20 s"], nil)
			before := readOptions(t, l.bare)
			l.quiet(1100 * time.Millisecond)
			mend := l.cut(peerDeaf)
			done := make(chan error, 1)
			go func() {
				_, err := l.ping(10 * time.Second)
				done <- err
			}()
			time.Sleep(200 * time.Millisecond)
			l.conn.Write([]byte("x"))
			time.Sleep(time.Second)
			mend()
			if err := <-done; err != nil {
				t.Error(err)
			}
			l.lives()
			l.restored(before)
		})
	})
}

// A path that loses much is not a peer that is gone.
func testPingOnLossyPath(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, name := range []string{"keep-alive off", "keep-alive 1/1/9", "keep-alive 8/2/3, user timeout 2 s"} {
			run(name, func(t *testing.T) {
				liveness.NeedsTCPInfo(t)
				l := bareLine(t, pingOptions[name], nil)
				before := readOptions(t, l.bare)
				stop := make(chan struct{})
				var flapping sync.WaitGroup
				flapping.Go(func() {
					for i := 0; ; i++ {
						mend := l.cut(directions[i%3])
						time.Sleep(time.Duration(20+rand.IntN(70)) * time.Millisecond)
						mend()
						select {
						case <-stop:
							return
						// Not always the same, or every probe could meet the same.
						case <-time.After(time.Duration(10+rand.IntN(50)) * time.Millisecond):
						}
					}
				})
				var answered, failed atomic.Int32
				var pings sync.WaitGroup
				for range 3 {
					pings.Go(func() {
						for began := time.Now(); time.Since(began) < 9*time.Second; time.Sleep(30 * time.Millisecond) {
							if _, err := l.ping(1500 * time.Millisecond); err == nil {
								answered.Add(1)
							} else {
								failed.Add(1)
							}
						}
					})
				}
				pings.Wait()
				close(stop)
				flapping.Wait()
				l.lives()
				if answered.Load() == 0 {
					t.Errorf("%d Pings, and none was answered", failed.Load())
				}
				t.Logf("%d answered, %d not", answered.Load(), failed.Load())
				if took, err := l.ping(10 * time.Second); err != nil {
					t.Errorf("afterwards: %v, after %v", err, took)
				}
				l.restored(before)
				l.exchangeBoth()
			})
		}
	})
}

// What a Ping sets for a while is not what the connection has.
func testPingAndDetectWithin(t *testing.T) {
	liveness.NeedsTCPInfo(t)
	const options = "keep-alive 8/2/3"
	want := bareLine(t, pingOptions[options], nil).conn.Status().DetectWithin
	l := bareLine(t, pingOptions[options], nil)
	before := readOptions(t, l.bare)
	for info := l.info(); min(info.Last_ack_recv, info.Last_data_recv) < 1100; info = l.info() {
		time.Sleep(10 * time.Millisecond) // not by Status, which remembers what it has read
	}
	mend := l.cut(bothDeaf)
	done := make(chan error, 1)
	go func() {
		_, err := l.ping(2 * time.Second)
		done <- err
	}()
	for readOptions(t, l.bare)["TCP_KEEPCNT"] == before["TCP_KEEPCNT"] {
		time.Sleep(time.Millisecond)
	}
	if s := l.conn.Status(); s.DetectWithin != want {
		t.Errorf("while a Ping waits DetectWithin is %v; want %v", s.DetectWithin, want)
	}
	l.unanswered(<-done)
	mend()
	if took, err := l.ping(10 * time.Second); err != nil {
		t.Errorf("after the outage: %v, after %v", err, took)
	}
	l.restored(before)
	if s := l.conn.Status(); s.DetectWithin != want {
		t.Errorf("after it DetectWithin is %v; want %v", s.DetectWithin, want)
	}
}

// A slowConn is one whose process is suspended, for that long, just when it has
// asked the kernel.
type slowConn struct {
	*net.TCPConn
	pause atomic.Int64
}

func (c *slowConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return &slowRawConn{raw, c}, err
}

type slowRawConn struct {
	syscall.RawConn
	conn *slowConn
}

func (r *slowRawConn) Control(f func(uintptr)) error {
	err := r.RawConn.Control(f)
	time.Sleep(time.Duration(r.conn.pause.Load()))
	return err
}

// What the kernel said is of when it was asked, and not of when we look at our
// clock.
func testPingAndSlowProcess(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	slow := &slowConn{TCPConn: conn.(*net.TCPConn)}
	l := lineOf(t, slow, peer, nil)
	l.bare = slow.TCPConn
	l.exchange0()
	mend := l.cut(bothDeaf)
	before := readOptions(t, l.bare)
	l.quiet(1050 * time.Millisecond)
	// Nor is it others' fault: to them nothing is late.
	other := newLine(t, &liveness.Config{StallTimeout: 2 * time.Second})
	other.fill()
	other.waitStalled()
	since := time.Now()
	slow.pause.Store(int64(700 * time.Millisecond))
	for range 2 {
		_, err := l.ping(2 * time.Second)
		l.unanswered(err)
		if got := readOptions(t, l.bare)["TCP_KEEPCNT"]; got <= before["TCP_KEEPCNT"] {
			t.Errorf("TCP_KEEPCNT is %d again, although nothing was heard", got)
		}
	}
	other.end(liveness.ErrPeerStalled, since, time.Second, 3200*time.Millisecond)
	slow.pause.Store(0)
	mend()
	if took, err := l.ping(10 * time.Second); err != nil {
		t.Errorf("after the outage: %v, after %v", err, took)
	}
	l.restored(before)
}

// A context that has ended already is told, without asking the kernel for more.
func testPingContext(t *testing.T) {
	l := newLine(t, nil)
	before := readOptions(t, l.bare)
	l.quiet(1100 * time.Millisecond)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	received := segmentsIn(t, l.peer)
	if err := l.conn.Ping(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Ping: %v", err)
	}
	if n := segmentsIn(t, l.peer) - received; n != 0 {
		t.Errorf("%d probes were sent", n)
	}
	mend := l.cut(bothDeaf)
	ctx, cancel = context.WithCancel(context.Background())
	began := time.Now()
	time.AfterFunc(100*time.Millisecond, cancel)
	if err := l.conn.Ping(ctx); !errors.Is(err, context.Canceled) || slow(t, time.Since(began), 100*time.Millisecond) {
		t.Errorf("Ping: %v, after %v", err, time.Since(began))
	}
	mend()
	if took, err := l.ping(10 * time.Second); err != nil {
		t.Errorf("%v, after %v", err, took)
	}
	l.restored(before)
	l.peer.Close()
	l.waitEnd()
	if err := l.conn.Ping(context.Background()); err != l.conn.Err() || !errors.Is(err, liveness.ErrPeerClosed) {
		t.Errorf("Ping after the end: %v", err)
	}
}

// The kernel counts to 127. Unanswered Pings that come near it leave no connection
// that can never be pinged again.
func testPingLimit(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for _, count := range []int{125, 127} {
			for _, on := range []int{0, 1} {
				run(fmt.Sprintf("TCP_KEEPCNT %d, SO_KEEPALIVE %d", count, on), func(t *testing.T) {
					l := bareLine(t, func(t *testing.T, conn *net.TCPConn) {
						setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, count)
						setOptionOf(t, conn, unix.SOL_SOCKET, unix.SO_KEEPALIVE, on)
					}, nil)
					l.unpingable(5*time.Second, 5*time.Second)
				})
			}
		}
		run("two minutes", func(t *testing.T) {
			onlyLong(t, 140*time.Second)
			l := bareLine(t, pingOptions["keep-alive off"], nil)
			l.unpingable(130*time.Second, 5*time.Second)
		})
	})
}

// unpingable pings through an outage, and then without one.
func (l *line) unpingable(outage, patience time.Duration) {
	l.Helper()
	before := readOptions(l.T, l.bare)
	l.quiet(1100 * time.Millisecond)
	mend := l.cut(bothDeaf)
	_, err := l.ping(outage)
	l.unanswered(err)
	mend()
	if took, err := l.ping(patience); err != nil {
		l.Errorf("the path is mended: %v, after %v; %+v", err, took, l.conn.Status())
	}
	l.restored(before)
}

// A thousand Pings on as many connections take as long as one, about.
func testPingThousandPings(t *testing.T) {
	n := 1000
	if os.Getenv("LIVENESS_STORM") == "" {
		n = 300
	}
	lines := make([]*line, n)
	for i := range lines {
		lines[i] = newLine(t, nil)
	}
	lines[n-1].quiet(1100 * time.Millisecond)
	began := time.Now()
	var all sync.WaitGroup
	var longest atomic.Int64
	for _, l := range lines {
		all.Go(func() {
			took, err := l.ping(20 * time.Second)
			if err != nil {
				t.Errorf("after %v: %v", took, err)
			}
			for {
				old := longest.Load()
				if int64(took) <= old || longest.CompareAndSwap(old, int64(took)) {
					return
				}
			}
		})
	}
	all.Wait()
	took := time.Since(began)
	t.Logf("figure: %d Pings took %v, the longest %v", n, took, time.Duration(longest.Load()))
	if slow(t, took, time.Second) {
		t.Errorf("%d Pings took %v", n, took)
	}
}

func keepAliveOf(idle, interval, count int) func(*testing.T, *net.TCPConn) {
	return func(t *testing.T, conn *net.TCPConn) {
		conn.SetKeepAliveConfig(net.KeepAliveConfig{
			Enable: true, Idle: time.Duration(idle) * time.Second, Interval: time.Duration(interval) * time.Second, Count: count,
		})
	}
}

// Under a user timeout the kernel heeds no count of probes, and may be beyond it: it
// must not begin to heed it.
func testPingAndLongUserTimeout(t *testing.T) {
	line := func(t *testing.T, idle, interval, count int) *line {
		liveness.NeedsTCPInfo(t)
		return bareLine(t, func(t *testing.T, conn *net.TCPConn) {
			keepAliveOf(idle, interval, count)(t, conn)
			setOptionOf(t, conn, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 30_000)
		}, nil)
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("after an outage", func(t *testing.T) {
			l := line(t, 1, 1, 3)
			before := readOptions(t, l.bare)
			mend := l.cut(bothDeaf)
			l.wait("more probes than the count", func(s liveness.Status) bool { return s.Probes >= 6 })
			mend()
			if took, err := l.ping(10 * time.Second); err != nil {
				t.Errorf("%v, after %v", err, took)
			}
			l.restored(before)
		})
		run("in an outage", func(t *testing.T) {
			l := line(t, 2, 1, 3)
			before := readOptions(t, l.bare)
			l.quiet(1100 * time.Millisecond)
			mend := l.cut(bothDeaf)
			_, err := l.ping(300 * time.Millisecond)
			l.unanswered(err)
			for began := time.Now(); time.Since(began) < 8*time.Second; time.Sleep(50 * time.Millisecond) {
				if !l.conn.Alive() {
					t.Fatalf("killed after %v: %v", time.Since(began), l.conn.Err())
				}
			}
			mend()
			if took, err := l.ping(10 * time.Second); err != nil {
				t.Errorf("after the outage: %v, after %v", err, took)
			}
			l.restored(before)
		})
	})
}

// A Ping late in the kernel's cycle puts its probes off, and no verdict.
func testPingAndVerdict(t *testing.T) {
	liveness.NeedsTCPInfo(t)
	const timeout = 18 * time.Second // 6/3/4
	l := newLine(t, &liveness.Config{PeerTimeout: timeout})
	since, _ := l.vanish(idleLoad, bothDeaf)
	time.Sleep(time.Until(since.Add(timeout - 300*time.Millisecond)))
	l.ping(200 * time.Millisecond)
	// By now a verdict waits for the next probe only.
	l.end(liveness.ErrPeerLost, since, timeout/2, idleLoad.within(timeout)-time.Second)
}

// What a Ping has changed is put back also if the peer then finishes sending.
func testPingThenFIN(t *testing.T) {
	l := bareLine(t, pingOptions["keep-alive 8/2/3, user timeout 20 s"], nil)
	before := readOptions(t, l.bare)
	l.quiet(1100 * time.Millisecond)
	mend := l.cut(bothDeaf)
	_, err := l.ping(300 * time.Millisecond)
	l.unanswered(err)
	mend()
	l.peer.CloseWrite()
	l.waitEnd()
	if _, err := l.conn.Write([]byte("response")); err != nil {
		t.Fatal(err)
	}
	l.restored(before)
}

// A Ping that gave up leaves a clock that looks now and then.
func testPingWakes(t *testing.T) {
	conn, peer := livenesstest.Pair(t, "tcp4")
	keepAliveOf(2, 20, 9)(t, conn.(*net.TCPConn))
	counted := &countedConn{TCPConn: conn.(*net.TCPConn)}
	l := lineOf(t, counted, peer, nil)
	l.bare = counted.TCPConn
	l.exchange0()
	l.cut(bothDeaf)
	l.quiet(1700 * time.Millisecond) // the kernel is about to ask
	_, err := l.ping(100 * time.Millisecond)
	l.unanswered(err)
	time.Sleep(500 * time.Millisecond)
	before := counted.looks.Load()
	time.Sleep(3 * time.Second)
	if n := counted.looks.Load() - before; n > 8 {
		t.Errorf("%d looks in 3 s", n)
	}
}

// A countedConn counts what is asked of its descriptor.
type countedConn struct {
	*net.TCPConn
	looks atomic.Int64
}

func (c *countedConn) SyscallConn() (syscall.RawConn, error) {
	raw, err := c.TCPConn.SyscallConn()
	return &countedRawConn{raw, c}, err
}

type countedRawConn struct {
	syscall.RawConn
	conn *countedConn
}

func (r *countedRawConn) Control(f func(uintptr)) error {
	r.conn.looks.Add(1)
	return r.RawConn.Control(f)
}
