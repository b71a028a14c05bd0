package livenessdebug

import (
	"cmp"
	"context"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/beneath"
)

const (
	maxExamined = 50_000                 // connections in one collection
	minAge      = time.Second            // for which a collection is used
	patience    = 200 * time.Millisecond // for methods that may block, in one collection
)

// A collection is what a collector found. It has no Conn, so that none is kept from being freed.
type collection struct {
	At     time.Time
	Open   int
	Rows   []row
	Totals stats
	Groups []group
}

// A row is a connection, live or ended. The error of its status has no addresses: those of
// some connections are methods that may block.
type row struct {
	network     string
	Peer, Local address
	Group       string
	status      liveness.Status
}

// An address is that of a socket. Those that have no IP address are compared as text.
type address struct {
	ip   netip.AddrPort
	text string
}

func addressOf(addr net.Addr) address {
	switch addr := addr.(type) {
	case nil:
		return address{}
	case *net.TCPAddr:
		ip := addr.AddrPort()
		return address{ip: netip.AddrPortFrom(ip.Addr().Unmap(), ip.Port())}
	default:
		return address{text: addr.String()}
	}
}

func (a address) String() string {
	if a.ip.IsValid() {
		return a.ip.String()
	}
	return a.text
}

func (a address) compare(b address) int {
	return cmp.Or(a.ip.Compare(b.ip), cmp.Compare(a.text, b.text))
}

// A collector asks the kernel about the connections, and remembers what it said.
type collector struct {
	groups []*liveness.Group // of Options
	asking atomic.Bool       // a Status of a connection whose methods may block is under way
	latest atomic.Pointer[collection]
}

// collect returns a collection that is not older than a second, or than ten times as long as it
// took. It is called by one goroutine at a time.
func (k *collector) collect() *collection {
	latest := k.latest.Load()
	if latest == nil {
		latest = k.examine()
		k.latest.Store(latest)
		// This also frees it, should there be no other request.
		time.AfterFunc(max(minAge, 10*time.Since(latest.At)), func() { k.latest.Store(nil) })
	}
	return latest
}

// examine asks about those first that have ended, which costs nothing.
func (k *collector) examine() *collection {
	found := &collection{At: time.Now(), Totals: stats(liveness.Totals()), Groups: []group{}}
	groups := make(map[*liveness.Group]bool)
	for _, g := range k.groups {
		groups[g] = true
	}
	var ended, live []*liveness.Conn
	for c := range liveness.Conns() {
		found.Open++
		groups[c.Group()] = true
		switch {
		case c.Err() != nil && len(ended) < maxExamined:
			ended = append(ended, c)
		case c.Err() == nil && len(live) < maxExamined:
			live = append(live, c)
		}
	}
	live = live[:min(len(live), maxExamined-len(ended))]
	found.Rows = make([]row, 0, len(ended)+len(live))
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for _, c := range slices.Concat(ended, live) {
		found.Rows = append(found.Rows, k.rowOf(ctx, c))
	}
	delete(groups, nil)
	for g := range groups {
		found.Groups = append(found.Groups, group{g.Name, stats(g.Stats())})
	}
	slices.SortFunc(found.Groups, func(a, b group) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Wrapped, b.Wrapped))
	})
	return found
}

// rowOf asks about c. A connection of package net does not block; of another, only its
// Status is asked for, in another goroutine.
func (k *collector) rowOf(ctx context.Context, c *liveness.Conn) (r row) {
	if g := c.Group(); g != nil {
		r.Group = g.Name
	}
	inner := c.NetConn()
	if named := beneath.NamedOf(inner).Conn; beneath.IsPackageNet(named) {
		r.setAddresses(named.LocalAddr(), named.RemoteAddr())
	}
	if beneath.IsPackageNet(inner) {
		r.status = c.Status()
	} else {
		r.status = k.statusLater(ctx, c)
	}
	if op, ok := r.status.Err.(*net.OpError); ok {
		r.status.Err = op.Err
	}
	return r
}

func (r *row) setAddresses(local, peer net.Addr) {
	if peer != nil {
		r.network = peer.Network()
	}
	r.Local, r.Peer = addressOf(local), addressOf(peer)
}

// statusLater returns the Status of c, or only its end if that takes too long. At most one
// goroutine waits for methods that block.
func (k *collector) statusLater(ctx context.Context, c *liveness.Conn) (st liveness.Status) {
	if st.Err = c.Err(); st.Err != nil {
		st.State = liveness.Disconnected
	}
	if ctx.Err() != nil || !k.asking.CompareAndSwap(false, true) {
		return st
	}
	answer := make(chan liveness.Status, 1)
	go func() {
		full := c.Status()
		k.asking.Store(false)
		answer <- full
	}()
	select {
	case st = <-answer:
	case <-ctx.Done():
	}
	return st
}
