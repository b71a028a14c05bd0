//go:build unix || windows

package liveness_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

// Where the kernel counts nothing, StallTimeout goes by a Write that waits, and
// ReadIdleTimeout by a Read that does.

const (
	uncountedTimeout = 500 * time.Millisecond
	uncountedLate    = 5 * time.Second // for filling the buffers, too
)

// onUncounted runs f on connections of which the kernel counts nothing.
func onUncounted(t *testing.T, cfg *liveness.Config, f func(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer)) {
	t.Parallel()
	networks := []string{"tcp4"}
	if runtime.GOOS == "linux" {
		networks = []string{"unix", "mptcp"}
	}
	for _, network := range networks {
		t.Run(network, func(t *testing.T) {
			t.Parallel()
			conn, peer := livenesstest.Pair(t, network)
			peer.SetDeadline(time.Now().Add(time.Minute))
			c := wrap(t, conn, cfg)
			f(t, c, peer)
		})
	}
}

var eightMB = bytes.Repeat([]byte("0123456789abcdef"), 1<<19) // 8 MB

func TestWriteWithoutProgressIsStalled(t *testing.T) {
	t.Parallel()
	for name, write := range map[string]func(*liveness.Conn) error{
		"Write": func(c *liveness.Conn) error { _, err := c.Write(eightMB); return err },
		"WriteBuffers": func(c *liveness.Conn) error {
			_, err := c.WriteBuffers(&net.Buffers{eightMB[:10], eightMB})
			return err
		},
		"ReadFrom": func(c *liveness.Conn) error { _, err := c.ReadFrom(bytes.NewReader(eightMB)); return err },
	} {
		t.Run(name, func(t *testing.T) {
			onUncounted(t, &liveness.Config{StallTimeout: uncountedTimeout}, func(t *testing.T, c *liveness.Conn, _ *livenesstest.Peer) {
				began := time.Now()
				err := write(c)
				if took := time.Since(began); took < uncountedTimeout || took > uncountedTimeout*11/10+uncountedLate {
					t.Errorf("returned after %v", took)
				}
				if !errors.Is(err, liveness.ErrPeerStalled) || !errors.Is(c.Err(), liveness.ErrPeerStalled) {
					t.Errorf("returned %v, Err is %v", err, c.Err())
				}
			})
		})
	}
}

func TestWriteWithProgressIsNotStalled(t *testing.T) {
	t.Parallel()
	const timeout = 2 * time.Second // many times what a busy machine adds to a pause
	for name, play := range map[string]func(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer){
		"slow reader": func(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer) {
			go func() {
				for tick := time.Tick(timeout / 20); ; <-tick {
					if _, err := io.CopyN(io.Discard, peer, 256<<10); err != nil {
						return
					}
				}
			}()
			if n, err := c.Write(eightMB); err != nil || n != len(eightMB) {
				t.Errorf("Write returned %d, %v", n, err)
			}
		},
		"slow source of ReadFrom": func(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer) {
			slowSource(t, c, peer, timeout, func(source net.Conn) error { _, err := c.ReadFrom(source); return err })
		},
		"slow source of WriteTo": func(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer) {
			slowSource(t, c, peer, timeout, func(source net.Conn) error {
				from, err := liveness.Wrap(source, nil)
				if err != nil {
					return err
				}
				_, err = from.WriteTo(c)
				return err
			})
		},
	} {
		t.Run(name, func(t *testing.T) { onUncounted(t, &liveness.Config{StallTimeout: timeout}, play) })
	}
}

// slowSource copies ten bytes, and then nothing for longer than the time-out.
func slowSource(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer, timeout time.Duration, copyFrom func(net.Conn) error) {
	source, feed := livenesstest.Pair(t, "tcp4")
	done := make(chan error, 1)
	go func() { done <- copyFrom(source) }()
	if _, err := feed.Write(eightMB[:10]); err != nil {
		t.Error(err)
	}
	if _, err := io.ReadFull(peer, make([]byte, 10)); err != nil {
		t.Error(err)
	}
	select {
	case <-c.Done():
		t.Errorf("%v of a peer that has taken all there was", c.Err())
	case <-time.After(2 * timeout):
	}
	feed.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A Write that is made in pieces is still one.
func TestWritesDoNotMix(t *testing.T) {
	onUncounted(t, &liveness.Config{StallTimeout: time.Minute}, func(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer) {
		const size, each = 200<<10 + 1, 10
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
			if bytes.Count(b, b[:1]) != size {
				t.Errorf("a Write of %d bytes arrived with others in it", size)
				break
			}
		}
		c.Close()
		writers.Wait()
	})
}

func TestReadThatWaitsIsIdle(t *testing.T) {
	t.Parallel()
	for name, read := range map[string]func(t *testing.T, c *liveness.Conn) error{
		"Read": func(_ *testing.T, c *liveness.Conn) error {
			_, err := io.Copy(io.Discard, struct{ io.Reader }{c})
			return err
		},
		"WriteTo": func(_ *testing.T, c *liveness.Conn) error { _, err := io.Copy(io.Discard, c); return err },
		"ReadFrom": func(t *testing.T, c *liveness.Conn) error {
			to, _ := livenesstest.Pair(t, "tcp4")
			_, err := to.(*net.TCPConn).ReadFrom(c)
			return err
		},
		"ReadFrom of a limit": func(t *testing.T, c *liveness.Conn) error {
			bare, _ := livenesstest.Pair(t, "tcp4")
			to, err := liveness.Wrap(bare, nil)
			if err != nil {
				return err
			}
			_, err = to.ReadFrom(&io.LimitedReader{R: c, N: 1 << 20})
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			onUncounted(t, &liveness.Config{ReadIdleTimeout: uncountedTimeout}, func(t *testing.T, c *liveness.Conn, peer *livenesstest.Peer) {
				began := time.Now()
				peer.Write([]byte("x"))
				err := read(t, c)
				// On MPTCP the kernel counts from Wrap, which a busy machine may have made long ago.
				age := c.Status().Age
				if took := time.Since(began); !errors.Is(err, liveness.ErrPeerIdle) || age < uncountedTimeout || took > idleLimit(uncountedTimeout) {
					t.Errorf("returned %v after %v, %v after Wrap", err, took, age)
				}
			})
		})
	}
}

func idleLimit(d time.Duration) time.Duration { return d + d/10 + 100*time.Millisecond + uncountedLate }
