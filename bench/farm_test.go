//go:build linux

package bench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// childVariable makes a copy of this program a farm.
const childVariable = "LIVENESS_BENCH_FARM"

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		time.AfterFunc(10*time.Minute, func() { os.Exit(3) })
		farmMain()
		return
	}
	os.Exit(m.Run())
}

// now is a clock that all processes of the machine share, in nanoseconds.
func now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// An order tells a farm what to do.
type order struct {
	Op      string // dial, close, reset, drain or spin
	Addr    string
	Prelude string
	N       int
}

type answer struct {
	Err         string
	Begin, Done int64 // by now
}

// A farm holds the client ends of connections in a process of its own, which can be killed and stopped. It ends when its
// standard input is closed.
type farm struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *json.Decoder
}

func startFarm(tb testing.TB) *farm {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	fatal(tb, err)
	out, err := cmd.StdoutPipe()
	fatal(tb, err)
	fatal(tb, cmd.Start())
	tb.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	return &farm{cmd: cmd, in: in, out: json.NewDecoder(bufio.NewReader(out))}
}

// do returns when the order has been carried out.
func (f *farm) do(o order) (answer, error) {
	var a answer
	if err := json.NewEncoder(f.in).Encode(o); err != nil {
		return a, err
	}
	if err := f.out.Decode(&a); err != nil {
		return a, fmt.Errorf("the clients' process is gone: %w", err)
	}
	if a.Err != "" {
		return a, errors.New(a.Err)
	}
	return a, nil
}

func (f *farm) must(tb testing.TB, o order) answer {
	tb.Helper()
	a, err := f.do(o)
	fatal(tb, err)
	return a
}

func fatal(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func farmMain() {
	in, out := json.NewDecoder(bufio.NewReader(os.Stdin)), json.NewEncoder(os.Stdout)
	var conns []*net.TCPConn
	for {
		var o order
		if in.Decode(&o) != nil {
			return
		}
		a := answer{Begin: now()}
		var err error
		conns, err = carryOut(o, conns)
		a.Done = now()
		if err != nil {
			a.Err = err.Error()
		}
		if out.Encode(a) != nil {
			return
		}
	}
}

func carryOut(o order, conns []*net.TCPConn) ([]*net.TCPConn, error) {
	switch o.Op {
	case "dial":
		dialer := net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
		for range o.N {
			c, err := dialer.Dial("tcp4", o.Addr)
			if err != nil {
				return conns, err
			}
			conns = append(conns, c.(*net.TCPConn))
			if _, err := io.WriteString(c, o.Prelude); err != nil {
				return conns, err
			}
		}
	case "close", "reset": // the last N, or all if there are fewer
		for ; o.N > 0 && len(conns) > 0; o.N-- {
			c := conns[len(conns)-1]
			conns = conns[:len(conns)-1]
			if o.Op == "reset" {
				c.SetLinger(0)
			}
			if err := c.Close(); err != nil {
				return conns, err
			}
		}
	case "drain":
		for _, c := range conns {
			go io.Copy(io.Discard, struct{ io.Reader }{c})
		}
	case "spin": // keep N processors busy for five minutes at most
		var spinning sync.WaitGroup
		for range o.N {
			spinning.Add(1)
			go func() {
				spinning.Done()
				for start := time.Now(); time.Since(start) < 5*time.Minute; {
				}
			}()
		}
		spinning.Wait()
	default:
		return conns, fmt.Errorf("no order %q", o.Op)
	}
	return conns, nil
}
