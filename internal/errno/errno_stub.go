//go:build !unix && !windows

package errno

import "errors"

// No check tells how a connection ended here, so nothing has to be told apart. The names
// are those that have an errno on other systems.
//
//lint:ignore ST1012 see above
var (
	Reset    = errors.New("connection reset by peer")
	TimedOut = errors.New("connection timed out")
)

func IsReset(error) bool     { return false }
func IsLost(error) bool      { return false }
func IsShut(error) bool      { return false }
func In(error) error         { return nil }
func NoResources(error) bool { return false }
