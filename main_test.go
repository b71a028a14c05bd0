package liveness_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

// TestMain fails if the library has left a goroutine behind once every test has closed its connections.
func TestMain(m *testing.M) {
	livenesstest.Main()
	testutil.MostlyWait(128)
	code := m.Run()
	if left := testutil.LeftGoroutines(); code == 0 && len(left) > 0 && !testutil.RunsAlone() {
		fmt.Fprintf(os.Stderr, "goroutines of the library are left:\n\n%s\n", strings.Join(left, "\n\n"))
		code = 1
	}
	os.Exit(code)
}
