package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/go-liveness/liveness"
)

// judge returns how the row came out otherwise than it must, or nil.
func (r *row) judge() error {
	var wrong []error
	if knew, _ := r.plainly.heard(); !errors.Is(knew, r.plain) {
		wrong = append(wrong, fmt.Errorf("the plain loop knew %s, and should have known %s", plainName(knew), plainName(r.plain)))
	}
	said, late := r.watched.heard()
	earliest, latest := max(0, r.earliest-tick), r.latest+slack
	switch {
	case r.want == nil:
		if !r.conn.Alive() || r.conn.Status().State != r.state || !r.stop() {
			wrong = append(wrong, fmt.Errorf("liveness shows %v (%v), and must show %v", r.conn.Status().State, r.conn.Err(), r.state))
		}
	case said == nil:
		wrong = append(wrong, fmt.Errorf("liveness said nothing, and must say %s within %s", name(r.want), round(latest)))
	case !errors.Is(said, r.want) || !errors.Is(r.conn.Err(), r.want) || r.conn.Alive():
		wrong = append(wrong, fmt.Errorf("liveness said %q, and must say %s", brief(said), name(r.want)))
	case late < earliest || late > latest:
		wrong = append(wrong, fmt.Errorf("liveness said %s after %s, and must say it after %s to %s",
			name(r.want), round(late), round(earliest), round(latest)))
	}
	return errors.Join(wrong...)
}

// A screen is what the user sees.
type screen struct {
	mu    sync.Mutex // guards out
	out   io.Writer
	color bool
	start time.Time
}

// newScreen returns a screen that writes to out, in colour if that is a terminal
// whose user has nothing against it.
func newScreen(out io.Writer) *screen {
	s := &screen{out: out, start: time.Now()}
	if file, ok := out.(*os.File); ok && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" {
		info, err := file.Stat()
		s.color = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return s
}

// The colours, as ANSI terminals number them.
const (
	bold  = "1"
	faint = "2"
	red   = "31"
	green = "32"
)

func (s *screen) paint(color, text string) string {
	if !s.color {
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

func (s *screen) intro() {
	fmt.Fprint(s.out, `
  Clients go away, each in its own way, and each of them twice: from a plain server, which
  waits in Read or is busy with a request, and from a server that does not read at all, and
  has its connection watched by liveness.

`)
}

// The widths of the log and of the table. They are made for 100 columns.
const (
	atWidth    = 11
	nameWidth  = 28
	whoWidth   = 10
	wordsWidth = 51
	plainWidth = 29
	saidWidth  = 16
	timeWidth  = 9
	tableWidth = 2 + nameWidth + plainWidth + timeWidth + 3 + saidWidth + timeWidth
)

// say writes a line to the log: something has happened.
func (s *screen) say(name, who, words string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := fmt.Sprintf("%7.3f s", time.Since(s.start).Seconds())
	own := who == "liveness"
	for i, line := range fold(words, wordsWidth) {
		if i > 0 {
			at, name, who = "", "", ""
		}
		line = pad(who, whoWidth) + line
		if !own {
			line = s.paint(faint, line)
		}
		fmt.Fprintln(s.out, s.paint(faint, pad(at, atWidth))+pad(name, nameWidth)+line)
	}
}

// table writes everything again, in order, and returns the exit status.
func (s *screen) table(rows []*row) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	fmt.Fprintf(s.out, "\n  %s\n  %s\n", s.paint(bold, pad("how the client went", nameWidth)+
		pad("what a plain Read loop knew, and when", plainWidth+timeWidth+3)+"what liveness said, after"),
		s.paint(faint, strings.Repeat("─", tableWidth-2)))
	right := 0
	for _, r := range rows {
		color := red
		if r.failed == nil {
			color = green
			right++
		}
		plain := pad(r.cells.knew, plainWidth) + padLeft(r.cells.late, timeWidth)
		said := strings.TrimRight(pad(r.cells.said, saidWidth)+padLeft(r.cells.after, timeWidth), " ")
		fmt.Fprintln(s.out, "  "+pad(r.name, nameWidth)+s.paint(faint, plain)+"   "+s.paint(color, said))
	}
	fmt.Fprintln(s.out, "  "+s.paint(faint, strings.Repeat("─", tableWidth-2)))
	fmt.Fprint(s.out, `
  Left alone, the plain loop learns of the cut cable after two and a half minutes (idle: the
  keep-alive of package net) or about a quarter of an hour (data in flight), and of the
  program that hangs or stopped reading never.

`)
	for _, r := range rows {
		if r.failed != nil {
			fmt.Fprintln(s.out, "  "+s.paint(red, r.name+": "+strings.ReplaceAll(r.failed.Error(), "\n", "; ")))
		}
	}
	summary := fmt.Sprintf("%d of %d as they must be.", right, len(rows))
	if right < len(rows) {
		fmt.Fprintln(s.out, "  "+s.paint(red, summary))
		return 1
	}
	fmt.Fprintln(s.out, "  "+s.paint(green, summary))
	return 0
}

// cells are what a row shows beside its name.
type cells struct{ knew, late, said, after string }

// write fills the cells of a row that is over.
func (r *row) write() cells {
	knew, when := r.plainly.heard()
	c := cells{knew: plainName(knew) + r.note}
	if knew != nil {
		c.late = round(when)
	} else if r.want != nil {
		c.late = "> " + round(time.Since(r.plainly.left))
	}
	said, after := r.watched.heard()
	switch state := r.conn.Status().State; {
	case said != nil:
		c.said, c.after = name(said), round(after)
	case r.want != nil:
		c.said = "nothing"
	case state == liveness.Connected:
		c.said = "alive"
	default:
		c.said, c.after = state.String(), round(r.seen)
	}
	return c
}

// name returns the name of a reason in Go.
func name(err error) string {
	for _, reason := range []struct {
		err  error
		name string
	}{
		{liveness.ErrPeerClosed, "ErrPeerClosed"},
		{liveness.ErrPeerReset, "ErrPeerReset"},
		{liveness.ErrPeerLost, "ErrPeerLost"},
		{liveness.ErrPeerStalled, "ErrPeerStalled"},
		{liveness.ErrPeerIdle, "ErrPeerIdle"},
	} {
		if errors.Is(err, reason.err) {
			return reason.name
		}
	}
	return err.Error()
}

// plainName says what Read returned.
func plainName(err error) string {
	switch {
	case err == nil:
		return "nothing"
	case errors.Is(err, io.EOF):
		return "EOF"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset by peer"
	}
	return brief(err)
}

// brief leaves out what does not matter here, the addresses.
func brief(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err.Error()
}

// round returns d with about three digits.
func round(d time.Duration) string {
	switch {
	case d < time.Millisecond:
		return fmt.Sprintf("%d µs", d.Microseconds())
	case d < 100*time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	case d < time.Second:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.2f s", d.Seconds())
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text)))
}

func padLeft(text string, width int) string {
	return strings.Repeat(" ", max(0, width-utf8.RuneCountInString(text))) + text
}

// fold breaks text into lines of at most width, between words.
func fold(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
