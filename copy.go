package liveness

import (
	"errors"
	"io"
	"net"
	"syscall"
)

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
