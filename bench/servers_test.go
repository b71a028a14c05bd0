//go:build linux

package bench

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cloudwego/netpoll"
	"github.com/lesismal/nbio"
	nbiolog "github.com/lesismal/nbio/logging"
	"github.com/panjf2000/gnet/v2"
	"go.uber.org/zap"
)

func httpPrelude(unread bool) string {
	if unread {
		return "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
	}
	return "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
}

type connKey struct{}

func serveHTTP(o options, accepted func(*watched)) (string, func()) {
	l := listenTCP()
	srv := &http.Server{
		ConnContext: func(ctx context.Context, conn net.Conn) context.Context {
			tune(conn, o)
			return context.WithValue(ctx, connKey{}, conn)
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if o.lean {
				accepted(nil)
				<-r.Context().Done()
				report()
				return
			}
			over := make(chan struct{})
			conn := r.Context().Value(connKey{}).(net.Conn)
			accepted(&watched{
				gone: r.Context().Done(),
				write: func(b []byte) error {
					_, err := w.Write(b)
					return errors.Join(err, http.NewResponseController(w).Flush())
				},
				release: sync.OnceFunc(func() { close(over); conn.Close() }),
			})
			<-over
		}),
	}
	go srv.Serve(l)
	return l.Addr().String(), func() { srv.Close() }
}

// loopConn is what the application knows of a connection in an event loop: nothing, and nil, if options.lean.
type loopConn struct {
	gone chan struct{}
	got  atomic.Int64
	err  error
}

func openLoop(o options, accepted func(*watched), write func([]byte) error, release func()) *loopConn {
	if o.lean {
		accepted(nil)
		return nil
	}
	l := &loopConn{gone: make(chan struct{})}
	accepted(&watched{gone: l.gone, write: write, release: release,
		received: func() int { return int(l.got.Load()) },
		closeErr: func() error { <-l.gone; return l.err },
	})
	return l
}

func (l *loopConn) receive(n int) {
	if l != nil {
		l.got.Add(int64(n))
	}
}

func (l *loopConn) end(err error) {
	if l == nil {
		report()
		return
	}
	l.err = err
	close(l.gone)
}

// stopper gives a graceful shutdown two seconds.
func stopper(shutdown func(context.Context) error) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		shutdown(ctx)
	}
}

func serveNetpoll(o options, accepted func(*watched)) (string, func()) {
	netpoll.SetLoggerOutput(io.Discard)
	l := must(netpoll.CreateListener("tcp", "127.0.0.1:0"))
	loop := must(netpoll.NewEventLoop(func(ctx context.Context, c netpoll.Connection) error {
		n := c.Reader().Len()
		ctx.Value(connKey{}).(*loopConn).receive(n)
		return c.Reader().Skip(n)
	}, netpoll.WithOnPrepare(func(c netpoll.Connection) context.Context {
		tuneFD(c.(netpoll.Conn).Fd(), o)
		l := openLoop(o, func(w *watched) {
			if w != nil {
				w.closeErr, w.probe = nil, probe(c.IsActive)
			}
			accepted(w)
		}, func(b []byte) error { _, err := c.Write(append([]byte(nil), b...)); return err }, func() { c.Close() })
		c.AddCloseCallback(func(netpoll.Connection) error { l.end(nil); return nil })
		return context.WithValue(context.Background(), connKey{}, l)
	})))
	go loop.Serve(l)
	return l.Addr().String(), stopper(loop.Shutdown)
}

type gnetHandler struct {
	gnet.BuiltinEventEngine
	o        options
	accepted func(*watched)
	booted   chan gnet.Engine
}

func (h *gnetHandler) OnBoot(e gnet.Engine) gnet.Action { h.booted <- e; return gnet.None }

func (h *gnetHandler) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	tuneFD(c.Fd(), h.o)
	c.SetContext(openLoop(h.o, h.accepted, func(b []byte) error { return c.AsyncWrite(append([]byte(nil), b...), nil) }, func() { c.Close() }))
	return nil, gnet.None
}

func (h *gnetHandler) OnTraffic(c gnet.Conn) gnet.Action {
	b, _ := c.Next(-1)
	c.Context().(*loopConn).receive(len(b))
	return gnet.None
}

func (h *gnetHandler) OnClose(c gnet.Conn, err error) gnet.Action {
	c.Context().(*loopConn).end(err)
	return gnet.None
}

func serveGnet(o options, accepted func(*watched)) (string, func()) {
	l := listenTCP() // gnet does not tell which port it took
	addr := l.Addr().String()
	l.Close()
	h := &gnetHandler{o: o, accepted: accepted, booted: make(chan gnet.Engine, 1)}
	go func() {
		check(gnet.Run(h, "tcp4://"+addr, gnet.WithLogger(zap.NewNop().Sugar()), gnet.WithMulticore(true)))
	}()
	e := await(h.booted, 1)
	return addr, stopper(e.Stop)
}

func serveNbio(o options, accepted func(*watched)) (string, func()) {
	nbiolog.SetLevel(nbiolog.LevelNone)
	e := nbio.NewEngine(nbio.Config{Network: "tcp", Addrs: []string{"127.0.0.1:0"}})
	e.OnOpen(func(c *nbio.Conn) {
		tune(c, o)
		if o.readIdle > 0 {
			c.SetReadDeadline(time.Now().Add(o.readIdle))
		}
		c.SetSession(openLoop(o, accepted, func(b []byte) error { _, err := c.Write(b); return err }, func() { c.Close() }))
	})
	e.OnData(func(c *nbio.Conn, data []byte) { c.Session().(*loopConn).receive(len(data)) })
	e.OnClose(func(c *nbio.Conn, err error) { c.Session().(*loopConn).end(err) })
	check(e.Start())
	return e.Addrs[0], stopper(e.Shutdown)
}
