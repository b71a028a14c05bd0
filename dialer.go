package liveness

import (
	"context"
	"net"

	"github.com/go-liveness/liveness/internal/beneath"
	"github.com/go-liveness/liveness/internal/keepalive"
)

// A Dialer dials connections and wraps them, as [crypto/tls.Dialer] does for TLS. It fits
// where a library takes a dial function: http.Transport, pgx, go-redis, mysql, gRPC, NATS.
// An http.Transport with a DialContext of its own needs ForceAttemptHTTP2 to go on using
// HTTP/2. The zero value dials with the zero [net.Dialer] and the zero [Config]. Multiple
// goroutines may use a Dialer simultaneously.
type Dialer struct {
	// NetDialer makes the connections. Nil is the zero net.Dialer.
	NetDialer *net.Dialer

	// Config is how they are wrapped. Nil is the zero Config.
	Config *Config
}

// Dial is DialContext with [context.Background].
func (d *Dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(context.Background(), network, address)
}

// DialContext connects to the address and returns a *[Conn], as a net.Conn. If the
// connection cannot be wrapped, DialContext closes it and returns the error of [Wrap].
func (d *Dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if err := d.Config.check(); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	dialer := d.NetDialer
	if dialer == nil {
		dialer = new(net.Dialer)
	}
	conn, err := dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	c, err := newConn(conn, d.Config, through, keepalive.CloseOnFailure)
	if err != nil {
		conn.Close()
		return nil, beneath.NamedOf(conn).OpError("dial", err)
	}
	return c, nil
}
