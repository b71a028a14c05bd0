//go:build linux

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// childVariable says what a process of ours is to be.
const childVariable = "LIVENESS_BENCH_CHILD"

// childLimit ends a child that nobody ended.
const childLimit = 10 * time.Minute

// now is a clock that all processes of the machine share.
func now() int64 {
	var ts unix.Timespec
	unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	return ts.Nano()
}

// runChild is what a child does instead of main.
func runChild(what string) {
	time.AfterFunc(childLimit, func() { os.Exit(3) })
	switch what {
	case "farm":
		farmMain()
	case "idle":
		childMain(idle)
	case "busy":
		childMain(busy)
	default:
		fmt.Fprintln(os.Stderr, "no such child:", what)
		os.Exit(2)
	}
	os.Exit(0)
}

// startChild runs this program again. The child does not outlive this process.
func startChild(what string, stdin io.Reader, stdout io.Writer) (*exec.Cmd, chan error, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), childVariable+"="+what)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started, done := make(chan error), make(chan error, 1)
	go func() {
		runtime.LockOSThread() // the kernel means the thread that started the child
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			done <- cmd.Wait()
		}
	}()
	return cmd, done, <-started
}

// A farmOrder tells a farm of clients what to do.
type farmOrder struct {
	Op      string
	Addr    string
	Prelude string
	N       int
	Size    int
	Gap     time.Duration
}

type farmAnswer struct {
	Err   string
	Times []int64 // of the shared clock
}

// A farm holds the client ends of connections in a process of its own.
type farm struct {
	cmd  *exec.Cmd
	done chan error
	in   io.WriteCloser
	out  *json.Decoder
	mu   sync.Mutex
}

func startFarm() (*farm, error) {
	inR, inW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	outR, outW, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	cmd, done, err := startChild("farm", inR, outW)
	inR.Close()
	outW.Close()
	if err != nil {
		inW.Close()
		outR.Close()
		return nil, err
	}
	return &farm{cmd: cmd, done: done, in: inW, out: json.NewDecoder(bufio.NewReader(outR))}, nil
}

// do has an order carried out and waits until it is.
func (f *farm) do(o farmOrder) (farmAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var a farmAnswer
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

func (f *farm) dial(addr, prelude string, n int) error {
	_, err := f.do(farmOrder{Op: "dial", Addr: addr, Prelude: prelude, N: n})
	return err
}

// stop ends the process and reaps it.
func (f *farm) stop() {
	if f == nil {
		return
	}
	f.in.Close()
	f.cmd.Process.Kill()
	<-f.done
}

func farmMain() {
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	var conns []*net.TCPConn
	var steady chan struct{}
	var steadyDone sync.WaitGroup
	for {
		var o farmOrder
		if in.Decode(&o) != nil {
			return
		}
		var a farmAnswer
		err := func() error {
			switch o.Op {
			case "dial":
				return farmDial(o, &conns)
			case "close", "reset": // the last N
				n := min(o.N, len(conns))
				ending := conns[len(conns)-n:]
				conns = conns[:len(conns)-n]
				a.Times = append(a.Times, now())
				for _, c := range ending {
					if o.Op == "reset" {
						c.SetLinger(0)
					}
					if err := c.Close(); err != nil {
						return err
					}
				}
				a.Times = append(a.Times, now())
			case "send":
				b := make([]byte, o.Size)
				for _, c := range conns {
					if _, err := c.Write(b); err != nil {
						return err
					}
				}
			case "drain":
				for _, c := range conns {
					go func() {
						buf := make([]byte, 256<<10)
						for {
							if _, err := c.Read(buf); err != nil {
								return
							}
						}
					}()
				}
			case "pingpong":
				c := conns[len(conns)-1]
				b := make([]byte, o.Size)
				start := now()
				for range o.N {
					if _, err := c.Write(b); err != nil {
						return err
					}
					if _, err := io.ReadFull(c, b); err != nil {
						return err
					}
				}
				a.Times = []int64{start, now()}
			case "stream": // N times Size bytes on the last connection, one each Gap
				c := conns[len(conns)-1]
				b := make([]byte, o.Size)
				a.Times = []int64{now()}
				start := time.Now()
				for i := range o.N {
					time.Sleep(o.Gap*time.Duration(i) - time.Since(start))
					if _, err := c.Write(b); err != nil {
						return err
					}
				}
				a.Times = append(a.Times, now())
			case "steady": // N bytes on each connection each Gap, until "still"
				steady = make(chan struct{})
				b := make([]byte, o.Size)
				steadyDone.Go(func() {
					for i := 0; ; i = (i + 100) % len(conns) {
						start := time.Now()
						for _, c := range conns[i:min(i+100, len(conns))] {
							c.Write(b)
						}
						if i+100 >= len(conns) {
							i = -100
						}
						select {
						case <-steady:
							return
						case <-time.After(o.Gap/time.Duration((len(conns)+99)/100) - time.Since(start)):
						}
					}
				})
			case "still":
				close(steady)
				steadyDone.Wait()
			default:
				return fmt.Errorf("no order %q", o.Op)
			}
			return nil
		}()
		if err != nil {
			a.Err = err.Error()
		}
		if out.Encode(a) != nil {
			return
		}
	}
}

func farmDial(o farmOrder, conns *[]*net.TCPConn) error {
	dialer := net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}
	for range o.N {
		c, err := dialer.Dial("tcp4", o.Addr)
		if err != nil {
			return err
		}
		*conns = append(*conns, c.(*net.TCPConn))
		if o.Prelude != "" {
			if _, err := io.WriteString(c, o.Prelude); err != nil {
				return err
			}
		}
	}
	return nil
}
