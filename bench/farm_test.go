//go:build linux

package bench

import (
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

func startFarm() *farm {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	cmd.Stderr = os.Stderr
	f := &farm{cmd: cmd, in: must(cmd.StdinPipe()), out: json.NewDecoder(must(cmd.StdoutPipe()))}
	check(cmd.Start())
	return f
}

// do returns when the order has been carried out.
func (f *farm) do(o order) (a answer) {
	check(json.NewEncoder(f.in).Encode(o))
	check(f.out.Decode(&a))
	if a.Err != "" {
		panic(errors.New(a.Err))
	}
	return a
}

func (f *farm) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
}

func farmMain() {
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
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
