package liveness

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness/livenesstest"
)

// Where the kernel does not tell what the peer takes, StallTimeout goes by Writes.
func TestStallOfWrites(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	networks := []string{"unix", "mptcp"}
	if !kernelCounts {
		networks = []string{"tcp4", "tcp6"}
	}
	much := bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MB
	for name, write := range map[string]func(*Conn) error{
		"Write":        func(c *Conn) error { _, err := c.Write(much); return err },
		"WriteBuffers": func(c *Conn) error { _, err := c.WriteBuffers(&net.Buffers{much[:10], much}); return err },
		"ReadFrom":     func(c *Conn) error { _, err := c.ReadFrom(bytes.NewReader(much)); return err },
		"Copy":         func(c *Conn) error { _, err := io.Copy(c, bytes.NewReader(much)); return err },
	} {
		for _, network := range networks {
			t.Run(name+" "+network, func(t *testing.T) {
				t.Parallel()
				conn, _ := livenesstest.Pair(t, network)
				c, err := Wrap(conn, &Config{StallTimeout: timeout})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				began := time.Now()
				if err := write(c); !errors.Is(err, ErrPeerStalled) {
					t.Errorf("%v; want ErrPeerStalled", err)
				}
				if took := time.Since(began); took < timeout || took > timeout+timeout/10+5*time.Second {
					t.Errorf("after %v of %v", took, timeout)
				}
				if !errors.Is(c.Err(), ErrPeerStalled) {
					t.Errorf("Err() = %v", c.Err())
				}
			})
		}
	}
	for _, network := range networks {
		t.Run("a slow reader, "+network, func(t *testing.T) {
			t.Parallel()
			conn, peer := livenesstest.Pair(t, network)
			c, err := Wrap(conn, &Config{StallTimeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			paused := make(chan time.Duration, 1) // for how long at most
			go func() {
				var longest time.Duration
				defer func() { paused <- longest }()
				for last, b := time.Now(), make([]byte, 256<<10); ; time.Sleep(timeout / 5) {
					_, err := io.ReadFull(peer, b)
					longest = max(longest, time.Since(last))
					if err != nil {
						return
					}
					last = time.Now()
				}
			}()
			n, err := c.Write(much)
			c.Close()
			if p := <-paused; err != nil && p >= timeout/2 {
				t.Skipf("the machine was too busy: nothing was read for %v", p)
			}
			if err != nil || n != len(much) {
				t.Errorf("%d, %v", n, err)
			}
		})
		t.Run("a Write that is late, "+network, func(t *testing.T) {
			t.Parallel()
			if !kernelCounts {
				t.Skip("the kernel does not tell whether anything waits to be taken")
			}
			conn, peer := livenesstest.Pair(t, network)
			c, err := Wrap(conn, &Config{StallTimeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			written := make(chan error, 1)
			go func() {
				written <- raw.Write(func(fd uintptr) bool { return false }) // it does not, and waits until it is woken
			}()
			select {
			case <-c.Done():
				t.Errorf("%v of a peer that was sent nothing", c.Err())
			case err := <-written:
				t.Errorf("a write that waits for nothing returned %v", err)
			case <-time.After(3 * timeout):
			}
			peer.Close()
			c.Close()
			<-written
		})
		t.Run("a slow source, "+network, func(t *testing.T) {
			t.Parallel()
			for name, copied := range map[string]func(*Conn, net.Conn) (int64, error){
				"ReadFrom": func(c *Conn, source net.Conn) (int64, error) { return c.ReadFrom(source) },
				"WriteTo": func(c *Conn, source net.Conn) (int64, error) {
					from, err := Wrap(source, nil)
					if err != nil {
						return 0, err
					}
					return from.WriteTo(c)
				},
			} {
				conn, peer := livenesstest.Pair(t, network)
				source, feed := livenesstest.Pair(t, "tcp4")
				c, err := Wrap(conn, &Config{StallTimeout: timeout})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				done := make(chan error, 1)
				go func() {
					_, err := copied(c, source)
					done <- err
				}()
				if _, err := feed.Write(much[:10]); err != nil {
					t.Error(err)
				}
				if _, err := io.ReadFull(peer, make([]byte, 10)); err != nil {
					t.Errorf("%s: %v", name, err)
				}
				select {
				case <-c.Done():
					t.Errorf("%s: %v of a peer that has taken all there was", name, c.Err())
				case <-time.After(3 * timeout):
				}
				feed.Close()
				if err := <-done; err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
		t.Run("whole Writes, "+network, func(t *testing.T) {
			t.Parallel()
			conn, peer := livenesstest.Pair(t, network)
			c, err := Wrap(conn, &Config{StallTimeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			const size, each = 10*piece + 1, 20
			var writers sync.WaitGroup
			for _, letter := range []byte("abcdefgh") {
				writers.Go(func() {
					b := bytes.Repeat([]byte{letter}, size)
					for i := range each {
						var err error
						if i%2 == 0 {
							_, err = c.Write(b)
						} else {
							_, err = c.WriteBuffers(&net.Buffers{b[:1], b[1:]})
						}
						if err != nil {
							t.Error(err)
						}
					}
				})
			}
			b := make([]byte, size)
			for range 8 * each {
				if _, err := io.ReadFull(peer, b); err != nil {
					t.Error(err)
					break
				}
				if n := bytes.Count(b, b[:1]); n != size {
					t.Errorf("a Write of %d bytes came with others in it", size)
					break
				}
				time.Sleep(100 * time.Microsecond) // so that they have to wait for one another
			}
			c.Close()
			writers.Wait()
		})
	}
}

// A loop of Reads with deadlines of its own waits as a single Read does, and the time
// that it spends elsewhere does not count.
func TestSilenceOfDeadlines(t *testing.T) {
	t.Parallel()
	const timeout = 500 * time.Millisecond
	networks := []string{"unix", "mptcp"}
	if !kernelCounts {
		networks = []string{"tcp4", "tcp6"}
	}
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			conn, _ := livenesstest.Pair(t, network)
			c, err := Wrap(conn, &Config{ReadIdleTimeout: timeout})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			waited, longest := time.Duration(0), time.Duration(0)
			read := func() error {
				began := time.Now()
				c.SetReadDeadline(began.Add(timeout / 20))
				_, err := c.Read(make([]byte, 1))
				waited += time.Since(began)
				longest = max(longest, time.Since(began))
				return err
			}
			for range 3 {
				err := read()
				if errors.Is(err, ErrPeerIdle) && waited >= timeout-longest {
					t.Skipf("the machine was too busy: a Read with a deadline of %v took %v", timeout/20, longest)
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) {
					t.Fatalf("%v when Reads had waited for %v of %v", err, waited, timeout)
				}
				time.Sleep(timeout * 3 / 5)
			}
			if err := c.Err(); err != nil {
				t.Fatalf("%v when Reads had waited for %v of %v", err, waited, timeout)
			}
			for began := time.Now(); ; {
				err := read()
				if errors.Is(err, ErrPeerIdle) {
					break
				}
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) > 10*time.Second {
					t.Fatalf("%v after %v of Reads", err, waited)
				}
			}
			// A Read that began before may have been cut short by the verdict.
			if waited < timeout-longest {
				t.Errorf("ended when Reads had waited for %v of %v", waited, timeout)
			}
		})
	}
}

// Nor does it tell what was received: a silence is one of Reads, and copies read.
func TestSilenceOfCopies(t *testing.T) {
	t.Parallel()
	const timeout = 200 * time.Millisecond
	networks := []string{"unix", "mptcp"}
	if !kernelCounts {
		networks = []string{"tcp4", "tcp6"}
	}
	for _, network := range networks {
		for name, read := range map[string]func(c *Conn) error{
			"WriteTo": func(c *Conn) error {
				_, err := io.Copy(io.Discard, c)
				return err
			},
			"ReadFrom": func(c *Conn) error {
				to, _ := livenesstest.Pair(t, "tcp4")
				_, err := to.(*net.TCPConn).ReadFrom(c)
				return err
			},
			"ReadFrom of a Conn": func(c *Conn) error {
				bare, _ := livenesstest.Pair(t, "tcp4")
				to, err := Wrap(bare, nil)
				if err != nil {
					return err
				}
				_, err = to.ReadFrom(&io.LimitedReader{R: c, N: 1 << 20})
				return err
			},
		} {
			t.Run(name+" "+network, func(t *testing.T) {
				t.Parallel()
				conn, peer := livenesstest.Pair(t, network)
				c, err := Wrap(conn, &Config{ReadIdleTimeout: timeout})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				peer.Write([]byte("x"))
				time.AfterFunc(10*time.Second, func() { c.Close() })
				if err := read(c); !errors.Is(err, ErrPeerIdle) {
					t.Errorf("%v; want ErrPeerIdle", err)
				}
			})
		}
	}
}
