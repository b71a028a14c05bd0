package liveness

import (
	"io"
	"net"
)

// inPieces reports whether t goes by Writes: StallTimeout does where the kernel does not
// tell what the peer takes, and a long Write says nothing while it waits.
func (c *Conn) inPieces(t *timeouts) bool {
	return t != nil && t.supervisor.Stall > 0 && !c.counted()
}

// writeInPieces writes b so that the clock sees each piece that was taken. No other
// Write's bytes come in between.
func (c *Conn) writeInPieces(t *timeouts, b []byte) (int, error) {
	t.writes.pieces.Lock()
	defer t.writes.pieces.Unlock()
	return pieceWriter{c.inner, t}.Write(b)
}

// A pieceWriter counts each piece that was taken.
type pieceWriter struct {
	inner net.Conn
	t     *timeouts
}

// piece is small beside a send buffer, so that one of them waits only if nothing, or next
// to nothing, is taken.
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
		w.t.writes.finished.Add(1)
	}
}

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
	if c.inPieces(t) {
		t.writes.pieces.Lock()
		n, err = v.WriteTo(pieceWriter{c.inner, t})
		t.writes.pieces.Unlock()
	} else {
		n, err = v.WriteTo(c.inner)
	}
	c.endWrite(t)
	if err != nil {
		err = c.writeFailed(err, err)
	}
	return n, err
}
