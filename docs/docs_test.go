// Package docs has tests of the README and the pages of this folder. It is a module of
// its own because their code uses what the library does not need.
package docs

import (
	"encoding/xml"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/go-liveness/liveness"
)

// The most words that README and a page may have. What a command fills in does not count.
const (
	readmeWords = 650
	pageWords   = 1500
)

// A page is a file in Markdown.
type page struct{ name, text string }

// pages returns README, the pages of this folder and the other texts of the root.
func pages(t *testing.T) (all []page) {
	names := []string{"../README.md", "../CHANGELOG.md", "../CONTRIBUTING.md"}
	here, err := filepath.Glob("*.md")
	if err != nil || len(here) == 0 {
		t.Fatal("no pages", err)
	}
	for _, name := range append(names, here...) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{name, string(text)})
	}
	return all
}

var block = regexp.MustCompile("(?ms)^```(\\w*)\n(.*?)^```$")

// code returns the blocks of code in a language.
func (p page) code(language string) (blocks []string) {
	for _, m := range block.FindAllStringSubmatch(p.text, -1) {
		if m[1] == language {
			blocks = append(blocks, m[2])
		}
	}
	return blocks
}

var (
	filled = regexp.MustCompile(`(?s)<!-- (compare|bench).*?<!-- end -->`)
	tag    = regexp.MustCompile(`(?s)<[a-z/!][^>]*>`)
)

// words counts what has a letter or a digit, code and tables included.
func (p page) words() (n int) {
	text := tag.ReplaceAllString(filled.ReplaceAllString(p.text, ""), " ")
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || r == '|' }) {
		if strings.ContainsFunc(word, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }) {
			n++
		}
	}
	return n
}

func TestWords(t *testing.T) {
	for _, page := range pages(t) {
		limit := pageWords
		if page.name == "../README.md" {
			limit = readmeWords
		}
		n := page.words()
		t.Logf("%s: %d words", page.name, n)
		if n > limit && !strings.HasPrefix(page.name, "../C") {
			t.Errorf("%s has %d words, and may have %d", page.name, n, limit)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`)

// TestLinks checks that the files and headings that the pages link to exist, and that
// every page of this folder is linked.
func TestLinks(t *testing.T) {
	linked := make(map[string]bool)
	for _, page := range pages(t) {
		text := block.ReplaceAllString(page.text, "")
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			target := m[1] + m[2]
			if strings.Contains(target, "://") {
				continue
			}
			name, anchor, _ := strings.Cut(target, "#")
			path := page.name
			if name != "" {
				path = filepath.Join(filepath.Dir(page.name), name)
			}
			if _, err := os.Stat(path); err != nil {
				t.Errorf("%s links to %s: %v", page.name, target, err)
				continue
			}
			if filepath.Base(path) != page.name {
				linked[filepath.Base(path)] = true
			}
			if anchor != "" && !anchors(t, path)[anchor] {
				t.Errorf("%s links to %s, which has no such heading", page.name, target)
			}
		}
	}
	for _, page := range pages(t) {
		if !strings.HasPrefix(page.name, "../") && !linked[page.name] {
			t.Errorf("no page links to %s", page.name)
		}
	}
}

var heading = regexp.MustCompile(`(?m)^#+ (.*)$`)

// anchors returns the names that GitHub gives to the headings of a page.
func anchors(t *testing.T, path string) map[string]bool {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, m := range heading.FindAllStringSubmatch(block.ReplaceAllString(string(text), ""), -1) {
		found[strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			}
			return -1
		}, m[1])] = true
	}
	return found
}

var command = regexp.MustCompile(`go (?:run (\./[\w/.-]+)|(?:-C (\S+))|test (\./[\w/.-]+))`)

// TestCommands checks that the folders of the commands exist.
func TestCommands(t *testing.T) {
	for _, page := range pages(t) {
		for _, m := range command.FindAllStringSubmatch(page.text, -1) {
			folder := strings.TrimSuffix(m[1]+m[2]+m[3], "...")
			if info, err := os.Stat(filepath.Join("..", folder)); err != nil || !info.IsDir() {
				t.Errorf("%s has the command %q, and there is no folder %s", page.name, m[0], folder)
			}
		}
	}
}

// TestPictures checks that each picture is well-formed, and made for light and dark.
func TestPictures(t *testing.T) {
	n := 0
	err := filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".svg" {
			return err
		}
		n++
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
			_, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Errorf("%s: %v", path, err)
				break
			}
		}
		dark := strings.Contains(string(text), "prefers-color-scheme: dark")
		for scheme, other := range map[string]string{"-light": "-dark", "-dark": "-light"} {
			if name := strings.Replace(path, scheme, other, 1); name != path {
				_, err := os.Stat(name)
				dark = dark || err == nil
			}
		}
		if !dark {
			t.Errorf("%s is for a light background only", path)
		}
		return nil
	})
	if err != nil || n < 4 {
		t.Errorf("%d pictures, %v", n, err)
	}
}

var (
	goFile = regexp.MustCompile(`\b[\w*]+\.go\b`)
	method = regexp.MustCompile(`\(\*(\w+)\)\.(\w+)`)
)

// TestDesign checks that the files and methods that design.md names exist.
func TestDesign(t *testing.T) {
	text, err := os.ReadFile("design.md")
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	names := make(map[string]bool)
	err = filepath.WalkDir("..", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".go" {
			return err
		}
		names[filepath.Base(path)] = true
		content, err := os.ReadFile(path)
		code.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	files, methods := goFile.FindAllString(string(text), -1), method.FindAllStringSubmatch(string(text), -1)
	if len(files) < 20 || len(methods) < 8 {
		t.Errorf("design.md names %d files and %d methods", len(files), len(methods))
	}
	for _, name := range files {
		if !names[name] && !strings.Contains(name, "*") && name != "pkg.go" {
			t.Errorf("there is no file %s", name)
		}
	}
	for _, m := range methods {
		if !regexp.MustCompile(`func \(\w+ \*?` + m[1] + `\) ` + m[2] + `\(`).MatchString(code.String()) {
			t.Errorf("there is no method %s", m[0])
		}
	}
}

var tuning = regexp.MustCompile(`(?m)^\| (\d+) (s|min) \| (\d+) s \| (\d+) s \| (\d+) \|$`)

// TestTuning compares the table of probes with what KeepAlive returns.
func TestTuning(t *testing.T) {
	text, err := os.ReadFile("choosing-timeouts.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := tuning.FindAllStringSubmatch(string(text), -1)
	if len(rows) < 4 {
		t.Fatalf("%d rows", len(rows))
	}
	for _, row := range rows {
		number := func(i int) time.Duration {
			n, _ := strconv.Atoi(row[i])
			return time.Duration(n)
		}
		within := number(1) * time.Second
		if row[2] == "min" {
			within *= 60
		}
		k := liveness.KeepAlive(within)
		if k.Idle != number(3)*time.Second || k.Interval != number(4)*time.Second || k.Count != int(number(5)) {
			t.Errorf("%s: KeepAlive returns %+v", row[0], k)
		}
	}
}
