//go:build aix || solaris

package poller

// A Poller sweeps. The event ports of Solaris and illumos do not tell of a FIN unless
// they tell of data too (so_poll), and the pollset of AIX is no better.
type Poller = Sweep

// New makes a Poller.
func New() (*Poller, error) { return NewSweep(), nil }
