package liveness

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
)

// Ping asks whether the peer's host is answering now, and waits for the answer. It
// returns nil once something was heard from the host no earlier than one second
// before the call: at once, if that was so already; otherwise after a round trip.
// It says nothing of the peer's program.
//
// No byte of the stream is used: a quiet connection is asked by a keep-alive
// probe, one with data in flight by the retransmission of these. A lost probe is
// repeated, at most once a second, and calls at the same time share one. Ping
// never ends a connection, nor helps the kernel to: what is unanswered of its own
// probes does not count, and a TCP_USER_TIMEOUT is put aside, until the peer has
// been heard again, also when ctx has ended before. What the application sets of
// these options meanwhile is lost.
//
// The end of ctx ends the wait, with the error of ctx; a peer found dead, with
// Err. Both come in a *[net.OpError]. Where there is no way to ask (anywhere but
// on TCP on Linux), the error wraps [errors.ErrUnsupported].
func (c *Conn) Ping(ctx context.Context) error {
	if err := c.Err(); err != nil {
		return err
	}
	if !c.counted() {
		return opError("ping", c.inner, errors.ErrUnsupported)
	}
	if err := ctx.Err(); err != nil {
		return opError("ping", c.inner, err)
	}
	p := c.pingerOf()
	began := time.Now()
	var timer *time.Timer
	var wait time.Duration
	var gone chan struct{}
	for {
		s, err := p.ask(c)
		switch {
		case c.Err() != nil:
			return c.Err()
		case err != nil:
			return opError("ping", c.inner, err)
		case s.info.Silence() <= s.asked.Sub(began)+time.Second:
			return nil
		}
		// The kernel tells nobody of an answer, so we look again: after the time that
		// it usually takes, and then more and more rarely.
		if timer == nil {
			wait = min(max(s.info.RTT, time.Millisecond), maxPingWait)
			timer = time.NewTimer(wait)
			defer timer.Stop()
			gone = make(chan struct{})
			defer c.OnDisconnect(func(error) { close(gone) })()
		} else {
			wait = min(wait*5/4, maxPingWait)
			timer.Reset(wait)
		}
		select {
		case <-timer.C:
		case <-gone:
		case <-ctx.Done():
			return opError("ping", c.inner, ctx.Err())
		}
	}
}

const (
	maxPingWait  = 50 * time.Millisecond // how late the answer to a Ping may be noticed
	pingInterval = keepalive.Interval    // the least time between two probes
)

// A pinger sends the probes of a connection for all its Pings together, and undoes
// what it did to the socket for them once the peer was heard.
type pinger struct {
	mu    sync.Mutex // guards probe; held across system calls that do not block
	probe keepalive.Probe
}

func (c *Conn) pingerOf() *pinger {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pinger == nil {
		c.pinger = new(pinger)
	}
	return c.pinger
}

// ask samples the connection, and sends a probe if it is time for one.
func (p *pinger) ask(c *Conn) (s sample, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !c.sample(c.timersOf(), &s) {
		if c.look(hint{}); c.end.Load() == nil && !s.info.Full {
			err = errNoEvidence
		}
		return s, err
	}
	p.settle(c, &s)
	return s, p.prompt(c, &s)
}

// prompt sends a probe if it is time for one; mu is held.
func (p *pinger) prompt(c *Conn, s *sample) (err error) {
	// A socket that was heard within a second would not ask before that is over,
	// and one with data outstanding asks by these.
	if s.info.Silence() < time.Second || s.info.Outstanding() || s.asked.Sub(p.probe.Sent) < pingInterval {
		return nil
	}
	c.sock.limitsNow() // before they change: Status tells those that last
	if cerr := c.sock.raw.Control(func(fd uintptr) { err = p.probe.Send(fd, s.info.Silence(), s.info.Probes) }); cerr != nil {
		c.look(hint{})
		return nil
	}
	c.wake(c.timersOf(), time.Now().Add(maxPingWait)) // ctx may end before there is an answer
	return err
}

var errNoEvidence = fmt.Errorf("the kernel shows too little: %w", errors.ErrUnsupported)

// settle undoes what can be undone by now. It returns when to look again, or 0 if
// nothing is left.
func (p *pinger) settle(c *Conn, s *sample) time.Duration {
	b := &p.probe
	if b.Sent.IsZero() {
		return 0
	}
	// Before a probe was sent, nothing had been heard for a second; so a silence
	// that is not longer than since then has been broken, however coarse it is
	// counted.
	if s.info.Silence() < s.asked.Sub(b.Sent)+pingInterval/2 {
		_ = c.sock.raw.Control(b.Restore)
		*b = keepalive.Probe{}
		return 0
	}
	if !b.Armed {
		return pingInterval
	}
	if s.info.Probes == b.Counted { // the kernel counts in 8 bits
		return maxPingWait
	}
	_ = c.sock.raw.Control(func(fd uintptr) { b.Disarm(fd, s.info.Silence()) })
	return pingInterval
}

func (c *Conn) hasPinger() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pinger != nil
}

// settlePing is for the clock, which goes on when no Ping waits any more.
func (c *Conn) settlePing(s *sample) time.Duration {
	if !c.hasPinger() {
		return 0
	}
	p := c.pingerOf()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.settle(c, s)
}

// promptPing sends another probe in the place of the kernel's own, which those of a
// Ping have put off, if it is time for one: a verdict waits for it.
func (c *Conn) promptPing(s *sample) {
	if !c.hasPinger() {
		return
	}
	p := c.pingerOf()
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.probe.Sent.IsZero() {
		_ = p.prompt(c, s)
	}
}
