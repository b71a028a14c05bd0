package main

import (
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness/examples/internal/program"
)

// TestProgram waits until the page has shown every client, and the metrics count them.
func TestProgram(t *testing.T) {
	program.NeedEvents(t)
	p := program.Start(t, program.Path(program.Build(t, "."), "dashboard"), program.PeerTimeout(t, 4*time.Second))
	missing := map[string]bool{"connected": true, "half-closed": true, "stalled": true, "closed": true, "reset": true}
	if runtime.GOOS == "linux" { // see livenesstest.Cut
		missing["suspect"], missing["lost"] = true, true
	} else {
		t.Log("no client vanishes on this system")
	}
	for deadline := time.Now().Add(2 * program.Patience); len(missing) > 0; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("the page does not show %v", missing)
		}
		var page struct {
			Connections, Ends []struct {
				Status struct{ State, Reason string }
			}
		}
		if err := json.Unmarshal([]byte(get(t, p, "/debug/liveness/?format=json")), &page); err != nil {
			t.Fatal(err)
		}
		for _, c := range append(page.Connections, page.Ends...) {
			delete(missing, c.Status.State)
			delete(missing, c.Status.Reason)
		}
	}
	metrics := get(t, p, "/metrics")
	for _, name := range []string{
		`liveness_connections{group="chat"}`, `liveness_connections{group="archive"} 1`,
		`liveness_connections_ended_total{group="chat",reason="reset"} 1`, `liveness_sampled_connections{group="chat",state="connected"}`,
	} {
		if !strings.Contains(metrics, name) {
			t.Errorf("no %s in\n%s", name, metrics)
		}
	}
	if page := get(t, p, "/"); !strings.Contains(page, "<html") {
		t.Errorf("the first page is %.100q", page)
	}
}

func get(t *testing.T, p *program.Program, path string) string {
	t.Helper()
	response, err := http.Get("http://" + p.Addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || response.StatusCode != http.StatusOK {
		t.Fatalf("%s: %s, %v\n%s", path, response.Status, err, body)
	}
	return string(body)
}
