package liveness

import (
	"errors"
	"io"
	"net"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/errno"
	"github.com/go-liveness/liveness/internal/sock"
)

// A pipe is the checker of a connection without a socket, such as a net.Pipe: what
// Read, Write and Close return is all that there is to know.
type pipe struct{ sock.History }

func (p *pipe) shut(d sock.Direction) (undo func()) { return p.Shut(d) }

func (p *pipe) check(t trigger) observation {
	why := errno.In(t.err)
	if why == nil {
		why = t.err
	}
	switch err := t.err; { // what falls out of it does not end the connection by itself
	case err == nil || isTimeout(err) && !errno.IsLost(why):
	case errors.Is(err, net.ErrClosed):
		return observation{outcome: closedLocally}
	case errors.Is(err, io.EOF):
		shut := p.ReadShut()
		if t.wrote {
			shut = p.WriteShut()
		}
		if !shut { // after a local CloseRead or CloseWrite it says nothing
			p.NoteFIN()
		}
	case errors.Is(err, io.ErrClosedPipe) && !t.wrote:
		return observation{outcome: closedLocally} // net.Pipe; for its peer's Close, Read returns io.EOF
	case errors.Is(err, io.ErrClosedPipe):
		// Write on a net.Pipe whose other end was closed, or that other code closed here.
		return observation{outcome: bothFinished, fin: true}
	case p.WriteShut() && errno.IsShut(why):
		// A Write after a local CloseWrite fails, which ends nothing.
	default:
		return observation{outcome: aborted, fin: p.FINSeen(), errno: why}
	}
	switch {
	case p.FINSeen() && p.WriteShut():
		return observation{outcome: bothFinished, fin: true}
	case p.FINSeen():
		return observation{outcome: peerFinished, fin: true}
	}
	return observation{}
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return isDeadline(err) || ok && t.Timeout()
}

// openWithoutSocket makes do with what Read, Write and Close return. It fails for what
// they cannot tell, and for Watch, which does not see them. A host can vanish behind any
// connection that only hides its socket, but not behind a net.Pipe.
func (c *Conn) openWithoutSocket(cfg *Config) error {
	if c.foreign == nil {
		c.foreign = &foreign{named: beneath.Named{Conn: c.inner}}
	}
	c.foreign.checker = new(pipe)
	c.configure(cfg)
	switch {
	case c.sock.byWatch && cfg.PeerTimeout == 0:
		return errNoSocket
	case cfg.PeerTimeout == 0 && cfg.StallTimeout == 0 && !cfg.KeepAlive.Enable:
		return nil // and no method of the connection is called, which may block
	}
	if addr := c.inner.LocalAddr(); addr != nil && addr.Network() == "pipe" && !c.sock.byWatch {
		return nil
	}
	switch {
	case cfg.PeerTimeout > 0:
		return badConfig("PeerTimeout", "%w", errNoSocket)
	case cfg.StallTimeout > 0:
		return badConfig("StallTimeout", "%w", errNoSocket)
	default:
		return badConfig("KeepAlive", "%w", errNoSocket)
	}
}
