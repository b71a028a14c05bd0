// Package errno sorts the errors with which a system ends a connection. Each
// system defines
//
//	Reset, TimedOut error            what it calls a RST, and its own time-out
//	In(err error) error              the errno in what an I/O method returned; nil if there is none
//	IsReset(errno error) bool        a RST ended the connection
//	IsLost(errno error) bool         the peer's host could not be reached
//	IsShut(errno error) bool         a Write after a local CloseWrite
//	NoResources(err error) bool      the system ran out of something that others may give back
package errno
