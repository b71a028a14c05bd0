package keepalive

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/internal/tcpinfo"
	"github.com/go-liveness/liveness/livenesstest"
)

func TestNumbersOfLinuxAreThoseOfXSys(t *testing.T) {
	assert.Equal(t, [2]int{unix.TCP_USER_TIMEOUT, unix.TCP_RTO_MAX_MS}, [2]int{own.userTimeout, own.maxRTO})
}

// newSocket returns the descriptor of a TCP connection on loopback, whose peer's kernel answers. Nothing else uses it.
func newSocket(t *testing.T) (fd uintptr) {
	t.Helper()
	conn, _ := livenesstest.Pair(t, "tcp4")
	raw, err := conn.(*net.TCPConn).SyscallConn()
	require.NoError(t, err)
	require.NoError(t, raw.Control(func(f uintptr) { fd = f })) // conn lives until the cleanup
	return fd
}

// allOptions reads what this package may change.
func allOptions(t *testing.T, fd uintptr) (values map[int]int) {
	t.Helper()
	values = map[int]int{}
	for _, name := range []int{switchOn, own.idle, own.interval, own.count, own.userTimeout, own.maxRTO} {
		value, err := getOption(fd, name)
		if name != own.maxRTO {
			require.NoError(t, err)
		}
		values[name] = value
	}
	return values
}

func TestTuneSetsAndUndoRestores(t *testing.T) {
	for _, w := range []Want{
		{PeerTimeout: time.Minute},
		{PeerTimeout: time.Minute, Unanswered: 2},
		{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: -1, Interval: 3 * time.Second, Count: -1}},
	} {
		fd := newSocket(t)
		before := allOptions(t, fd)
		tuning, err := own.tune(access(fd), &w) // which remembers in any case
		require.NoError(t, err)
		after := *ReadOptions(fd)
		if tuning.Later != nil {
			assert.Equal(t, after.Count, tuning.Limits.Count+w.Unanswered)
			assert.Equal(t, time.Minute, tuning.Later.After)
			assert.False(t, tuning.Later.UntilFIN)
			tuning.Later.Do(fd)
			after = *ReadOptions(fd)
		}
		if after.MaxRTO < MaxRTO {
			t.Skipf("tcp_rto_max_ms is %v here", after.MaxRTO)
		}
		after.Retries = 0 // no verdict of the library needs it, so Tune does not read the sysctl
		assert.Equal(t, after, tuning.Limits, "what Tune says is what the socket has")
		assert.True(t, after.On)
		tuning.undo(access(fd))
		assert.Equal(t, before, allOptions(t, fd))
	}
}

func TestTuneThatCannotFailRemembersNothing(t *testing.T) {
	for _, onFailure := range []Failure{RestoreOnFailure, CloseOnFailure} {
		tuning, err := Tune(newSocket(t), &Want{PeerTimeout: time.Minute, OnFailure: onFailure})
		require.NoError(t, err)
		assert.Zero(t, tuning.n)
	}
}

func TestTuneFailsWithTheErrno(t *testing.T) {
	for _, onFailure := range []Failure{RestoreOnFailure, CloseOnFailure} {
		_, err := Tune(1<<20, &Want{PeerTimeout: time.Minute, OnFailure: onFailure})
		assert.ErrorIs(t, err, unix.EBADF)
		assert.ErrorContains(t, err, "Config.PeerTimeout: setsockopt: bad file descriptor")
	}
	fd := newSocket(t)
	before := allOptions(t, fd)
	_, err := Tune(fd, &Want{KeepAlive: net.KeepAliveConfig{Enable: true, Idle: 40000 * time.Second, Interval: time.Second, Count: 3}})
	assert.ErrorIs(t, err, unix.EINVAL)
	assert.Equal(t, before, allOptions(t, fd))
}

func TestTuneOfMPTCPLeavesOutWhatIsMissing(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
	if err != nil {
		t.Skipf("no MPTCP here: %v", err)
	}
	defer unix.Close(fd)
	_, err = Tune(uintptr(fd), &Want{PeerTimeout: time.Minute, MPTCP: true})
	assert.NoError(t, err)
	on, _ := getOption(uintptr(fd), switchOn)
	assert.Equal(t, 1, on)
}

func TestPatienceExtendsAndRestores(t *testing.T) {
	fd := newSocket(t)
	before := allOptions(t, fd)
	const limit = 2 * time.Second
	var p Patience
	extended := func(fd uintptr, userTimeout, maxRTO time.Duration) {
		t.Helper()
		p.Extend(fd, userTimeout, maxRTO)
		require.True(t, p.InForce())
	}
	extended(fd, DefaultPatience, limit)
	assert.Equal(t, DefaultPatience, Read(fd).UserTimeout)
	if own.hasMaxRTO() {
		assert.Equal(t, limit, p.MaxRTO())
	} else {
		assert.Zero(t, p.MaxRTO())
	}
	extended(1<<20, DefaultPatience, limit) // in force, so no system call fails
	extended(fd, 2*DefaultPatience, limit)
	assert.Equal(t, 2*DefaultPatience, Read(fd).UserTimeout)
	p.Restore(fd)
	assert.Equal(t, before, allOptions(t, fd))
	assert.Zero(t, p)

	extended(fd, DefaultPatience, 0)
	assert.Equal(t, DefaultPatience, Read(fd).UserTimeout)
	assert.Equal(t, before[own.maxRTO], allOptions(t, fd)[own.maxRTO])
	p.Restore(fd)

	// A write while a Ping is under way: the limit must not stay behind, because an orphan that has reached it is given up.
	var probe Probe
	require.NoError(t, probe.Send(fd, time.Minute, 0))
	extended(fd, DefaultPatience, limit)
	probe.Restore(fd)
	p.ForgetUserTimeout()
	extended(fd, DefaultPatience, limit)
	assert.Equal(t, DefaultPatience, Read(fd).UserTimeout)
	p.Restore(fd)
	assert.Equal(t, before, allOptions(t, fd))
}

func TestPatienceLeavesTheApplicationsOwn(t *testing.T) {
	fd := newSocket(t)
	set := func(name, value int) { require.NoError(t, setOption(fd, option{name, value, 0})) }
	set(own.userTimeout, 7000)
	if own.hasMaxRTO() {
		set(own.maxRTO, 1500)
	}
	before := allOptions(t, fd)
	var p Patience
	for _, userTimeout := range []time.Duration{DefaultPatience, 2 * DefaultPatience, 0} {
		if p.Extend(fd, userTimeout, 2*time.Second); userTimeout == 0 {
			p.Restore(fd)
		}
		assert.Equal(t, before, allOptions(t, fd))
	}

	// Set while the patience is in force.
	set(own.userTimeout, 0)
	before[own.userTimeout] = 8000
	p.Extend(fd, DefaultPatience, time.Second)
	set(own.userTimeout, 8000)
	q := p
	q.Restore(fd)
	assert.Equal(t, before, allOptions(t, fd))
	p.Extend(fd, 2*DefaultPatience, time.Second)
	p.Restore(fd)
	assert.Equal(t, before, allOptions(t, fd))
}

// That the process is out of descriptors says nothing of the kernel.
func TestSupportIsNotConcludedFromEMFILE(t *testing.T) {
	hasUserTimeout := func(fd uintptr) error { _, err := getOption(fd, own.userTimeout); return err }
	var s, undisturbed support
	has := undisturbed.ask(hasUserTimeout)
	require.True(t, has)
	var limit unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &limit))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 1, Max: limit.Max}))
	refused := s.ask(hasUserTimeout)
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limit))
	assert.False(t, refused)
	assert.True(t, s.ask(hasUserTimeout))

	assert.False(t, new(support).ask(func(fd uintptr) error { _, err := getOption(fd, 9999); return err })) // no such option
	closed := support{}
	closed.told.Store(toldNo)
	assert.False(t, closed.ask(hasUserTimeout)) // once told, no socket is asked
}

func TestProbeAsksAndRestores(t *testing.T) {
	for _, on := range []int{0, 1} {
		fd := newSocket(t)
		require.NoError(t, setOption(fd, option{switchOn, on, 0}))
		require.NoError(t, setOption(fd, option{own.userTimeout, 5000 * on, 0}))
		before := allOptions(t, fd)
		silence := func() time.Duration {
			var info tcpinfo.Info
			require.NoError(t, tcpinfo.Get(fd, &info))
			return info.Silence()
		}
		require.Eventually(t, func() bool { return silence() >= 1100*time.Millisecond }, time.Minute, 20*time.Millisecond)
		var p Probe
		require.NoError(t, p.Send(fd, silence(), 0))
		assert.True(t, p.Armed)
		require.Eventually(t, func() bool { return silence() < time.Since(p.Sent)+Interval/2 }, time.Minute, 5*time.Millisecond)
		p.Disarm(fd, silence())
		assert.False(t, p.Armed)
		p.Restore(fd)
		assert.Equal(t, before, allOptions(t, fd))
	}
}

// Each unanswered probe moves the end of the connection on, however the application has it.
func TestProbeOutlastsWhatIsUnanswered(t *testing.T) {
	for _, o := range []Limits{
		{On: true, Idle: 28 * time.Second, Interval: 2 * time.Second, Count: 16},
		{On: true, Idle: 2 * time.Second, Interval: time.Second, Count: 3, UserTimeout: 4 * time.Second},
		{Idle: 7200 * time.Second, Interval: 75 * time.Second, Count: 9, UserTimeout: time.Minute},
		{On: true, Idle: time.Second, Interval: time.Second, Count: MaxProbeCount},
	} {
		p := Probe{Original: o}
		for p.Unheard = 0; p.Unheard < 300; p.Unheard++ {
			count, userTimeout := p.raised()
			require.LessOrEqual(t, count, MaxProbeCount)
			if userTimeout > 0 { // it decides in place of the count
				require.GreaterOrEqual(t, userTimeout, min(maxUserTimeout, o.IdleBound()))
			} else {
				require.Greater(t, count, p.Unheard+1)
			}
		}
	}
}
