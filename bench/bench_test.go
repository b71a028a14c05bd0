//go:build linux

package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenesstest"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childVariable); what != "" {
		runChild(what)
	}
	os.Exit(m.Run())
}

// Our own column has an ending for each ending and nothing else, in every row.
func TestCorrect(t *testing.T) {
	for _, r := range rows {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			c := try(r, subjectNamed(nameLiveness))
			if c.Verdict == na && r.group != "Endings" {
				t.Skip(c.Note) // another test has that descriptor
			}
			if !c.good() {
				t.Errorf("%v (%s)", c, c.Note)
			}
			if r.name == "bytes received before a time-out" && c.Note != ownVerdict {
				t.Errorf("the time-out was not told: %v (%s)", c, c.Note)
			}
		})
	}
}

// What the table is for: a peer whose faults are known has them.
func TestFaultsAreSeen(t *testing.T) {
	for _, want := range []struct{ row, subject, verdict string }{
		{"close behind unread data", nameConncheck, missed},
		{"a reader parked in Read", nameConncheck, blocked},
		{"ECONNRESET is left for Read", nameRedis, stolen},
		{"bytes received before a FIN", nameMySQL, eaten},
		{"own Close reaches the peer", nameDup, leaked},
		{"half-close, then a late response", nameNetpoll, lost},
		{"half-close, then a late response", nameHTTP, falseAlarm},
		{"descriptor used again, late calls", nameConnstate, notTold},
		{"own deadline expired", nameMySQL, falseAlarm},
		{"own deadline is kept by a look", nameMySQL, ok},
		{"a retry loop ends", nameParked, endless},
	} {
		t.Run(want.row+"/"+want.subject, func(t *testing.T) {
			t.Parallel()
			for _, r := range rows {
				if r.name == want.row {
					c := try(r, subjectNamed(want.subject))
					if c.Verdict == na {
						t.Skip(c.Note)
					}
					if c.Verdict != want.verdict {
						t.Errorf("%v (%s); want %s", c, c.Note, want.verdict)
					}
				}
			}
		})
	}
}

// Every command runs, writes JSON, and the documents come out of that.
func TestCommands(t *testing.T) {
	docs := t.TempDir()
	if err := os.Mkdir(filepath.Join(docs, "bench"), 0o755); err != nil {
		t.Fatal(err)
	}
	document := filepath.Join(docs, "benchmarks.md")
	text := "before\n"
	for _, name := range []string{"correct", "cost", "scale"} {
		text += "<!-- " + name + " -->\n@@@\n<!-- /" + name + " -->\n"
	}
	if err := os.WriteFile(document, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Run("commands", func(t *testing.T) {
		for name, args := range map[string][]string{
			"correct": {"-rows", "close ", "-peers", "connstate"},
			"cost":    {"-peers", "connstate,parked Read"},
			"scale":   {},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				var out bytes.Buffer
				args := append([]string{name, "-tiny", "-json", filepath.Join(docs, "bench", name+".json")}, args...)
				if err := run(args, &out); err != nil {
					t.Fatal(err)
				}
				if s := out.String(); !strings.Contains(s, "| ") || strings.Contains(s, "NaN") || strings.Contains(s, "%!") {
					t.Errorf("the output is\n%s", s)
				}
				for _, want := range map[string][]string{
					"cost":  {"cloudwego/gopkg v", "raw poll, RawSyscall", "CPU × bare"},
					"scale": {"the clock with traffic, " + busyPeer, "the clock with traffic, " + busyIdle},
				}[name] {
					if !strings.Contains(out.String(), want) {
						t.Errorf("no %q in\n%s", want, out.String())
					}
				}
			})
		}
	})
	if t.Failed() {
		return
	}
	if err := run([]string{"charts", "-docs", docs}, io.Discard); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	if s := string(b); strings.Contains(s, "@@@") || strings.Count(s, "\n| ") < 20 {
		t.Errorf("the document is\n%s", s)
	}
	for _, name := range []string{"latency", "memory", "idlecpu", "looks"} {
		for _, theme := range []string{"light", "dark"} {
			b, err := os.ReadFile(filepath.Join(docs, "bench", name+"-"+theme+".svg"))
			if err != nil {
				t.Fatal(err)
			}
			for d := xml.NewDecoder(bytes.NewReader(b)); ; {
				if _, err := d.Token(); err == io.EOF {
					break
				} else if err != nil {
					t.Errorf("%s: %v", name, err)
					break
				}
			}
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"nonsense"}, {"correct", "-peers", "nobody"}} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%q is no error", args)
		}
	}
}

// Each figure is the median of the rounds by itself, and a round that failed counts
// for nothing.
func TestMedianIdle(t *testing.T) {
	m := medianIdle([]idleResult{{Heap: 3, CPU: 10}, {Heap: 1, CPU: 30}, {Heap: 2, CPU: 20}})
	if m.Rounds != 3 || m.Heap != 2 || m.CPU != 20 {
		t.Errorf("%+v", m)
	}
	if m := medianIdle(nil); m.Rounds != 0 {
		t.Errorf("%+v", m)
	}
}

// What the clients send at a pace takes as long as that asks for.
func TestPaced(t *testing.T) {
	results, err := paced(sizes{flowRounds: 1, pacedFor: 50 * time.Millisecond}, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	if len(results) != len(flowKinds) {
		t.Errorf("%d results", len(results))
	}
	for _, r := range results {
		if r.Rate <= 0 || r.Rate > 1.5*pacedRate || r.CPU <= 0 {
			t.Errorf("%+v", r)
		}
	}
}

func TestFit(t *testing.T) {
	f := fitOf("", "", []float64{10, 100, 1000}, []float64{30, 300, 3000})
	if f.K < 0.999 || f.K > 1.001 || f.C < 2.999 || f.C > 3.001 || f.at(1e6) < 2.99e6 {
		t.Errorf("%+v", f)
	}
}

// ---- for ./compare; the names stay as they are, and are those of the library's own

func pair(b *testing.B) (net.Conn, *livenesstest.Peer) {
	conn, peer, err := local()
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close(); peer.Close() })
	return conn, peer
}

func wrapped(b *testing.B, cfg *liveness.Config) (*liveness.Conn, *livenesstest.Peer) {
	conn, peer := pair(b)
	c, err := liveness.Wrap(conn, cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return c, peer
}

func BenchmarkAlive(b *testing.B) {
	c, _ := wrapped(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if !c.Alive() {
			b.Fatal(c.Err())
		}
	}
}

func BenchmarkErr(b *testing.B) {
	c, _ := wrapped(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if c.Err() != nil {
			b.Fatal(c.Err())
		}
	}
}

func BenchmarkCheck(b *testing.B) {
	conn, _ := pair(b)
	b.ReportAllocs()
	for b.Loop() {
		if err := liveness.Check(conn); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatus(b *testing.B) {
	c, _ := wrapped(b, nil)
	b.ReportAllocs()
	for b.Loop() {
		if s := c.Status(); s.Err != nil {
			b.Fatal(s.Err)
		}
	}
}

func BenchmarkWrapClose(b *testing.B) {
	wrapped(b, nil) // so that the watch is not started and stopped for each
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		conn, peer, err := local()
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		c, err := liveness.Wrap(conn, nil)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
		b.StopTimer()
		peer.Close()
		b.StartTimer()
	}
}

func BenchmarkNotice(b *testing.B) {
	wrapped(b, nil)
	var told time.Duration
	for b.Loop() {
		b.StopTimer()
		conn, peer, err := local()
		if err != nil {
			b.Fatal(err)
		}
		c, err := liveness.Wrap(conn, nil)
		if err != nil {
			b.Fatal(err)
		}
		done := c.Done()
		b.StartTimer()
		start := time.Now()
		peer.Close()
		<-done
		told += time.Since(start)
		b.StopTimer()
		c.Close()
		b.StartTimer()
	}
	b.ReportMetric(float64(told)/float64(b.N), "ns/notice")
}

func BenchmarkPingPong(b *testing.B) {
	for name, cfg := range map[string]*liveness.Config{
		"watched":  nil,
		"timeouts": {PeerTimeout: time.Minute, StallTimeout: time.Minute, ReadIdleTimeout: time.Minute},
	} {
		b.Run(name, func(b *testing.B) {
			c, peer := wrapped(b, cfg)
			go io.Copy(peer.Conn, struct{ io.Reader }{peer.Conn})
			buf := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := c.Write(buf); err != nil {
					b.Fatal(err)
				}
				if _, err := io.ReadFull(c, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkWriteBuffers(b *testing.B) {
	c, peer := wrapped(b, nil)
	peer.Drain()
	block := make([]byte, 1<<10)
	b.SetBytes(16 << 10)
	b.ReportAllocs()
	v := make(net.Buffers, 16)
	for b.Loop() {
		w := v
		for i := range w {
			w[i] = block
		}
		if _, err := c.WriteBuffers(&w); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkFileToConn(b *testing.B) {
	c, peer := wrapped(b, nil)
	peer.Drain()
	f, err := os.CreateTemp(b.TempDir(), "")
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const size = 4 << 20
	if err := f.Truncate(size); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			b.Fatal(err)
		}
		if n, err := io.Copy(c, f); n != size || err != nil {
			b.Fatal(n, err)
		}
	}
}

func BenchmarkResets(b *testing.B) {
	const n = 1000
	for b.Loop() {
		b.StopTimer()
		conns, peers := make([]*liveness.Conn, n), make([]*livenesstest.Peer, n)
		for i := range conns {
			conn, peer, err := local()
			if err != nil {
				b.Fatal(err)
			}
			c, err := liveness.Wrap(conn, nil)
			if err != nil {
				b.Fatal(err)
			}
			c.Done()
			conns[i], peers[i] = c, peer
		}
		b.StartTimer()
		for _, p := range peers {
			if err := p.Reset(); err != nil {
				b.Fatal(err)
			}
		}
		for _, c := range conns {
			<-c.Done()
			if !errors.Is(c.Err(), liveness.ErrPeerReset) {
				b.Fatal(c.Err())
			}
		}
		b.StopTimer()
		for _, c := range conns {
			c.Close()
		}
		b.StartTimer()
	}
}
