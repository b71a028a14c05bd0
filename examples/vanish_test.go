package examples_test

import (
	"bytes"
	"context"
	"encoding/xml"
	"flag"
	"fmt"
	"html"
	"io"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/go-liveness/liveness/examples/internal/program"
)

var update = flag.Bool("update", false, "write docs/vanish.svg")

func testVanish(t *testing.T, path string) {
	if runtime.GOOS != "linux" {
		t.Skipf("vanish cuts cables, which it cannot on %s", runtime.GOOS)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, path).CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(out), "  how the client went")
	if !found {
		t.Fatal("no table")
	}
	table = "  how the client went" + table
	for row, said := range map[string]string{
		"close":                      "ErrPeerClosed",
		"close behind unread data":   "ErrPeerClosed",
		"half-close":                 "ErrPeerClosed",
		"half-close, AllowHalfClose": "half-closed",
		"reset":                      "ErrPeerReset",
		"reset behind unread data":   "ErrPeerReset",
		"SIGKILL":                    "ErrPeerClosed",
		"SIGKILL with unread data":   "ErrPeerReset",
		"TLS close":                  "ErrPeerClosed",
		"cable cut while idle":       "ErrPeerLost",
		"cable cut, data in flight":  "ErrPeerLost",
		"hung program (SIGSTOP)":     "ErrPeerIdle",
		"stopped reading":            "ErrPeerStalled",
		"it stays":                   "alive",
	} {
		shown := false
		for line := range strings.Lines(table) {
			shown = shown || strings.HasPrefix(line, "  "+row+"  ") && strings.Contains(line, said)
		}
		if !shown {
			t.Errorf("no row %q that says %s", row, said)
		}
	}
	for line := range strings.Lines(string(out)) {
		if utf8.RuneCountInString(strings.TrimSuffix(line, "\n")) > 100 {
			t.Errorf("too long: %s", line)
		}
	}
	if bytes.ContainsRune(out, '\x1b') {
		t.Error("colour, and no terminal")
	}
	picture := drawScreen("$ go run ./examples/vanish\n…\n" + strings.TrimRight(table, "\n"))
	if err := xml.Unmarshal([]byte(picture), new(struct{})); err != nil {
		t.Errorf("the picture: %v", err)
	}
	program.Golden(t, "../docs/vanish.svg", picture, *update, func(a, b string) bool { return words(t, a) == words(t, b) })
}

var duration = regexp.MustCompile(`\d+(\.\d+)? (µs|ms|s)`)

// words returns the text of a picture, without its times.
func words(t *testing.T, picture string) string {
	t.Helper()
	var text strings.Builder
	for d := xml.NewDecoder(strings.NewReader(picture)); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if data, ok := token.(xml.CharData); ok {
			text.Write(data)
			text.WriteByte(' ')
		}
	}
	return strings.Join(strings.Fields(duration.ReplaceAllString(text.String(), "T")), " ")
}

// The places of the columns of vanish's table, and the size of a character in pixels.
const (
	plainColumn = 30
	saidColumn  = 71
	columns     = 99
	charWidth   = 8
	lineHeight  = 18
)

// piece is what stands between two spaces or more.
var piece = regexp.MustCompile(`\S+( \S+)*`)

// drawScreen draws the text as a terminal shows it, for a light and a dark background.
func drawScreen(screen string) string {
	lines := strings.Split(screen, "\n")
	width, height := columns*charWidth, (len(lines)+1)*lineHeight
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-label="The screen of examples/vanish">
<style>
text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328 }
rect { fill: #f6f8fa; stroke: #d1d9e0 } .head { font-weight: bold } .faint { fill: #59636e } .said { fill: #116329 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } rect { fill: #151b23; stroke: #3d444d } .faint { fill: #9198a1 } .said { fill: #57ab5a }
}
</style>
<rect x="0.5" y="0.5" width="%d" height="%d" rx="6"/>
`, width, height, width, height, width-1, height-1)
	for i, line := range lines {
		drawLine(&b, []rune(line), (i+1)*lineHeight+3)
	}
	b.WriteString("</svg>\n")
	return b.String()
}

// drawLine draws a line in up to three parts, each of which begins at its column
// whatever the font is.
func drawLine(b *strings.Builder, line []rune, y int) {
	text := string(line)
	parts := []int{0, plainColumn, saidColumn, len(line)}
	classes := []string{"", "faint", "said"}
	switch {
	case strings.HasPrefix(text, "  how the client went"):
		classes = []string{"head", "head", "head"}
	case strings.HasPrefix(text, "  ──"):
		fmt.Fprintf(b, "<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"0.5\"/>\n", 2*charWidth, y-5, (columns-4)*charWidth)
		return
	case strings.HasPrefix(text, "  14 of"):
		parts, classes = []int{0, len(line)}, []string{"said"}
	case len(line) <= saidColumn || line[saidColumn-1] != ' ' || line[plainColumn-1] != ' ' || line[plainColumn-2] != ' ':
		parts, classes = []int{0, len(line)}, []string{"faint"}
	}
	for i, class := range classes {
		part := string(line[parts[i]:parts[i+1]])
		for _, at := range piece.FindAllStringIndex(part, -1) {
			text := part[at[0]:at[1]]
			column := 1 + parts[i] + utf8.RuneCountInString(part[:at[0]])
			fmt.Fprintf(b, "<text x=\"%d\" y=\"%d\" class=\"%s\" textLength=\"%d\">%s</text>\n", column*charWidth, y, class,
				utf8.RuneCountInString(text)*charWidth, html.EscapeString(text))
		}
	}
}
