//go:build !linux

package livenessgrpc

import "net"

// pooled returns nil: gRPC has no pooled reads on this system.
func pooled(*conn) net.Conn { return nil }
