package livenessgrpc

// Pending returns how many connections wait for gRPC to tag them.
func Pending() int {
	pending.mu.Lock()
	defer pending.mu.Unlock()
	return len(pending.byRemote)
}
