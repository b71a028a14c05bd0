//go:build linux

package liveness_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// stallBound is the time within which StallTimeout acts where windows are small: one step
// of a window of 64 kB takes less than a second at 100 kB/s.
func stallBound(timeout time.Duration) time.Duration { return timeout + timeout/10 + 2*time.Second }

func TestPeerThatTakesNothingIsStalledInTime(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for name, c := range map[string]struct {
		config liveness.Config
		before func(l *testutil.Line) // until the peer takes nothing more since Sent, which is Wrapped at first
	}{
		"never read":                      {liveness.Config{StallTimeout: time.Second}, (*testutil.Line).Fill},
		"never read, PeerTimeout":         {liveness.Config{StallTimeout: 3 * time.Second, PeerTimeout: shortest}, (*testutil.Line).Fill},
		"never read, a Read waits":        {liveness.Config{StallTimeout: time.Second}, func(l *testutil.Line) { l.Park(); l.Fill() }},
		"read for a while":                {liveness.Config{StallTimeout: time.Second}, readForAWhile},
		"never read, half-closed":         {liveness.Config{StallTimeout: time.Second, AllowHalfClose: true}, func(l *testutil.Line) { l.Must(l.Peer.CloseWrite()); l.Fill() }},
		"never read, sent through a copy": {liveness.Config{StallTimeout: time.Second}, func(l *testutil.Line) { go io.Copy(l.Conn, file(l, 10<<20)) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := testutil.NewLine(t, &c.config)
			c.before(l)
			status := l.Ends(liveness.ErrPeerStalled, l.Sent.Add(c.config.StallTimeout-100*time.Millisecond), time.Now().Add(stallBound(c.config.StallTimeout)))
			if status.Unacked == 0 || status.Silence > c.config.StallTimeout+time.Second {
				t.Errorf("the evidence is %+v", status)
			}
			if !c.config.AllowHalfClose {
				l.Refuses(liveness.ErrPeerStalled)
			}
		})
	}
	t.Run("stopped process", func(t *testing.T) {
		t.Parallel()
		const timeout = time.Second
		l, process := processLine(t, &liveness.Config{StallTimeout: timeout})
		l.Must(process.Drain())
		l.Fill()
		testutil.Until(t, "well under way", func() bool { return l.Written.Load() > 4<<20 })
		since := time.Now()
		l.Must(process.Stop())
		l.WaitState(liveness.Stalled)
		// Its window may have grown to the 6 MB of tcp_rmem, of which a step takes 14 s at 100 kB/s.
		l.Ends(liveness.ErrPeerStalled, since.Add(timeout-100*time.Millisecond), time.Now().Add(stallBound(timeout)+14*time.Second))
		l.Must(process.Continue())
	})
}

func readForAWhile(l *testutil.Line) {
	l.Fill()
	for began := time.Now(); time.Since(began) < 2*time.Second; {
		l.Sent = time.Now()
		_, err := io.ReadFull(l.Peer, make([]byte, 64<<10))
		l.Must(err)
		l.LivesFor(20 * time.Millisecond)
	}
}

// processLine connects to a peer in a process of its own.
func processLine(t *testing.T, cfg *liveness.Config) (*testutil.Line, *livenesstest.Process) {
	t.Helper()
	conn, process := testutil.PairWithProcess(t, "tcp4")
	return testutil.LineOf(t, conn, nil, cfg), process
}

// A kernel opens a closed window in steps of 1/16 of its buffer (__tcp_select_window).
func TestSteadyReaderIsNeverStalled(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	for name, c := range map[string]struct {
		size  testutil.BufferSize
		first int // bytes that the peer reads as fast as it can, for which the kernel grows its buffer
	}{"small buffers": {testutil.Small, 0}, "autotuned buffers": {testutil.Autotuned, 64 << 20}} {
		t.Run("100 kB/s, "+name, func(t *testing.T) {
			t.Parallel()
			conn, peer := testutil.Pair(t, "tcp4", c.size)
			l := testutil.LineOf(t, conn, peer, &liveness.Config{StallTimeout: 4 * time.Second})
			l.Fill()
			_, err := io.CopyN(io.Discard, l.Peer, int64(c.first))
			l.Must(err)
			l.Take(12_000, 100*time.Millisecond)
			l.LivesFor(9 * time.Second)
		})
	}
	t.Run("a step just before the time-out", takesAStepInTime)
	t.Run("a process that stops and goes on", stopsAndGoesOn)
}

func takesAStepInTime(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	testutil.Again(t, func() bool {
		l := testutil.NewLine(t, &liveness.Config{StallTimeout: timeout, PeerTimeout: shortest})
		defer l.Conn.Close()
		l.Fill()
		last := time.Now()
		for range 4 {
			if _, err := io.ReadFull(l.Peer, make([]byte, 64<<10)); err != nil || time.Since(last) > timeout*9/10 {
				return false
			}
			last = time.Now()
			select {
			case <-l.Conn.Done():
			case <-time.After(timeout * 6 / 10):
			}
			if time.Since(last) >= timeout {
				return false
			}
			l.Lives()
		}
		return true
	})
}

func stopsAndGoesOn(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second
	testutil.Again(t, func() bool {
		l, process := processLine(t, &liveness.Config{StallTimeout: timeout, PeerTimeout: shortest})
		defer l.Conn.Close()
		l.Must(process.Drain())
		l.Fill()
		for range 2 {
			before, since := l.Written.Load(), time.Now()
			goesOn := func(s liveness.Status) bool { return s.Err != nil || l.Written.Load() > before+1<<20 }
			l.Wait("going on", goesOn)
			before = l.Written.Load()
			l.Must(process.Stop())
			select {
			case <-l.Conn.Done():
			case <-time.After(timeout / 2):
			}
			l.Must(process.Continue())
			l.Wait("going on again", goesOn)
			if time.Since(since) >= timeout {
				return false
			}
			l.Lives()
		}
		return true
	})
}

func TestPeerThatIsGivenNothingIsNotStalled(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	write10 := func(l *testutil.Line) error { _, err := l.Conn.Write(make([]byte, 10)); return err }
	for name, do := range map[string]func(l *testutil.Line){
		"little in its buffer": func(l *testutil.Line) { l.Must(write10(l)) },
		"TCP_CORK": func(l *testutil.Line) {
			testutil.SetOption(l.TB, l.Bare, unix.IPPROTO_TCP, unix.TCP_CORK, 1)
			every(l, 50*time.Millisecond, func() error { return write10(l) })
			l.Take(1000, 0)
		},
		"MSG_MORE": func(l *testutil.Line) {
			l.Take(1000, 0)
			every(l, 50*time.Millisecond, func() (err error) {
				testutil.Control(l.TB, l.Bare, func(fd int) error { err = unix.Sendto(fd, make([]byte, 10), unix.MSG_MORE, nil); return nil })
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := testutil.NewLine(t, &liveness.Config{StallTimeout: timeout})
			do(l)
			l.LivesFor(3 * timeout)
		})
	}
}

// ReadIdleTimeout counts what arrives, and whoever reads it.

func TestPeerThatSendsNothingIsIdleInTime(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	const timeout = time.Second
	config := liveness.Config{ReadIdleTimeout: timeout}
	for name, c := range map[string]struct {
		config liveness.Config
		before func(l *testutil.Line)
	}{
		"from Wrap":                    {config, func(l *testutil.Line) {}},
		"100 ms":                       {liveness.Config{ReadIdleTimeout: 100 * time.Millisecond}, func(l *testutil.Line) {}},
		"with a Read that waits":       {config, (*testutil.Line).Park},
		"a download":                   {config, func(l *testutil.Line) { l.Take(64<<10, time.Millisecond); l.Fill() }},
		"keep-alive answers":           {liveness.Config{ReadIdleTimeout: 2500 * time.Millisecond, PeerTimeout: shortest}, func(l *testutil.Line) {}},
		"a deadline far away":          {config, func(l *testutil.Line) { l.Must(l.Conn.SetReadDeadline(time.Now().Add(time.Hour))); l.Park() }},
		"a deadline that has expired":  {config, func(l *testutil.Line) { l.Must(l.Conn.SetReadDeadline(time.Unix(1, 0))) }},
		"deadlines again and again":    {config, func(l *testutil.Line) { every(l, 10*time.Millisecond, func() error { return readBriefly(l) }) }},
		"after a conversation, unread": {liveness.Config{ReadIdleTimeout: 3 * time.Second}, func(l *testutil.Line) { l.Receive(1); l.LivesFor(time.Second); l.Receive(60_000) }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conn, peer := testutil.Pair(t, "tcp4", testutil.Autotuned)
			l := testutil.LineOf(t, conn, peer, &c.config)
			c.before(l)
			d := c.config.ReadIdleTimeout
			l.Ends(liveness.ErrPeerIdle, l.Sent.Add(d-testutil.Tick), time.Now().Add(idleBound(d)))
			l.Refuses(liveness.ErrPeerIdle)
		})
	}
}

// readBriefly reads with a deadline of the application's.
func readBriefly(l *testutil.Line) error {
	l.Conn.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
	if _, err := l.Conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.Join(errors.New("no deadline"), err)
	}
	return nil
}

func TestPeerThatSendsIsNotIdleWhoeverReads(t *testing.T) {
	t.Parallel()
	const timeout = time.Second
	for name, read := range map[string]func(l *testutil.Line){
		"nobody": func(*testutil.Line) {},
		"Read":   (*testutil.Line).Park,
		"splice": func(l *testutil.Line) {
			to, far := livenesstest.Pair(l.TB, "tcp4")
			far.Drain()
			go io.Copy(to, l.Conn)
		},
		"NetConn":     func(l *testutil.Line) { go io.Copy(io.Discard, l.Conn.NetConn()) },
		"SyscallConn": readRaw,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testutil.Again(t, func() bool {
				l := testutil.NewLine(t, &liveness.Config{ReadIdleTimeout: timeout})
				read(l)
				last := l.Wrapped
				for began := last; time.Since(began) < 3*timeout; {
					_, err := l.Peer.Write([]byte("x"))
					if err != nil || time.Since(last) >= timeout*9/10 {
						return false
					}
					last = time.Now()
					select {
					case <-l.Conn.Done():
						if time.Since(last) < timeout {
							l.Lives()
						}
					case <-time.After(timeout / 5):
					}
				}
				l.Conn.Close()
				return true
			})
		})
	}
}

func readRaw(l *testutil.Line) {
	raw, err := l.Conn.SyscallConn()
	l.Must(err)
	go func() {
		b := make([]byte, 100)
		for raw.Read(func(fd uintptr) bool { _, err := unix.Read(int(fd), b); return err != unix.EAGAIN }) == nil && l.Conn.Err() == nil {
		}
	}()
}

func TestFINEndsTheReadIdleClock(t *testing.T) {
	t.Parallel()
	l := testutil.NewLine(t, &liveness.Config{ReadIdleTimeout: 500 * time.Millisecond, AllowHalfClose: true})
	silences := make(chan struct{}, 10)
	l.Conn.OnSilence(500*time.Millisecond, func() { silences <- struct{}{} })
	l.Must(l.Peer.CloseWrite())
	l.WaitState(liveness.HalfClosed)
	l.LivesFor(2 * time.Second)
	if len(silences) > 0 {
		t.Error("OnSilence called f after the FIN")
	}
}

func TestFullReceiveBufferStopsTheReadIdleClock(t *testing.T) {
	t.Parallel()
	testutil.NeedsTCPInfo(t)
	const timeout = time.Second
	for phase := range 4 { // the clock asks now and then, and what counts is not when it last did
		t.Run(fmt.Sprint("phase ", phase), func(t *testing.T) {
			t.Parallel()
			conn, peer := testutil.Pair(t, "tcp4", testutil.Small)
			go io.CopyN(peer, testutil.Zeros{}, 1<<20)
			testutil.Until(t, "full", func() bool { return notSent(t, peer) > 0 })
			l := testutil.LineOf(t, conn, peer, &liveness.Config{ReadIdleTimeout: timeout})
			silences := make(chan struct{}, 10)
			l.Conn.OnSilence(timeout, func() { silences <- struct{}{} })
			l.LivesFor(3*timeout + time.Duration(phase)*timeout/70)
			if len(silences) > 0 {
				t.Error("OnSilence called f behind our full buffer")
			}
			// What waits in the peer's buffer is not to come. Our window opens when we read.
			l.Cut(testutil.FromPeer)
			since := time.Now()
			_, err := io.ReadFull(l.Conn, make([]byte, l.Conn.Status().Unread))
			l.Must(err)
			// The peer may learn of the window as late as the window was closed.
			l.Ends(liveness.ErrPeerIdle, since.Add(timeout), time.Now().Add(idleBound(timeout)+5*timeout))
		})
	}
}

// notSent counts what waits at the peer behind our closed window.
func notSent(tb testing.TB, peer *livenesstest.Peer) uint32 {
	if info := tcpInfo(tb, peer.NetConn()); info.Snd_wnd == 0 {
		return info.Notsent_bytes
	}
	return 0
}
