package keepalive

import (
	"math"
	"sync/atomic"
	"time"
)

// A Patience keeps the kernel from giving up a connection while data is in flight, so
// that the library alone decides when the peer is lost. The zero value has set nothing.
// It must not be used by two goroutines at once. Elsewhere than on Linux its methods do
// nothing.
//
// With a user timeout UT, net/ipv4/tcp_timer.c of Linux 4.18 to 6.18 does this:
//
//   - tcp_write_timeout ends the connection at a retransmission UT after the first one of
//     the recovery (retrans_stamp), whatever was heard in between. UT replaces
//     tcp_retries2, and for an orphan tcp_orphan_retries.
//   - tcp_probe_timer ends it UT after the first probe of a closed window, even if every
//     probe is answered (icsk_probes_tstamp; from 5.1 to 5.10 the unanswered ones count).
//     So UT must grow while a window stays closed.
//   - tcp_retransmit_timer, into a window that closed on data in flight, ends it when
//     nothing was heard for 2 · RTO_MAX and retransmissions have gone on for as long
//     (tcp_rtx_probe0_timed_out; before 6.5 nothing heard for RTO_MAX). UT cannot extend
//     that. Since 6.10, and in stable kernels of then, it also ends it UT after the first
//     retransmission, even if all are answered.
//   - tcp_keepalive_timer lets UT replace the count of probes. So UT must be gone while
//     nothing is outstanding.
//   - tcp_out_of_resources ends an orphan that has sent nothing for 2 · RTO_MAX, if memory
//     is short. An orphan whose back-off has reached RTO_MAX is given up at once, and its
//     data are lost, unless UT is set. So RTO_MAX must not stay behind without UT.
type Patience struct {
	userTimeout, maxRTO int32 // milliseconds, as set by Extend; 0 if it has set none
	maxRTOBefore        int32
	asked               bool // whether Extend has asked for what the application has
}

// DefaultPatience is the kernel's own: what tcp_retries2 = 15 amounts to.
const DefaultPatience = 924 * time.Second

// PatienceFor returns what Extend needs for a connection with that PeerTimeout. The user
// timeout is far beyond the verdict. The limit of the retransmission time-out is half of
// peerTimeout, the least with which tcp_rtx_probe0_timed_out ends no connection that was
// heard within peerTimeout, and 0 if the kernel's own is no longer than that.
func PatienceFor(peerTimeout time.Duration) (userTimeout, maxRTO time.Duration) {
	userTimeout = min(max(DefaultPatience, 4*peerTimeout), maxUserTimeout)
	if maxRTO = max(time.Second, peerTimeout/2); maxRTO >= MaxRTO {
		maxRTO = 0
	}
	return userTimeout, maxRTO
}

// Extend sets TCP_USER_TIMEOUT, and TCP_RTO_MAX_MS where the kernel has it, unless the
// application has a user timeout or a smaller limit of its own. A maxRTO of 0 leaves that
// option alone. It makes no system call if as much is in force already, and otherwise up
// to four. userTimeout may grow from call to call; maxRTO counts when it is first given.
func (p *Patience) Extend(fd uintptr, userTimeout, maxRTO time.Duration) {
	p.extend(own, access(fd), milliseconds(userTimeout), milliseconds(maxRTO))
}

func (p *Patience) extend(s *system, socket accessor, userTimeout, maxRTO int32) {
	if s.userTimeout == 0 || p.suffices(userTimeout) {
		return
	}
	now, err := socket.get(s.userTimeout)
	if err == nil && now == int(p.userTimeout) && socket.set(option{s.userTimeout, int(userTimeout), 0}) == nil {
		p.userTimeout = userTimeout
	} else {
		p.userTimeout = 0 // it is the application's
	}
	if p.asked || maxRTO == 0 || !s.hasMaxRTO() {
		p.asked = true
		return
	}
	p.asked = true
	now, err = socket.get(s.maxRTO)
	if err == nil && now > int(maxRTO) && socket.set(option{s.maxRTO, int(maxRTO), 0}) == nil {
		p.maxRTO, p.maxRTOBefore = maxRTO, int32(now)
	}
}

// Suffices reports whether Extend with that userTimeout would change nothing.
func (p *Patience) Suffices(userTimeout time.Duration) bool {
	return p.suffices(milliseconds(userTimeout))
}

func (p *Patience) suffices(userTimeout int32) bool {
	return p.asked && (p.userTimeout == 0 || userTimeout <= p.userTimeout)
}

// InForce reports whether Extend has set something that Restore would put back.
func (p *Patience) InForce() bool { return p.userTimeout != 0 || p.maxRTO != 0 }

// ForgetUserTimeout says that something else has put the user timeout back, as
// [Probe.Restore] does. The limit of the retransmission time-out stays in force.
func (p *Patience) ForgetUserTimeout() { p.userTimeout, p.asked = 0, false }

// Restore puts back what was there before Extend, unless the application has changed it
// meanwhile. Data must not be outstanding, or the connection is about to be closed. After
// it, p is the zero value.
func (p *Patience) Restore(fd uintptr) { p.restore(own, access(fd)) }

func (p *Patience) restore(s *system, socket accessor) {
	restore := func(name int, set, before int32) {
		if set == 0 {
			return
		}
		if now, err := socket.get(name); err == nil && now == int(set) {
			_ = socket.set(option{name, int(before), 0})
		}
	}
	restore(s.userTimeout, p.userTimeout, 0)
	restore(s.maxRTO, p.maxRTO, p.maxRTOBefore)
	*p = Patience{}
}

// MaxRTO returns the limit of the retransmission time-out that Extend has set; 0 if none.
func (p *Patience) MaxRTO() time.Duration { return time.Duration(p.maxRTO) * time.Millisecond }

// maxUserTimeout is the longest that TCP_USER_TIMEOUT takes: an int of milliseconds.
const maxUserTimeout = math.MaxInt32 * time.Millisecond

func milliseconds(d time.Duration) int32 {
	return int32(min(d, maxUserTimeout) / time.Millisecond)
}

// support remembers whether the kernel has options, once a socket of the library's own
// has told. Sockets of the application say nothing of others.
type support struct{ told atomic.Uint32 }

const (
	toldYes = iota + 1
	toldNo
)

var hasMaxRTO, takesAll support

// ask uses the options by try. A process without descriptors to spare, for example, cannot
// ask; that says nothing of the options.
func (s *support) ask(try func(fd uintptr) error) bool {
	if told := s.told.Load(); told != 0 {
		return told == toldYes
	}
	asked, err := onOwnSocket(try)
	switch {
	case asked && err == nil:
		s.told.Store(toldYes)
	case asked && isMissing(err):
		s.told.Store(toldNo)
	}
	return asked && err == nil
}

func (s *system) hasMaxRTO() bool {
	return hasMaxRTO.ask(func(fd uintptr) error {
		_, err := getOption(fd, s.maxRTO)
		return err
	})
}
