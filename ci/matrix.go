//go:build ignore

// Matrix measures the limits of the time-outs on the kernel that it runs on, on real
// connections whose cable it cuts, and prints them as a row of the table in
// docs/kernels.md. Its exit status is 1 if a limit was not kept, by more than a second
// that a busy machine may add.
package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

const (
	repeat = 3 // connections for each cell
	slack  = time.Second
)

// A cell is one measurement.
type cell struct {
	head  string
	limit time.Duration
	play  func() (time.Duration, error)
}

func idleLimit(d time.Duration) time.Duration     { return d + d/20 + 2*time.Second }
func inFlightLimit(d time.Duration) time.Duration { return d + d/4 + time.Second }

func cells() (all []cell) {
	const short, long = 4 * time.Second, 10 * time.Second
	all = append(all, cell{"idle, D = 4 s", idleLimit(short), func() (time.Duration, error) { return vanish(short, -1) }})
	for _, d := range []time.Duration{short, long} {
		for _, percent := range []time.Duration{0, 20, 33} {
			all = append(all, cell{fmt.Sprintf("written %d %% after the cut, D = %v", percent, d), inFlightLimit(d),
				func() (time.Duration, error) { return vanish(d, percent) }})
		}
	}
	all = append(all, cell{"closed window, D = 4 s", inFlightLimit(short), func() (time.Duration, error) { return vanishBehindClosedWindow(short) }})
	for _, unread := range []int{0, 1, 1000, 60_000} {
		all = append(all, cell{fmt.Sprintf("ReadIdleTimeout 1 s, %d bytes unread", unread), 1200 * time.Millisecond,
			func() (time.Duration, error) { return idle(time.Second, unread) }})
	}
	return append(all, cell{"DetectWithin, idle, D = 4 s", idleLimit(short), func() (time.Duration, error) {
		l, err := connect(&liveness.Config{PeerTimeout: short})
		if err != nil {
			return 0, err
		}
		defer l.close()
		return l.conn.Status().DetectWithin, nil
	}})
}

// A line is one connection, whose peer is in this process.
type line struct {
	conn *liveness.Conn
	bare net.Conn
	peer *livenesstest.Peer
}

func connect(cfg *liveness.Config) (*line, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close()
	peer, err := livenesstest.Dial("tcp4", l.Addr().String())
	if err != nil {
		return nil, err
	}
	bare, err := l.Accept()
	if err != nil {
		return nil, err
	}
	conn, err := liveness.Wrap(bare, cfg)
	return &line{conn, bare, peer}, err
}

func (l *line) close() { l.conn.Close(); l.peer.Close() }

// ends waits for the reason, and returns how long after since it came.
func (l *line) ends(reason error, since time.Time) (time.Duration, error) {
	select {
	case <-l.conn.Done():
	case <-time.After(2 * time.Minute):
		return time.Since(since), errors.New("not reported")
	}
	took := time.Since(since)
	if err := l.conn.Err(); !errors.Is(err, reason) {
		return took, err
	}
	return took, nil
}

// vanish cuts the cable, and writes after so many percent of d; less than 0 is never.
func vanish(d, percent time.Duration) (time.Duration, error) {
	l, err := connect(&liveness.Config{PeerTimeout: d})
	if err != nil {
		return 0, err
	}
	defer l.close()
	cut := time.Now()
	if _, err := livenesstest.Cut(l.bare, l.peer); err != nil {
		return 0, err
	}
	if percent >= 0 {
		time.Sleep(d * percent / 100)
		if _, err := l.conn.Write([]byte("in flight")); err != nil {
			return 0, err
		}
	}
	return l.ends(liveness.ErrPeerLost, cut)
}

func vanishBehindClosedWindow(d time.Duration) (time.Duration, error) {
	l, err := connect(&liveness.Config{PeerTimeout: d})
	if err != nil {
		return 0, err
	}
	defer l.close()
	go func() {
		for data := make([]byte, 64<<10); ; {
			if _, err := l.conn.Write(data); err != nil {
				return
			}
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); l.conn.Status().State != liveness.Stalled; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			return 0, errors.New("the window does not close")
		}
	}
	cut := time.Now()
	if _, err := livenesstest.Cut(l.bare, l.peer); err != nil {
		return 0, err
	}
	return l.ends(liveness.ErrPeerLost, cut)
}

func idle(d time.Duration, unread int) (time.Duration, error) {
	l, err := connect(&liveness.Config{ReadIdleTimeout: d})
	if err != nil {
		return 0, err
	}
	defer l.close()
	since := time.Now()
	if unread > 0 {
		if _, err := l.peer.Write(make([]byte, unread)); err != nil {
			return 0, err
		}
		since = time.Now()
	}
	return l.ends(liveness.ErrPeerIdle, since)
}

func main() {
	all := cells()
	if len(os.Args) > 1 && os.Args[1] == "-head" {
		head := "| kernel |"
		for _, c := range all {
			head += fmt.Sprintf(" %s (limit %.1f) |", c.head, c.limit.Seconds())
		}
		fmt.Println(head + "\n|" + strings.Repeat(" --- |", len(all)+1))
		return
	}
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	took, failed := make([][]time.Duration, len(all)), make([]error, len(all))
	var waiting sync.WaitGroup
	var mu sync.Mutex // guards took and failed
	for i, c := range all {
		for range repeat {
			waiting.Go(func() {
				d, err := c.play()
				if err == nil && d > c.limit+slack {
					err = fmt.Errorf("%v; the limit is %v", d, c.limit)
				}
				mu.Lock()
				defer mu.Unlock()
				took[i] = append(took[i], d)
				failed[i] = errors.Join(failed[i], err)
			})
		}
	}
	waiting.Wait()
	row, status := "| "+unix.ByteSliceToString(name.Release[:])+" |", 0
	for i, c := range all {
		from, to := slices.Min(took[i]).Seconds(), slices.Max(took[i]).Seconds()
		if row += fmt.Sprintf(" %.1f–%.1f |", from, to); fmt.Sprintf("%.1f", from) == fmt.Sprintf("%.1f", to) {
			row = strings.TrimSuffix(row, fmt.Sprintf(" %.1f–%.1f |", from, to)) + fmt.Sprintf(" %.1f |", to)
		}
		if failed[i] != nil {
			fmt.Printf("%s: %v\n", c.head, failed[i])
			status = 1
		}
	}
	fmt.Println(row)
	os.Exit(status)
}
