//go:build !linux

package testutil

import "runtime"

// RemembersFIN reports whether this system shows, once a connection is over, that a FIN came before the reset. AFD shows of
// a reset what it would show without the FIN before it.
func RemembersFIN() bool { return runtime.GOOS != "windows" }
