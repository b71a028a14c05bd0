//go:build linux

package bench

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
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

// A farm holds the client ends of connections in a process of its own, which can be killed and stopped. It ends with its
// standard input.
type farm struct {
	cmd *exec.Cmd
	in  io.Writer
	out io.Reader
}

func startFarm() *farm {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"=1")
	f := &farm{cmd, must(cmd.StdinPipe()), must(cmd.StdoutPipe())}
	check(cmd.Start())
	return f
}

// do has an order carried out, and returns when that began, by now.
func (f *farm) do(op string, n int, addr, prelude string) (began int64) {
	var failure string
	must(fmt.Fprintf(f.in, "%s %d %q %q\n", op, n, addr, prelude))
	must(fmt.Fscanf(f.out, "%d %q\n", &began, &failure))
	if failure != "" {
		panic(errors.New(failure))
	}
	return began
}

func (f *farm) kill() {
	f.cmd.Process.Kill()
	f.cmd.Wait()
}

func farmMain() {
	var conns []*net.TCPConn
	for {
		var op, addr, prelude, failure string
		var n int
		if _, err := fmt.Fscanf(os.Stdin, "%s %d %q %q\n", &op, &n, &addr, &prelude); err != nil {
			return
		}
		began := now()
		var err error
		if conns, err = carryOut(op, n, addr, prelude, conns); err != nil {
			failure = err.Error()
		}
		fmt.Printf("%d %q\n", began, failure)
	}
}

func carryOut(op string, n int, addr, prelude string, conns []*net.TCPConn) ([]*net.TCPConn, error) {
	switch op {
	case "dial":
		dialer := net.Dialer{Timeout: 20 * time.Second, KeepAlive: -1}
		for range n {
			c, err := dialer.Dial("tcp4", addr)
			if err != nil {
				return conns, err
			}
			conns = append(conns, c.(*net.TCPConn))
			if _, err := io.WriteString(c, prelude); err != nil {
				return conns, err
			}
		}
	case "close", "reset": // the last n, or all if there are fewer
		for ; n > 0 && len(conns) > 0; n-- {
			c := conns[len(conns)-1]
			conns = conns[:len(conns)-1]
			if op == "reset" {
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
	case "spin": // keep n processors busy for a minute at most
		for range n {
			go func() {
				for start := time.Now(); time.Since(start) < time.Minute; {
				}
			}()
		}
	}
	return conns, nil
}
