package supervise

import (
	"time"

	"github.com/go-liveness/liveness/internal/keepalive"
)

// extendPatience has the kernel wait for at least that long; checking is held.
func (t *Timeouts) extendPatience(conn Connection, atLeast time.Duration) {
	userTimeout, maxRTO := keepalive.PatienceFor(t.supervisor.Peer)
	userTimeout = max(userTimeout, atLeast)
	if !t.tcp || t.patience.Suffices(userTimeout) {
		return
	}
	if t.supervisor.WritesUnseen {
		maxRTO = 0 // it would outlive a Close that the library does not see
	}
	_ = conn.Control(func(fd uintptr) { t.patience.Extend(fd, userTimeout, maxRTO) })
	t.maxRTO.Store(int32(t.patience.MaxRTO() / time.Millisecond))
}

// restorePatience has the kernel wait as long as it would without the library; checking is
// held.
func (t *Timeouts) restorePatience(conn Connection) {
	if t.patience.InForce() {
		_ = conn.Control(t.patience.Restore)
		t.maxRTO.Store(0)
	}
}

// Release is called before the connection is closed: what the kernel still has to deliver
// must be given up as early as without the library.
func (t *Timeouts) Release(conn Connection) {
	if t.Peer() > 0 {
		t.checking.Lock()
		t.restorePatience(conn)
		t.checking.Unlock()
	}
}

// LimitsInForce returns l with what extendPatience has set. It takes no lock.
func (t *Timeouts) LimitsInForce(l *keepalive.Limits) keepalive.Limits {
	inForce := *l
	if t != nil {
		if limit := t.maxRTO.Load(); limit > 0 {
			inForce.MaxRTO = time.Duration(limit) * time.Millisecond
		}
	}
	return inForce
}

// limitsFor is what the supervisor needs to know of the socket's options.
func (t *Timeouts) limitsFor(conn Connection, l *keepalive.Limits) *keepalive.Limits {
	if t.supervisor.Peer == 0 || t.uncounted != nil {
		return nil
	}
	*l = t.LimitsInForce(conn.Limits())
	return l
}

// A laterChange is what is to be done to the socket after a time; checking guards it.
type laterChange struct {
	since time.Time
	after time.Duration
	do    func()
}

// Schedule has the clock call do after that time. It begins anew after a jump of the clock:
// perhaps the kernel stood still, too.
func (t *Timeouts) Schedule(conn Connection, after time.Duration, do func()) {
	change := &laterChange{time.Now(), after, do}
	t.checking.Lock()
	t.later = change
	t.checking.Unlock()
	conn.Wake(change.since.Add(after))
}

// makeLaterChange makes the change that is due, or returns how long it is until then.
func (t *Timeouts) makeLaterChange(now, jumped time.Time) (wait time.Duration) {
	l := t.later
	if l == nil {
		return 0
	}
	if jumped.After(l.since) {
		l.since = now
	}
	if wait := l.since.Add(l.after).Sub(now); wait > 0 {
		return wait
	}
	t.later = nil
	l.do()
	return 0
}
