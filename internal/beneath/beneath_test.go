package beneath

import (
	"io"
	"net"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-liveness/liveness/livenesstest"
)

type (
	Exported struct{ net.Conn }
	hidden   struct{ net.Conn }

	byTCP   struct{ *net.TCPConn }
	private struct{ hidden }
	two     struct { // the methods are those of the field that is less deep
		net.Conn
		Exported
	}
	twoOnePrivate struct {
		net.Conn
		hidden
	}
	twoOneNamed struct {
		net.Conn
		Peer net.Conn
	}
	itself struct{ net.Conn }
	Wraps  struct {
		net.Conn
		under net.Conn
	}
	promotes struct{ *Wraps } // its NetConn leads past the Wraps
	blocking struct {         // asks its peer for its address, as for a header of the PROXY protocol
		hidden
		ask chan net.Addr
	}
)

func (i *itself) NetConn() net.Conn      { return i }
func (w *Wraps) NetConn() net.Conn       { return w.under }
func (b *blocking) LocalAddr() net.Addr  { return <-b.ask }
func (b *blocking) RemoteAddr() net.Addr { return <-b.ask }

func dial(t *testing.T) *net.TCPConn {
	c, _ := livenesstest.Pair(t, "tcp4")
	return c.(*net.TCPConn)
}

func TestNextIsNetConnOrTheOnlyExportedEmbeddedConn(t *testing.T) {
	c := dial(t)
	pipe, _ := net.Pipe()
	loop, w := &itself{c}, &Wraps{pipe, c}
	for name, test := range map[string]struct{ conn, want net.Conn }{
		"nil":                         {nil, nil},
		"package net":                 {c, nil},
		"a pipe":                      {pipe, nil},
		"a pointer to a struct":       {&Exported{c}, c},
		"a struct":                    {Exported{c}, c},
		"an embedded *TCPConn":        {byTCP{c}, c},
		"two embedded connections":    {two{c, Exported{c}}, nil},
		"an unexported one":           {private{hidden{c}}, nil},
		"an unexported one beside":    {twoOnePrivate{c, hidden{c}}, nil},
		"a field beside":              {twoOneNamed{c, pipe}, c},
		"an embedded nil":             {&Exported{}, nil},
		"an embedded nil pointer":     {byTCP{}, nil},
		"a nil pointer":               {(*Exported)(nil), nil},
		"NetConn and embedded":        {&Wraps{pipe, c}, c},
		"NetConn of what is embedded": {promotes{w}, w},
		"NetConn that is nil":         {&Wraps{c, nil}, nil},
		"a nil pointer with NetConn":  {(*Wraps)(nil), nil},
		"a NetConn that never ends":   {loop, loop},
		"an embedded one that is not": {&Exported{Exported{c}}, Exported{c}},
	} {
		assert.Equal(t, test.want, Next(test.conn), name)
	}
}

func TestRawConnFindsTheSocketAndItsDepth(t *testing.T) {
	c := dial(t)
	pipe, _ := net.Pipe()
	cycle := &Wraps{Conn: pipe}
	cycle.under = &Wraps{pipe, cycle}
	deep := func(n int) (conn net.Conn) {
		for conn = c; n > 0; n-- {
			conn = &Exported{conn}
		}
		return conn
	}
	for name, test := range map[string]struct {
		conn, owner net.Conn
		depth       int
	}{
		"itself":                  {c, c, 0},
		"promoted by embedding":   {byTCP{c}, byTCP{c}, 0},
		"two below":               {&Wraps{pipe, Exported{c}}, c, 2},
		"the deepest":             {deep(MaxDepth - 1), c, MaxDepth - 1},
		"too deep":                {deep(MaxDepth), nil, 0},
		"a pipe":                  {Exported{pipe}, nil, 0},
		"a cycle":                 {cycle, nil, 0},
		"a nil pointer below":     {&Wraps{pipe, (*Wraps)(nil)}, nil, 0},
		"a nil *TCPConn below":    {&Wraps{pipe, (*net.TCPConn)(nil)}, nil, 0},
		"nothing, not even a nil": {nil, nil, 0},
	} {
		raw, owner, depth := RawConn(test.conn)
		assert.Equal(t, test.owner != nil, raw != nil, name)
		assert.Equal(t, test.owner, owner, name)
		assert.Equal(t, test.depth, depth, name)
	}
}

func TestOpErrorHasAddressesAndNeverBlocks(t *testing.T) {
	c := dial(t)
	e := NamedOf(&Wraps{nil, Exported{c}}).OpError("read", io.EOF)
	assert.Equal(t, net.OpError{Op: "read", Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: io.EOF}, *e)

	pipe, _ := net.Pipe()
	assert.Equal(t, "read pipe pipe->pipe: EOF", NamedOf(&Wraps{nil, pipe}).OpError("read", io.EOF).Error())

	b := &blocking{ask: make(chan net.Addr, 1)} // a LocalAddr that is asked for now waits for ever
	e = NamedOf(b).OpError("write", io.EOF)
	assert.Equal(t, "", e.Net)
	for answer, want := range map[net.Addr][2]string{c.LocalAddr(): {"tcp", c.LocalAddr().String()}, nil: {"", "?"}} {
		for _, addr := range []net.Addr{e.Source, e.Addr} {
			b.ask <- answer
			network := addr.Network()
			b.ask <- answer
			assert.Equal(t, want, [2]string{network, addr.String()})
		}
	}
	cycle := &itself{}
	assert.Equal(t, Named{cycle}, NamedOf(cycle))
}
