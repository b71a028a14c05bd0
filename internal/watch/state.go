package watch

// A State is what a Hub is doing.
type State struct {
	Poller  any // nil while stopped
	Clients int
	Sweeps  bool   // the system does not tell of endings
	LastID  uint64 // of the last client
}

// State returns what h is doing.
func (h *Hub) State() State {
	h.mu.Lock()
	defer h.mu.Unlock()
	s := State{Clients: len(h.tokens), Sweeps: h.sweeps, LastID: h.lastID}
	if h.poller != nil {
		s.Poller = h.poller
	}
	return s
}

// Stop ends the hub, unless it has clients.
func (h *Hub) Stop() { h.stop() }
