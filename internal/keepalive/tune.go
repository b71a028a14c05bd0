package keepalive

import (
	"errors"
	"fmt"
	"os"
	"time"
)

// A Tuning is what Tune did to a socket.
type Tuning struct {
	// Limits are what the socket has now. On Linux, Tune does not ask for MaxRTO, which is
	// the kernel's constant then, and for UserTimeout only with PeerTimeout.
	Limits Limits

	Later *Later // what is left to do; nil if nothing

	before [6]option // what the socket had, in the order of setting
	n      int
}

// Later is the end of a grace: what is to be done to the socket once it has been tuned
// for that long.
type Later struct {
	After    time.Duration
	UntilFIN bool // not after the local FIN

	grace grace
}

// Do sets the wanted count of probes, unless the application, or a Ping, has set another
// one meanwhile.
func (l *Later) Do(fd uintptr) { l.do(access(fd)) }

func (l *Later) do(socket accessor) {
	g := &l.grace
	if now, err := socket.get(g.option); err == nil && now == g.count {
		_ = socket.set(option{g.option, g.then, 0})
	}
}

// An accessor gets and sets the options of one socket.
type accessor struct {
	get func(name int) (int, error)
	set func(option) error
}

func access(fd uintptr) accessor {
	return accessor{
		get: func(name int) (int, error) { return getOption(fd, name) },
		set: func(o option) error { return setOption(fd, o) },
	}
}

// Tune sets what w asks for. If it fails, the socket is as it was, unless w.OnFailure is
// CloseOnFailure. On a socket of another family than TCP it does nothing.
func Tune(fd uintptr, w *Want) (Tuning, error) {
	if w.PeerTimeout == 0 && !w.KeepAlive.Enable || !isTCP(fd) {
		return Tuning{}, nil
	}
	if w.OnFailure == RestoreOnFailure && w.succeeds() {
		w.OnFailure = CloseOnFailure // nothing needs to be remembered
	}
	t, err := own.tune(access(fd), w)
	if own.older != nil && isMissing(err) {
		t, err = own.older.tune(access(fd), w)
	}
	return t, err
}

// succeeds reports whether w cannot fail: its values are in the kernel's range, and a socket
// of the library's own has taken all of these options.
func (w *Want) succeeds() bool {
	if w.PeerTimeout == 0 || w.KeepAlive.Enable || w.MPTCP || own.inFlight != libraryFinds {
		return false
	}
	return takesAll.ask(func(fd uintptr) error {
		_, err := own.tune(access(fd), &Want{PeerTimeout: w.PeerTimeout, OnFailure: CloseOnFailure})
		return err
	})
}

func (s *system) tune(socket accessor, w *Want) (t Tuning, err error) {
	p, err := s.plan(w, socket.get)
	if err != nil {
		return Tuning{}, err
	}
	if err := t.set(&p, w, socket); err != nil {
		t.undo(socket)
		if isMissing(err) {
			err = fmt.Errorf("%w on this %s: %w", errors.ErrUnsupported, s.name, err)
		}
		return Tuning{}, bad(w.field(), "%w", os.NewSyscallError("setsockopt", err))
	}
	t.Limits = s.limitsAfter(&p, socket.get)
	if w.PeerTimeout > 0 && s.userTimeout != 0 {
		n, _ := socket.get(s.userTimeout)
		t.Limits.UserTimeout = time.Duration(n) * time.Millisecond
	}
	if g := p.grace; g.lasts > 0 {
		t.Later = &Later{After: g.lasts, UntilFIN: g.untilFIN, grace: g}
	}
	return t, nil
}

// set does what p says. A kernel that does not take the count of a grace, or not all of
// it, gets the wanted one.
func (t *Tuning) set(p *plan, w *Want, socket accessor) error {
	for _, o := range p.options[:p.n] {
		err := t.setOne(o, w, socket)
		if p.grace.lasts > 0 && p.grace.untilFIN && o.name == p.grace.option {
			if now, _ := socket.get(o.name); err != nil || now != o.value {
				p.grace.lasts = 0
				o.value = p.grace.then
				err = t.setOne(o, w, socket)
			}
		}
		if err != nil && !(w.MPTCP && isMissing(err)) {
			return err
		}
	}
	return nil
}

func (t *Tuning) setOne(o option, w *Want, socket accessor) error {
	if w.OnFailure == CloseOnFailure || o.name == keepAliveVals { // which cannot be read
		return socket.set(o)
	}
	before, err := socket.get(o.name)
	if err != nil {
		return err
	}
	if err := socket.set(o); err != nil {
		return err
	}
	t.before[t.n] = option{o.name, before, 0}
	t.n++
	return nil
}

// undo puts back what tune has changed, in the opposite order. Windows before 1709 does
// not tell the times of its probes, so there it only turns them off again.
func (t *Tuning) undo(socket accessor) {
	for ; t.n > 0; t.n-- {
		o := t.before[t.n-1]
		if socket.set(o) == nil || !own.timerWheel {
			continue
		}
		// The sysctls of Linux take larger values than the options do.
		if o.value = min(o.value, seconds(MaxProbeTime)); o.name == own.count {
			o.value = min(o.value, MaxProbeCount)
		}
		_ = socket.set(o)
	}
}

// limitsAfter returns the limits of a socket that p was set on. It does not read back
// what was just set.
func (s *system) limitsAfter(p *plan, get func(name int) (int, error)) Limits {
	if s.oneCall {
		return Limits{Idle: p.probes.Idle, Interval: p.probes.Interval, Count: p.probes.Count}
	}
	if s.inFlight != libraryFinds {
		l := s.read(get)
		if p.grace.lasts > 0 {
			l.Count = p.grace.then
		}
		return l
	}
	value := func(set time.Duration, name int) time.Duration {
		if set > 0 {
			return time.Duration(ticks(set, s.tick)) * s.tick
		}
		n, _ := get(name)
		return time.Duration(n) * s.tick
	}
	l := Limits{On: true, Count: p.probes.Count, MaxRTO: MaxRTO}
	l.Idle, l.Interval = value(p.probes.Idle, s.idle), value(p.probes.Interval, s.interval)
	if l.Count <= 0 {
		l.Count, _ = get(s.count)
	}
	return l
}

// Read asks what the socket has now.
func Read(fd uintptr) *Limits {
	l := ReadOptions(fd)
	if own.inFlight == libraryFinds {
		l.Retries = retries2()
	}
	return l
}

// ReadOptions is Read without Retries, for which a file has to be read.
func ReadOptions(fd uintptr) *Limits {
	l := own.read(access(fd).get)
	return &l
}

func (s *system) read(get func(name int) (int, error)) Limits {
	value := func(name int) int {
		if name == 0 {
			return 0
		}
		n, err := get(name)
		if err != nil {
			return 0
		}
		return max(0, n)
	}
	l := Limits{
		On:          value(switchOn) != 0,
		Idle:        time.Duration(value(s.idle)) * s.tick,
		Interval:    time.Duration(value(s.interval)) * s.tick,
		Count:       value(s.count),
		UserTimeout: time.Duration(value(s.userTimeout)) * time.Millisecond,
		MaxRTO:      time.Duration(value(s.maxRTO)) * time.Millisecond,
		DataLimit:   time.Duration(value(s.dataLimit)) * s.dataTick,
	}
	switch s.inFlight {
	case libraryFinds:
		if l.MaxRTO == 0 {
			l.MaxRTO = MaxRTO
		}
		return l
	case probesFind:
		l.DataLimit = 0 // the probes come first
	default: // there is a bound only if there is one for data in flight, too
		l.On = l.On && l.DataLimit > 0
	}
	l.On = l.On && l.Idle > 0 && l.Interval > 0 && l.Count > 0
	return l
}
