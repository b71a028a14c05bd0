package liveness

import "time"

// checkTimeouts is check for what the clock watches.
func (cfg *Config) checkTimeouts() error {
	switch {
	case cfg.StallTimeout != 0:
		return badConfig("StallTimeout", "%w", errNotBuilt)
	case cfg.ReadIdleTimeout != 0:
		return badConfig("ReadIdleTimeout", "%w", errNotBuilt)
	}
	return nil
}

// OnSilence is not built yet: f is never called, and stop returns false.
func (c *Conn) OnSilence(d time.Duration, f func()) (stop func() bool) {
	return func() bool { return false }
}
