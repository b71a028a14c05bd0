//go:build !linux

package main

import (
	"fmt"
	"os"
	"runtime"
)

func vanish() int {
	fmt.Fprintf(os.Stderr, `vanish needs Linux, where a program may cut the cable of its own connections; this is %s.
What runs here: the other examples. Begin with

	go run ./examples/server
`, runtime.GOOS)
	return 1
}
