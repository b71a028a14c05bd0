// Package link makes lossy, slow, one-way and flapping TCP paths for tests (Linux).
//
// A [Link] is two network namespaces, each with a TUN device, and a relay in this
// process that carries packets from one device to the other. The relay delays and drops
// packets as the [Path] of a direction says, and writes down what it delivered and when.
// That log is the oracle of a test: [Link.Heard] returns what a connection really heard
// of its peer, whatever the library under test says about it.
//
//	l, err := link.New(link.Options{Paths: link.Both(link.Path{Loss: 0.05, Delay: 600 * time.Millisecond})})
//	defer l.Close()
//	conn, peer, err := l.Connect() // *net.TCPConn of link.Local and of link.Remote
//	l.Cut()                        // the path is down in both directions
//	silence := l.Heard(conn).SilentFor(time.Now())
//
// The sockets belong to the namespaces and are used like any others. Making a namespace
// needs CAP_SYS_ADMIN, which the root of a user namespace has as well: a test calls
// [Require] first, which runs the test again in a user namespace where that is needed.
package link
