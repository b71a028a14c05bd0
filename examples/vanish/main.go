// Vanish shows every way in which a client goes away, and what a server learns of it:
// one that reads in a plain loop, and one that does not read, and has its connection
// watched by liveness. The clients are real, processes where that matters, and so are
// the endings:
//
//	go run ./examples/vanish
//
// It needs Linux, no privileges, and less than half a minute. The exit status is 0 if
// the library reported every client as it must.
package main

import (
	"os"

	"github.com/go-liveness/liveness/livenesstest"
)

func main() {
	livenesstest.Main() // some of the clients are this program, started again
	os.Exit(vanish())
}
