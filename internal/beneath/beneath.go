// Package beneath follows wrapped connections down to their sockets.
package beneath

import (
	"net"
	"reflect"
	"sync"
	"syscall"
)

// MaxDepth bounds the search beneath a connection: a NetConn that returns its own receiver
// must not hang the search.
const MaxDepth = 32

// Next returns the connection that conn wraps, nil if it is not known: what its method
// NetConn returns, or in a struct without one of its own its only exported embedded
// net.Conn.
func Next(conn net.Conn) net.Conn {
	switch conn.(type) {
	case nil, *net.TCPConn, *net.UnixConn:
		return nil
	}
	under, promotes := embedded(conn)
	if u, ok := conn.(netConner); ok && !promotes && !IsNil(conn) {
		under = u.NetConn()
	}
	if IsNil(under) {
		return nil
	}
	return under
}

type netConner interface{ NetConn() net.Conn }

var (
	connType      = reflect.TypeFor[net.Conn]()
	netConnerType = reflect.TypeFor[netConner]()
)

// embedded returns the net.Conn that is embedded in the struct of conn, in an exported
// field and the only one of its kind; nil if there is none. promotes reports whether its
// type gives the struct a method NetConn, which then leads past it.
func embedded(conn net.Conn) (found net.Conn, promotes bool) {
	v := reflect.ValueOf(conn)
	if v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return nil, false
	}
	for i := range v.NumField() {
		field := v.Type().Field(i)
		if !field.Anonymous || !field.Type.Implements(connType) {
			continue
		}
		if !field.IsExported() || found != nil {
			return nil, false
		}
		under, _ := v.Field(i).Interface().(net.Conn)
		if IsNil(under) {
			return nil, false
		}
		found, promotes = under, field.Type.Implements(netConnerType)
	}
	return found, promotes
}

// RawConn finds the socket at or beneath conn, and the connection that it belongs to, at
// which depth. Both are nil if there is none.
func RawConn(conn net.Conn) (raw Raw, owner net.Conn, depth int) {
	for depth := range MaxDepth {
		if tcp, ok := conn.(*net.TCPConn); ok && tcp != nil {
			return (*tcpRaw)(tcp), conn, depth
		}
		if s, ok := conn.(syscall.Conn); ok {
			if raw, err := s.SyscallConn(); err == nil {
				return raw, conn, depth
			}
		}
		if conn = Next(conn); conn == nil {
			break
		}
	}
	return nil, nil, 0
}

// A Raw is what the library uses of a syscall.RawConn.
type Raw interface {
	Control(f func(fd uintptr)) error
}

// A tcpRaw is a TCPConn as a Raw, which needs no memory of its own. SyscallConn allocates
// unless its result stays on the stack, as here.
type tcpRaw net.TCPConn

func (t *tcpRaw) Control(f func(fd uintptr)) error {
	raw, err := (*net.TCPConn)(t).SyscallConn()
	if err != nil {
		return err
	}
	return raw.Control(f)
}

// IsNil reports whether conn is nil or holds a nil pointer, for which package net has
// EINVAL and other packages a panic.
func IsNil(conn net.Conn) bool {
	if conn == nil {
		return true
	}
	v := reflect.ValueOf(conn)
	return v.Kind() == reflect.Pointer && v.IsNil()
}

// Named is the connection whose addresses errors carry: package net's own in or beneath a
// connection, or else that connection itself.
type Named struct{ net.Conn }

// NamedOf finds the addresses of conn. It may block where NetConn of conn does.
func NamedOf(conn net.Conn) Named {
	for under, depth := conn, 0; under != nil && depth < MaxDepth; under, depth = Next(under), depth+1 {
		if IsPackageNet(under) {
			return Named{under}
		}
	}
	return Named{conn}
}

// OpError puts err where users of package net look for it. It does not block: the addresses
// of a connection that is not package net's are asked for when they are printed, because
// the method may wait for the peer, as for a header of the PROXY protocol.
func (n Named) OpError(op string, err error) *net.OpError {
	if !IsPackageNet(n.Conn) {
		return &net.OpError{Op: op, Source: &lateAddr{n.LocalAddr}, Addr: &lateAddr{n.RemoteAddr}, Err: err}
	}
	e := &net.OpError{Op: op, Source: n.LocalAddr(), Addr: n.RemoteAddr(), Err: err}
	if e.Source != nil {
		e.Net = e.Source.Network()
	}
	return e
}

// IsPackageNet reports whether conn is one of package net, whose methods do not block.
func IsPackageNet(conn net.Conn) bool {
	switch conn.(type) {
	case *net.TCPConn, *net.UnixConn, *net.UDPConn, *net.IPConn:
		return true
	}
	return reflect.TypeOf(conn) == pipeType()
}

// pipeType is the type of a net.Pipe, which package net does not export.
var pipeType = sync.OnceValue(func() reflect.Type {
	p, _ := net.Pipe()
	return reflect.TypeOf(p)
})

// A lateAddr asks for an address when it is used.
type lateAddr struct{ ask func() net.Addr }

func (a *lateAddr) Network() string {
	if addr := a.ask(); addr != nil {
		return addr.Network()
	}
	return ""
}

func (a *lateAddr) String() string {
	if addr := a.ask(); addr != nil {
		return addr.String()
	}
	return "?"
}
