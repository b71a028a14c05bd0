package liveness

import (
	"errors"
	"io"
	"net"
	"syscall"

	"github.com/go-liveness/liveness/internal/sock"
)

// ReadFrom implements io.ReaderFrom by that of the wrapped connection, with sendfile and
// splice where it has them. r may be a *Conn itself, or one in an *io.LimitedReader.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	if err := c.writeErr(); err != nil {
		return 0, err
	}
	to, ok := c.inner.(io.ReaderFrom)
	if !ok && splicable(c) == nil || c.wantsPieces() {
		return io.Copy(writerOnly{c}, r)
	}
	from := sourceOf(r)
	if from != nil && from.wantsReads() {
		from, r = nil, readerOnly{r}
	}
	defer c.beginIO().endIO()
	defer c.endWrite(c.beginWrite())
	var n int64
	var err error
	switch {
	case !ok: // a *net.UnixConn: sources know it, and do what it does not
		n, err = io.Copy(c.inner, r)
	case from == nil:
		n, err = to.ReadFrom(r)
	default:
		n, err = from.copyTo(to, writerOnly{c}, r)
	}
	if err != nil {
		err = c.writeFailed(nil, err) // it may be the error of r; the check tells
	}
	return n, err
}

// sourceOf returns the Conn that r reads from, if package net can read from what it wraps
// without user space.
func sourceOf(r io.Reader) *Conn {
	if limited, ok := r.(*io.LimitedReader); ok {
		return splicable(limited.R)
	}
	return splicable(r)
}

// copyTo copies what c wraps to a connection of package net, and what c can still deliver
// after a verdict to w. r is c or limits it.
func (c *Conn) copyTo(to io.ReaderFrom, w io.Writer, r io.Reader) (n int64, err error) {
	c.takeSnapshot()
	defer c.beginIO().endIO()
	before := c.streamPosition()
	limited, isLimited := r.(*io.LimitedReader)
	if isLimited {
		// package net recognises its own types in a LimitedReader, but not a Conn.
		bare := io.LimitedReader{R: c.inner, N: limited.N}
		n, err = to.ReadFrom(&bare)
		limited.N = bare.N
		if err == nil && limited.N <= 0 {
			return n, nil
		}
	} else {
		n, err = to.ReadFrom(c.inner)
	}
	rest, err := c.copied(w, r, err, before, n)
	return n + rest, err
}

// WriteTo implements io.WriterTo. Data goes through splice where package net would do so
// between the wrapped connections.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	to, isConn := w.(*Conn)
	if splicable(c) == nil || c.wantsReads() || isConn && to.wantsPieces() {
		return io.Copy(w, readerOnly{c})
	}
	bare := w
	if isConn {
		if _, ok := to.inner.(io.ReaderFrom); ok {
			return to.ReadFrom(c)
		}
		if splicable(to) != nil {
			bare = to.inner
		}
	}
	if tcp, ok := bare.(*net.TCPConn); ok {
		return c.copyTo(tcp, w, c)
	}
	from, ok := c.inner.(io.WriterTo)
	if !ok {
		return io.Copy(w, readerOnly{c})
	}
	if isConn {
		if err := to.writeErr(); err != nil {
			return 0, err
		}
		defer to.beginIO().endIO()
		defer to.endWrite(to.beginWrite())
	}
	c.takeSnapshot()
	defer c.beginIO().endIO()
	before := c.streamPosition()
	n, err := from.WriteTo(bare)
	rest, err := c.copied(w, c, err, before, n)
	if err != nil && isConn {
		err = to.writeFailed(nil, err)
	}
	return n + rest, err
}

// wantsReads reports whether a copy from c has to go through Read: a silence is counted
// and only Reads tell of one, or a verdict may interrupt a copy and only Reads tell how
// far it came.
func (c *Conn) wantsReads() bool {
	t := c.timeouts.Load()
	if t == nil || c.sock.counted && c.sock.family == familyTCP {
		return false
	}
	s := &t.supervisor
	return t.shortest.Load() > 0 && !c.counted() || s.Peer > 0 && c.counted() || s.Stall > 0
}

// wantsPieces reports whether a copy to c has to go through Write: while it waits for its
// source, there is nothing that the peer could take.
func (c *Conn) wantsPieces() bool { return c.inPieces(c.timeouts.Load()) }

// splicable returns r as a *Conn if what it wraps is package net's own, which copies
// between sockets without user space if it recognises them.
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

// streamPosition returns how many bytes of the stream were read from the socket, or -1
// if that is not known or no verdict can interrupt a copy.
func (c *Conn) streamPosition() int64 {
	var s sample
	if c.timeouts.Load() == nil || !c.sock.counted || !c.sock.sample(&s) || s.info.Received < 0 {
		return -1
	}
	return received(&s.info) - int64(s.unread)
}

// copied ends a copy of n bytes out of what c wraps. A nil err means that the copy came to
// the end of file; anything else is an error of either side. What c can still deliver after
// a verdict goes to w, through r, if the error certainly came from reading c: then all that
// was read was also written. Otherwise the destination's error stands, because bytes that
// the kernel had read and not written are gone.
func (c *Conn) copied(w io.Writer, r io.Reader, err error, before, n int64) (int64, error) {
	if err == nil {
		_, err = c.readFailed(nil, 0, io.EOF)
		if err == io.EOF {
			err = nil
		}
		return 0, err
	}
	c.ioFailed(nil, false)
	e := c.end.Load()
	if e == nil || !c.interrupts(e) || !isDeadline(err) || before < 0 || c.streamPosition() != before+n {
		return 0, err
	}
	return io.Copy(w, readerOnly{r})
}

// writerOnly and readerOnly hide ReadFrom and WriteTo from io.Copy.
type writerOnly struct{ io.Writer }
type readerOnly struct{ io.Reader }

// SyscallConn returns a raw connection to the socket of the wrapped connection itself,
// never to one further beneath: what is written beneath TLS would go out in plain text.
// If the wrapped connection has none, the error wraps errors.ErrUnsupported. After a
// verdict of the library, Read and Write of the raw connection return the verdict.
func (c *Conn) SyscallConn() (syscall.RawConn, error) {
	s, ok := c.inner.(syscall.Conn)
	if !ok {
		return nil, c.opError("raw", errors.ErrUnsupported)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return nil, err
	}
	if _, ok := c.inner.(*net.UnixConn); ok && c.timeouts.Load() == nil {
		// It has no ReadFrom to bring io.Copy back to, so let that find the PollFD.
		return raw, nil
	}
	return &rawConn{raw, c}, nil
}

// A rawConn has the connection checked after whatever is written through it. It also hides
// the PollFD of package net's raw connection: with it, io.Copy from an *os.File would go
// straight to the descriptor, around ReadFrom; without it, ReadFrom uses the same sendfile.
type rawConn struct {
	raw syscall.RawConn
	c   *Conn
}

func (r *rawConn) Control(f func(uintptr)) error {
	defer r.c.endWrite(r.c.beginWrite())
	return r.raw.Control(f)
}

func (r *rawConn) Read(f func(uintptr) bool) error {
	if e := r.c.end.Load(); e != nil {
		r.c.snapshot(e)
		if r.c.drainsAfter(e) {
			return r.readRest(f, e)
		}
	}
	return r.verdict("read", r.raw.Read(f))
}

// readRest lets f read once, if anything is left that came before the verdict e.
func (r *rawConn) readRest(f func(uintptr) bool, e *ending) error {
	e.rest.mu.Lock()
	defer e.rest.mu.Unlock()
	if r.c.restUnread(e) <= 0 {
		return r.c.verdictError("read", e)
	}
	return r.raw.Control(func(fd uintptr) {
		before := sock.Unread(fd)
		f(fd)
		e.rest.unread -= before - sock.Unread(fd)
	})
}

func (r *rawConn) Write(f func(uintptr) bool) error {
	if err := r.c.writeErr(); err != nil {
		return err
	}
	defer r.c.endWrite(r.c.beginWrite())
	return r.verdict("write", r.raw.Write(f))
}

// verdict replaces the time-out with which a verdict interrupts a Read or Write.
func (r *rawConn) verdict(op string, err error) error {
	if e := r.c.end.Load(); err != nil && e != nil && r.c.interrupts(e) && isDeadline(err) {
		return r.c.verdictError(op, e)
	}
	return err
}
