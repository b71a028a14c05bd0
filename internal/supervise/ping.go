package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

const (
	maxPingWait  = 50 * time.Millisecond // how late the answer to a Ping may be noticed
	pingInterval = keepalive.Interval    // the least time between two probes
)

var errNoEvidence = fmt.Errorf("the kernel shows too little: %w", errors.ErrUnsupported)

// Ping asks the peer's host until something was heard from it no earlier than one second
// before the call. It returns the error of ctx or conn.Err if that ends first, or why the
// peer cannot be asked. The connection is one of TCP that the kernel counts.
func (t *Timeouts) Ping(ctx context.Context, conn Connection) error {
	began := time.Now()
	s, err := t.askPeer(conn)
	if err != nil || s.heardSince(began) {
		return err
	}
	// The kernel does not tell of an answer, so this loop samples again: after the time
	// that an answer usually takes, and then more and more rarely.
	wait := min(max(s.Info.RTT, time.Millisecond), maxPingWait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	ended := make(chan struct{})
	defer conn.OnEnd(func() { close(ended) })()
	for {
		select {
		case <-timer.C:
		case <-ended:
		case <-ctx.Done():
			return ctx.Err()
		}
		if s, err = t.askPeer(conn); err != nil || s.heardSince(began) {
			return err
		}
		wait = min(wait*5/4, maxPingWait)
		timer.Reset(wait)
	}
}

// askPeer samples the connection, and sends a probe if it is time for one.
func (t *Timeouts) askPeer(conn Connection) (s Sample, err error) {
	t.checking.Lock()
	defer t.checking.Unlock()
	if t.probe == nil {
		t.probe = new(keepalive.Probe)
	}
	s, ok := t.sample(conn, Full)
	if ok {
		t.settlePing(conn, &s)
		err = t.sendProbe(conn, &s)
	} else if conn.Check(); !s.Info.Full {
		err = errNoEvidence
	}
	if ended := conn.Err(); ended != nil {
		err = ended
	}
	return s, err
}

// sendProbe sends a probe if it is time for one; checking is held. A socket that heard its
// peer within a second would not probe before that is over, and one with data outstanding
// asks by these.
func (t *Timeouts) sendProbe(conn Connection, s *Sample) (err error) {
	if s.Info.Silence() < time.Second || s.Info.Outstanding() || s.Info.State == tcpinfo.NotEstablished || s.Asked.Sub(t.probe.Sent) < pingInterval {
		return nil
	}
	conn.Limits() // before they change: Status tells those that last
	// A write that begins now marks the connection again, and waits for checking.
	t.awake.Store(false)
	t.restorePatience(conn)
	silence, probes := s.Info.Silence(), s.Info.Probes // s itself would escape to the heap
	if cerr := conn.Control(func(fd uintptr) { err = t.probe.Send(fd, silence, probes) }); cerr != nil {
		conn.Check()
		return nil
	}
	conn.Wake(time.Now().Add(maxPingWait)) // ctx may end before there is an answer
	return err
}

// settlePing undoes what the probes of Ping did to the socket, as far as it can be undone
// by now; checking is held. It returns when to try again, or 0 if nothing is left. The
// clock goes on with it when no Ping waits any more.
func (t *Timeouts) settlePing(conn Connection, s *Sample) time.Duration {
	p := t.probe
	if p == nil || p.Sent.IsZero() {
		return 0
	}
	// Before a probe was sent, nothing had been heard for a second. So a silence that is
	// not longer than since then has been broken, however coarse it is counted.
	if s.Info.Silence() < s.Asked.Sub(p.Sent)+pingInterval/2 {
		_ = conn.Control(p.Restore)
		*p = keepalive.Probe{}
		if t.patience.InForce() { // a write has set the user timeout since
			t.patience.ForgetUserTimeout()
			t.extendPatience(conn, 0)
		}
		return 0
	}
	if !p.Armed {
		return pingInterval
	}
	if s.Info.Probes == p.Counted { // the kernel counts in 8 bits
		return maxPingWait
	}
	silence := s.Info.Silence()
	_ = conn.Control(func(fd uintptr) { p.Disarm(fd, silence) })
	return pingInterval
}

// promptPing sends another probe in the place of the kernel's own, which those of a Ping
// have put off, if it is time for one: a verdict waits for it. checking is held.
func (t *Timeouts) promptPing(conn Connection, s *Sample) {
	if t.probe != nil && !t.probe.Sent.IsZero() {
		_ = t.sendProbe(conn, s)
	}
}
