package liveness_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// pattern is n bytes of which no part can be taken for another. It must not be changed.
func pattern(n int) []byte { return allPatterns()[:n] }

var allPatterns = sync.OnceValue(func() []byte {
	b := make([]byte, 0, overflows)
	for i := uint32(0); len(b) < overflows; i++ {
		b = binary.BigEndian.AppendUint32(b, i)
	}
	return b
})

// A copyRig is a copy from one connection to another: peer to in, out to sink.
type copyRig struct {
	*testing.T
	in, out    net.Conn // what the copy is given
	peer, sink net.Conn // what the two peers have
	inWire     *livenesstest.Peer
	outWire    *livenesstest.Peer
	stream     []byte
	arrived    <-chan testutil.Stream // at sink
}

// A copyWay is how the copy is made, and of what.
type copyWay struct {
	name           string
	wrapIn, wrapTo bool
	tlsIn, tlsTo   bool
	copy           func(to, from net.Conn) (int64, error)
}

func ioCopy(to, from net.Conn) (int64, error) { return io.Copy(to, from) }

var copyWays = []copyWay{
	{"io.Copy", true, true, false, false, ioCopy},
	{"ReadFrom", true, true, false, false, func(to, from net.Conn) (int64, error) { return to.(io.ReaderFrom).ReadFrom(from) }},
	{"WriteTo", true, true, false, false, func(to, from net.Conn) (int64, error) { return from.(io.WriterTo).WriteTo(to) }},
	{"LimitedReader", true, true, false, false, func(to, from net.Conn) (int64, error) {
		return io.Copy(to, &io.LimitedReader{R: from, N: 1 << 40})
	}},
	{"bare to Conn", false, true, false, false, ioCopy},
	{"Conn to bare", true, false, false, false, ioCopy},
	{"TLS to Conn", true, true, true, false, ioCopy},
	{"Conn to TLS", true, true, false, true, ioCopy},
}

// A copyEvent is what ends the copy.
type copyEvent struct {
	name   string
	size   int
	in     liveness.Config
	before func(*copyRig)
	during func(*copyRig)
	want   func(error) bool
	all    bool // the whole stream arrives
	takes  bool // the sink takes everything from the beginning
	only   func(copyWay) bool
}

func isDeadline(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
func isReset(err error) bool    { return errors.Is(err, testutil.ErrnoReset()) }

const (
	fitsIntoBuffers = 60_000
	overflows       = 16 << 20
)

var copyEvents = []copyEvent{
	{name: "source closes", size: overflows, during: func(r *copyRig) { r.feed(); r.inWire.CloseWrite() },
		want: func(err error) bool { return err == nil }, all: true, takes: true},
	{name: "source resets", size: fitsIntoBuffers, before: func(r *copyRig) { r.feed() }, during: func(r *copyRig) { r.inWire.Reset() }, want: isReset, takes: true},
	{name: "source is idle", size: fitsIntoBuffers, in: liveness.Config{ReadIdleTimeout: 2 * time.Second}, before: func(r *copyRig) { r.feed() },
		want: func(err error) bool { return errors.Is(err, liveness.ErrPeerIdle) }, all: true, takes: true, only: func(w copyWay) bool { return w.wrapIn }},
	{name: "destination's deadline", size: overflows, before: func(r *copyRig) { r.out.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) },
		during: func(r *copyRig) { go r.feed() }, want: isDeadline},
	{name: "destination resets", size: overflows, during: func(r *copyRig) { go r.feed(); r.takes(100_000); r.outWire.Reset() },
		want: func(err error) bool { return err != nil && !isDeadline(err) }},
	{name: "destination is closed by us", size: overflows, during: func(r *copyRig) { go r.feed(); r.takes(100_000); r.outBeneath().Close() },
		want: func(err error) bool { return errors.Is(err, net.ErrClosed) }},
}

// TestCopyLosesNothingInTheMiddle ends copies in every way. What arrives is the beginning of the stream, byte for byte, and
// the error is that of the side that failed.
func TestCopyLosesNothingInTheMiddle(t *testing.T) {
	t.Parallel()
	for _, event := range copyEvents {
		for _, way := range copyWays {
			if event.only != nil && !event.only(way) {
				continue
			}
			t.Run(strings.ReplaceAll(event.name+"/"+way.name, " ", "_"), func(t *testing.T) {
				if event.in.ReadIdleTimeout > 0 {
					t.Parallel() // it waits
				}
				testutil.Deadline(t)
				r := newCopyRig(t, way, event)
				if event.takes {
					r.arrived = testutil.GoReadAll(r.sink)
				}
				if event.before != nil {
					event.before(r)
				}
				done := make(chan int64, 1)
				var err error
				go func() {
					n, cerr := way.copy(r.out, r.in)
					err = cerr
					done <- n
				}()
				if event.during != nil {
					event.during(r)
				}
				n := testutil.Await(t, done)
				if !event.want(err) {
					t.Errorf("the copy returned %v", err)
				}
				r.check(n, event.all)
			})
		}
	}
}

func newCopyRig(t *testing.T, way copyWay, event copyEvent) *copyRig {
	r := &copyRig{T: t, stream: pattern(event.size)}
	r.in, r.inWire = livenesstest.Pair(t, "tcp4")
	r.out, r.outWire = livenesstest.Pair(t, "tcp4")
	r.peer, r.sink = r.inWire, r.outWire
	if way.wrapIn {
		r.in = wrap(t, r.in, &event.in)
	}
	if way.wrapTo {
		r.out = wrap(t, r.out, nil)
	}
	if way.tlsIn {
		server, client := testutil.Secure(t, r.in, r.inWire.Conn)
		r.in, r.peer = server, client
	}
	if way.tlsTo {
		server, client := testutil.Secure(t, r.out, r.outWire.Conn)
		r.out, r.sink = server, client
	}
	return r
}

// feed has the peer send the stream, as far as it is taken.
func (r *copyRig) feed() { r.peer.Write(r.stream) }

// takes has the sink take n bytes and no more. What it takes later is behind them.
func (r *copyRig) takes(n int) {
	buf := make([]byte, n)
	n, _ = io.ReadFull(r.sink, buf)
	taken := make(chan testutil.Stream, 1)
	taken <- testutil.Stream{Data: buf[:n]}
	r.arrived = taken
}

func (r *copyRig) outBeneath() net.Conn {
	if above, ok := r.out.(interface{ NetConn() net.Conn }); ok {
		return above.NetConn()
	}
	return r.out
}

// check reads what has arrived and compares it with the stream.
func (r *copyRig) check(n int64, all bool) {
	r.Helper()
	r.outBeneath().(interface{ CloseWrite() error }).CloseWrite()
	if r.arrived == nil {
		r.arrived = testutil.GoReadAll(r.sink)
	}
	got := testutil.Await(r.T, r.arrived).Data
	if !bytes.HasPrefix(r.stream, got) {
		at := 0
		for at < len(got) && got[at] == r.stream[at] {
			at++
		}
		r.Errorf("%d bytes arrived of %d, and from %d on they are others", len(got), len(r.stream), at)
	}
	if all && (len(got) != len(r.stream) || n != int64(len(got))) {
		r.Errorf("%d bytes arrived of %d, the copy counted %d", len(got), len(r.stream), n)
	}
}

// A deadlineWriter sets its deadline anew before each Write, as careful servers do.
type deadlineWriter struct {
	net.Conn
	each time.Duration
}

func (w deadlineWriter) Write(b []byte) (int, error) {
	w.SetWriteDeadline(time.Now().Add(w.each))
	return w.Conn.Write(b)
}

// TestCopyStopsAtADestinationThatTimesOutAfterTheVerdict has the source's verdict come while the destination's Write waits,
// and then the destination time out in the middle of a chunk. To go on with the next chunk would leave a hole.
func TestCopyStopsAtADestinationThatTimesOutAfterTheVerdict(t *testing.T) {
	t.Parallel()
	const idle = 2 * time.Second // the set-up takes no longer
	for _, way := range copyWays {
		switch way.name {
		case "io.Copy", "Conn to bare", "TLS to Conn":
		default: // the writer hides how the copy is made, and TLS itself writes nothing after a deadline
			continue
		}
		t.Run(strings.ReplaceAll(way.name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			testutil.Deadline(t)
			r := newCopyRig(t, way, copyEvent{size: fitsIntoBuffers, in: liveness.Config{ReadIdleTimeout: idle}})
			r.feed() // long before the verdict, or there is nothing to copy
			testutil.Fill(r.out)
			done := make(chan error, 1)
			go func() {
				_, err := io.Copy(deadlineWriter{r.out, 2 * idle}, r.in)
				done <- err
			}()
			c, _ := liveness.From(r.in)
			needsReceived(t, c)
			testutil.Await(t, c.Done())
			// Room for a part of the chunk that waits.
			buf := make([]byte, 100_000)
			n, _ := r.sink.Read(buf)
			err := testutil.Await(t, done)
			r.outBeneath().(interface{ CloseWrite() error }).CloseWrite()
			got := append(buf[:n:n], testutil.Await(t, testutil.GoReadAll(r.sink)).Data...)
			stream := bytes.TrimLeft(r.stream, "\x00")
			if got = bytes.TrimLeft(got, "\x00"); !bytes.HasPrefix(stream, got) {
				t.Errorf("%d bytes of the stream arrived, with a hole among them", len(got))
			}
			if complete := len(got) == len(stream); !isDeadline(err) && !(complete && errors.Is(err, liveness.ErrPeerIdle)) {
				t.Errorf("the copy returned %v, want the deadline of the destination", err)
			}
		})
	}
}

// TestLimitedReaderGetsItsRestBack reads a part of what a connection has, and gives back what it did not use of the limit.
func TestLimitedReaderGetsItsRestBack(t *testing.T) {
	testutil.Deadline(t)
	for _, limit := range []int64{7, int64(len(message)) + 1000} {
		conn, source := livenesstest.Pair(t, "tcp4")
		from := wrap(t, conn, nil)
		conn, sink := livenesstest.Pair(t, "tcp4")
		to := wrap(t, conn, nil)
		source.Write(message)
		source.CloseWrite()
		want := message[:min(limit, int64(len(message)))]
		limited := &io.LimitedReader{R: from, N: limit}
		if n, err := to.ReadFrom(limited); n != int64(len(want)) || err != nil || limited.N != limit-n {
			t.Errorf("ReadFrom = %d, %v, and %d left of %d", n, err, limited.N, limit)
		}
		to.Close()
		if got := testutil.ReadAll(sink); !bytes.Equal(got.Data, want) {
			t.Errorf("copied %d bytes", len(got.Data))
		}
		if got := testutil.ReadAll(from); !bytes.Equal(got.Data, message[len(want):]) || got.Err != io.EOF {
			t.Errorf("%d bytes and %v were left", len(got.Data), got.Err)
		}
	}
}

// TestCopyThatWaitsHidesNoEnd has a copy wait for its other side while the peer of an AF_UNIX connection closes. A Read or
// Write of the copy could take the errno.
func TestCopyThatWaitsHidesNoEnd(t *testing.T) {
	t.Parallel()
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	for name, begin := range map[string]func(c, up net.Conn, peer *livenesstest.Peer){
		"from a source that sends nothing": func(c, up net.Conn, _ *livenesstest.Peer) { go io.Copy(c, up) },
		"both ways":                        func(c, up net.Conn, _ *livenesstest.Peer) { go io.Copy(c, up); go io.Copy(up, c) },
		"to one that takes nothing": func(c, up net.Conn, peer *livenesstest.Peer) {
			testutil.Fill(up)
			go io.Copy(up, c)
			testutil.Fill(peer)
		},
	} {
		for _, wrapped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, wrapped %t", name, wrapped), func(t *testing.T) {
				conn, peer := livenesstest.Pair(t, "unix")
				c := wrap(t, conn, nil)
				up, _ := livenesstest.Pair(t, "tcp4")
				if wrapped {
					up = wrap(t, up, nil)
				}
				begin(c, up, peer)
				runtime.Gosched()
				peer.Conn.Close() // both directions at once
				testutil.Await(t, c.Done())
				up.Close()
			})
		}
	}
}
