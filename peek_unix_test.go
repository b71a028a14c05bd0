//go:build unix

package liveness

import (
	"errors"
	"io"
	"syscall"
	"testing"
)

// What a socket that has come to its end means, where that is all that is to be seen.
func TestEnded(t *testing.T) {
	const (
		fin    = 1 << iota // seen before
		read               // our own CloseRead
		write              // and CloseWrite
		stream             // AF_UNIX
		gone               // the peer has no name any more, or the state is none
	)
	for _, test := range []struct {
		name    string
		what    int
		errno   error // in the socket
		err     error // of a Read or Write
		outcome outcome
		cause   error
	}{
		{"FIN", 0, nil, nil, finSeen, nil},
		{"FIN that a Read returned", 0, nil, io.EOF, finSeen, nil},
		{"FIN after ours", write, nil, nil, finished, nil},
		{"our CloseRead", read, nil, nil, open, nil},
		{"our CloseRead and CloseWrite", read | write, nil, nil, open, nil},
		{"RST", gone, syscall.ECONNRESET, nil, aborted, syscall.ECONNRESET},
		{"RST whose kernel still has a name", 0, syscall.ECONNRESET, nil, aborted, syscall.ECONNRESET},
		{"RST behind our CloseRead", read | gone, syscall.ECONNRESET, nil, aborted, syscall.ECONNRESET},
		{"RST that a Read took", gone, nil, syscall.ECONNRESET, aborted, syscall.ECONNRESET},
		{"time-out", gone, syscall.ETIMEDOUT, nil, aborted, syscall.ETIMEDOUT},
		{"time-out that a Write took", gone, nil, syscall.ETIMEDOUT, aborted, syscall.ETIMEDOUT},
		{"an errno that somebody took", gone, nil, nil, aborted, syscall.ECONNRESET},
		{"an errno that somebody took, and EPIPE", gone, nil, syscall.EPIPE, aborted, syscall.ECONNRESET},
		{"behind our CloseRead", read | gone, nil, nil, aborted, syscall.ECONNRESET},
		{"RST after a FIN", fin | gone, syscall.ECONNRESET, nil, aborted, syscall.ECONNRESET},
		{"both FINs, long ago", fin | write | gone, nil, nil, finished, nil},
		{"the socket's errno before the application's", gone, syscall.ECONNRESET, syscall.ETIMEDOUT, aborted, syscall.ECONNRESET},
		{"AF_UNIX", stream | gone, nil, nil, finished, nil},
		{"AF_UNIX, CloseWrite", stream, nil, nil, finSeen, nil},
		{"AF_UNIX, unread data", stream | gone, syscall.ECONNRESET, nil, aborted, syscall.ECONNRESET},
	} {
		s := &socket{family: familyTCP}
		if test.what&stream != 0 {
			s.family = familyStream
		}
		s.finSeen.Store(test.what&fin != 0)
		s.readShut.Store(test.what&read != 0)
		s.writeShut.Store(test.what&write != 0)
		for range 2 { // whoever looks the second time sees no less
			got := s.ended(hint{err: test.err}, test.errno, test.what&gone != 0)
			if got.outcome != test.outcome || got.errno != test.cause || got.outcome == aborted && got.fin != (test.what&fin != 0) {
				t.Errorf("%s: %+v", test.name, got)
			}
			if test.cause != nil && test.name != "an errno that somebody took" && test.name != "behind our CloseRead" {
				test.errno, test.err = nil, nil // it is kept
			}
		}
	}
}

// A Read or Write that is under way may have taken the errno, and brings it.
func TestEndedWhileReading(t *testing.T) {
	s := &socket{family: familyTCP}
	s.inIO.Store(1)
	if got := s.ended(hint{event: true}, nil, true); got.outcome != open || !s.deferred.Load() {
		t.Errorf("%+v, deferred: %t", got, s.deferred.Load())
	}
	got := s.ended(hint{err: syscall.ETIMEDOUT}, nil, true)
	if got.outcome != aborted || !errors.Is(got.errno, syscall.ETIMEDOUT) {
		t.Errorf("%+v", got)
	}
}

// Reads and Writes are counted wherever the errno of an end is in the socket only.
func TestIOIsCounted(t *testing.T) {
	for _, test := range []struct {
		family family
		short  bool
		counts bool
	}{
		{familyTCP, false, !kernelCounts},
		{familyTCP, true, true},
		{familyMPTCP, false, true},
		{familyStream, false, true},
	} {
		c := &Conn{}
		c.sock.family = test.family
		c.sock.short.Store(test.short)
		under := c.beginIO()
		if counts := c.sock.inIO.Load() == 1; counts != test.counts {
			t.Errorf("family %d, short: %t: counted: %t", test.family, test.short, counts)
		}
		if under.endIO(); c.sock.inIO.Load() != 0 {
			t.Errorf("family %d, short: %t: counted for ever", test.family, test.short)
		}
	}
}

func TestPeek(t *testing.T) {
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(pair[0])
	expect := func(n int, errno error) {
		t.Helper()
		for range 2 {
			if got, err := peek(uintptr(pair[0])); got != n || err != errno {
				t.Errorf("%d, %v; want %d, %v", got, err, n, errno)
			}
		}
	}
	if err := syscall.SetNonblock(pair[0], true); err != nil {
		t.Fatal(err)
	}
	expect(-1, syscall.EAGAIN)
	if _, err := syscall.Write(pair[1], []byte("xy")); err != nil {
		t.Fatal(err)
	}
	expect(1, nil)
	syscall.Close(pair[1])
	expect(1, nil)
	if _, err := syscall.Read(pair[0], make([]byte, 2)); err != nil {
		t.Fatal(err)
	}
	expect(0, nil)
}
