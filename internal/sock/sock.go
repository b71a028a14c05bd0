// Package sock has the system calls that one check of a socket takes. All of them
// return at once, and take no lock of package net.
//
// Call them while fd cannot be closed, as inside [syscall.RawConn.Control].
package sock
