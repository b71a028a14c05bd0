//go:build !unix && !windows

package errno

import "errors"

//lint:file-ignore ST1012 the names are those of other systems, where they are errnos

// No check tells how a connection ended here, so nothing has to be told apart.
var (
	Reset    = errors.New("connection reset by peer")
	TimedOut = errors.New("connection timed out")
)

func IsReset(error) bool     { return false }
func IsLost(error) bool      { return false }
func IsShut(error) bool      { return false }
func In(error) error         { return nil }
func NoResources(error) bool { return false }
