// Pool is a client that keeps its connections for the next request, and checks each
// before it uses it again: a server that has closed meanwhile costs a new connection,
// and no failed request. It brings a server of its own, which closes connections that
// are idle for a second:
//
//	go run ./examples/pool
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"sync"
	"time"

	"github.com/go-liveness/liveness"
)

// A Pool keeps idle connections to one address.
type Pool struct {
	address string

	mu   sync.Mutex // guards idle
	idle []net.Conn // the one used last is the last
}

// Get returns a connection that had not ended a moment ago.
func (p *Pool) Get() (net.Conn, error) {
	for {
		conn := p.pop()
		if conn == nil {
			fmt.Println("pool: dialling")
			return net.Dial("tcp", p.address)
		}
		err := liveness.Check(conn)
		switch {
		case err == nil:
			fmt.Println("pool: using a connection again")
			return conn, nil
		case errors.Is(err, errors.ErrUnsupported):
			// This system or this connection shows nothing. Use it and see.
			fmt.Println("pool: using a connection again, unchecked")
			return conn, nil
		}
		fmt.Println("pool: dropping a connection:", err)
		conn.Close()
	}
}

// Put takes a connection back whose last answer was read to its end.
func (p *Pool) Put(conn net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, conn)
}

// Close closes the idle connections.
func (p *Pool) Close() {
	for conn := p.pop(); conn != nil; conn = p.pop() {
		conn.Close()
	}
}

func (p *Pool) pop() net.Conn {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) == 0 {
		return nil
	}
	last := len(p.idle) - 1
	conn := p.idle[last]
	p.idle = p.idle[:last]
	return conn
}

// ask makes one request, a line, and returns the answer, another.
func ask(p *Pool, question string) (answer string, err error) {
	conn, err := p.Get()
	if err != nil {
		return "", err
	}
	if _, err := fmt.Fprintln(conn, question); err != nil {
		conn.Close()
		return "", err
	}
	answer, err = bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		conn.Close()
		return "", err
	}
	p.Put(conn)
	return answer, nil
}

func main() {
	addr := flag.String("addr", "127.0.0.1:0", "address for the server to listen on")
	flag.Parse()
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("listening on", listener.Addr())
	const patience = time.Second
	closed := make(chan struct{})
	go serve(listener, patience, closed)

	pool := &Pool{address: listener.Addr().String()}
	defer pool.Close()
	for _, question := range []string{"one", "two", "three"} {
		if question == "three" {
			<-closed // by the server
		}
		answer, err := ask(pool, question)
		if err != nil {
			fmt.Printf("%s: %v\n", question, err)
			os.Exit(1)
		}
		fmt.Print("answer: ", answer)
	}
}

// serve returns every line that it gets, closes a connection that is idle for longer
// than patience, and sends to closed each time.
func serve(listener net.Listener, patience time.Duration, closed chan<- struct{}) {
	for {
		conn, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			lines := bufio.NewReader(conn)
			for {
				conn.SetReadDeadline(time.Now().Add(patience))
				line, err := lines.ReadString('\n')
				if err != nil {
					break
				}
				if _, err := io.WriteString(conn, line); err != nil {
					break
				}
			}
			conn.Close()
			closed <- struct{}{}
		}()
	}
}
