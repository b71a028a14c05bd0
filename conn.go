package liveness

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/go-liveness/liveness/internal/errno"
)

// What callers of *net.TCPConn assert for.
var _ interface {
	net.Conn
	io.ReaderFrom
	io.WriterTo
	syscall.Conn
	CloseRead() error
	CloseWrite() error
} = (*Conn)(nil)

// Read reads from the wrapped connection and returns what that one returns, with
// two exceptions. An end of file on a stream that was cut off by a reset or a
// time-out, whose error a Write has taken meanwhile, is returned as that error: a
// reset stream never reads as complete. And after a verdict of the library's own
// (ErrPeerLost, ErrPeerStalled, ErrPeerIdle), which ends a Read that waits, what was
// received before is still returned, and then an error that wraps the verdict; with
// PeerTimeout also where it was the kernel's own probes that found the peer lost. Its
// Timeout method reports false, so that a loop that goes on after the time-outs of
// its own deadlines ends. A Read waits until there is something to return; Close, a
// deadline and a verdict end the wait. Of a wrapped connection that is not package net's
// own, what was received before is what its Read returns beside an expired deadline.
func (c *Conn) Read(b []byte) (int, error) {
	c.record()
	if !c.counted() {
		return c.readUncounted(b)
	}
	if !c.direct {
		// Whatever is in between may write meanwhile, as TLS does for a handshake.
		defer c.endWrite(c.beginWrite())
	}
	n, err := c.inner.Read(b)
	if err != nil {
		return c.readFailed(b, n, err)
	}
	return n, nil
}

// readUncounted is Read where the kernel does not tell what was received, nor how a
// connection ended once its error was taken.
func (c *Conn) readUncounted(b []byte) (n int, err error) {
	c.beginRead()
	defer c.beginIO().endIO()
	n, err = c.inner.Read(b)
	c.endRead(n)
	if err != nil {
		return c.readFailed(b, n, err)
	}
	return n, nil
}

// beginIO and endIO go around whatever may take the error of a socket that keeps no
// other trace of how it ended. An event waits for them; see socket.deferToIO.
func (c *Conn) beginIO() *Conn {
	if c.counted() { // then the kernel keeps one
		return nil
	}
	c.sock.inIO.Add(1)
	return c
}

func (c *Conn) endIO() {
	if c != nil && c.sock.inIO.Add(-1) == 0 && c.sock.deferred.Swap(false) && c.end.Load() == nil {
		c.look(hint{event: true})
	}
}

// Write writes to the wrapped connection and returns what that one returns, or,
// after a verdict of the library's own, an error that wraps it; see Read. It waits
// while the send buffer is full; Close, a deadline and a verdict end the wait.
func (c *Conn) Write(b []byte) (int, error) {
	if err := c.refused(); err != nil {
		return 0, err
	}
	if io := c.beginIO(); io != nil {
		defer io.endIO()
	}
	t := c.beginWrite()
	var n int
	var err error
	if c.inPieces(t) {
		t.pieces.Lock()
		n, err = pieceWriter{c.inner, t}.Write(b)
		t.pieces.Unlock()
	} else {
		n, err = c.inner.Write(b)
	}
	c.endWrite(t)
	if err != nil {
		err = c.writeFailed(err, err)
	}
	return n, err
}

// inPieces reports whether t goes by Writes: StallTimeout does where the kernel does
// not tell what the peer takes, and a long Write says nothing while it waits.
func (c *Conn) inPieces(t *timers) bool { return t != nil && t.asks.Stall > 0 && !c.counted() }

// A pieceWriter tells the clock of each piece that was taken. Its user holds
// timers.pieces, so that nobody else's bytes come in between.
type pieceWriter struct {
	inner net.Conn
	t     *timers
}

// piece is small beside a send buffer, so that one of them waits only if nothing, or
// next to nothing, is taken.
const piece = 16 << 10

func (w pieceWriter) Write(b []byte) (n int, err error) {
	for {
		next := b[n:min(n+piece, len(b))]
		m, err := w.inner.Write(next)
		n += m
		if err == nil && m < len(next) {
			err = io.ErrShortWrite
		}
		if err != nil || n == len(b) {
			return n, err
		}
		w.t.wrote.Add(1)
	}
}

// WriteBuffers writes the contents of v and consumes it, as v.WriteTo would do on
// the wrapped connection: with writev where that has it. [net.Buffers.WriteTo]
// cannot reach through a wrapper, and makes one Write for each buffer. Errors are
// those of Write.
func (c *Conn) WriteBuffers(v *net.Buffers) (int64, error) {
	if err := c.refused(); err != nil {
		return 0, err
	}
	defer c.beginIO().endIO()
	t := c.beginWrite()
	var n int64
	var err error
	if c.inPieces(t) {
		t.pieces.Lock()
		n, err = v.WriteTo(pieceWriter{c.inner, t})
		t.pieces.Unlock()
	} else {
		n, err = v.WriteTo(c.inner)
	}
	c.endWrite(t)
	if err != nil {
		err = c.writeFailed(err, err)
	}
	return n, err
}

// ReadFrom implements io.ReaderFrom by that of the wrapped connection, with
// sendfile and splice where it has them; r may be a *Conn itself, or one in an
// *io.LimitedReader.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if err := c.refused(); err != nil {
		return 0, err
	}
	to, ok := c.inner.(io.ReaderFrom)
	if !ok && splicable(c) == nil || c.wantsPieces() {
		return io.Copy(writerOnly{c}, r)
	}
	defer c.beginIO().endIO()
	defer c.endWrite(c.beginWrite())
	if !ok { // a *net.UnixConn: sources know it, and do what it does not
		n, err := io.Copy(c.inner, r)
		if err != nil {
			err = c.writeFailed(nil, err)
		}
		return n, err
	}
	limited, isLimited := r.(*io.LimitedReader)
	var from *Conn
	if isLimited {
		from = splicable(limited.R)
	} else {
		from = splicable(r)
	}
	if from != nil && from.wantsReads() {
		from, r = nil, readerOnly{r}
	}
	if from != nil {
		from.record()
		defer from.beginIO().endIO()
	}
	var n int64
	var err error
	switch {
	case from == nil:
		n, err = to.ReadFrom(r)
	case isLimited:
		// package net recognises its own types in a LimitedReader, not ours.
		bare := io.LimitedReader{R: from.inner, N: limited.N}
		n, err = to.ReadFrom(&bare)
		limited.N = bare.N
	default:
		n, err = to.ReadFrom(from.inner)
	}
	if from != nil && (err != nil || !isLimited || limited.N > 0) {
		var rest int64
		rest, err = from.copied(writerOnly{c}, r, err)
		n += rest
	}
	if err != nil {
		err = c.writeFailed(nil, err) // it may be the error of r; the look tells
	}
	return n, err
}

// WriteTo implements io.WriterTo. Data go through splice where package net would
// do so between the wrapped connections.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	to, isConn := w.(*Conn)
	if splicable(c) == nil || c.wantsReads() || isConn && to.wantsPieces() {
		return io.Copy(w, readerOnly{c})
	}
	c.record()
	bare := w
	if isConn {
		if _, ok := to.inner.(io.ReaderFrom); ok {
			return to.ReadFrom(c)
		}
		if splicable(to) != nil {
			bare = to.inner
		}
	}
	var n int64
	var err error
	if from, ok := c.inner.(io.WriterTo); ok {
		if isConn {
			if err := to.refused(); err != nil {
				return 0, err
			}
			defer to.beginIO().endIO()
			defer to.endWrite(to.beginWrite())
		}
		defer c.beginIO().endIO()
		n, err = from.WriteTo(bare)
	} else if tcp, ok := bare.(*net.TCPConn); ok {
		defer c.beginIO().endIO()
		n, err = tcp.ReadFrom(c.inner)
	} else {
		return io.Copy(w, readerOnly{c})
	}
	rest, err := c.copied(w, c, err)
	if err != nil && isConn {
		err = to.writeFailed(nil, err)
	}
	return n + rest, err
}

// wantsReads reports whether a copy from c has to go through Read, because a silence is
// watched for and nothing but Reads tells of one.
func (c *Conn) wantsReads() bool {
	t := c.timers.Load()
	return t != nil && t.least.Load() > 0 && !c.counted()
}

// wantsPieces reports whether a copy to c has to go through Write: while it waits for
// its source, there is nothing that the peer could take.
func (c *Conn) wantsPieces() bool { return c.inPieces(c.timers.Load()) }

// splicable returns r as a *Conn if what it wraps is package net's own, which
// copies between sockets without user space if it recognises them.
func splicable(r any) *Conn {
	c, ok := r.(*Conn)
	if !ok {
		return nil
	}
	switch c.inner.(type) {
	case *net.TCPConn, *net.UnixConn:
		return c
	}
	return nil
}

// copied ends a copy out of what c wraps. A nil err means that the copy came to
// c's end of file, anything else is an error of either side. What c can still
// deliver after a verdict of ours goes to w, through r, which is c or limits it.
func (c *Conn) copied(w io.Writer, r io.Reader, err error) (int64, error) {
	if err == nil {
		_, err = c.readFailed(nil, 0, io.EOF)
		if err == io.EOF {
			err = nil
		}
		return 0, err
	}
	c.ioFailed(nil, false)
	if e := c.end.Load(); e != nil && e.ours && isDeadline(err) {
		return io.Copy(w, readerOnly{r})
	}
	return 0, err
}

// writerOnly and readerOnly hide ReadFrom and WriteTo from io.Copy.
type writerOnly struct{ io.Writer }
type readerOnly struct{ io.Reader }

// ioFailed takes the error of an I/O method as a hint; one look decides. Nil
// stands for an error that may be another connection's.
func (c *Conn) ioFailed(err error, wrote bool) sight {
	if err != nil && isDeadline(err) || c.end.Load() != nil {
		return sight{}
	}
	s := c.look(hint{err: err, wrote: wrote})
	if err != nil && s.outcome > open && s.outcome != closed && c.sock.family == familyTCP && !c.sock.watch.foreign {
		theHub.Doubt(&c.sock.watch.Token) // unless the system tells of it too
	}
	return s
}

// writeFailed returns the error that a write returns: err itself, unless it comes
// from a verdict of ours. own is err if it is certainly of this connection.
func (c *Conn) writeFailed(own, err error) error {
	c.ioFailed(own, true)
	if e := c.end.Load(); e != nil && (e.ours && isDeadline(err) || errno.In(own) != nil && c.foundLost(e)) {
		return c.verdictError("write", e)
	}
	return err
}

// foundLost reports whether e is what PeerTimeout was to find, and the kernel's probes
// have found it: a Read or Write need not know who was first.
func (c *Conn) foundLost(e *ending) bool {
	t := c.timers.Load()
	return t != nil && t.asks.Peer > 0 && !e.ours && e.cause != nil && e.cause.reason == ErrPeerLost
}

// readFailed returns what Read(b) returns after the wrapped Read has returned n
// and err.
func (c *Conn) readFailed(b []byte, n int, err error) (int, error) {
	s := c.ioFailed(err, false)
	e := c.end.Load()
	if e != nil {
		e.contexts.Lock()
		//lint:ignore SA2001 to wait is all
		e.contexts.Unlock()
	}
	switch {
	case e != nil && e.ours && isDeadline(err):
		// Another's Read may have changed what the socket gave it, as a cipher does.
		if n == 0 && c.direct && !c.sock.watch.foreign {
			switch n, err := c.sock.drain(b); {
			case n > 0:
				return n, nil
			case err == io.EOF && c.kernel.look(hint{err: err}).fin:
				return 0, io.EOF
			}
		}
		return n, c.verdictError("read", e)
	case e != nil && errno.IsLost(errno.In(err)) && c.foundLost(e):
		return n, c.verdictError("read", e)
	case err != io.EOF || !c.direct:
		return n, err
	}
	if e != nil && e.cutOff != nil {
		s = sight{outcome: aborted, errno: e.cutOff}
		if c.counted() {
			// Now that all is read, a FIN shows that could not be seen behind data.
			s = c.kernel.look(hint{err: err})
		}
	}
	if s.outcome != aborted || s.fin {
		return n, io.EOF
	}
	if e != nil && c.foundLost(e) {
		return n, c.verdictError("read", e)
	}
	return n, opError("read", c.inner, &cutOff{os.NewSyscallError("read", s.errno)})
}

// cutOff is the error of a stream that ended without a FIN, delivered in place of
// an end of file. It is no time-out even if its errno says so: there may be a loop
// that goes on after the time-outs of its own deadlines, and the errno comes again.
type cutOff struct{ error }

func (*cutOff) Timeout() bool   { return false }
func (e *cutOff) Unwrap() error { return e.error }

// verdictError is the verdict as Read and Write return it.
func (c *Conn) verdictError(op string, e *ending) error {
	return opError(op, c.inner, &interrupted{*e.cause})
}

// interrupted is a cause that is no time-out, for that would mean a deadline that
// the user set.
type interrupted struct{ cause }

func (*interrupted) Timeout() bool { return false }

// refused is the error of a write that begins after a verdict of ours: the deadline
// that would end it is set a moment after the verdict is told.
func (c *Conn) refused() error {
	if e := c.end.Load(); e != nil && e.ours && !e.closing.Load() {
		return c.verdictError("write", e)
	}
	return nil
}

// interrupt ends the Reads and Writes that wait, and those to come. The methods of
// a foreign connection may block, and nobody here may wait for them.
func (c *Conn) interrupt() {
	expire := func() {
		c.deadlines.Lock()
		defer c.deadlines.Unlock()
		c.inner.SetDeadline(longAgo)
	}
	if !c.direct || c.sock.watch.foreign {
		go expire()
	} else {
		expire()
	}
}

var longAgo = time.Unix(1, 0)

// deadline returns the deadline to set for one that the user asks for: his, unless
// a verdict of ours has overruled it. deadlines is held.
func (c *Conn) deadline(t time.Time) time.Time {
	if e := c.end.Load(); e != nil && e.ours {
		return longAgo
	}
	return t
}

// Close closes the wrapped connection and returns what its Close returns: it ends
// the Reads and Writes that wait, and a second Close is an error as it is for the wrapped
// connection. Unless the connection has ended already, this is the end, with
// net.ErrClosed as its reason.
//
// After ErrPeerLost and ErrPeerStalled, where the library has given the connection
// up and the kernel not, Close frees the kernel's buffers at once: the peer, if it
// comes back, gets a RST. This overrides SetLinger.
func (c *Conn) Close() error {
	c.judge(sight{outcome: closed})
	e := c.end.Load()
	c.evidence(e) // the last moment to take it
	if e.ours && e.cause.reason != ErrPeerIdle && c.sock.raw != nil {
		c.sock.abortOnClose()
	}
	e.closing.Store(true) // from here on, writes return what the wrapped connection returns
	if c.sock.watch != nil {
		theHub.Remove(&c.sock.watch.Token, c.sock.raw)
	}
	return c.inner.Close()
}

// CloseRead shuts down the reading side of the wrapped connection. If that has no
// CloseRead, the error wraps errors.ErrUnsupported and nothing was done.
func (c *Conn) CloseRead() error {
	half, ok := c.inner.(interface{ CloseRead() error })
	if !ok {
		return opError("close", c.inner, errors.ErrUnsupported)
	}
	c.kernel.shut(true, false)
	return half.CloseRead()
}

// CloseWrite shuts down the writing side of the wrapped connection: the peer gets
// a FIN. If the peer has sent its own before, this is the end (ErrPeerClosed). A
// wrapped *[crypto/tls.Conn] sends a close notification and no FIN, so that only Close
// is the end then.
//
// If the wrapped connection has no CloseWrite, the error wraps
// errors.ErrUnsupported and nothing was done; a copy loop must then call Close, or
// its peer waits for ever. A type assertion for CloseWrite does not tell, because
// a Conn always has the method.
func (c *Conn) CloseWrite() error {
	half, ok := c.inner.(interface{ CloseWrite() error })
	if !ok {
		return opError("close", c.inner, errors.ErrUnsupported)
	}
	c.kernel.shut(false, true)
	t := c.beginWrite() // a FIN wants to be acknowledged too
	err := half.CloseWrite()
	c.endWrite(t)
	c.ioFailed(nil, true)
	return err
}

// LocalAddr returns the local address of the wrapped connection.
func (c *Conn) LocalAddr() net.Addr { return c.inner.LocalAddr() }

// RemoteAddr returns the remote address of the wrapped connection.
func (c *Conn) RemoteAddr() net.Addr { return c.inner.RemoteAddr() }

// SetDeadline sets the deadlines of the wrapped connection. They are the user's:
// the library sets none while connected, and an expired one is no end. After a
// verdict of the library's own no deadline revives a Read or a Write.
func (c *Conn) SetDeadline(t time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	return c.inner.SetDeadline(c.deadline(t))
}

// SetReadDeadline sets the read deadline; see SetDeadline.
func (c *Conn) SetReadDeadline(t time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	return c.inner.SetReadDeadline(c.deadline(t))
}

// SetWriteDeadline sets the write deadline; see SetDeadline.
func (c *Conn) SetWriteDeadline(t time.Time) error {
	c.deadlines.Lock()
	defer c.deadlines.Unlock()
	return c.inner.SetWriteDeadline(c.deadline(t))
}

// SyscallConn returns a raw connection to the socket of the wrapped connection
// itself, never to one further beneath: what is written beneath TLS would go out
// in plain text. If the wrapped connection has none, the error wraps
// errors.ErrUnsupported.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.inner.(syscall.Conn)
	if !ok {
		return nil, opError("raw", c.inner, errors.ErrUnsupported)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	if _, ok := c.inner.(*net.UnixConn); ok {
		if t := c.timers.Load(); t == nil || t.asks.Stall == 0 {
			// It has no ReadFrom to bring io.Copy back to, so let that find the PollFD.
			return raw, nil
		}
	}
	return &rawConn{raw, c}, nil
}

// A rawConn has the connection watched after whatever is written through it. It
// also hides the PollFD of package net's raw connection: with it, io.Copy from an
// *os.File would go straight to the descriptor, around ReadFrom; without it,
// ReadFrom uses the same sendfile.
type rawConn struct {
	raw syscall.RawConn
	c   *Conn
}

func (r *rawConn) Control(f func(uintptr)) error {
	defer r.c.endWrite(r.c.beginWrite())
	return r.raw.Control(f)
}

func (r *rawConn) Read(f func(uintptr) bool) error {
	r.c.record()
	return r.raw.Read(f)
}

func (r *rawConn) Write(f func(uintptr) bool) error {
	defer r.c.endWrite(r.c.beginWrite())
	return r.raw.Write(f)
}
