//go:build !darwin && !freebsd && !linux && !openbsd && !windows

package tcpinfo

import (
	"errors"
	"runtime"
	"strings"
	"testing"
)

// Where nothing can be told, it is said, with the name of the system.
func TestUnsupported(t *testing.T) {
	info := Info{State: Open}
	_, err := GetState(0)
	for _, err := range []error{Get(0, &info), err} {
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), runtime.GOOS) {
			t.Errorf("%v", err)
		}
	}
}
