//go:build unix

package watch

import (
	"bufio"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const stoppedProcess = "LIVENESS_STOPPED_PROCESS" // in the environment of the process that is stopped

// A process that was stopped learns of it, whether its clock had nothing to do then or
// was in the middle of its work.
func TestStopIsAJump(t *testing.T) {
	if os.Getenv(stoppedProcess) != "" {
		expectStop(t)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestStopIsAJump$", "-test.count=1")
	cmd.Env = append(os.Environ(), stoppedProcess+"=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Skip("no process can be started: ", err)
	}
	defer cmd.Process.Kill()
	lines := bufio.NewScanner(out)
	if !lines.Scan() || lines.Text() != "ready" {
		t.Fatalf("the process says %q", lines.Text())
	}
	cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(Late + 700*time.Millisecond)
	cmd.Process.Signal(syscall.SIGCONT)
	for lines.Scan() {
		t.Log(lines.Text())
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// expectStop runs in the process that is stopped.
func expectStop(t *testing.T) {
	idle, busy := newClock(t), newClock(t)
	jumps := make(chan time.Time, 1)
	sleeper := newFake()
	sleeper.check = func(_, jumped time.Time) time.Time {
		jumps <- jumped
		return time.Time{}
	}
	const clients = 200
	const each = 5 * time.Millisecond
	begun, done := make(chan struct{}), make(chan struct{})
	var checks, after atomic.Int32
	stopped := time.Now()
	var fakes []*fake
	for range clients {
		f := newFake()
		f.check = func(now, jumped time.Time) time.Time {
			if jumped.After(stopped.Add(Late)) {
				after.Add(1)
			}
			time.Sleep(each)
			switch checks.Add(1) {
			case clients / 10:
				close(begun)
			case clients:
				close(done)
			}
			return time.Time{}
		}
		fakes = append(fakes, f)
	}
	for _, f := range fakes {
		busy.wake(&f.Token, time.Now())
	}
	receive(t, "the first Checks", begun)
	idle.wake(&sleeper.Token, time.Now().Add(Late/2))
	os.Stdout.WriteString("ready\n")
	receive(t, "the last Check", done)
	if jumped := receive(t, "a Check", jumps); jumped.Before(stopped.Add(Late)) {
		t.Errorf("an idle clock did not see the stop: %v", jumped)
	}
	if after.Load() < clients/10 {
		t.Errorf("of %d Checks, only %d were told of the stop in their middle", clients, after.Load())
	}
	idle.quiesce(t)
	busy.quiesce(t)
}
