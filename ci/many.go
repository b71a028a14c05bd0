//go:build ignore

// Many watches more and more connections of one process, up to the number that its argument
// says, and prints for each step what a connection costs. At each step some peers close,
// some reset and some vanish, and every end must be reported once and with its reason. The
// peers are sockets of the same process, so it needs twice as many descriptors, which root
// may have. Its exit status is 1 if a report was wrong or missing.
package main

import (
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

const (
	timeout    = time.Minute     // PeerTimeout of most connections
	soon       = 4 * time.Second // PeerTimeout of those whose peer vanishes
	perPort    = 20_000          // connections to one listening port, fewer than ephemeral ports
	part       = 100             // one in so many closes, and one in so many resets
	vanishing  = 100
	patience   = time.Minute // for reports
	stepsUpTo  = 8           // the first step has an eighth of the connections
	checkedFor = timeout/2 + 5*time.Second
)

// A pair is a connection that is watched, and the descriptor of its peer.
type pair struct {
	conn *liveness.Conn
	peer int
}

// reports counts the ends by their reason.
var reports struct{ closed, reset, lost, other atomic.Int64 }

func report(_ *liveness.Conn, err error) {
	switch {
	case errors.Is(err, liveness.ErrPeerClosed):
		reports.closed.Add(1)
	case errors.Is(err, liveness.ErrPeerReset):
		reports.reset.Add(1)
	case errors.Is(err, liveness.ErrPeerLost):
		reports.lost.Add(1)
	default:
		reports.other.Add(1)
	}
}

// await waits until count is n, or for too long.
func await(what string, count *atomic.Int64, n int64) {
	for start := time.Now(); count.Load() < n && time.Since(start) < patience; {
		time.Sleep(10 * time.Millisecond)
	}
	if got := count.Load(); got != n || reports.other.Load() != 0 {
		log.Fatalf("%s: %d reports instead of %d, and %d with another reason", what, got, n, reports.other.Load())
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

// connect makes n connections, eight at a time.
func connect(n int) (conns []net.Conn, peers []int) {
	conns, peers = make([]net.Conn, n), make([]int, n)
	var work sync.WaitGroup
	for from := 0; from < n; from += perPort {
		l := must(net.Listen("tcp4", "127.0.0.1:0"))
		port := l.Addr().(*net.TCPAddr).Port
		end := min(from+perPort, n)
		work.Go(func() {
			defer l.Close()
			for i := from; i < end; i++ {
				peers[i] = must(unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0))
				check(unix.Connect(peers[i], &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}))
				conns[i] = must(l.Accept())
			}
		})
	}
	work.Wait()
	return conns, peers
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// cpu is what the process has had of the processors.
func cpu() time.Duration {
	var r unix.Rusage
	check(unix.Getrusage(unix.RUSAGE_SELF, &r))
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

func percent(used, of time.Duration) string {
	return fmt.Sprintf("%.2f %%", 100*used.Seconds()/of.Seconds())
}

// grow watches more connections until there are n, and returns the memory of one of the new.
func grow(pairs []pair, n int, cfg *liveness.Config) ([]pair, float64) {
	conns, peers := connect(n - len(pairs))
	pairs = append(make([]pair, 0, n), pairs...)
	before := heap()
	for i, conn := range conns {
		pairs = append(pairs, pair{must(liveness.Wrap(conn, cfg)), peers[i]})
	}
	return pairs, (heap() - before) / float64(len(conns))
}

// end has some peers close and some reset, and removes them.
func end(pairs []pair, closing, resetting int) []pair {
	closed, reset := reports.closed.Load(), reports.reset.Load()
	ending := pairs[len(pairs)-closing-resetting:]
	for i, p := range ending {
		if i >= closing {
			check(unix.SetsockoptLinger(p.peer, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		}
		check(unix.Close(p.peer))
	}
	await("closed", &reports.closed, closed+int64(closing))
	await("reset", &reports.reset, reset+int64(resetting))
	for _, p := range ending {
		check(p.conn.Close())
	}
	return pairs[:len(pairs)-len(ending)]
}

// vanish has some peers vanish.
func vanish(cfg liveness.Config) time.Duration {
	cfg.PeerTimeout = soon
	pairs, _ := grow(nil, vanishing, &cfg)
	bare := make([]net.Conn, 0, vanishing)
	for _, p := range pairs {
		bare = append(bare, p.conn.NetConn())
	}
	_, err := livenesstest.Cut(bare...)
	check(err)
	start, lost := time.Now(), reports.lost.Load()
	await("lost", &reports.lost, lost+vanishing)
	took := time.Since(start)
	for _, p := range pairs {
		check(p.conn.Close())
		check(unix.Close(p.peer))
	}
	if limit := soon + soon/20 + 3*time.Second; took > limit {
		log.Fatalf("lost after %v, more than %v", took, limit)
	}
	return took
}

// write writes to all connections, reads it at their peers, and measures the checks that
// follow.
func write(pairs []pair) (used time.Duration) {
	buf := make([]byte, 64)
	for _, p := range pairs {
		must(p.conn.Write(buf))
	}
	for _, p := range pairs {
		must(unix.Read(p.peer, buf))
	}
	before := cpu()
	time.Sleep(checkedFor)
	return cpu() - before
}

func main() {
	n := must(strconv.Atoi(os.Args[1]))
	check(os.WriteFile("/proc/sys/fs/nr_open", []byte(strconv.Itoa(4*n+10_000)), 0))
	check(os.WriteFile("/proc/sys/fs/file-max", []byte(strconv.Itoa(4*n+10_000)), 0))
	// Probes of thousands of connections may be due in one tick, and loopback drops what exceeds this.
	check(os.WriteFile("/proc/sys/net/core/netdev_max_backlog", []byte(strconv.Itoa(2*n)), 0))
	limit := unix.Rlimit{Cur: uint64(3*n + 5000), Max: uint64(3*n + 5000)}
	check(unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	goroutines, group := runtime.NumGoroutine(), &liveness.Group{Name: "many"}
	cfg := liveness.Config{PeerTimeout: timeout, OnDisconnect: report, Group: group}

	fmt.Println("| connections | bytes each | CPU while idle | CPU each after a write | last of 100 lost, PeerTimeout 4 s | FIN and RST reported |")
	fmt.Println("|---|---|---|---|---|---|")
	var pairs []pair
	for step := stepsUpTo; step >= 1; step /= 2 {
		size := n / step
		var bytes float64
		pairs, bytes = grow(pairs, size, &cfg)
		before := cpu()
		time.Sleep(5 * time.Second)
		idle := cpu() - before
		used := write(pairs)
		took := vanish(cfg)
		pairs = end(pairs, size/part, size/part)
		fmt.Printf("| %d | %.0f | %s | %.1f µs | %.1f s | %d and %d |\n", size, bytes, percent(idle, 5*time.Second),
			used.Seconds()*1e6/float64(size), took.Seconds(), size/part, size/part)
	}
	for _, p := range pairs {
		check(p.conn.Err())
	}
	all, before, start := len(pairs), cpu(), time.Now()
	end(pairs, 0, all)
	fmt.Printf("%d resets reported and closed in %.1f s, with %.1f µs of CPU for each, the peers' part included\n", all,
		time.Since(start).Seconds(), (cpu()-before).Seconds()*1e6/float64(all))
	if s := group.Stats(); s.Open != 0 || s.Local != 0 || s.Wrapped != s.Closed+s.Reset+s.Lost {
		log.Fatalf("the group has counted %+v", s)
	}
	for start := time.Now(); runtime.NumGoroutine() > goroutines; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > patience {
			log.Fatalf("%d goroutines are left", runtime.NumGoroutine()-goroutines)
		}
	}
	fmt.Println("--- PASS: many")
}
