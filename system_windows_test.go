package liveness_test

import (
	"testing"

	"golang.org/x/sys/windows"
)

// What the tests expect of Windows.
const (
	noticed = true

	// A reset takes along what was received and not read.
	keepsUnread = false
)

// errnoReset is what a reset is called. It is not asked of the system: under Wine a
// plain Read after one returns an end of file as often as not.
func errnoReset() error { return windows.WSAECONNRESET }

// wine reports whether this is Wine. Only tests ask.
func wine() bool {
	return windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil
}

// needsFINBehindData skips a test of a FIN behind bytes that nobody reads. What Wine
// makes of one is in TestWindowsEndings.
func needsFINBehindData(t *testing.T) {
	t.Helper()
	if wine() {
		t.Skip("Wine, unlike Windows, shows no FIN behind unread data")
	}
}

// needsEndsBehindData skips a test of any other end behind such bytes.
func needsEndsBehindData(*testing.T) {}
