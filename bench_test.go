package liveness_test

import (
	"net"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/internal/testutil/race"
	"github.com/go-liveness/liveness/livenesstest"
)

// benchConn is a wrapped connection.
func benchConn(tb testing.TB) *liveness.Conn {
	bare, _ := livenesstest.Pair(tb, "tcp4")
	return wrap(tb, bare, nil)
}

// benchCall measures a call that returns the reason for an end, of which there is none.
func benchCall(b *testing.B, call func() error) {
	b.ReportAllocs()
	for b.Loop() {
		if err := call(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkErr(b *testing.B) { c := benchConn(b); benchCall(b, c.Err) }
func BenchmarkStatus(b *testing.B) {
	c := benchConn(b)
	benchCall(b, func() error { return c.Status().Err })
}

func BenchmarkAlive(b *testing.B) {
	c := benchConn(b)
	b.ReportAllocs()
	for b.Loop() {
		if !c.Alive() {
			b.Fatal(c.Err())
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	c := benchConn(b)
	bare, _ := livenesstest.Pair(b, "tcp4")
	b.Run("wrapped", func(b *testing.B) { benchCall(b, func() error { return liveness.Check(c) }) })
	b.Run("bare", func(b *testing.B) { benchCall(b, func() error { return liveness.Check(bare) }) })
}

func BenchmarkWrap(b *testing.B)            { benchWrap(b, nil) }
func BenchmarkWrapPeerTimeout(b *testing.B) { benchWrap(b, &liveness.Config{PeerTimeout: time.Minute}) }

// benchWrap measures Wrap and Close.
func benchWrap(b *testing.B, cfg *liveness.Config) {
	benchConn(b) // keeps what connections share
	bare, _ := livenesstest.Pair(b, "tcp4")
	b.ReportAllocs()
	for b.Loop() {
		c, err := liveness.Wrap(pooledConn{bare.(*net.TCPConn)}, cfg)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}

// benchMany makes n connections. It skips the test if the system does not have so many.
func benchMany(tb testing.TB, n int) (conns []net.Conn, peers []*livenesstest.Peer, closeAll func()) {
	listener := testutil.Listen(tb, "tcp4")
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

// benchRetained returns the bytes that one of n wrapped connections keeps beyond the bare
// one, its part of the tables included, how often Wrap allocates, and the goroutines that
// all of them together add.
func benchRetained(tb testing.TB, n int, cfg *liveness.Config) (bytes, allocs float64, goroutines int) {
	first := benchConn(tb) // what connections share is there
	defer first.Close()    // and then the tables are given back
	conns, _, closeAll := benchMany(tb, n)
	defer closeAll()
	heap := func() (m runtime.MemStats) {
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return m
	}
	wrapped := make([]*liveness.Conn, n)
	before, had := heap(), runtime.NumGoroutine()
	for i, conn := range conns {
		c, err := liveness.Wrap(conn, cfg)
		testutil.Must(tb, err)
		wrapped[i] = c
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	allocs = float64(after.Mallocs-before.Mallocs) / float64(n)
	bytes, goroutines = (float64(heap().HeapAlloc)-float64(before.HeapAlloc))/float64(n), runtime.NumGoroutine()-had
	for _, c := range wrapped {
		c.Close()
	}
	return bytes, allocs, goroutines
}

func BenchmarkRetained(b *testing.B) {
	for name, cfg := range map[string]*liveness.Config{"watched": nil, "callback": {OnDisconnect: func(*liveness.Conn, error) {}}, "PeerTimeout": {PeerTimeout: time.Minute}} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				bytes, _, goroutines := benchRetained(b, 1000, cfg)
				b.ReportMetric(bytes, "B/conn")
				b.ReportMetric(float64(goroutines), "goroutines")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// TestWhatIsAskedOftenAllocatesNothing counts what the calls allocate that programs make before each request.
func TestWhatIsAskedOftenAllocatesNothing(t *testing.T) {
	if race.Enabled {
		t.Skip("the race detector allocates")
	}
	needsChecks(t)
	for network, bareLimit := range map[string]float64{"tcp4": 0, "unix": 1} {
		bare, peer := livenesstest.Pair(t, network)
		other, _ := livenesstest.Pair(t, network)
		c := wrap(t, bare, &liveness.Config{AllowHalfClose: true})
		c.Status() // which the first time asks for the options
		for _, state := range []struct {
			name string
			do   func()
		}{
			{"idle", func() {}},
			{"unread", func() { peer.Write(make([]byte, 10)) }},
			{"in flight", func() { livenesstest.Cut(peer); c.Write(make([]byte, 10)) }},
			{"half-closed", func() { peer.CloseWrite() }},
			{"shut down on both sides", func() { bare.(interface{ CloseWrite() error }).CloseWrite() }},
		} {
			status := 0.0
			if runtime.GOOS != "linux" {
				bareLimit, status = 2, 16 // x/sys/windows allocates for each option
			}
			state.do()
			for _, call := range []struct {
				name  string
				limit float64
				f     func()
			}{
				{"Alive", 0, func() { c.Alive() }}, {"Err", 0, func() { c.Err() }}, {"Status", status, func() { c.Status() }},
				{"Check of a Conn", 0, func() { liveness.Check(c) }}, {"Check of a bare connection", bareLimit, func() { liveness.Check(other) }},
			} {
				if n := testing.AllocsPerRun(100, call.f); n > call.limit {
					t.Errorf("%s, %s: %s allocates %v times; want %v", network, state.name, call.name, n, call.limit)
				}
			}
			if runtime.GOOS != "linux" {
				break // the other states may be those after the end
			}
		}
	}
}

// The time from a FIN to the moment at which a goroutine knows of it that waits for Done, or
// in Read.
func BenchmarkNotice(b *testing.B) {
	for name, wait := range map[string]func(conn net.Conn) func(){
		"FIN to Done": func(conn net.Conn) func() {
			c, err := liveness.Wrap(conn, nil)
			if err != nil {
				b.Fatal(err)
			}
			done := c.Done()
			return func() { <-done; c.Close() }
		},
		"FIN to the return of a Read that waits": func(conn net.Conn) func() { return func() { conn.Read(make([]byte, 1)) } },
	} {
		b.Run(name, func(b *testing.B) {
			benchConn(b) // keeps what connections share
			var took []time.Duration
			for b.Loop() {
				conn, peer := livenesstest.Pair(b, "tcp4")
				wait, known := wait(conn), make(chan time.Time, 1)
				go func() { wait(); known <- time.Now() }()
				time.Sleep(100 * time.Microsecond) // both goroutines wait
				begin := time.Now()
				if err := peer.CloseWrite(); err != nil {
					b.Fatal(err)
				}
				took = append(took, (<-known).Sub(begin))
				conn.Close()
				peer.Reset()
			}
			slices.Sort(took)
			b.ReportMetric(0, "ns/op") // making the connection is in it
			b.ReportMetric(float64(took[len(took)/2].Nanoseconds()), "p50-ns")
			b.ReportMetric(float64(took[len(took)*99/100].Nanoseconds()), "p99-ns")
		})
	}
}
