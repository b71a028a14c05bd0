//go:build linux

package bench

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/cloudwego/gopkg/net/connstate"
	"github.com/murfffi/conncheck"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
)

func watchLiveness(conn net.Conn, o options) (*watched, error) {
	c, err := liveness.Wrap(conn, &liveness.Config{PeerTimeout: o.peerTimeout, ReadIdleTimeout: o.readIdle, AllowHalfClose: o.allowHalfClose})
	if err != nil {
		return nil, err
	}
	w := &watched{Conn: c, closeErr: c.Err, probe: func() error { c.Alive(); return c.Err() }}
	if !o.quiet {
		w.gone = c.Done()
	}
	return w, nil
}

func watchCheck(conn net.Conn, o options) (*watched, error) {
	return &watched{Conn: conn, probe: func() error { return liveness.Check(conn) }}, nil
}

func watchConnstate(conn net.Conn, o options) (*watched, error) {
	gone := make(chan struct{})
	var opts []connstate.Option
	if !o.quiet {
		opts = append(opts, connstate.WithOnRemoteClosed(func() { close(gone) }))
	}
	st, err := connstate.ListenConnState(conn, opts...)
	if err != nil {
		return nil, err
	}
	return &watched{Conn: conn, gone: gone, release: func() { st.Close() }, probe: func() error {
		if st.State() != connstate.StateOK {
			return errGone
		}
		return nil
	}}, nil
}

func watchConncheck(conn net.Conn, o options) (*watched, error) {
	return &watched{Conn: conn, probe: func() error {
		if conncheck.Do(conn) == conncheck.StatusNotOpen {
			return errGone
		}
		return nil
	}}, nil
}

func watchMySQL(conn net.Conn, o options) (*watched, error) {
	raw, err := rawOf(conn)
	return &watched{Conn: conn, probe: func() error { return mysqlCheck(raw) }}, err
}

// mysqlCheck sets no deadline: the driver sets one first only with readTimeout, which is off by default.
func mysqlCheck(raw syscall.RawConn) error {
	return checkByRead(raw, func(fd int, b []byte) (int, error) { return unix.Read(fd, b) })
}

func watchRedis(conn net.Conn, o options) (*watched, error) {
	if _, ok := conn.(*tls.Conn); ok {
		return &watched{Conn: conn, probe: func() error { return nil }}, nil
	}
	raw, err := rawOf(conn)
	return &watched{Conn: conn, probe: func() error { return redisCheck(conn, raw) }}, err
}

func redisCheck(conn net.Conn, raw syscall.RawConn) error {
	conn.SetDeadline(time.Time{})
	return checkByRead(raw, func(fd int, b []byte) (int, error) {
		n, _, err := unix.Recvfrom(fd, b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		return n, err
	})
}

var errUnexpectedRead = errors.New("unexpected read from socket")

func checkByRead(raw syscall.RawConn, read func(fd int, b []byte) (int, error)) error {
	var verdict error
	err := raw.Read(func(fd uintptr) bool {
		var b [1]byte
		n, err := read(int(fd), b[:])
		switch {
		case n == 0 && err == nil:
			verdict = io.EOF
		case n > 0:
			verdict = errUnexpectedRead
		case err != unix.EAGAIN:
			verdict = err
		}
		return true
	})
	return errors.Join(err, verdict)
}

func watchDeadline(conn net.Conn, o options) (*watched, error) {
	return &watched{Conn: conn, probe: func() error { return deadlineCheck(conn) }}, nil
}

// deadlineCheck takes any byte for a broken connection, as the drivers do, and loses it.
func deadlineCheck(conn net.Conn) error {
	conn.SetReadDeadline(time.Now().Add(time.Millisecond))
	defer conn.SetReadDeadline(time.Time{})
	var b [1]byte
	_, err := conn.Read(b[:])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err == nil {
		return errUnexpectedRead
	}
	return err
}

// parked has a goroutine in a Read of one byte, which it keeps for the application, as net/http's background read does.
type parked struct {
	net.Conn
	result chan struct{} // closed when that Read returned
	mu     sync.Mutex
	head   []byte
	err    error
}

func watchParked(conn net.Conn, o options) (*watched, error) {
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
	return &watched{Conn: p, gone: gone, closeErr: func() error { return p.err }}, nil
}

func (p *parked) Read(b []byte) (int, error) {
	<-p.result
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := copy(b, p.head); n > 0 {
		p.head = p.head[n:]
		return n, nil
	}
	if p.err != nil && !errors.Is(p.err, os.ErrDeadlineExceeded) {
		return 0, p.err
	}
	return p.Conn.Read(b)
}

func (p *parked) CloseRead() error { return p.Conn.(interface{ CloseRead() error }).CloseRead() }

func watchOptions(conn net.Conn, o options) (*watched, error) {
	tune(conn, o)
	if raw, err := rawOf(conn); err == nil && o.peerTimeout > 0 {
		raw.Control(func(fd uintptr) {
			unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(o.peerTimeout/time.Millisecond))
		})
	}
	return watchParked(conn, o)
}

// watchDup waits for readability or RDHUP on a duplicate of the descriptor, once. The wait occupies a thread.
func watchDup(conn net.Conn, o options) (*watched, error) {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	var dup int
	var dupErr error
	if err := errors.Join(raw.Control(func(fd uintptr) { dup, dupErr = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }), dupErr); err != nil {
		return nil, err
	}
	gone := make(chan struct{})
	go func() {
		defer unix.Close(dup)
		defer close(gone)
		for err := error(unix.EINTR); err == unix.EINTR; {
			_, err = unix.Poll([]unix.PollFd{{Fd: int32(dup), Events: unix.POLLIN | unix.POLLRDHUP}}, -1)
		}
	}()
	return &watched{Conn: conn, gone: gone}, nil
}
