//go:build !unix

package poller

import (
	"errors"
	"os"
)

// Ended returns an error that is errors.ErrUnsupported.
func Ended() (*os.File, error) { return nil, errors.ErrUnsupported }
