package watch

// A HubState is what the hub of the process does. Only tests ask for it.
type HubState struct {
	Poller  any    // nil while the hub is stopped
	Clients int    // those in bubbles and without a socket included
	Served  int    // clients with a socket that the poller watches
	Loops   int    // goroutines that wait for events; one may be about to end
	Due     bool   // a timer of the clock is armed
	Sweeps  bool   // the system's poller does not work
	Serial  uint32 // of the last client; 0 if there was none
}

// State returns what the hub of the process does.
func State() HubState {
	process.clock.mu.Lock()
	due := process.clock.armed != 0
	process.clock.mu.Unlock()
	process.mu.Lock()
	defer process.mu.Unlock()
	s := HubState{Clients: process.tokens.count, Served: process.served, Loops: process.loops, Due: due, Sweeps: process.sweeps, Serial: process.tokens.serial}
	if process.loop != nil {
		s.Poller = process.loop.poller
	}
	return s
}
