package liveness

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/go-liveness/liveness/internal/watch"
)

// TestEventAloneTellsNoMoreThanItKnows: with the descriptor closed, a hang-up without an error may be a RST whose errno the
// application's Read took, so it is no FIN.
func TestEventAloneTellsNoMoreThanItKnows(t *testing.T) {
	for e, want := range map[event]outcome{
		watch.FIN:                               peerFinished,
		watch.FIN | watch.Hangup:                closedLocally,
		watch.FIN | watch.Hangup | watch.Failed: aborted,
		watch.Hangup:                            closedLocally,
		watch.Periodic:                          closedLocally,
	} {
		assert.Equal(t, want, observationOfEvent(e).outcome, "%b", e)
	}
}
