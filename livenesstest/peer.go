package livenesstest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// dialTimeout bounds Dial: a server on the same machine has a full backlog if it has not answered by then.
const dialTimeout = 10 * time.Second

// alertTimeout bounds what a connection above the socket does for its half-close. An alert of TLS takes microseconds, or as
// long as a busy machine makes it wait for a processor.
const alertTimeout = time.Second

// Peer is the far end of a connection: the one that goes away. Read, Write and the other methods of the embedded net.Conn
// are those of the bare connection. Its own methods end the connection in one way each.
//
// A Peer comes from Dial, NewPeer or Pair; its zero value is not usable. Multiple goroutines may invoke its methods
// simultaneously. The holder of the Peer owns the connection and closes it.
type Peer struct {
	net.Conn
}

// Dial connects a new Peer, in this process, to a server. network and address are those of net.Dial, or network is "mptcp":
// Multipath TCP, which net.Dial does not use by default; a connection that falls back to TCP then is an error that is
// errors.ErrUnsupported. With every other network Multipath TCP is not tried. Dial blocks until the connection is made, for
// ten seconds at most.
func Dial(network, address string) (*Peer, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	multipath := network == "mptcp"
	if multipath {
		network = "tcp"
	}
	dialer.SetMultipathTCP(multipath)
	conn, err := dialer.Dial(network, address)
	if err != nil {
		return nil, err
	}
	if multipath {
		// Go and the kernel both fall back without a word.
		used, err := conn.(*net.TCPConn).MultipathTCP()
		if err == nil && !used {
			err = fmt.Errorf("livenesstest: dial mptcp %s: fell back to TCP: %w", address, errors.ErrUnsupported)
		}
		if err != nil {
			conn.Close()
			return nil, err
		}
	}
	return NewPeer(conn), nil
}

// NewPeer makes a Peer of a connection that the caller dialled, and turns off the keep-alive that net.Dial turned on. The
// Peer owns conn from then on. NewPeer does not block.
//
// conn may cover a socket, found by its NetConn methods, as a *tls.Conn does: Close and CloseWrite then are conn's own, with
// what that sends (a close_notify alert), and Reset is the socket's. Without a socket, as with net.Pipe, only Close works.
func NewPeer(conn net.Conn) *Peer {
	if tcp, ok := bare(conn).(interface{ SetKeepAlive(bool) error }); ok {
		tcp.SetKeepAlive(false)
	}
	return &Peer{conn}
}

// NetConn returns the connection that p covers, as it was given to NewPeer or dialled.
func (p *Peer) NetConn() net.Conn {
	return p.Conn
}

// Close ends the connection in order: the other end receives a FIN, after everything that was written to it. A Read or
// Write that waits returns net.ErrClosed, or what the system says of a half that was closed first (io.EOF, a broken pipe). A
// second Close is an error.
//
// A kernel that is asked to close a connection with unread bytes sends an RST in place of the FIN, since data was lost. Close
// therefore first discards what arrived and was not read. What arrives later is answered as after the close of any program,
// by an RST behind the FIN. (Multipath TCP answers nothing; bytes that arrive while Close runs may still make it a reset.)
//
// Close does not block, but for what TLS sends first: if its alert is not sent within a second, as when a Write of another
// goroutine waits for the other end to read, the FIN goes without it, which is no error.
func (p *Peer) Close() error {
	// The FIN goes first: bytes that arrive between the discarding and the closing can then no longer suppress it.
	interrupted, _ := p.closeWrite()
	socket := bare(p.Conn)
	if half, ok := socket.(halfCloser); ok {
		half.CloseWrite() // beneath TLS, whose own sends an alert and no FIN
	}
	if unix, ok := socket.(*net.UnixConn); ok {
		// On AF_UNIX such bytes would still be ECONNRESET at the other end. Here it can be kept from sending any.
		unix.CloseRead()
	}
	discard(socket)
	if interrupted {
		err := socket.Close() // whatever holds up those above it
		p.Conn.Close()
		return err
	}
	return p.Conn.Close()
}

// CloseWrite closes one half: the other end receives a FIN, and can still send, and p still read. The error is
// errors.ErrUnsupported if the connection has no halves.
//
// CloseWrite does not block, but for what TLS sends: if its alert is not sent within a second, as when a Write of another
// goroutine waits for the other end to read, that Write and the alert fail, the other end receives a FIN without the alert,
// and the error says why.
func (p *Peer) CloseWrite() error {
	_, err := p.closeWrite()
	return err
}

type halfCloser interface{ CloseWrite() error }

// closeWrite is CloseWrite. It reports whether what covers the socket had to be interrupted.
func (p *Peer) closeWrite() (interrupted bool, err error) {
	half, ok := p.Conn.(halfCloser)
	if !ok {
		return false, fmt.Errorf("livenesstest: no CloseWrite in %T: %w", p.Conn, errors.ErrUnsupported)
	}
	if _, covers := p.Conn.(interface{ NetConn() net.Conn }); !covers {
		return false, half.CloseWrite()
	}
	done := make(chan error, 1)
	go func() { done <- half.CloseWrite() }()
	select {
	case err := <-done:
		return false, err
	case <-time.After(alertTimeout):
	}
	// TLS sends its alert under the lock that a Write holds until all is written, and allows it five seconds.
	socket := bare(p.Conn)
	if half, ok := socket.(halfCloser); ok {
		half.CloseWrite() // what begins to write now fails
	}
	for begin := time.Now(); time.Since(begin) < alertTimeout; {
		// What waits already need not be woken by that. And the alert may set a deadline after this one.
		socket.SetWriteDeadline(time.Now())
		select {
		case err := <-done:
			return true, err
		case <-time.After(time.Millisecond):
		}
	}
	return true, fmt.Errorf("livenesstest: CloseWrite of %T: %w", p.Conn, os.ErrDeadlineExceeded)
}

// Reset ends the connection with an RST: bytes that are on the way are lost in both directions. It closes the socket itself,
// so that nothing above it (a TLS alert) is sent first. A Read or Write that waits returns net.ErrClosed.
//
// AF_UNIX has no RST. On Linux the other end gets ECONNRESET if its peer closes without having read everything, so there Reset
// closes p if bytes wait to be read. In all other cases the connection stays open and the error is errors.ErrUnsupported.
func (p *Peer) Reset() error {
	socket := bare(p.Conn)
	if tcp, ok := socket.(interface{ SetLinger(int) error }); ok {
		if err := tcp.SetLinger(0); err != nil {
			return err
		}
		return socket.Close()
	}
	if n, err := unread(socket); err != nil {
		return err
	} else if n == 0 {
		return fmt.Errorf("livenesstest: reset: no RST, and no unread bytes, in %T: %w", socket, errors.ErrUnsupported)
	}
	return socket.Close()
}

// Drain reads and discards whatever arrives from now on, in a goroutine that ends with the connection, or with the first
// error that Read returns. It does not block.
func (p *Peer) Drain() {
	go io.Copy(io.Discard, p.Conn)
}

// maxDepth bounds the search for the socket: the NetConn of a connection may return that itself.
const maxDepth = 32

// bare returns what conn covers: the last connection that its NetConn methods lead to.
func bare(conn net.Conn) net.Conn {
	for range maxDepth {
		outer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			break
		}
		inner := outer.NetConn()
		if inner == nil {
			break
		}
		conn = inner
	}
	return conn
}

// control runs f with the descriptor of conn's socket. It takes no read or write lock: goroutines that wait in Read or Write
// do not delay it.
func control(conn net.Conn, f func(fd int) error) error {
	socket, ok := bare(conn).(syscall.Conn)
	if !ok {
		return fmt.Errorf("no socket in %T: %w", conn, errors.ErrUnsupported)
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = f(int(fd)) }); err != nil {
		return err
	}
	return failed
}
