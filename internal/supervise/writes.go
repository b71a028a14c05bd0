package supervise

import (
	"io"
	"net"
	"time"
)

// BeginWrite and EndWrite go around whatever may leave data outstanding. Both have the
// connection checked: a check that finds nothing outstanding lets it sleep, and must not do
// so while a write is on its way to the kernel. BeginWrite returns what EndWrite is to be
// called on: t, or nil if no time-out depends on writes.
func (t *Timeouts) BeginWrite(conn Connection) *Timeouts {
	if t == nil || t.supervisor.Stall == 0 && (t.supervisor.Peer == 0 || t.uncounted != nil) {
		return nil
	}
	t.inProgress.Add(1)
	t.mark(conn)
	return t
}

// EndWrite is the opposite of BeginWrite.
func (t *Timeouts) EndWrite(conn Connection) {
	if t != nil {
		t.finished.Add(1)
		t.inProgress.Add(-1)
		t.mark(conn)
	}
}

// mark has the connection checked soon, unless it will be already. Until then the kernel
// must not give it up.
func (t *Timeouts) mark(conn Connection) {
	if t.awake.Load() || !t.awake.CompareAndSwap(false, true) {
		return
	}
	if t.supervisor.Peer > 0 && !t.mayBlock {
		t.checking.Lock()
		t.extendPatience(conn, 0)
		t.checking.Unlock()
	}
	conn.Wake(time.Now().Add(t.supervisor.Pace()))
}

// InPieces reports whether writes go by WriteInPieces: StallTimeout does where the kernel
// does not tell what the peer takes, and a long Write says nothing while it waits.
func (t *Timeouts) InPieces() bool {
	return t != nil && t.uncounted != nil && t.supervisor.Stall > 0
}

// WriteInPieces writes b to w so that the clock sees each piece that was taken. No other
// write's bytes come in between.
func (t *Timeouts) WriteInPieces(w io.Writer, b []byte) (int, error) {
	t.uncounted.pieces.Lock()
	defer t.uncounted.pieces.Unlock()
	return pieceWriter{w, t}.Write(b)
}

// WriteBuffersInPieces is WriteInPieces for the contents of v, which it consumes.
func (t *Timeouts) WriteBuffersInPieces(w io.Writer, v *net.Buffers) (int64, error) {
	t.uncounted.pieces.Lock()
	defer t.uncounted.pieces.Unlock()
	return v.WriteTo(pieceWriter{w, t})
}

// A pieceWriter counts each piece that was taken.
type pieceWriter struct {
	inner io.Writer
	t     *Timeouts
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
		w.t.finished.Add(1)
	}
}
