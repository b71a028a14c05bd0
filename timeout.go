package liveness

import (
	"context"
	"errors"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/supervise"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
)

// configure takes over the time-outs of cfg.
func (c *Conn) configure(cfg *Config) {
	if cfg.PeerTimeout > 0 || cfg.StallTimeout > 0 || cfg.ReadIdleTimeout > 0 {
		c.timeouts.Store(c.newTimeouts(cfg))
	}
}

func (c *Conn) newTimeouts(cfg *Config) *supervise.Timeouts {
	s := &c.sock
	return supervise.New(&supervise.Config{
		Peer: cfg.PeerTimeout, Stall: cfg.StallTimeout, Idle: cfg.ReadIdleTimeout,
		Counted: s.counted, TCP: s.family == familyTCP, Watched: s.byWatch, MayBlock: s.mayBlock,
		Readers: &c.handle.readers,
	})
}

// timeoutsOf returns the timeouts of c, which it makes if need be.
func (c *Conn) timeoutsOf() *supervise.Timeouts {
	if c.timeouts.Load() == nil {
		c.timeouts.CompareAndSwap(nil, c.newTimeouts(&Config{}))
	}
	return c.timeouts.Load()
}

// checkTimeouts is called by the clock; see [supervise.Timeouts.Check].
func (c *Conn) checkTimeouts(at, jumped time.Time) (next time.Time) {
	if t := c.timeouts.Load(); t != nil {
		next = t.Check((*supervised)(c), at, jumped)
	}
	return next
}

// beginWrite and endWrite go around whatever may leave data outstanding.
func (c *Conn) beginWrite() *supervise.Timeouts {
	return c.timeouts.Load().BeginWrite((*supervised)(c))
}

func (c *Conn) endWrite(t *supervise.Timeouts) { t.EndWrite((*supervised)(c)) }

// schedule has the clock make a change when it is due.
func (c *Conn) schedule(change *keepalive.Later) {
	c.timeoutsOf().Schedule((*supervised)(c), change.After, func() {
		if !change.UntilFIN || !c.sock.history.WriteShut() {
			_ = c.sock.raw.Control(change.Do)
		}
	})
}

// A supervised is a Conn as its timeouts reach it.
type supervised Conn

var _ supervise.Connection = (*supervised)(nil)

func (c *supervised) Check() tcpinfo.State {
	switch o := (*Conn)(c).check(trigger{}); o.outcome {
	case unknown, connected:
		return tcpinfo.Open
	case peerFinished:
		return tcpinfo.CloseWait
	default:
		return tcpinfo.Closed
	}
}

func (c *supervised) EndByTimeout(a verdict.Answer, s supervise.Sample) {
	(*Conn)(c).endByTimeout(causeOf(&a), &s)
}

func (c *supervised) OnEnd(f func()) (stop func() bool) {
	return (*Conn)(c).OnDisconnect(func(error) { f() })
}

func (c *supervised) Err() error                                 { return (*Conn)(c).Err() }
func (c *supervised) Sample(d supervise.Detail) supervise.Sample { return c.sock.sample(d) }
func (c *supervised) Limits() *keepalive.Limits                  { return c.sock.limits.Of(c.sock.raw) }
func (c *supervised) Control(f func(fd uintptr)) error           { return c.sock.raw.Control(f) }
func (c *supervised) Wake(when time.Time)                        { c.handle.Wake(when) }

// Ping asks the peer's host for an answer and waits for it. It returns nil once something
// was heard from the host no earlier than one second before the call: at once if that was
// so already, otherwise after a round trip.
//
// A quiet connection is asked by a keep-alive probe, one with data in flight by its
// retransmission; no byte of the stream is used. Ping repeats a lost probe about once a
// second, and calls at the same time share one. It never ends the connection of a
// live peer, and restores every option once the peer was heard, also after ctx has ended.
//
// Ping does not see whether the peer's program runs, nor whether data arrives: on a path
// that drops large packets, or only those of one direction, the peer may still be heard.
//
// The end of ctx ends the wait with its error, and the end of the connection with Err.
// Both come in a *[net.OpError]. Elsewhere than on TCP on Linux the error wraps
// [errors.ErrUnsupported].
func (c *Conn) Ping(ctx context.Context) error {
	err := c.Err()
	switch {
	case err != nil:
		return err
	case !c.sock.counted || c.sock.family == familyMPTCP:
		err = errors.ErrUnsupported
	case ctx.Err() != nil:
		err = ctx.Err()
	default:
		err = c.timeoutsOf().Ping(ctx, (*supervised)(c))
	}
	if err == nil || err == c.Err() {
		return err
	}
	return c.opError("ping", err)
}

// OnSilence arranges to call f, in a goroutine of its own, whenever nothing was received
// for d: the place for a protocol's own ping. f is called once for each silence, and
// again after data came and another silence of d has passed. It never runs twice at a
// time, and does not start after the end. f closes over what it writes to: above TLS
// that is not this Conn.
//
// The silence counts as for [Config.ReadIdleTimeout], from now or the last byte received.
// It stands still while the local receive buffer is full, and ends for good with the
// peer's FIN. d is at least 100 ms; less is taken as that.
//
// Calling stop ends the calls. It returns false if the connection has ended or stop was
// called before, and does not wait for an f that is running. Until then the Conn is
// kept, as by OnDisconnect. A nil f is never called.
func (c *Conn) OnSilence(d time.Duration, f func()) (stop func() bool) {
	if f == nil {
		return func() bool { return false }
	}
	t := c.timeoutsOf()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end.Load() != nil {
		return func() bool { return false }
	}
	s := t.OnSilence((*supervised)(c), d, f)
	c.pin()
	return func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		defer c.pin()
		return t.StopSilence(s)
	}
}
