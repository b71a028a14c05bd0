package link

import (
	"fmt"
	"os"
	"strings"
)

// A Socket is a line of /proc/net/tcp. Orphans, which have no descriptor any more, are
// there too.
type Socket struct {
	LocalPort, RemotePort uint16
	State                 uint8 // 1 is ESTABLISHED, 3 SYN-RECEIVED, 4 FIN-WAIT-1: net/tcp_states.h
}

// Sockets returns the TCP sockets in the namespace of side.
func (l *Link) Sockets(side Side) (sockets []Socket, err error) {
	var table []byte
	if err = l.In(side, func() error {
		table, err = os.ReadFile("/proc/thread-self/net/tcp")
		return err
	}); err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(table)), "\n")
	for _, line := range lines[1:] { // behind the heading
		var number int
		var here, there uint32
		var s Socket
		if _, err := fmt.Sscanf(line, "%d: %x:%x %x:%x %x", &number, &here, &s.LocalPort, &there, &s.RemotePort, &s.State); err != nil {
			return nil, fmt.Errorf("link: /proc/net/tcp: %w: %q", err, line)
		}
		sockets = append(sockets, s)
	}
	return sockets, nil
}
