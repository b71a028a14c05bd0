// Command charts fills the tables of docs/*.md with what was measured, and draws the charts of the README. It is run in
// the folder of the module, and reads docs/bench/bench.txt and docs/bench/compare.csv.
//
// A table stands between two comments. The first says what it holds:
//
//	<!-- compare -->                 what TestCompare found
//	<!-- bench Ask raw-peek -->      the medians of BenchmarkAsk, and the ratios of the first column to that of raw-peek
//	<!-- bench Growth -->            the medians of BenchmarkGrowth, and how they grow with n
package main

import (
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

func main() {
	if err := run("../docs"); err != nil {
		fmt.Fprintln(os.Stderr, "charts:", err)
		os.Exit(1)
	}
}

func run(docs string) error {
	text, err := os.ReadFile(filepath.Join(docs, "bench", "bench.txt"))
	if err != nil {
		return err
	}
	f, err := os.Open(filepath.Join(docs, "bench", "compare.csv"))
	if err != nil {
		return err
	}
	defer f.Close()
	compared, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return err
	}
	groups := parse(string(text))
	pages, err := filepath.Glob(filepath.Join(docs, "*.md"))
	if err != nil {
		return err
	}
	for _, page := range pages {
		if err := fill(page, groups, compared); err != nil {
			return fmt.Errorf("%s: %w", page, err)
		}
	}
	return draw(filepath.Join(docs, "bench"), groups)
}

// A group is a benchmark with its sub-benchmarks, in the order of the file.
type group struct {
	names, units []string
	values       map[string]map[string][]float64 // by name and unit, one value for each round
}

var line = regexp.MustCompile(`(?m)^Benchmark(\w+)/(\S+?)(-\d+)?\s+\d+\s(.*)$`)

func parse(text string) map[string]*group {
	groups := make(map[string]*group)
	for _, m := range line.FindAllStringSubmatch(text, -1) {
		g := groups[m[1]]
		if g == nil {
			g = &group{values: make(map[string]map[string][]float64)}
			groups[m[1]] = g
		}
		if g.values[m[2]] == nil {
			g.names, g.values[m[2]] = append(g.names, m[2]), make(map[string][]float64)
		}
		fields := strings.Fields(m[4])
		for i := 0; i+1 < len(fields); i += 2 {
			value, err := strconv.ParseFloat(fields[i], 64)
			if unit := fields[i+1]; err == nil {
				g.values[m[2]][unit] = append(g.values[m[2]][unit], value)
				if !slices.Contains(g.units, unit) {
					g.units = append(g.units, unit)
				}
			}
		}
	}
	return groups
}

func (g *group) median(name, unit string) float64 {
	v := slices.Sorted(slices.Values(g.values[name][unit]))
	if len(v) == 0 {
		return math.NaN()
	}
	return v[len(v)/2]
}

// table has a column of ratios if there is a base, medians of the rounds' ratios, and a line of growth if the names say n=.
func (g *group) table(base string) [][]string {
	rows := [][]string{append([]string{""}, g.units...)}
	if base != "" {
		rows[0] = append(rows[0], "× "+base)
	}
	for _, name := range g.names {
		row := []string{name}
		for _, unit := range g.units {
			row = append(row, figure(g.median(name, unit)))
		}
		if base != "" {
			row = append(row, fmt.Sprintf("%.2f", g.ratio(name, base, g.units[0])))
		}
		rows = append(rows, row)
	}
	if strings.HasPrefix(g.names[0], "n=") {
		row := []string{"grows with"}
		for _, unit := range g.units {
			row = append(row, fmt.Sprintf("N^%.2f", g.exponent(unit)))
		}
		rows = append(rows, row)
	}
	return rows
}

func (g *group) ratio(name, base, unit string) float64 {
	var ratios []float64
	for i, v := range g.values[name][unit] {
		if i < len(g.values[base][unit]) {
			ratios = append(ratios, v/g.values[base][unit][i])
		}
	}
	slices.Sort(ratios)
	return ratios[len(ratios)/2]
}

// exponent fits log y = k log n + c by least squares, for n of 1000 and more.
func (g *group) exponent(unit string) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, name := range g.names {
		size, _ := strconv.ParseFloat(strings.TrimPrefix(name, "n="), 64)
		if y := g.median(name, unit); size >= 1000 && y > 0 {
			x, y := math.Log(size), math.Log(y)
			n, sx, sy, sxx, sxy = n+1, sx+x, sy+y, sxx+x*x, sxy+x*y
		}
	}
	return (n*sxy - sx*sy) / (n*sxx - sx*sx)
}

// figure prints three digits, or all before the point.
func figure(v float64) string {
	switch {
	case math.IsNaN(v):
		return ""
	case v == 0 || math.Abs(v) >= 100:
		return fmt.Sprintf("%.0f", v)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

var place = regexp.MustCompile(`(?s)<!-- (compare|bench) ?(\w*) ?(\S*?) ?-->\n.*?<!-- end -->`)

func fill(page string, groups map[string]*group, compared [][]string) error {
	b, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	text := place.ReplaceAllStringFunc(string(b), func(found string) string {
		m := place.FindStringSubmatch(found)
		rows := compared
		if m[1] == "bench" {
			if groups[m[2]] == nil {
				err = fmt.Errorf("no Benchmark%s was measured", m[2])
				return found
			}
			rows = groups[m[2]].table(m[3])
		}
		first, _, _ := strings.Cut(found, "\n")
		return first + "\n" + markdown(rows) + "<!-- end -->"
	})
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(text), 0o644)
}

func markdown(rows [][]string) string {
	var b strings.Builder
	for i, row := range rows {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	return b.String()
}
