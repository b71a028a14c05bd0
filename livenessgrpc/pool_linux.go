package livenessgrpc

import (
	"io"
	"net"
	"syscall"

	"github.com/go-liveness/liveness"
	"google.golang.org/grpc/mem"
)

// A pooledConn is a conn that takes a buffer from gRPC's pool only when data has come. gRPC
// asks for that by an interface, and otherwise keeps a buffer of 32 kB for each idle
// connection (internal/transport/readyreader).
type pooledConn struct {
	*conn
	raw  syscall.RawConn
	read func(fd uintptr) bool // created once, because creating it in every call would allocate

	// Of the call in progress; there is one reader.
	pool mem.BufferPool
	size int
	buf  *[]byte
	n    int
	err  error
}

// pooled returns nil where the kernel does not keep the state of a socket whose error was
// read past the library: for what is no TCP connection.
func pooled(c *conn) net.Conn {
	live, ok := c.Conn.(*liveness.Conn)
	if !ok {
		return nil
	}
	tcp, ok := live.NetConn().(*net.TCPConn)
	if !ok {
		return nil
	}
	if mptcp, err := tcp.MultipathTCP(); mptcp || err != nil {
		return nil
	}
	raw, err := live.SyscallConn()
	if err != nil {
		return nil
	}
	p := &pooledConn{conn: c, raw: raw}
	p.read = p.readNow
	return p
}

// readNow is called when the descriptor may be readable, and reports whether it was.
func (p *pooledConn) readNow(fd uintptr) bool {
	p.buf = p.pool.Get(p.size)
	for {
		p.n, p.err = syscall.Read(int(fd), *p.buf)
		if p.err != syscall.EINTR {
			break
		}
	}
	if p.err != nil || p.n == 0 {
		p.pool.Put(p.buf)
		p.buf = nil
	}
	return p.err != syscall.EAGAIN
}

// ReadOnReady implements the interface of gRPC: it waits for data, and returns it in a
// buffer of size bytes from pool.
func (p *pooledConn) ReadOnReady(size int, pool mem.BufferPool) (*[]byte, int, error) {
	p.pool, p.size, p.buf, p.n = pool, size, nil, 0
	_ = p.raw.Read(p.read)
	buf, n := p.buf, p.n
	p.pool, p.buf = nil, nil
	if buf != nil {
		return buf, n, nil
	}
	// No data came: an end, or a deadline. Read finds it again, and says why.
	buf = pool.Get(size)
	n, err := p.Read(*buf)
	if n == 0 {
		pool.Put(buf)
		if err == nil {
			err = io.ErrNoProgress
		}
		return nil, 0, err
	}
	return buf, n, err
}
