package liveness

import (
	"io"
	"net"

	"github.com/go-liveness/liveness/internal/supervise"
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
	return (t.JudgesSilence() || t.MayEnd()) && !(c.sock.counted && c.sock.family == familyTCP)
}

// wantsPieces reports whether a copy to c has to go through Write: while it waits for its
// source, there is nothing that the peer could take.
func (c *Conn) wantsPieces() bool { return c.timeouts.Load().InPieces() }

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
	if c.timeouts.Load() == nil || !c.sock.counted {
		return -1
	}
	s := c.sock.sample(supervise.Full)
	if !s.Taken || s.Info.Received < 0 {
		return -1
	}
	return s.Info.ReceivedData() - int64(s.Unread)
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
	c.checkAfterIO(trigger{})
	e := c.end.Load()
	if e == nil || !c.interrupts(e) || !isDeadline(err) || before < 0 || c.streamPosition() != before+n {
		return 0, err
	}
	return io.Copy(w, readerOnly{r})
}

// writerOnly and readerOnly hide ReadFrom and WriteTo from io.Copy.
type writerOnly struct{ io.Writer }
type readerOnly struct{ io.Reader }

// WriteBuffers writes the contents of v and consumes it, as v.WriteTo would do on the
// wrapped connection: with writev where that has it. [net.Buffers.WriteTo] cannot reach
// through a wrapper, and makes one Write for each buffer. Errors are those of Write.
func (c *Conn) WriteBuffers(v *net.Buffers) (int64, error) {
	if err := c.writeErr(); err != nil {
		return 0, err
	}
	defer c.beginIO().endIO()
	t := c.beginWrite()
	var n int64
	var err error
	if t.InPieces() {
		n, err = t.WriteBuffersInPieces(c.inner, v)
	} else {
		n, err = v.WriteTo(c.inner)
	}
	c.endWrite(t)
	if err != nil {
		err = c.writeFailed(err, err)
	}
	return n, err
}
