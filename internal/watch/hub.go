package watch

import (
	"errors"
	"io/fs"
	"sync"
	"time"

	"github.com/go-liveness/liveness/internal/poller"
)

// A watcher tells which sockets may have ended: a poller.Poller, or a poller.Sweep
// where the system has no poller that works.
type watcher interface {
	Add(fd uintptr, id uint64) error
	Replace(fd uintptr, id uint64) error
	Remove(fd uintptr, id uint64)
	Wait() ([]poller.Event, error)
	Close() error
}

// process is the only state that connections share.
var process hub

// A hub starts with its first client and stops with its last: neither a goroutine nor
// a timer is left then.
type hub struct {
	clock     clock // initialised by the first start
	followers followers

	mu     sync.Mutex // guards the fields below, those of its loops, and those of tokens
	tokens table
	served int   // tokens that the poller watches for: neither those in bubbles nor those without a descriptor
	loop   *loop // nil while stopped
	loops  int   // goroutines that wait for events
	sweeps bool  // the poller of this system does not work
}

// add registers t for fd.
func (h *hub) add(t *Token, fd uintptr) error {
	h.mu.Lock()
	if err := h.start(); err != nil {
		h.mu.Unlock()
		return err
	}
	// The token is known before its socket is, so that no event is lost.
	h.served++
	others := h.register(t, fd)
	p := h.loop.poller
	h.mu.Unlock()

	var err error
	if anyOpen(others) {
		err = ErrWatched
	} else if err = p.Add(fd, t.id); errors.Is(err, fs.ErrExist) {
		// The client that was watched here is gone, its connection is not.
		err = p.Replace(fd, t.id)
	}
	if err != nil {
		h.forget(t)
	}
	return err
}

// register makes t known, and returns the clients that were added with the same
// descriptor; mu is held. Of two that are added at once, the later sees the earlier.
func (h *hub) register(t *Token, fd uintptr) []Client {
	h.tokens.add(t, fd)
	return h.tokens.others(t, fd)
}

// join makes a token known that has no descriptor.
func (h *hub) join(t *Token) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens.find(t.id) != t {
		h.tokens.join(t)
	}
}

// clients appends those of the n-th chunk to batch. It reports false behind the last one.
func (h *hub) clients(n int, batch []Client) ([]Client, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.tokens.chunk(n, batch)
}

// registerPatience is for how long Add waits for the connection that had the descriptor
// before. It is closed in all but a mistake of the application, and then answers as soon
// as the machine lets it.
const registerPatience = time.Second

// anyOpen reports whether a client has its descriptor open. Two that have the same
// descriptor open have the same socket.
func anyOpen(clients []Client) bool {
	for _, c := range clients {
		if c.Open(registerPatience) {
			return true
		}
	}
	return false
}

// pollerOf returns the poller that watches for t, or nil. It is not closed before t is
// forgotten.
func (h *hub) pollerOf(t *Token) watcher {
	if !t.hasHub() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.tokens.find(t.id) != t {
		return nil
	}
	return h.loop.poller
}

// forget drops t, and stops the hub with the last token that it serves. It reports whether
// t was in the table.
func (h *hub) forget(t *Token) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.tokens.remove(t) {
		return false
	}
	if !t.hasHub() {
		return true
	}
	if t.follow {
		h.followers.unfollow()
	}
	if h.served--; h.served == 0 {
		h.loop.poller.Close()
		h.loop = nil
	}
	return true
}

// start makes sure that the hub runs; mu is held, and the caller is in no bubble.
func (h *hub) start() error {
	if h.loop != nil {
		return nil
	}
	p, err := h.newWatcher(systemWatcher)
	if err != nil {
		return err
	}
	if h.clock.epoch.IsZero() {
		h.clock.init(time.Now())
	}
	h.loop = &loop{hub: h, poller: p}
	h.loop.role.init(&h.mu, h.loop.work)
	h.loops++
	go h.loop.run()
	return nil
}

// newWatcher makes a watcher by open, or a sweep in its place; mu is held.
func (h *hub) newWatcher(open func() (watcher, error)) (watcher, error) {
	if !h.sweeps {
		p, err := open()
		if !errors.Is(err, poller.ErrSilent) {
			return p, err
		}
		h.sweeps = true
	}
	return poller.NewSweep(), nil
}

// systemWatcher makes what the system has.
func systemWatcher() (watcher, error) {
	p, err := poller.New()
	if err != nil {
		return nil, err
	}
	return p, nil
}
