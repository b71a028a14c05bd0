package main

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

const (
	// peerTimeout and silence are what the server asks for, of the clients that
	// leave without a word.
	peerTimeout = 4 * time.Second
	silence     = 3 * time.Second

	// slack is what a busy machine may add to any limit; what is told at once has
	// no other. tick is what the kernel's clock may be ahead.
	slack = time.Second
	tick  = 10 * time.Millisecond

	// work is how long a busy server works on a request before it reads again.
	work = 2 * time.Second
)

// A row is one way to go. The client goes twice: from a server that reads in a
// plain loop, and from one that watches its connection.
type row struct {
	name, does string

	cfg     *liveness.Config
	tls     bool                 // the connection is TLS
	process bool                 // the client is a process of its own
	request int                  // bytes that the client has sent; the server took half of them, and is busy
	answer  int                  // bytes that the server has sent, and the client did not read
	leave   func(*session) error // how the client goes
	then    func(*session) error // what the server does about it, in its ignorance

	plain error  // what Read must say in the plain loop; nil is nothing at all
	note  string // a word on that

	// What liveness must say, and when. A client that is still there is not to be
	// reported: then want is nil, and state is what Status must show.
	want             error
	state            liveness.State
	earliest, latest time.Duration

	plainly, watched *session
	conn             *liveness.Conn
	stop             func() bool   // of conn.OnDisconnect
	seen             time.Duration // how late Status showed state

	failed error // what kept the row from being run, or is not as it must be
	cells  cells // what the table shows
}

// begin lets both clients go, and returns when it is known what liveness said,
// unless that takes its time.
func (r *row) begin(out *screen) {
	if r.failed = errors.Join(r.beginPlain(out), r.beginWatched(out)); r.failed != nil {
		r.cells = cells{knew: "–", said: "–"}
	}
}

func (r *row) beginPlain(out *screen) (err error) {
	if r.plainly, err = r.connect(nil); err != nil {
		return err
	}
	go func() {
		if r.request > 0 {
			time.Sleep(work)
		}
		for buffer := make([]byte, 4096); ; {
			if _, err := r.plainly.server.Read(buffer); err != nil {
				r.plainly.tell(err, out, r.name, "plain")
				return
			}
		}
	}()
	out.say(r.name, "client", r.does)
	if err := r.plainly.depart(r.leave, r.then); err != nil {
		return err
	}
	if r.plain != nil && r.request == 0 {
		r.plainly.await(r.plainly.left.Add(slack))
	}
	return nil
}

func (r *row) beginWatched(out *screen) (err error) {
	r.watched, err = r.connect(func(conn net.Conn) (net.Conn, error) {
		var err error
		r.conn, err = liveness.Wrap(conn, r.cfg)
		return r.conn, err
	})
	if err != nil {
		return err
	}
	r.stop = r.conn.OnDisconnect(func(err error) { r.watched.tell(err, out, r.name, "liveness") })
	if err := r.watched.depart(r.leave, r.then); err != nil {
		return err
	}
	switch {
	case r.want == nil:
		return r.answerIt(out)
	case r.latest == 0:
		r.watched.await(r.watched.left.Add(slack))
	}
	return nil
}

// answerIt waits until a client that is still there looks as it must, and sends it
// an answer.
func (r *row) answerIt(out *screen) error {
	for r.conn.Status().State != r.state && time.Since(r.watched.left) < slack {
		time.Sleep(time.Millisecond)
	}
	r.seen = time.Since(r.watched.left)
	if err := r.watched.exchange(); err != nil {
		return err
	}
	out.say(r.name, "liveness", r.state.String()+", the answer has arrived")
	return nil
}

// finish waits for what is still to be said, and puts everything away.
func (r *row) finish() {
	if r.failed == nil {
		if r.want != nil {
			r.watched.await(r.watched.left.Add(r.latest + slack))
		}
		if r.plain != nil {
			r.plainly.await(r.plainly.left.Add(work + slack))
		}
		r.failed = r.judge()
		r.cells = r.write()
	}
	if r.stop != nil {
		r.stop() // or the library would tell, as it must, that we close the connection ourselves
	}
	r.plainly.release()
	r.watched.release()
}

// vanish runs it all and returns the exit status.
func vanish() int {
	// The first connection of a program takes longer than all others, so there is
	// a rehearsal that nobody sees.
	rehearsal := ways()[0]
	rehearsal.begin(newScreen(io.Discard))
	rehearsal.finish()

	out := newScreen(os.Stdout)
	rows := ways()
	out.intro()
	// One after the other, so that what is told at once is not told while another
	// client's process starts. The slow ones go on meanwhile.
	for _, r := range rows {
		r.begin(out)
	}
	for _, r := range rows {
		if r.want != nil {
			r.finish()
		}
	}
	for _, r := range rows {
		if r.want == nil { // until all the others are gone
			r.finish()
		}
	}
	return out.table(rows)
}

// A session is one connection: the server's end, and the client.
type session struct {
	server net.Conn
	client client
	mend   func() error // not nil if the cable is cut
	left   time.Time    // when the client went

	once sync.Once
	told chan struct{} // closed when news is set
	news notice
}

// A notice is what a server learned of its client.
type notice struct {
	err error
	at  time.Time
}

// tell is called with what a server has learned, by the one that learned it.
func (s *session) tell(err error, out *screen, name, who string) {
	at := time.Now()
	if errors.Is(err, net.ErrClosed) {
		return // we have closed it ourselves
	}
	s.once.Do(func() {
		out.say(name, who, brief(err))
		s.news = notice{err, at}
		close(s.told)
	})
}

// await waits until something was told, but no longer than until the deadline.
func (s *session) await(deadline time.Time) {
	select {
	case <-s.told:
	case <-time.After(time.Until(deadline)):
	}
}

// heard returns what was told so far, and how late that was.
//
//lint:ignore ST1008 the error is what was heard, not a failure
func (s *session) heard() (err error, late time.Duration) {
	select {
	case <-s.told:
		return s.news.err, s.news.at.Sub(s.left)
	default:
		return nil, 0
	}
}

// depart lets the client go.
func (s *session) depart(leave, then func(*session) error) error {
	s.left = time.Now()
	if err := leave(s); err != nil {
		return err
	}
	if then == nil {
		return nil
	}
	return then(s)
}

func (s *session) release() {
	if s == nil {
		return
	}
	s.server.Close()
	if s.mend != nil {
		s.mend()
	}
	if p, ok := s.client.(*livenesstest.Process); ok {
		p.Release()
	} else {
		s.client.Reset()
	}
}
