//go:build linux

package bench

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"github.com/murfffi/conncheck"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

func watchLiveness(conn net.Conn, o options) *watched {
	c := must(liveness.Wrap(conn, &liveness.Config{PeerTimeout: o.peerTimeout, ReadIdleTimeout: o.readIdle, AllowHalfClose: o.allowHalfClose}))
	w := &watched{Conn: c, closeErr: c.Err, probe: func() error { c.Alive(); return c.Err() }}
	if !o.quiet {
		w.gone = c.Done()
	}
	return w
}

var errGone = errors.New("not alive")

func probe(alive func() bool) func() error {
	return func() error {
		if !alive() {
			return errGone
		}
		return nil
	}
}

func watchConnstate(conn net.Conn, o options) *watched {
	gone := make(chan struct{})
	var opts []connstate.Option
	if !o.quiet {
		opts = append(opts, connstate.WithOnRemoteClosed(func() { close(gone) }))
	}
	st := must(connstate.ListenConnState(conn, opts...))
	return &watched{Conn: conn, gone: gone, release: func() { st.Close() }, probe: probe(func() bool { return st.State() == connstate.StateOK })}
}

func watchConncheck(conn net.Conn, o options) *watched {
	return &watched{Conn: conn, probe: probe(func() bool { return conncheck.Do(conn) != conncheck.StatusNotOpen })}
}

// watchMySQL sets no deadline: the driver sets one first only with readTimeout, which is off by default.
func watchMySQL(conn net.Conn, o options) *watched {
	return &watched{Conn: conn, probe: readProbe(rawOf(conn), unix.Read)}
}

func watchRedis(conn net.Conn, o options) *watched {
	if _, ok := conn.(*tls.Conn); ok {
		return &watched{Conn: conn, probe: func() error { return nil }}
	}
	peek := readProbe(rawOf(conn), func(fd int, b []byte) (int, error) {
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return n, err
	})
	return &watched{Conn: conn, probe: func() error { conn.SetDeadline(time.Time{}); return peek() }}
}

// readProbe takes any byte for a broken connection, as the drivers do.
func readProbe(raw syscall.RawConn, read func(fd int, b []byte) (int, error)) func() error {
	return func() error {
		verdict := errGone
		err := raw.Read(func(fd uintptr) bool {
			var b [1]byte
			if _, err := read(int(fd), b[:]); err == unix.EAGAIN {
				verdict = nil
			}
			return true
		})
		return errors.Join(err, verdict)
	}
}

// watchDeadline takes any byte for a broken connection, as the drivers do, and loses it.
func watchDeadline(conn net.Conn, o options) *watched {
	return &watched{Conn: conn, probe: func() error {
		conn.SetReadDeadline(time.Now().Add(time.Millisecond))
		defer conn.SetReadDeadline(time.Time{})
		var b [1]byte
		if _, err := conn.Read(b[:]); !errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(errGone, err)
		}
		return nil
	}}
}

// parked has a goroutine in a Read of one byte, which it keeps for the application, as net/http's background read does.
type parked struct {
	net.Conn
	result chan struct{} // closed when that Read returned
	head   []byte
	err    error
}

func watchParked(conn net.Conn, o options) *watched {
	p := &parked{Conn: conn, result: make(chan struct{})}
	gone := make(chan struct{})
	if o.readIdle > 0 {
		conn.SetReadDeadline(time.Now().Add(o.readIdle))
	}
	go func() {
		var b [1]byte
		n, err := conn.Read(b[:])
		p.head, p.err = b[:n], err
		close(p.result)
		// A time-out is an end only if the row asked for it.
		if err != nil && (o.readIdle > 0 || !errors.Is(err, os.ErrDeadlineExceeded)) && !errors.Is(err, net.ErrClosed) {
			close(gone)
		}
	}()
	return &watched{Conn: p, gone: gone, closeErr: func() error { return p.err }}
}

func (p *parked) Read(b []byte) (int, error) {
	<-p.result
	if n := copy(b, p.head); n > 0 {
		p.head = p.head[n:]
		return n, nil
	}
	if p.err != nil && !errors.Is(p.err, os.ErrDeadlineExceeded) {
		return 0, p.err
	}
	return p.Conn.Read(b)
}

func (p *parked) SyscallConn() (syscall.RawConn, error) { return rawOf(p.Conn), nil }

func (p *parked) CloseRead() error { return p.Conn.(interface{ CloseRead() error }).CloseRead() }

func watchOptions(conn net.Conn, o options) *watched {
	if o.peerTimeout > 0 {
		check(rawOf(conn).Control(func(fd uintptr) {
			check(unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.peerTimeout/time.Millisecond)))
		}))
	}
	return watchParked(conn, o)
}

// watchDup waits for readability or RDHUP on a duplicate of the descriptor, once. The wait occupies a thread.
func watchDup(conn net.Conn, o options) *watched {
	var dup int
	check(rawOf(conn).Control(func(fd uintptr) { dup = must(unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0)) }))
	gone := make(chan struct{})
	go func() {
		defer unix.Close(dup)
		defer close(gone)
		for err := error(unix.EINTR); err == unix.EINTR; {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(dup), Events: unix.POLLIN | unix.POLLRDHUP}}, -1)
		}
	}()
	return &watched{Conn: conn, gone: gone}
}
