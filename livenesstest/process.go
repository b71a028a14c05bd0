package livenesstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync"
	"time"
)

// processVariable is set in the environment of the processes that StartProcess starts.
const processVariable = "LIVENESSTEST_PROCESS"

// startTimeout is how long a process may take until it has connected. It ends the wait for a program that does not call Main.
const startTimeout = 30 * time.Second

// Process is a peer in a process of its own, so that it can end as programs do: killed with whatever is in its socket, or
// stopped while its kernel goes on answering. It reads nothing until Drain is called.
//
// Methods return when the process has acknowledged that the command is done, and block until then. If the process ends
// meanwhile they return an error that is os.ErrProcessDone. Multiple goroutines may invoke methods simultaneously; commands
// that do not need each other run side by side, like a Send that the other end does not read, and a Cut. A stopped process
// runs no command until it continues; Kill and Release do without its help.
//
// A Process comes from StartProcess; its zero value is not usable. Call Release when it is no longer needed.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process is gone and reaped

	mu      sync.Mutex // guards what follows
	out     *json.Encoder
	last    int // the last command's ID
	waiting map[int]chan error

	signals sync.Mutex // guards stopped, and has Stop and Continue wait for each other
	stopped bool
}

// command is what goes to the process, one JSON value each.
type command struct {
	ID int
	Op string
	N  int
}

// answer is what comes back: the command with that ID is done, or failed with the answer itself as the error. Of what the
// error wrapped in the process, only that is kept which callers ask for.
type answer struct {
	ID          int
	Failure     string
	Unsupported bool
}

func (a *answer) Error() string { return a.Failure }

func (a *answer) Is(target error) bool { return a.Unsupported && target == errors.ErrUnsupported }

// StartProcess runs this executable again, as a process that does nothing but connect to a server and act as its peer.
// network and address are those of Dial; a relative path is resolved in the same directory. The executable must call Main
// first: a test in its TestMain, a program in its main. StartProcess blocks until the process has connected.
//
// The process never outlives this one, even if that is killed, and ends by itself after ten minutes. It shares this one's
// standard error. Where no processes can be started the error is errors.ErrUnsupported.
func StartProcess(network, address string) (*Process, error) {
	if os.Getenv(processVariable) != "" {
		// This is such a process, and did not call Main. It would start another one, which starts another one.
		return nil, errors.New("livenesstest: start process: Main was not called first")
	}
	if !processes {
		return nil, fmt.Errorf("livenesstest: start process on %s: %w", runtime.GOOS, errors.ErrUnsupported)
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(executable, network, address)
	cmd.Env = append(os.Environ(), processVariable+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = dieWithParent()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p := &Process{cmd: cmd, done: make(chan struct{}), out: json.NewEncoder(stdin), waiting: make(map[int]chan error)}
	started := make(chan error)
	go p.run(stdout, started)
	if err := <-started; err != nil {
		if foreign(err) {
			err = fmt.Errorf("livenesstest: start process: %w: %w", errors.ErrUnsupported, err)
		}
		return nil, err
	}
	timer := time.AfterFunc(startTimeout, func() { p.Kill() })
	err = p.call("dial", 0)
	timer.Stop()
	if err != nil {
		p.Release()
		if errors.Is(err, os.ErrProcessDone) {
			err = fmt.Errorf("%w (does the executable call livenesstest.Main first?)", err)
		}
		return nil, err
	}
	return p, nil
}

// run starts the process, hands its answers to those who wait for them, and reaps it.
func (p *Process) run(stdout io.Reader, started chan<- error) {
	// Linux kills a child with its parent when the thread that started it ends, which this one must not do before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(p.done)
	err := p.cmd.Start()
	started <- err
	if err != nil {
		return
	}
	for in := json.NewDecoder(stdout); ; {
		var a answer
		if in.Decode(&a) != nil {
			break // It has ended, or is not our Main.
		}
		p.mu.Lock()
		result := p.waiting[a.ID]
		delete(p.waiting, a.ID)
		p.mu.Unlock()
		if result == nil {
			break
		}
		if a.Failure != "" {
			result <- &a
		} else {
			result <- nil
		}
	}
	p.cmd.Process.Kill()
	p.cmd.Wait() // also closes the pipes
}

// call sends a command and waits until it is done.
func (p *Process) call(op string, n int) error {
	result := make(chan error, 1)
	p.mu.Lock()
	p.last++
	p.waiting[p.last] = result
	p.out.Encode(command{p.last, op, n}) // fails only if the process has ended, which done tells
	p.mu.Unlock()
	select {
	case err := <-result:
		return err
	case <-p.done:
	}
	// The answer may have been the last thing that it did.
	select {
	case err := <-result:
		return err
	default:
		return fmt.Errorf("livenesstest: process: %s: %w", op, os.ErrProcessDone)
	}
}

// end is call for a command after which the process has nothing left to do.
func (p *Process) end(op string) error {
	if err := p.call(op, 0); err != nil {
		return err
	}
	return p.Release()
}

// Send writes n bytes, all zero, and returns when the process's kernel has taken them. It blocks for as long as the other end
// reads too little for that, until the connection or the process ends.
func (p *Process) Send(n int) error { return p.call("send", n) }

// Drain makes the process read and discard whatever arrives from now on.
func (p *Process) Drain() error { return p.call("drain", 0) }

// Close ends the connection in order, as Peer.Close does, and the process with it.
func (p *Process) Close() error { return p.end("close") }

// CloseWrite closes one half, as Peer.CloseWrite does. The process goes on.
func (p *Process) CloseWrite() error { return p.call("closewrite", 0) }

// Reset ends the connection with an RST, as Peer.Reset does, and the process with it, unless there is an error.
func (p *Process) Reset() error { return p.end("reset") }

// Cut cuts the cable at the process's end, as the function Cut does.
func (p *Process) Cut() error { return p.call("cut", 0) }

// Mend undoes Cut. Where Cut is supported, it does nothing if there was none.
func (p *Process) Mend() error { return p.call("mend", 0) }

// Kill kills the process (SIGKILL) and waits until it is gone and its kernel has closed the connection: by FIN if the process
// had read everything that it received, else by RST. The error is os.ErrProcessDone if it had ended before.
func (p *Process) Kill() error {
	select {
	case <-p.done:
		return os.ErrProcessDone
	default:
	}
	p.cmd.Process.Kill() // its own child: it fails only if there is none any more
	<-p.done
	return nil
}

// Stop stops the process (SIGSTOP), and returns when it has stopped: the program hangs, while its kernel still acknowledges
// what arrives, until the receive buffer is full, and answers probes. To stop it again does nothing. The error is
// os.ErrProcessDone if the process has ended, and errors.ErrUnsupported on systems without such signals.
func (p *Process) Stop() error {
	p.signals.Lock()
	defer p.signals.Unlock()
	if p.stopped {
		return nil
	}
	err := stop(p.cmd.Process)
	p.stopped = err == nil
	return err
}

// Continue makes a stopped process go on (SIGCONT). It does not wait until the process has been scheduled. If the process was
// not stopped it does nothing.
func (p *Process) Continue() error {
	p.signals.Lock()
	defer p.signals.Unlock()
	if !p.stopped {
		return nil
	}
	p.stopped = false
	return resume(p.cmd.Process)
}

// Pid returns the process's identifier. Once the process is gone, the system may give it to another.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Release kills the process if it is still alive, waits until it is gone, and frees everything that belongs to it. To release
// it again does nothing. The error is always nil.
func (p *Process) Release() error {
	p.Kill()
	return nil
}
