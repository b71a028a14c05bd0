//go:build linux

package liveness_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestStatus is one test for the same reason as TestTimers.
func TestStatus(t *testing.T) {
	t.Parallel()
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("States", testStates)
		run("Queues", testQueues)
		run("Silence", testSilence)
		run("AfterTheEnd", testStatusAfterTheEnd)
		run("Errors", testErrorTexts)
	})
}

func (l *line) waitState(want liveness.State, since time.Time, within time.Duration) {
	l.Helper()
	if want == liveness.Stalled || want == liveness.Suspect {
		liveness.NeedsTCPInfo(l.T)
	}
	l.wait(want.String(), func(s liveness.Status) bool { return s.State == want })
	took := time.Since(since)
	if slow(l, took, within) {
		l.Errorf("%v only after %v; want it within %v", want, took, within)
	}
	l.Logf("figure: %v after %.2f s", want, took.Seconds())
}

// The states of real connections, there and back.
func testStates(t *testing.T) {
	const soon = 100 * time.Millisecond
	sideBySide(t, func(run func(string, func(*testing.T))) {
		run("data in flight", func(t *testing.T) {
			for _, d := range directions {
				l := newLine(t, nil)
				l.take(100, 0)
				l.waitState(liveness.Connected, time.Now(), soon)
				since, mend := l.vanish(flightLoad, d)
				l.waitState(liveness.Suspect, since, 3*time.Second)
				mended := time.Now()
				mend()
				// The next retransmission is as far away as the time that has passed.
				l.waitState(liveness.Connected, mended, mended.Sub(since)+soon)
				if s := l.conn.Status(); s.Retransmits != 0 || s.Unacked != 0 || s.Silence > busyMachine {
					t.Errorf("healed: %+v", s)
				}
			}
		})
		run("keep-alive", func(t *testing.T) {
			l := newLine(t, &liveness.Config{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 2 * time.Second, Interval: time.Second, Count: 9}})
			l.exchange0()
			since, mend := l.vanish(idleLoad, bothDeaf)
			l.waitState(liveness.Suspect, since, 2*time.Second+250*time.Millisecond+soon)
			if s := l.conn.Status(); s.Probes != 1 || s.Silence < 2*time.Second-tickOf {
				t.Errorf("suspect by %+v; want the first keep-alive", s)
			}
			mended := time.Now()
			mend()
			l.waitState(liveness.Connected, mended, time.Second+125*time.Millisecond+soon)
		})
		run("closed window", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: 10 * time.Second})
			began := time.Now()
			l.fill()
			l.waitState(liveness.Stalled, began, soon)
			// As long as the host answers, the probes of the window are no suspicion.
			for time.Since(began) < 3*time.Second {
				if s := l.conn.Status(); s.State != liveness.Stalled {
					t.Fatalf("%+v", s)
				}
				time.Sleep(10 * time.Millisecond)
			}
			since, mend := l.vanish(idleLoad, bothDeaf)
			l.waitState(liveness.Suspect, since, 3*time.Second)
			mended := time.Now()
			mend()
			l.waitState(liveness.Stalled, mended, time.Second+soon)
			took := time.Now()
			l.take(64<<10, 0)
			l.waitState(liveness.Connected, took, time.Second+soon)
		})
		run("half-closed", func(t *testing.T) {
			l := newLine(t, &liveness.Config{AllowHalfClose: true, PeerTimeout: 10 * time.Second})
			since := time.Now()
			l.peer.CloseWrite()
			l.waitState(liveness.HalfClosed, since, soon)
			l.fill()
			l.waitState(liveness.Stalled, time.Now(), soon)
			since, mend := l.vanish(idleLoad, bothDeaf)
			l.waitState(liveness.Suspect, since, 3*time.Second)
			mended := time.Now()
			mend()
			l.waitState(liveness.Stalled, mended, time.Second+soon)
			l.take(64<<10, 0)
			l.wait("half-closed", func(s liveness.Status) bool { return s.State == liveness.HalfClosed })
			l.lives()
		})
		for i := range 4 {
			// A Write that waits takes the errno, and the look that comes before that
			// Write has told of it must not think that we have sent a FIN.
			run(fmt.Sprintf("half-closed, then reset in a Write/%d", i), func(t *testing.T) {
				for range 20 {
					l := newLine(t, &liveness.Config{AllowHalfClose: true})
					l.peer.CloseWrite()
					l.wait("half-closed", func(s liveness.Status) bool { return s.State == liveness.HalfClosed })
					l.fill()
					l.waitStalled()
					l.peer.Reset()
					l.waitEnd()
					if s := l.conn.Status(); s.State != liveness.Disconnected || !errors.Is(s.Err, liveness.ErrPeerReset) {
						t.Fatalf("reset: %+v", s)
					}
					l.conn.Close()
				}
			})
		}
		run("corked", func(t *testing.T) {
			l := newLine(t, nil)
			l.take(1000, 0)
			setOptionOf(t, l.bare, unix.IPPROTO_TCP, unix.TCP_CORK, 1)
			l.conn.Write(make([]byte, 10))
			for began := time.Now(); time.Since(began) < 150*time.Millisecond; {
				if s := l.conn.Status(); s.State != liveness.Connected {
					t.Fatalf("%+v", s)
				}
			}
		})
	})
}

// queues asks the kernel itself.
func (l *line) queues() (in, out int) {
	l.Helper()
	l.control(func(fd int) error {
		received, err := unix.IoctlGetUint32(fd, unix.SIOCINQ)
		if err != nil {
			return err
		}
		sent, err := unix.IoctlGetUint32(fd, unix.SIOCOUTQ)
		in, out = int(received), int(sent)
		return err
	})
	return in, out
}

// sameQueues checks that Status tells what the kernel does.
func (l *line) sameQueues(what string, fins int) liveness.Status {
	l.Helper()
	var s liveness.Status
	var in, out int
	for range 50 { // between the two something may arrive
		s = l.conn.Status()
		if in, out = l.queues(); s.Unread == in && s.Unacked == out-fins {
			return s
		}
	}
	l.Errorf("%s: Unread %d, Unacked %d; the kernel says %d and %d, %d of them FIN", what, s.Unread, s.Unacked, in, out, fins)
	return s
}

// Unread and Unacked are exact, on both ends, whatever is on the way.
func testQueues(t *testing.T) {
	ends := map[string]func(t *testing.T) *line{
		"accepted": func(t *testing.T) *line { return newLine(t, &liveness.Config{AllowHalfClose: true}) },
		"dialled": func(t *testing.T) *line {
			conn, peer := livenesstest.Pair(t, "tcp4")
			return lineOf(t, peer.NetConn(), livenesstest.NewPeer(conn), &liveness.Config{AllowHalfClose: true})
		},
	}
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, end := range ends {
			run(name+"/one after the other", func(t *testing.T) {
				l := end(t)
				if s := l.sameQueues("new", 0); s.Unread != 0 || s.Unacked != 0 {
					t.Errorf("new: %+v", s)
				}
				for i := range 20 {
					l.peer.Write(make([]byte, i*7))
					if i%3 == 0 {
						l.conn.Write(make([]byte, 1+i))
					}
					l.sameQueues("talk", 0)
				}
				l.take(1<<10, 0)
				l.wait("acknowledged", func(s liveness.Status) bool { return s.Unacked == 0 })
				if s := l.sameQueues("read by nobody", 0); s.Unread != 7*19*20/2 {
					t.Errorf("%d bytes unread; want %d", s.Unread, 7*19*20/2)
				}
				io.ReadFull(l.conn, make([]byte, 7*19*20/2))
				mend := l.cut(peerDeaf)
				for _, n := range []int{1, 100, 10_000} {
					l.conn.Write(make([]byte, n))
					l.sameQueues("in flight", 0)
				}
				if s := l.sameQueues("in flight", 0); s.Unacked != 10_101 {
					t.Errorf("in flight: %+v", s)
				}
				l.wait("retransmitted", func(s liveness.Status) bool { return s.Retransmits >= 3 })
				if s := l.sameQueues("retransmitted", 0); s.Unacked != 10_101 {
					t.Errorf("retransmitted: %+v", s)
				}
				mend()
				l.wait("acknowledged", func(s liveness.Status) bool { return s.Unacked == 0 })
				l.sameQueues("acknowledged", 0)
			})
			run(name+"/first asked in flight", func(t *testing.T) {
				l := end(t)
				l.cut(peerDeaf)
				l.conn.Write(make([]byte, 5000))
				if s := l.sameQueues("first", 0); s.Unacked != 5000 {
					t.Errorf("%+v", s)
				}
				l.sameQueues("second", 0)
			})
			run(name+"/closed window", func(t *testing.T) {
				l := end(t)
				l.fill()
				l.waitStalled()
				if s := l.sameQueues("closed window", 0); s.Unacked == 0 {
					t.Errorf("%+v", s)
				}
				mend := l.cut(bothDeaf)
				l.wait("probed", func(s liveness.Status) bool { return s.Probes >= 2 })
				l.sameQueues("probed", 0)
				mend()
				for range 20 {
					io.ReadFull(l.peer, make([]byte, 64<<10))
					l.sameQueues("read", 0)
				}
			})
			run(name+"/FIN", func(t *testing.T) {
				l := end(t)
				l.peer.Write(make([]byte, 100))
				l.peer.CloseWrite()
				l.wait("half-closed", func(s liveness.Status) bool { return s.State == liveness.HalfClosed })
				if s := l.sameQueues("after a FIN", 0); s.Unread != 100 {
					t.Errorf("after a FIN: %+v", s)
				}
			})
			run(name+"/own FIN", func(t *testing.T) {
				l := end(t)
				l.conn.Status()
				mend := l.cut(peerDeaf)
				l.conn.Write(make([]byte, 300))
				l.conn.CloseWrite()
				// The kernel counts the FIN as a byte; nobody wrote it.
				l.sameQueues("own FIN", 1)
				l.wait("retransmitted", func(s liveness.Status) bool { return s.Retransmits >= 2 })
				l.sameQueues("own FIN, retransmitted", 1)
				mend()
				l.wait("acknowledged", func(s liveness.Status) bool { return s.Unacked == 0 })
				l.wait("acknowledged", func(s liveness.Status) bool { return l.info().Unacked == 0 })
				l.sameQueues("own FIN, acknowledged", 0)
			})
			run(name+"/lossy", func(t *testing.T) {
				l := end(t)
				l.take(10_000, 0)
				l.fill()
				for range 10 {
					mend := l.cut(peerDeaf)
					time.Sleep(30 * time.Millisecond)
					// Nothing moves but what was on the way.
					l.sameQueues("lossy, cut", 0)
					mend()
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
	})
}

// Silence is the time since anything was heard, data or acknowledgement.
func testSilence(t *testing.T) {
	liveness.NeedsTCPInfo(t)
	l := newLine(t, nil)
	l.take(100, 0)
	// It was heard at some time in the exchange.
	expect := func(what string, exchange func()) {
		t.Helper()
		from := time.Now()
		exchange()
		to := time.Now()
		for _, pause := range []time.Duration{0, 300 * time.Millisecond} {
			time.Sleep(pause)
			least := time.Since(to) - tickOf
			s := l.conn.Status()
			if most := time.Since(from) + tickOf; s.Silence < least || s.Silence > most {
				machine.excuse(t, from)
				t.Errorf("%s: Silence %v; want %v to %v", what, s.Silence, least, most)
			}
		}
	}
	for range 3 {
		expect("after data", l.exchange0)
		expect("after an acknowledgement", l.exchange)
	}
	if s := l.conn.Status(); s.RTT <= 0 || s.RTT > time.Second {
		t.Errorf("RTT is %v", s.RTT)
	}
}

// After the end the evidence of the verdict stays, whatever becomes of the socket.
func testStatusAfterTheEnd(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		frozen := func(t *testing.T, l *line, check func(liveness.Status) bool) {
			t.Helper()
			before := l.conn.Status()
			if !check(before) {
				t.Errorf("the evidence is %+v", before)
			}
			time.Sleep(1200 * time.Millisecond)
			if after := l.conn.Status(); after != before {
				t.Errorf("%+v became %+v", before, after)
			}
			l.conn.Close()
			if after := l.conn.Status(); after != before {
				t.Errorf("%+v became %+v by Close", before, after)
			}
		}
		run("lost in flight", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: 4 * time.Second})
			l.peer.Write([]byte("unread"))
			l.wait("received", func(s liveness.Status) bool { return s.Unread == 6 })
			l.vanish(flightLoad, bothDeaf)
			l.waitEnd()
			frozen(t, l, func(s liveness.Status) bool {
				return s.Silence >= 4*time.Second-tickOf && s.Retransmits >= 3 && s.Unacked == len("in flight") && s.Unread == 6 && s.Probes == 0
			})
		})
		run("lost idle", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: 4 * time.Second})
			l.vanish(idleLoad, bothDeaf)
			l.waitEnd()
			frozen(t, l, func(s liveness.Status) bool {
				return s.Silence >= 4*time.Second-tickOf && s.Retransmits == 0 && s.Unacked == 0 && s.Probes == 3
			})
		})
		run("lost behind a closed window", func(t *testing.T) {
			l := newLine(t, &liveness.Config{PeerTimeout: 4 * time.Second})
			l.vanish(windowLoad, bothDeaf)
			l.waitEnd()
			frozen(t, l, func(s liveness.Status) bool {
				return s.Silence >= 4*time.Second-tickOf && s.Unacked > 0 && s.Probes >= 3
			})
		})
		run("stalled", func(t *testing.T) {
			l := newLine(t, &liveness.Config{StallTimeout: time.Second})
			l.fill()
			l.waitEnd()
			frozen(t, l, func(s liveness.Status) bool { return s.Unacked > 0 && s.Silence < 2*time.Second && s.Probes <= 1 })
		})
	})
}

// The errors tell the evidence.
func testErrorTexts(t *testing.T) {
	sideBySide(t, func(run func(string, func(*testing.T))) {
		for name, c := range map[string]struct {
			cfg  liveness.Config
			do   func(*line)
			want string
		}{
			"lost idle": {
				liveness.Config{PeerTimeout: 4 * time.Second},
				func(l *line) { l.vanish(idleLoad, bothDeaf) },
				`: peer lost: nothing heard for \d+\.\d s, 3 keep-alive probes unanswered: connection timed out$`,
			},
			"lost in flight": {
				liveness.Config{PeerTimeout: 4 * time.Second},
				func(l *line) { l.vanish(flightLoad, bothDeaf) },
				`: peer lost: nothing heard for \d+\.\d s, \d+ retransmissions unanswered, 9 bytes unacknowledged: connection timed out$`,
			},
			"lost behind a closed window": {
				liveness.Config{PeerTimeout: 4 * time.Second},
				func(l *line) { l.vanish(windowLoad, bothDeaf) },
				`: peer lost: nothing heard for \d+\.\d s, \d+ window probes unanswered, \d+ bytes unacknowledged: connection timed out$`,
			},
			"stalled": {
				liveness.Config{StallTimeout: time.Second},
				func(l *line) { l.fill() },
				`: peer stalled: nothing taken for \d+\.\d s, (1 window probe unanswered, )?\d+ bytes unacknowledged$`,
			},
			"idle": {
				liveness.Config{ReadIdleTimeout: time.Second},
				(*line).parkUncounted,
				`: peer idle: nothing received for \d+\.\d s$`,
			},
		} {
			run(name, func(t *testing.T) {
				l := newLine(t, &c.cfg)
				c.do(l)
				l.waitEnd()
				text := l.conn.Err().Error()
				prefix := fmt.Sprintf("watch tcp %v->%v", l.conn.LocalAddr(), l.conn.RemoteAddr())
				if !regexp.MustCompile("^" + regexp.QuoteMeta(prefix) + c.want).MatchString(text) {
					t.Errorf("%q; want %q", text, prefix+c.want)
				}
				if heard := fmt.Sprintf("heard for %.1f s", l.conn.Status().Silence.Seconds()); c.cfg.PeerTimeout > 0 && !strings.Contains(text, heard) {
					t.Errorf("%q; want %q in it", text, heard)
				}
				if again := l.conn.Err().Error(); again != text {
					t.Errorf("%q became %q", text, again)
				}
			})
		}
	})
}

// Status allocates nothing while connected. Not in parallel: what others allocate
// would count.
func TestStatusAllocates(t *testing.T) {
	info, _ := debug.ReadBuildInfo()
	for _, s := range info.Settings {
		if s.Key == "-race" && s.Value == "true" {
			t.Skip("the race detector allocates")
		}
	}
	for _, network := range []string{"tcp4", "unix"} {
		t.Run(network, func(t *testing.T) {
			conn, peer := livenesstest.Pair(t, network)
			c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: 4 * time.Second, AllowHalfClose: true})
			if err != nil {
				t.Fatal(err)
			}
			c.Status()
			check := func(what string) {
				if n := testing.AllocsPerRun(100, func() { c.Status() }); n != 0 {
					t.Errorf("%s: Status allocates %v times", what, n)
				}
			}
			check("idle")
			peer.Write(make([]byte, 10))
			check("unread")
			if network == "tcp4" {
				if mend, err := livenesstest.Cut(peer); err == nil {
					c.Write(make([]byte, 10))
					check("in flight")
					mend()
				}
			}
			peer.CloseWrite()
			check("half-closed")
		})
	}
}

// statusLoopVariable has the test binary do nothing but ask for the status so many
// times.
const statusLoopVariable = "LIVENESS_TEST_STATUS_LOOP"

// Status takes two system calls at most.
func TestStatusSystemCalls(t *testing.T) {
	if s := os.Getenv(statusLoopVariable); s != "" {
		what, times, _ := strings.Cut(s, "*")
		conn, peer := livenesstest.Pair(t, "tcp4")
		c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: 4 * time.Second, AllowHalfClose: true})
		if err != nil {
			t.Fatal(err)
		}
		ask := func() { c.Status() }
		switch what {
		case "Status":
			if mend, err := livenesstest.Cut(peer); err == nil {
				defer mend()
			}
			c.Write(make([]byte, 10))
		case "Status, half-closed":
			peer.CloseWrite()
			until(t, func() bool { return c.Status().State == liveness.HalfClosed })
		case "Alive":
			ask = func() { c.Alive() }
		case "Check":
			ask = func() { liveness.Check(conn) }
		}
		ask()
		n, _ := strconv.Atoi(times)
		for range n {
			ask()
		}
		return
	}
	t.Parallel()
	liveness.NeedsProcesses(t)
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("system calls cannot be counted: ", err)
	}
	executable, err := os.Executable()
	if err != nil {
		t.Skip(err)
	}
	// The runtime makes calls too, and the rest of the test: only the difference counts.
	count := func(what string, n int) int {
		file := filepath.Join(t.TempDir(), "calls")
		cmd := exec.Command(strace, "-f", "-qq", "-o", file, "-e", "trace=getsockopt,setsockopt,ioctl,poll,ppoll,recvfrom,recvmsg,read,fcntl,epoll_ctl",
			executable, "-test.run=^TestStatusSystemCalls$")
		cmd.Env = append(os.Environ(), statusLoopVariable+"="+what+"*"+strconv.Itoa(n))
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Skipf("system calls cannot be counted: %v\n%s", err, out)
		}
		calls, err := os.ReadFile(file)
		if err != nil {
			t.Skip(err)
		}
		total := 0
		for _, row := range bytes.Split(calls, []byte("\n")) {
			if bytes.Contains(row, []byte("(")) && !bytes.Contains(row, []byte(" resumed>")) {
				total++
			}
		}
		return total
	}
	const n = 500
	for what, limit := range map[string]float64{"Status": 2, "Status, half-closed": 2, "Alive": 1, "Check": 1} {
		each := float64(count(what, n)-count(what, 0)) / n
		t.Logf("figure: %s: %.2f system calls", what, each)
		if each > limit+0.1 {
			t.Errorf("%s takes %.2f system calls; want %v", what, each, limit)
		}
	}
}
