package link

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"time"
)

// A Socket is a line of /proc/net/tcp. Orphans are there too, which have no descriptor
// any more and that only the kernel knows.
type Socket struct {
	LocalPort, RemotePort uint16
	State                 uint8 // 1 is ESTABLISHED, 4 FIN-WAIT-1: net/tcp_states.h
	Timer                 uint8 // 1 retransmission, 2 keep-alive, 3 TIME-WAIT, 4 zero-window probe
	Expires               time.Duration
	Retransmits           int
	Inode                 uint64 // 0 for an orphan
}

// Sockets returns the TCP sockets in the namespace of side.
func (l *Link) Sockets(side Side) (sockets []Socket, err error) {
	var table []byte
	err = l.In(side, func() error {
		table, err = os.ReadFile("/proc/thread-self/net/tcp")
		return err
	})
	if err != nil {
		return nil, err
	}
	lines := bufio.NewScanner(bytes.NewReader(table))
	lines.Scan() // the heading
	for lines.Scan() {
		var s Socket
		var number, uid, timeout int
		var here, there, sending, receiving uint32
		var jiffies int64
		_, err := fmt.Sscanf(lines.Text(), "%d: %x:%x %x:%x %x %x:%x %x:%x %x %d %d %d", &number, &here, &s.LocalPort,
			&there, &s.RemotePort, &s.State, &sending, &receiving, &s.Timer, &jiffies, &s.Retransmits, &uid, &timeout, &s.Inode)
		if err != nil {
			return nil, fmt.Errorf("link: /proc/net/tcp: %w: %q", err, lines.Text())
		}
		s.Expires = time.Duration(jiffies) * time.Second / 100 // USER_HZ
		sockets = append(sockets, s)
	}
	return sockets, nil
}
