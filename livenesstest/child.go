package livenesstest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// processLifetime is the last resort against processes that stay behind, and as long as go test waits for a package.
const processLifetime = 10 * time.Minute

// Main is what a process that StartProcess started does: it acts as the peer, and does not return. In every other process it
// returns at once. Call it before anything else, in TestMain or main: it uses the arguments, standard input and output.
func Main() {
	if os.Getenv(processVariable) == "" {
		return
	}
	time.AfterFunc(processLifetime, func() { os.Exit(1) })
	peer, dialed := Dial(os.Args[1], os.Args[2])
	in, out := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	var mu sync.Mutex // one answer at a time
	for {
		var c command
		if in.Decode(&c) != nil {
			// Nobody is there any more to give commands, or to wait for one that still runs.
			os.Exit(0)
		}
		go func() {
			err := dialed
			if err == nil {
				err = c.do(peer)
			}
			a := answer{ID: c.ID}
			if err != nil {
				a.Failure = fmt.Sprintf("livenesstest: process: %s: %v", c.Op, err)
				a.Unsupported = errors.Is(err, errors.ErrUnsupported)
			}
			mu.Lock()
			defer mu.Unlock()
			out.Encode(a)
		}()
	}
}

// do runs one command to its end.
func (c command) do(peer *Peer) (err error) {
	switch c.Op {
	case "dial": // done
	case "send":
		_, err = io.CopyN(peer, zeros{}, int64(c.N))
	case "drain":
		peer.Drain()
	case "close":
		err = peer.Close()
	case "closewrite":
		err = peer.CloseWrite()
	case "reset":
		err = peer.Reset()
	case "cut":
		_, err = Cut(peer)
	case "mend":
		err = control(peer, mendSocket)
	default:
		err = errors.ErrUnsupported
	}
	return err
}

// zeros is what Send sends.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
