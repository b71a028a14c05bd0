// Package supervise keeps the time-outs of one connection. When the clock calls, it takes
// a sample of the connection and has package verdict judge it. Then it acts on the answer:
// it ends the connection, or says when to check again. Meanwhile it keeps the kernel from
// giving up first. It also sends the probes of Ping and calls the functions of OnSilence.
//
// It reaches the connection only as a [Connection].
package supervise

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
	"github.com/go-liveness/liveness/internal/readclock"
	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/internal/verdict"
)

// MinStall and MinIdle are the shortest time-outs: the kernel's ages are as coarse as its
// tick.
const (
	MinStall = 100 * time.Millisecond
	MinIdle  = 100 * time.Millisecond
)

// maxTimeout stands for never, with room for what is added to it.
const maxTimeout = math.MaxInt64 / 4

// A Connection is what a Timeouts reaches of its connection. No method waits for the peer
// or the application. Check and EndByTimeout may take locks of the connection.
type Connection interface {
	// Sample asks the kernel. Taken is false if the kernel tells nothing now.
	Sample(Detail) Sample

	// Check makes a check, publishes the end that it shows, and returns the state. If
	// nothing is known, the state is Open.
	Check() tcpinfo.State

	// Err returns nil until an end is published.
	Err() error

	// EndByTimeout publishes the end that an Answer with a Reason says, with the Sample as
	// its evidence.
	EndByTimeout(verdict.Answer, Sample)

	// OnEnd has f called after the end, in a goroutine of its own, unless stop comes first.
	OnEnd(f func()) (stop func() bool)

	// Limits returns the options that the socket had when they were last asked for.
	Limits() *keepalive.Limits

	// Control is that of syscall.RawConn.
	Control(f func(fd uintptr)) error

	// Wake has the clock call Check of the Timeouts at when or earlier.
	Wake(when time.Time)
}

// A Config says what is asked for, and of what connection.
type Config struct {
	Peer, Stall, Idle time.Duration // the time-outs; 0 is none

	Counted  bool               // the kernel tells what was received and what is outstanding
	TCP      bool               // the socket has the options of TCP, and TCP_INFO tells of it
	Watched  bool               // the application uses the connection itself
	MayBlock bool               // Control may block
	Readers  *readclock.Readers // counts the Reads that wait; used unless Counted
}

// A Timeouts is what the clock checks one connection for. Multiple goroutines may use it
// simultaneously. A nil *Timeouts has no time-outs. The lock order stands in end.go of
// package liveness.
type Timeouts struct {
	// Deadlines is held while a deadline of the connection is set, so that none that the
	// application sets can revive what a verdict has interrupted.
	Deadlines sync.Mutex

	// Constant.
	uncounted     *uncounted // nil where the kernel counts
	tcp, mayBlock bool       // as in Config

	// Atomic.
	awake      atomic.Bool              // a check for outstanding data is due
	inProgress atomic.Int32             // writes that have not returned
	maxRTO     atomic.Int32             // of patience, in milliseconds
	arrivals   atomic.Uint64            // Arrivals of the last sample
	shortest   atomic.Int64             // the shortest silence that is asked for, in nanoseconds; 0 if none
	silences   atomic.Pointer[silences] // of OnSilence; nil before the first
	finished   atomic.Uint32            // writes that have returned, and pieces of those that have not

	checking   sync.Mutex         // one check at a time; guards the fields below
	sampled    uint32             // finished at the last sample
	supervisor verdict.Supervisor // its time-outs are constant
	patience   keepalive.Patience
	probe      *keepalive.Probe // of Ping; nil before the first
	later      *laterChange     // nil if nothing is left to do to the socket
}

// An uncounted is what a Timeouts needs besides where the kernel does not tell what was
// received and what is outstanding.
type uncounted struct {
	reads  readclock.Clock
	pieces sync.Mutex // held by a Write in pieces; see WriteInPieces
}

// started is the moment from which the supervisors count.
var started = time.Now()

// New returns the Timeouts for cfg.
func New(cfg *Config) *Timeouts {
	now := time.Now()
	t := &Timeouts{tcp: cfg.TCP, mayBlock: cfg.MayBlock}
	if !cfg.Counted {
		t.uncounted = new(uncounted)
		t.uncounted.reads.Start(now, cfg.Readers)
	}
	v := &t.supervisor
	v.Peer, v.Stall, v.Idle = cfg.Peer, min(cfg.Stall, maxTimeout), min(cfg.Idle, maxTimeout)
	v.WritesUnseen = cfg.Watched
	v.Start(now.Sub(started))
	t.shortest.Store(int64(v.Idle))
	return t
}

// Peer returns the PeerTimeout.
func (t *Timeouts) Peer() time.Duration {
	if t == nil {
		return 0
	}
	return t.supervisor.Peer
}

// JudgesSilence reports whether a time-out or a function of OnSilence depends on when
// something was received.
func (t *Timeouts) JudgesSilence() bool { return t != nil && t.shortest.Load() > 0 }

// MayEnd reports whether a verdict is possible.
func (t *Timeouts) MayEnd() bool {
	return t != nil && (t.supervisor.Peer > 0 || t.supervisor.Stall > 0 || t.supervisor.Idle > 0)
}

// Detail returns what the clock needs of a sample. Only the silence of the peer's
// application is judged by the count of unread bytes.
func (t *Timeouts) Detail() Detail {
	if t == nil || t.tcp && !t.JudgesSilence() {
		return Lean
	}
	return Full
}

// ReadClock returns the clock of the Reads; nil where the kernel counts.
func (t *Timeouts) ReadClock() *readclock.Clock {
	if t == nil || t.uncounted == nil {
		return nil
	}
	return &t.uncounted.reads
}

// ReadBegan is called when the first Read begins to wait, with the moment since which the
// silence counts.
func (t *Timeouts) ReadBegan(conn Connection, since time.Time) {
	if t.JudgesSilence() {
		conn.Wake(since.Add(time.Duration(t.shortest.Load()) + verdict.TickSlack))
	}
}
