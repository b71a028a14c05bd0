package liveness

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/tcpinfo"
)

// Ping asks the peer's host for an answer and waits for it. It returns nil once something
// was heard from the host no earlier than one second before the call: at once if that was
// so already, otherwise after a round trip.
//
// A quiet connection is asked by a keep-alive probe, one with data in flight by its
// retransmission; no byte of the stream is used. Ping repeats a lost probe about once a
// second, and calls at the same time share one. It never gets a live peer killed, and
// restores every option once the peer was heard, also after ctx has ended.
//
// Ping does not see whether the peer's program runs, nor whether data arrives: on a path
// that drops large packets, or only those of one direction, the peer may still be heard.
//
// The end of ctx ends the wait with its error, and the end of the connection with Err.
// Both come in a *[net.OpError]. Elsewhere than on TCP on Linux the error wraps
// [errors.ErrUnsupported].
func (c *Conn) Ping(ctx context.Context) error {
	if err := c.Err(); err != nil {
		return err
	}
	if !c.counted() || c.sock.family == familyMPTCP {
		return c.opError("ping", errors.ErrUnsupported)
	}
	if err := ctx.Err(); err != nil {
		return c.opError("ping", err)
	}
	began := time.Now()
	s, err := c.askPeer()
	if err != nil || s.heardSince(began) {
		return err
	}
	// The kernel does not tell of an answer, so this loop samples again: after the time
	// that an answer usually takes, and then more and more rarely.
	wait := min(max(s.info.RTT, time.Millisecond), maxPingWait)
	timer := time.NewTimer(wait)
	defer timer.Stop()
	gone := make(chan struct{})
	defer c.OnDisconnect(func(error) { close(gone) })()
	for {
		select {
		case <-timer.C:
		case <-gone:
		case <-ctx.Done():
			return c.opError("ping", ctx.Err())
		}
		if s, err = c.askPeer(); err != nil || s.heardSince(began) {
			return err
		}
		wait = min(wait*5/4, maxPingWait)
		timer.Reset(wait)
	}
}

const (
	maxPingWait  = 50 * time.Millisecond // how late the answer to a Ping may be noticed
	pingInterval = keepalive.Interval    // the least time between two probes
)

// heardSince reports whether the peer's host was heard no earlier than one second before
// began.
func (s *sample) heardSince(began time.Time) bool {
	return s.info.Silence() <= s.asked.Sub(began)+time.Second
}

// askPeer samples the connection, and sends a probe if it is time for one.
func (c *Conn) askPeer() (s sample, err error) {
	t := c.timeoutsOf()
	t.checking.Lock()
	defer t.checking.Unlock()
	if t.probe == nil {
		t.probe = new(keepalive.Probe)
	}
	if c.sample(t, &s) {
		c.settlePing(t, &s)
		err = c.sendProbe(t, &s)
	} else if c.check(trigger{}); c.end.Load() == nil && !s.info.Full {
		err = errNoEvidence
	}
	if e := c.end.Load(); e != nil {
		return s, e.err
	}
	if err != nil {
		return s, c.opError("ping", err)
	}
	return s, nil
}

var errNoEvidence = fmt.Errorf("the kernel shows too little: %w", errors.ErrUnsupported)

// sendProbe sends a probe if it is time for one; checking is held. A socket that heard its
// peer within a second would not probe before that is over, and one with data outstanding
// asks by these.
func (c *Conn) sendProbe(t *timeouts, s *sample) (err error) {
	if s.info.Silence() < time.Second || s.info.Outstanding() || s.info.State == tcpinfo.NotEstablished || s.asked.Sub(t.probe.Sent) < pingInterval {
		return nil
	}
	c.sock.limitsNow() // before they change: Status tells those that last
	// A write that begins now marks the connection again, and waits for checking.
	t.writes.awake.Store(false)
	c.restorePatience(t)
	silence, probes := s.info.Silence(), s.info.Probes // s itself would escape to the heap
	if cerr := c.sock.raw.Control(func(fd uintptr) { err = t.probe.Send(fd, silence, probes) }); cerr != nil {
		c.check(trigger{})
		return nil
	}
	c.handle.Wake(time.Now().Add(maxPingWait)) // ctx may end before there is an answer
	return err
}

// settlePing undoes what the probes of Ping did to the socket, as far as it can be undone
// by now; checking is held. It returns when to try again, or 0 if nothing is left. The
// clock goes on with it when no Ping waits any more.
func (c *Conn) settlePing(t *timeouts, s *sample) time.Duration {
	p := t.probe
	if p == nil || p.Sent.IsZero() {
		return 0
	}
	// Before a probe was sent, nothing had been heard for a second. So a silence that is
	// not longer than since then has been broken, however coarse it is counted.
	if s.info.Silence() < s.asked.Sub(p.Sent)+pingInterval/2 {
		_ = c.sock.raw.Control(p.Restore)
		*p = keepalive.Probe{}
		if t.patience.InForce() { // a write has set the user timeout since
			t.patience.ForgetUserTimeout()
			c.extendPatience(t, 0)
		}
		return 0
	}
	if !p.Armed {
		return pingInterval
	}
	if s.info.Probes == p.Counted { // the kernel counts in 8 bits
		return maxPingWait
	}
	silence := s.info.Silence()
	_ = c.sock.raw.Control(func(fd uintptr) { p.Disarm(fd, silence) })
	return pingInterval
}

// promptPing sends another probe in the place of the kernel's own, which those of a Ping
// have put off, if it is time for one: a verdict waits for it. checking is held.
func (c *Conn) promptPing(t *timeouts, s *sample) {
	if t.probe != nil && !t.probe.Sent.IsZero() {
		_ = c.sendProbe(t, s)
	}
}
