package livenessgrpc

import (
	"context"
	"net"
	"strings"

	"github.com/go-liveness/liveness"
	"google.golang.org/grpc"
)

// DialOption returns the option for [google.golang.org/grpc.NewClient] with which the
// client's connections are wrapped. A nil cfg is the zero Config; see [DefaultPeerTimeout].
//
// It is a [google.golang.org/grpc.WithContextDialer], so there can be no other, and gRPC
// does not use the proxy of HTTPS_PROXY. The targets dns, unix, unix-abstract and
// passthrough work. Other dial functions wrap by themselves what they return, by
// [liveness.Wrap] or a [liveness.Dialer].
func DialOption(cfg *liveness.Config) grpc.DialOption { return dialOption(cfg, wrapped) }

// WatchDialOption is DialOption for connections that are watched instead: gRPC has the
// bare *[net.TCPConn]. After a time-out of cfg the connection is closed.
func WatchDialOption(cfg *liveness.Config) grpc.DialOption { return dialOption(cfg, watched) }

func dialOption(cfg *liveness.Config, m mode) grpc.DialOption {
	o := newOpener(cfg, m)
	return grpc.WithContextDialer(func(ctx context.Context, target string) (net.Conn, error) {
		network, address := endpoint(target)
		conn, err := new(net.Dialer).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		use, _, err := o.open(conn)
		if err != nil {
			conn.Close()
			return nil, err
		}
		return use, nil
	})
}

// endpoint returns what package net is to dial for an address as gRPC gives it to a dialer:
// a path with the scheme in front, a name in the abstract namespace with a zero byte.
func endpoint(target string) (network, address string) {
	if strings.HasPrefix(target, "\x00") {
		return "unix", "@" + target[1:]
	}
	if path, ok := strings.CutPrefix(target, "unix:"); ok {
		return "unix", strings.TrimPrefix(path, "//")
	}
	return "tcp", target
}
