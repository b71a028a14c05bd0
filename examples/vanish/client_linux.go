package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/go-liveness/liveness/livenesstest"
)

// A client is the far end of a connection, here or in a process of its own.
type client interface {
	Send(n int) error
	Close() error
	CloseWrite() error
	Reset() error
}

// A local client is a Peer of livenesstest in this process.
type local struct{ *livenesstest.Peer }

func (c local) Send(n int) error {
	_, err := c.Write(make([]byte, n))
	return err
}

// connect makes a connection between a new client and the server, as far as
// the row wants it before the client goes. wrap, if not nil, is applied to the
// server's end, beneath TLS.
func (r *row) connect(wrap func(net.Conn) (net.Conn, error)) (*session, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer listener.Close()
	s := &session{told: make(chan struct{})}
	address := listener.Addr().String()
	if r.process {
		p, err := livenesstest.StartProcess("tcp", address)
		if err != nil {
			return nil, err
		}
		s.client = p
	} else {
		p, err := livenesstest.Dial("tcp", address)
		if err != nil {
			return nil, err
		}
		s.client = local{p}
	}
	if s.server, err = listener.Accept(); err != nil {
		return nil, err
	}
	if wrap != nil {
		if s.server, err = wrap(s.server); err != nil {
			return nil, err
		}
	}
	if r.tls {
		if err := s.startTLS(); err != nil {
			return nil, err
		}
	}
	return s, s.talkAtFirst(r.request, r.answer)
}

// startTLS puts TLS above both ends.
func (s *session) startTLS() error {
	serverConfig, clientConfig, err := livenesstest.TLSConfig()
	if err != nil {
		return err
	}
	serverEnd := tls.Server(s.server, serverConfig)
	clientEnd := tls.Client(s.client.(local).NetConn(), clientConfig)
	shaken := make(chan error, 1)
	go func() { shaken <- clientEnd.Handshake() }()
	if err := errors.Join(serverEnd.Handshake(), <-shaken); err != nil {
		return err
	}
	s.server, s.client = serverEnd, local{livenesstest.NewPeer(clientEnd)}
	return nil
}

// talkAtFirst lets the client send a request, of which the server takes half, and
// the server an answer, of which the client takes nothing.
func (s *session) talkAtFirst(request, answer int) error {
	if request > 0 {
		if err := s.client.Send(request); err != nil {
			return err
		}
		if _, err := io.ReadFull(s.server, make([]byte, request/2)); err != nil {
			return err
		}
	}
	if answer > 0 {
		if _, err := s.server.Write(make([]byte, answer)); err != nil {
			return err
		}
		return s.acknowledged()
	}
	return nil
}

// acknowledged waits until the client's host has received what the server sent.
func (s *session) acknowledged() error {
	raw, err := s.server.(syscall.Conn).SyscallConn()
	if err != nil {
		return err
	}
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		var waiting uint32
		var failed error
		err := raw.Control(func(fd uintptr) { waiting, failed = unix.IoctlGetUint32(int(fd), unix.SIOCOUTQ) })
		if err := errors.Join(err, failed); err != nil || waiting == 0 {
			return err
		}
	}
	return os.ErrDeadlineExceeded
}

// The ways to go.

func (s *session) close() error      { return s.client.Close() }
func (s *session) closeWrite() error { return s.client.CloseWrite() }
func (s *session) reset() error      { return s.client.Reset() }
func (s *session) kill() error       { return s.client.(*livenesstest.Process).Kill() }
func (s *session) stay() error       { return nil }

func (s *session) cut() (err error) {
	s.mend, err = livenesstest.Cut(s.client.(local))
	return err
}

func (s *session) stop() error {
	p := s.client.(*livenesstest.Process)
	if err := p.Send(1); err != nil {
		return err
	}
	return p.Stop()
}

// talk goes on until the connection is closed.
func (s *session) talk() error {
	go func() {
		for s.client.Send(1) == nil {
			time.Sleep(silence / 6)
		}
	}()
	return nil
}

// What the server does then.

func (s *session) sendAnswer() error {
	_, err := s.server.Write(make([]byte, 1024))
	return err
}

// sendForEver goes on until Write fails.
func (s *session) sendForEver() error {
	go func() {
		for data := make([]byte, 64<<10); ; {
			if _, err := s.server.Write(data); err != nil {
				return
			}
		}
	}()
	return nil
}

// exchange sends an answer to a client that is still there, and checks that it
// arrives.
func (s *session) exchange() error {
	const text = "the answer"
	if _, err := io.WriteString(s.server, text); err != nil {
		return err
	}
	client := s.client.(local)
	client.SetReadDeadline(time.Now().Add(5 * time.Second))
	got := make([]byte, len(text))
	if _, err := io.ReadFull(client, got); err != nil {
		return err
	}
	if !bytes.Equal(got, []byte(text)) {
		return errors.New("the answer arrived garbled")
	}
	return nil
}
