package liveness_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

func TestErrnoOfReset(t *testing.T) {
	if got := errnoReset(); got != syscall.ECONNRESET {
		t.Errorf("a Read after a reset says %v", got)
	}
}

// noEndingsLinux are those of which other systems know nothing, or which need the
// descriptor.
var noEndingsLinux = []noEnding{
	{
		name: "SHUT_RD of the descriptor",
		do:   func(s *scene) { s.must(s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RD) })) },
		in:   onTCP,
	},
	{
		name: "SHUT_WR of the descriptor",
		do: func(s *scene) {
			s.feed()
			s.must(s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_WR) }))
		},
		secret: true,
	},
	{
		name: "SHUT_RDWR of the descriptor",
		do:   func(s *scene) { s.must(s.control(func(fd int) error { return unix.Shutdown(fd, unix.SHUT_RDWR) })) },
		in:   onTCP, secret: true,
	},
	{
		name: "time stamps in the error queue",
		do: func(s *scene) {
			s.setOrSkip(unix.SO_TIMESTAMPING,
				unix.SOF_TIMESTAMPING_TX_SOFTWARE|unix.SOF_TIMESTAMPING_TX_ACK|unix.SOF_TIMESTAMPING_SOFTWARE|unix.SOF_TIMESTAMPING_OPT_TSONLY)
			s.talk()
			s.waitErrorQueue()
			s.talk()
		},
		in: onTCP,
	},
	{
		name: "completions of MSG_ZEROCOPY in the error queue",
		do: func(s *scene) {
			s.setOrSkip(unix.SO_ZEROCOPY, 1)
			b := bytes.Repeat(message, 100)
			s.must(s.control(func(fd int) error { return unix.Sendto(fd, b, unix.MSG_ZEROCOPY, nil) }))
			if _, err := io.ReadFull(s.wire, make([]byte, len(b))); err != nil {
				s.Error(err)
			}
			s.waitErrorQueue()
			s.talk()
		},
		in: bareTCP,
	},
	{
		name: "urgent data",
		do: func(s *scene) {
			raw, err := s.wire.NetConn().(*net.TCPConn).SyscallConn()
			s.must(err)
			s.must(raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
			s.must(err)
			s.send(message)
		},
		in: bareTCP,
	},
}

func TestNoEndingsLinux(t *testing.T) { playNoEndings(t, noEndingsLinux) }

// control calls f with the descriptor of our socket.
func (s *scene) control(f func(fd int) error) error {
	raw, err := s.bare.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// setOrSkip sets an option of our socket that old kernels and emulators do not have.
func (s *scene) setOrSkip(option, value int) {
	s.Helper()
	err := s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, value) })
	if err == unix.ENOPROTOOPT {
		s.Skipf("this system has no socket option %d: %v", option, err)
	}
	s.must(err)
}

// waitErrorQueue waits until the error queue has something, which poll and epoll
// report as an error.
func (s *scene) waitErrorQueue() {
	s.Helper()
	until(s.T, func() bool {
		fds := []unix.PollFd{{}}
		s.must(s.control(func(fd int) error {
			fds[0].Fd = int32(fd)
			_, err := unix.Poll(fds, 0)
			return err
		}))
		return fds[0].Revents&unix.POLLERR != 0
	})
}

// tcpInfo asks the kernel about our socket.
func (s *scene) tcpInfo() (info *unix.TCPInfo) {
	s.Helper()
	s.must(s.control(func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	}))
	return info
}

// TestKernelGivesUp cuts the cable and leaves it to the kernel's own timers to
// notice. They are an event like any other, and their errno is not a reset's.
func TestKernelGivesUp(t *testing.T) {
	keepAlive := func(s *scene) {
		// Sooner is not to be had.
		s.must(s.bare.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 1}))
	}
	userTimeout := func(s *scene) {
		s.must(s.control(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 500) }))
	}
	for _, e := range []struct {
		name   string
		timer  func(*scene)
		before func(*scene)
		in     func(variant) bool
		eof    bool // the FIN came before
	}{
		{name: "keep-alive", timer: keepAlive, in: withoutWriter},
		{name: "keep-alive behind unread data", timer: keepAlive, before: func(s *scene) { s.send(message) }, in: withoutWriter},
		{name: "keep-alive after a half-close", timer: keepAlive, before: func(s *scene) { s.wire.CloseWrite() }, eof: true,
			in: func(v variant) bool { return v.half && withoutWriter(v) }},
		{name: "user timeout", timer: userTimeout, in: func(v variant) bool { return v.parked == "writer" }},
		{name: "user timeout with data in flight", timer: userTimeout, in: withoutWriter},
	} {
		for _, v := range variants(ending{in: func(v variant) bool { return onTCP(v) && !v.tls }}) {
			for _, v.half = range []bool{false, true} {
				if !e.in(v) {
					continue
				}
				name := e.name + "," + v.String()
				if v.half {
					name += ",half-close allowed"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s := open(t, v, false)
					e.timer(s)
					if e.before != nil {
						e.before(s)
					}
					barrier(t) // what the peer has sent is here
					mend := s.pull(s.wire, s.bare)
					defer mend()
					if e.name == "user timeout with data in flight" {
						s.bare.Write(message)
					}
					s.witness.ended(liveness.ErrPeerLost, syscall.ETIMEDOUT)
					got := s.read()
					if want := error(syscall.ETIMEDOUT); e.eof && got.err != io.EOF || !e.eof && !errors.Is(got.err, want) {
						t.Errorf("Read returned %v at the end", got.err)
					}
					if e.before != nil && !e.eof && !bytes.Equal(got.data, message) {
						t.Errorf("read %q before the end", got.data)
					}
					// Who retries after every time-out must get to an end.
					for n := 0; ; n++ {
						_, err := s.conn.Read(make([]byte, 1))
						if ne, ok := err.(net.Error); !ok || !ne.Timeout() {
							break
						}
						if n == 100 {
							t.Errorf("Read goes on to return %v, whose Timeout() is true", err)
							break
						}
					}
					s.end()
				})
			}
		}
	}
}

// TestResetInAnOutage resets while the kernel is asking, in vain so far, whether
// the peer is there. That leaves counters behind as if it were lost.
func TestResetInAnOutage(t *testing.T) {
	for name, solicit := range map[string]func(*scene) bool{
		"retransmissions": func(s *scene) bool {
			if !s.full {
				s.conn.Write(message)
				s.full = true // once
			}
			return s.tcpInfo().Retransmits > 0
		},
		"keep-alive probes": func(s *scene) bool {
			if !s.full {
				s.must(s.bare.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 5}))
				s.full = true
			}
			return s.tcpInfo().Probes > 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(t, variant{network: "tcp4"}, false)
			mend := s.pull(s.bare)
			until(t, func() bool { return solicit(s) })
			s.must(mend())
			s.wire.Reset()
			s.witness.ended(liveness.ErrPeerReset, syscall.ECONNRESET)
			s.end()
		})
	}
}

// TestKernelGivesUpBehindWindow has data in flight when the window closes: what is
// retransmitted then counts as nothing, and its end must not look like a reset.
func TestKernelGivesUpBehindWindow(t *testing.T) {
	t.Parallel()
	for range 10 {
		conn, peer := livenesstest.Pair(t, "tcp4")
		c := wrap(t, conn, nil)
		var err error
		var info *unix.TCPInfo
		control := func(f func(fd int)) {
			raw, err := conn.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			raw.Control(func(fd uintptr) { f(int(fd)) })
		}
		control(func(fd int) { err = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_RTO_MAX_MS, 1000) })
		if err != nil {
			t.Skip(err)
		}
		// Small segments may fill the buffer of the peer before they fill its window.
		if err := peer.NetConn().(*net.TCPConn).SetReadBuffer(16 << 10); err != nil {
			t.Fatal(err)
		}
		c.SetWriteDeadline(time.Now().Add(time.Second))
		for err == nil {
			_, err = c.Write(message[:1])
		}
		control(func(fd int) { info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO) })
		if err != nil || info.Unacked == 0 || info.Snd_wnd != 0 {
			continue
		}
		if _, err := livenesstest.Cut(conn); err != nil {
			t.Fatal(err)
		}
		<-c.Done()
		if !errors.Is(c.Err(), liveness.ErrPeerLost) {
			t.Errorf("Err() = %v after the kernel gave up; %+v", c.Err(), c.Status())
		}
		return
	}
	t.Skip("no window closed on data in flight")
}
