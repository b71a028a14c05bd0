package liveness

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/go-liveness/liveness/livenesstest"
)

func TestAgeStopsAtTheEnd(t *testing.T) {
	bare, peer := livenesstest.Pair(t, "tcp4")
	conn, err := Wrap(bare, nil)
	require.NoError(t, err)
	require.NoError(t, peer.Reset())
	<-conn.Done()

	age := conn.Status().Age
	require.Positive(t, age)
	time.Sleep(time.Millisecond)
	require.Equal(t, age, conn.Status().Age)
}
