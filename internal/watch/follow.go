package watch

import "time"

// FollowPatience is for how long the hub waits for a client that it asks whether it is open.
// It asks again a moment later.
const FollowPatience = time.Millisecond

const (
	// followPeriod is how often a client that asked for FollowClose is asked whether it
	// is open.
	followPeriod = time.Second

	// followBatch is how many are asked in one go, so that other clients of the clock do
	// not wait for all of them.
	followBatch = 2048

	// followChunk is how many are looked up under one lock.
	followChunk = 64
)

// followers are the clients of a hub that asked for FollowClose. They are asked in
// turns, which the hub's clock gives.
type followers struct {
	Token      // in the hub's clock
	hub   *hub // set by the first FollowClose

	// Guarded by hub.mu.
	count int      // of followers
	ids   []uint64 // theirs, and of some that were forgotten
	next  int      // the place in ids of the first that is asked in the next turn
}

// followClose adds t to the followers.
func (h *hub) followClose(t *Token) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if t.follow || h.tokens.find(t.id) != t {
		return
	}
	t.follow = true
	f := &h.followers
	if f.hub == nil {
		f.hub = h
		f.Init(f)
	}
	f.ids = append(f.ids, t.id)
	if f.count++; f.count == 1 {
		h.clock.wake(&f.Token, time.Now().Add(followPeriod))
	}
}

// unfollow is called when a follower was forgotten; hub.mu is held.
func (f *followers) unfollow() {
	if f.count--; f.count == 0 {
		f.ids, f.next = nil, 0
		f.hub.clock.cancel(&f.Token)
	}
}

// Check asks the followers whose turn it is. It returns when the next turn is.
func (f *followers) Check(now, _ time.Time) (next time.Time) {
	var tokens [followChunk]*Token
	for asked := 0; asked < followBatch; asked += followChunk {
		chunk, more := f.take(tokens[:0])
		for _, t := range chunk {
			if !t.client.Open(FollowPatience) && f.hub.forget(t) {
				f.hub.clock.remove(t)
				t.client.Closed()
			}
		}
		if !more {
			break
		}
	}
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	if n := len(f.ids); n > 0 {
		turns := (n + followBatch - 1) / followBatch
		next = now.Add(followPeriod / time.Duration(turns))
	}
	return next
}

// take appends the next followers to tokens, as many as there is room for. It reports
// false after the last of them, and begins again at the first then.
func (f *followers) take(tokens []*Token) (_ []*Token, more bool) {
	f.hub.mu.Lock()
	defer f.hub.mu.Unlock()
	for f.next < len(f.ids) && len(tokens) < cap(tokens) {
		if t := f.hub.tokens.find(f.ids[f.next]); t != nil {
			tokens = append(tokens, t)
			f.next++
		} else { // forgotten: the last follower takes its place
			last := len(f.ids) - 1
			f.ids[f.next] = f.ids[last]
			f.ids = f.ids[:last]
		}
	}
	if f.next < len(f.ids) {
		return tokens, true
	}
	f.next = 0
	return tokens, false
}

// followers have no socket.
func (f *followers) Notice(Event)            {}
func (f *followers) Settle()                 {}
func (f *followers) Closed()                 {}
func (f *followers) Open(time.Duration) bool { return true }
