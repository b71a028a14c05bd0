//go:build !linux

// Command bench measures package liveness against what people use in its place.
// It needs Linux.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "bench: the measurements need Linux")
	os.Exit(2)
}
