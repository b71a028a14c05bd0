package liveness_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/internal/testutil"
	"github.com/go-liveness/liveness/livenesstest"
)

func TestReasonOfEveryError(t *testing.T) {
	op := func(err error) error { return &net.OpError{Op: "read", Net: "tcp", Err: err} }
	for _, row := range []struct {
		err  error
		want liveness.Reason
	}{
		{nil, ""}, {errors.New("other"), ""}, {os.ErrDeadlineExceeded, ""}, {op(os.ErrDeadlineExceeded), ""},
		{context.Canceled, ""}, {context.DeadlineExceeded, ""},
		{io.EOF, liveness.ReasonClosed}, {io.ErrUnexpectedEOF, liveness.ReasonClosed}, {fmt.Errorf("reading: %w", io.EOF), liveness.ReasonClosed},
		{net.ErrClosed, liveness.ReasonLocal}, {op(net.ErrClosed), liveness.ReasonLocal},
		{liveness.ErrPeerClosed, liveness.ReasonClosed}, {liveness.ErrPeerReset, liveness.ReasonReset}, {liveness.ErrPeerLost, liveness.ReasonLost},
		{liveness.ErrPeerStalled, liveness.ReasonStalled}, {liveness.ErrPeerIdle, liveness.ReasonIdle},
		{fmt.Errorf("request: %w", op(liveness.ErrPeerLost)), liveness.ReasonLost}, {errors.Join(errors.New("other"), liveness.ErrPeerIdle), liveness.ReasonIdle},
	} {
		if got := liveness.ReasonOf(row.err); got != row.want {
			t.Errorf("ReasonOf(%v) = %q; want %q", row.err, got, row.want)
		}
	}
}

// TestReasonOfReadAndWriteErrors has each end told alike by Err, Read and Write.
func TestReasonOfReadAndWriteErrors(t *testing.T) {
	testutil.Deadline(t)
	testutil.NeedsNotices(t)
	for want, end := range map[liveness.Reason]func(*livenesstest.Peer) error{liveness.ReasonClosed: (*livenesstest.Peer).Close, liveness.ReasonReset: (*livenesstest.Peer).Reset} {
		conn, peer := livenesstest.Pair(t, "tcp4")
		c := wrap(t, conn, nil)
		testutil.Must(t, end(peer))
		testutil.Await(t, c.Done())
		_, err := c.Read(make([]byte, 1))
		for what, err := range map[string]error{"Err": c.Err(), "Read": err, "Check": liveness.Check(c)} {
			if got := liveness.ReasonOf(err); got != want {
				t.Errorf("%s = %v, reason %q; want %q", what, err, got, want)
			}
		}
		if n := testing.AllocsPerRun(100, func() { liveness.ReasonOf(c.Err()) }); n > 0 {
			t.Errorf("ReasonOf allocates %v times", n)
		}
	}
}

func TestStatusAsJSONAndLog(t *testing.T) {
	testutil.Deadline(t)
	conn, _ := net.Pipe()
	c := wrap(t, conn, nil)
	for _, ended := range []bool{false, true} {
		if ended {
			c.Close()
		}
		text, err := json.Marshal(c.Status())
		testutil.Must(t, err)
		var fields map[string]any
		testutil.Must(t, json.Unmarshal(text, &fields))
		_, hasError := fields["error"]
		if want := c.Status().State.String(); fields["state"] != want || hasError != ended || ended && fields["reason"] != "local" {
			t.Errorf("%s; want state %s", text, want)
		}
		var log bytes.Buffer
		slog.New(slog.NewTextHandler(&log, nil)).Info("status", "conn", c.Status())
		if strings.Contains(log.String(), "conn.reason=local") != ended || !strings.Contains(log.String(), "conn.state=") {
			t.Error(log.String())
		}
	}
	for state := liveness.Unknown; state <= liveness.Disconnected; state++ {
		if text, err := state.MarshalText(); err != nil || string(text) != state.String() {
			t.Errorf("%s, %v", text, err)
		}
	}
}
