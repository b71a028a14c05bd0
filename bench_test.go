package liveness_test

import (
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// benchConn is a wrapped connection, and benchBare one that is not, each with the
// peer of it.
func benchConn(tb testing.TB) (*liveness.Conn, *livenesstest.Peer) {
	bare, peer := benchBare(tb)
	c, err := liveness.Wrap(bare, nil)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	return c, peer
}

func benchBare(tb testing.TB) (*net.TCPConn, *livenesstest.Peer) {
	conn, peer := livenesstest.Pair(tb, "tcp4")
	return conn.(*net.TCPConn), peer
}

// benchEither runs f on a wrapped and on a bare connection.
func benchEither(b *testing.B, f func(b *testing.B, wrap bool)) {
	b.Run("wrapped", func(b *testing.B) { f(b, true) })
	b.Run("bare", func(b *testing.B) { f(b, false) })
}

func benchMaybe(tb testing.TB, wrap bool) (net.Conn, *livenesstest.Peer) {
	if wrap {
		return benchConn(tb)
	}
	return benchBare(tb)
}

func BenchmarkAlive(b *testing.B) {
	c, _ := benchConn(b)
	b.ReportAllocs()
	for b.Loop() {
		if !c.Alive() {
			b.Fatal(c.Err())
		}
	}
}

// From many goroutines at once.
func BenchmarkAliveParallel(b *testing.B) {
	c, _ := benchConn(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !c.Alive() {
				b.Error(c.Err())
			}
		}
	})
}

func BenchmarkErr(b *testing.B) {
	c, _ := benchConn(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Err(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatus(b *testing.B) {
	c, _ := benchConn(b)
	b.ReportAllocs()
	for b.Loop() {
		if s := c.Status(); s.Err != nil {
			b.Fatal(s.Err)
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	benchEither(b, func(b *testing.B, wrap bool) {
		conn, _ := benchMaybe(b, wrap)
		b.ReportAllocs()
		for b.Loop() {
			if err := liveness.Check(conn); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// An endless connection survives its Close, so that a benchmark need not make one
// for each round.
type endlessConn struct{ *net.TCPConn }

func (endlessConn) Close() error { return nil }

func BenchmarkWrapClose(b *testing.B) {
	benchConn(b) // keeps what connections share
	bare, _ := benchBare(b)
	conn := endlessConn{bare}
	b.ReportAllocs()
	for b.Loop() {
		c, err := liveness.Wrap(conn, nil)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

const benchMessage = 64

// benchPingPong makes n round trips.
func benchPingPong(tb testing.TB, conn net.Conn, n int) {
	buf := make([]byte, benchMessage)
	for range n {
		if _, err := conn.Write(buf); err != nil {
			tb.Fatal(err)
		}
		if _, err := io.ReadFull(conn, buf); err != nil {
			tb.Fatal(err)
		}
	}
}

func benchEcho(peer net.Conn) {
	buf := make([]byte, benchMessage)
	for {
		if _, err := io.ReadFull(peer, buf); err != nil {
			return
		}
		if _, err := peer.Write(buf); err != nil {
			return
		}
	}
}

func BenchmarkPingPong(b *testing.B) {
	benchEither(b, func(b *testing.B, wrap bool) {
		conn, peer := benchMaybe(b, wrap)
		go benchEcho(peer.NetConn())
		b.ReportAllocs()
		for b.Loop() {
			benchPingPong(b, conn, 1)
		}
	})
}

// benchFile is a file of n zeros.
func benchFile(tb testing.TB, n int64) *os.File {
	file, err := os.CreateTemp(tb.TempDir(), "")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { file.Close() })
	if _, err := file.Write(make([]byte, n)); err != nil {
		tb.Fatal(err)
	}
	return file
}

// benchSendFile copies all of file to conn.
func benchSendFile(tb testing.TB, conn net.Conn, file *os.File) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		tb.Fatal(err)
	}
	if _, err := io.Copy(conn, file); err != nil {
		tb.Fatal(err)
	}
}

func BenchmarkFileToConn(b *testing.B) {
	benchEither(b, func(b *testing.B, wrap bool) {
		const size = 4 << 20
		file := benchFile(b, size)
		conn, peer := benchMaybe(b, wrap)
		peer.Drain()
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			benchSendFile(b, conn, file)
		}
	})
}

// A proxy that copies from one connection to another, with splice.
func BenchmarkConnToConn(b *testing.B) {
	benchEither(b, func(b *testing.B, wrap bool) {
		const size = 1 << 20
		from, source := benchMaybe(b, wrap)
		to, sink := benchMaybe(b, wrap)
		var copied sync.WaitGroup
		copied.Go(func() { io.Copy(to, from) })
		go func() {
			for chunk := make([]byte, size); ; {
				if _, err := source.Write(chunk); err != nil {
					return
				}
			}
		}()
		chunk := make([]byte, size)
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := io.ReadFull(sink, chunk); err != nil {
				b.Fatal(err)
			}
		}
		source.Reset()
		sink.Reset()
		copied.Wait()
	})
}

func benchBuffers() net.Buffers {
	v := make(net.Buffers, 64)
	for i := range v {
		v[i] = make([]byte, 256)
	}
	return v
}

func BenchmarkWriteBuffers(b *testing.B) {
	buffers := benchBuffers()
	run := func(conn net.Conn, peer *livenesstest.Peer, write func(*net.Buffers) (int64, error)) func(*testing.B) {
		return func(b *testing.B) {
			b.SetBytes(64 * 256)
			b.ReportAllocs()
			for b.Loop() {
				v := slices.Clone(buffers)
				if _, err := write(&v); err != nil {
					b.Fatal(err)
				}
			}
		}
	}
	c, peer := benchConn(b)
	peer.Drain()
	b.Run("wrapped", run(c, peer, c.WriteBuffers))
	// One Write for each buffer: what net.Buffers does to any wrapper.
	b.Run("wrapped, by WriteTo", run(c, peer, func(v *net.Buffers) (int64, error) { return v.WriteTo(c) }))
	bare, peer := benchBare(b)
	peer.Drain()
	b.Run("bare", run(bare, peer, func(v *net.Buffers) (int64, error) { return v.WriteTo(bare) }))
}

// benchNotice measures, for n connections one after the other, the time from a FIN
// to the moment at which a goroutine knows of it that waits for Done, or is in
// Read.
func benchNotice(tb testing.TB, listener net.Listener, wrap bool, n int) (took []time.Duration) {
	for range n {
		peer, err := livenesstest.Dial("tcp4", listener.Addr().String())
		if err != nil {
			tb.Fatal(err)
		}
		conn, err := listener.Accept()
		if err != nil {
			tb.Fatal(err)
		}
		known := make(chan time.Time, 1)
		parking := make(chan struct{})
		if wrap {
			c, err := liveness.Wrap(conn, nil)
			if err != nil {
				tb.Fatal(err)
			}
			conn = c
			go func() {
				done := c.Done()
				close(parking)
				<-done
				known <- time.Now()
			}()
		} else {
			go func() {
				close(parking)
				conn.Read(make([]byte, 1))
				known <- time.Now()
			}()
		}
		<-parking
		time.Sleep(100 * time.Microsecond) // everybody has gone to sleep
		begin := time.Now()
		if err := peer.CloseWrite(); err != nil {
			tb.Fatal(err)
		}
		took = append(took, (<-known).Sub(begin))
		conn.Close()
		peer.Reset()
	}
	return took
}

func benchListen(tb testing.TB) net.Listener {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { listener.Close() })
	return listener
}

func benchQuantile(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}

func BenchmarkNotice(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("nothing is noticed on this system")
	}
	run := func(wrap bool) func(*testing.B) {
		return func(b *testing.B) {
			listener := benchListen(b)
			keeper, _ := benchConn(b)
			var took []time.Duration
			for b.Loop() {
				took = append(took, benchNotice(b, listener, wrap, 1)...)
			}
			keeper.Close()
			slices.Sort(took)
			b.ReportMetric(0, "ns/op") // making the connection is in it
			b.ReportMetric(float64(benchQuantile(took, 0.50).Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(benchQuantile(took, 0.99).Nanoseconds()), "p99-ns")
		}
	}
	b.Run("FIN to Done", run(true))
	b.Run("FIN to the return of a Read that waits", run(false))
}

// benchMany makes n connections. The test is skipped if the system does not have so
// many. closeAll closes both ends of all.
func benchMany(tb testing.TB, n int) (conns []net.Conn, peers []*livenesstest.Peer, closeAll func()) {
	listener := benchListen(tb)
	closeAll = func() {
		listener.Close()
		for _, peer := range peers {
			peer.Reset()
		}
		for _, conn := range conns {
			conn.Close()
		}
	}
	for i := range n {
		peer, err := livenesstest.Dial("tcp4", listener.Addr().String())
		if err == nil {
			peers = append(peers, peer)
			var conn net.Conn
			if conn, err = listener.Accept(); err == nil {
				conns = append(conns, conn)
			}
		}
		if err != nil {
			closeAll()
			tb.Skipf("%d of %d connections: %v", i, n, err)
		}
	}
	return conns, peers, closeAll
}

// benchRetained returns the bytes that one of n wrapped connections keeps beyond
// the bare one, and the goroutines that all of them together add.
func benchRetained(tb testing.TB, n int) (bytes float64, goroutines int) {
	benchConn(tb) // what connections share is there
	conns, _, closeAll := benchMany(tb, n)
	defer closeAll()
	wrapped := make([]*liveness.Conn, n)
	heap := func() uint64 {
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before, had := heap(), runtime.NumGoroutine()
	for i, conn := range conns {
		c, err := liveness.Wrap(conn, nil)
		if err != nil {
			tb.Fatal(err)
		}
		wrapped[i] = c
	}
	bytes = float64(int64(heap())-int64(before)) / float64(n)
	goroutines = runtime.NumGoroutine() - had
	for _, c := range wrapped {
		c.Close()
	}
	return bytes, goroutines
}

func BenchmarkRetained(b *testing.B) {
	for b.Loop() {
		bytes, goroutines := benchRetained(b, 1000)
		b.ReportMetric(bytes, "B/conn")
		b.ReportMetric(float64(goroutines), "goroutines")
	}
	b.ReportMetric(0, "ns/op")
}

// benchResets resets n connections at once, and returns the time from before the
// first to when the last callback has begun; and how much of it the resetting
// itself took.
func benchResets(tb testing.TB, n int) (told, resetting time.Duration) {
	conns, peers, closeAll := benchMany(tb, n)
	defer closeAll()
	var waiting sync.WaitGroup
	waiting.Add(n)
	wrapped := make([]*liveness.Conn, n)
	for i, conn := range conns {
		c, err := liveness.Wrap(conn, &liveness.Config{OnDisconnect: func(*liveness.Conn, error) { waiting.Done() }})
		if err != nil {
			tb.Fatal(err)
		}
		wrapped[i] = c
		peers[i].NetConn().(*net.TCPConn).SetLinger(0)
	}
	runtime.GC()
	begin := time.Now()
	for _, peer := range peers {
		peer.NetConn().Close()
	}
	resetting = time.Since(begin)
	waiting.Wait()
	told = time.Since(begin)
	for _, c := range wrapped {
		c.Close()
	}
	return told, resetting
}

func BenchmarkResets(b *testing.B) {
	if runtime.GOOS != "linux" {
		b.Skip("nothing is noticed on this system")
	}
	for _, n := range []int{300, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			for b.Loop() {
				told, resetting := benchResets(b, n)
				b.ReportMetric(told.Seconds()*1e3, "ms-told")
				b.ReportMetric(resetting.Seconds()*1e3, "ms-resetting")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
