// Command charts fills the tables of docs/*.md and draws the charts of the README, from docs/bench/bench.txt and
// docs/bench/compare.csv. It is run in the folder of the module. A table stands behind a comment that says what it holds:
//
//	<!-- compare -->                 what TestCompare found
//	<!-- bench FIN gnet p50-ns -->   the medians of BenchmarkFIN, and the ratios of p50-ns to that of gnet
//	<!-- bench Growth -->            the medians of BenchmarkGrowth, and how they grow with n
package main

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

func main() {
	const docs = "../docs"
	groups := parse(string(must(os.ReadFile(docs + "/bench/bench.txt"))))
	compared := must(csv.NewReader(must(os.Open(docs + "/bench/compare.csv"))).ReadAll())
	for _, page := range must(filepath.Glob(docs + "/*.md")) {
		check(os.WriteFile(page, []byte(fill(string(must(os.ReadFile(page))), groups, compared)), 0o644))
	}
	for _, c := range charts {
		c.draw(docs+"/bench", groups[c.group])
	}
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func must[T any](v T, err error) T {
	check(err)
	return v
}

// A group is a benchmark with its sub-benchmarks, in the order of the file.
type group struct {
	names, units []string
	values       map[[2]string][]float64 // by name and unit, one value for each round
}

var result = regexp.MustCompile(`(?m)^Benchmark(\w+)/(\S+?)(?:-\d+)?\s+\d+\s(.*)$`)

func parse(text string) map[string]*group {
	groups := make(map[string]*group)
	for _, m := range result.FindAllStringSubmatch(text, -1) {
		g := groups[m[1]]
		if g == nil {
			g = &group{values: make(map[[2]string][]float64)}
			groups[m[1]] = g
		}
		if !slices.Contains(g.names, m[2]) {
			g.names = append(g.names, m[2])
		}
		for pair := range slices.Chunk(strings.Fields(m[3]), 2) {
			if !slices.Contains(g.units, pair[1]) {
				g.units = append(g.units, pair[1])
			}
			key := [2]string{m[2], pair[1]}
			g.values[key] = append(g.values[key], must(strconv.ParseFloat(pair[0], 64)))
		}
	}
	return groups
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	return slices.Sorted(slices.Values(v))[len(v)/2]
}

// table has a column of ratios if there is a base, medians of the rounds' ratios, and a line of growth if the names say n=.
func (g *group) table(base, unit string) [][]string {
	rows := [][]string{append([]string{""}, g.units...)}
	for _, name := range g.names {
		row := []string{name}
		for _, unit := range g.units {
			row = append(row, figure(median(g.values[[2]string{name, unit}])))
		}
		rows = append(rows, row)
	}
	if base != "" {
		rows[0] = append(rows[0], unit+" × "+base)
		for i, name := range g.names {
			var ratios []float64
			bases := g.values[[2]string{base, unit}]
			for i, v := range g.values[[2]string{name, unit}] {
				ratios = append(ratios, v/bases[i])
			}
			rows[i+1] = append(rows[i+1], figure(median(ratios)))
		}
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

// exponent fits log y = k log n + c by least squares, for n of 1000 and more.
func (g *group) exponent(unit string) float64 {
	var n, sx, sy, sxx, sxy float64
	for _, name := range g.names {
		size := must(strconv.ParseFloat(strings.TrimPrefix(name, "n="), 64))
		if y := median(g.values[[2]string{name, unit}]); size >= 1000 && y > 0 {
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

var place = regexp.MustCompile(`(?s)(<!-- (compare|bench) ?(\w*) ?(\S*?) ?(\S*?) ?-->\n).*?<!-- end -->`)

func fill(page string, groups map[string]*group, compared [][]string) string {
	return place.ReplaceAllStringFunc(page, func(found string) string {
		m := place.FindStringSubmatch(found)
		rows := compared
		if m[2] == "bench" {
			if groups[m[3]] == nil {
				check(fmt.Errorf("no measurement of Benchmark%s", m[3]))
			}
			rows = groups[m[3]].table(m[4], m[5])
		}
		table := m[1]
		for i, row := range rows {
			table += "| " + strings.Join(row, " | ") + " |\n"
			if i == 0 {
				table += strings.Repeat("|---", len(row)) + "|\n"
			}
		}
		return table + "<!-- end -->"
	})
}

//go:embed chart.svg.tmpl
var svg string

// Colours for GitHub's two backgrounds.
var themes = map[string]map[string]string{
	"light": {"Ground": "#ffffff", "Text": "#1f2328", "Faint": "#59636e", "Grid": "#d1d9e0", "Own": "#0969da", "Other": "#afb8c1"},
	"dark":  {"Ground": "#0d1117", "Text": "#f0f6fc", "Faint": "#9198a1", "Grid": "#3d444d", "Own": "#4493f8", "Other": "#656c76"},
}

// A chart has a bar for each subject, on a logarithmic axis.
type chart struct {
	file, group, title, subtitle string
	from, to, dot                string // units; without from, bars begin at the axis
	low, high                    float64
	scale                        float64
	unit                         string
}

var charts = []chart{
	{"latency", "FIN", "From the peer's close to the report", "bar: 10 % to 99 % of the ends; dot and figure: the median; the axis is logarithmic", "p10-ns", "p99-ns", "p50-ns", 3e4, 3e7, 1e3, " µs"},
	{"memory", "Many", "Memory for an idle connection, above the bare one", "bytes of heap and stacks; the axis is logarithmic", "", "B/conn", "", 10, 1e5, 1, ""},
}

// A mark is a bar or a line of the grid, in pixels.
type mark struct {
	X, Width, Dot int
	Name, Label   string
	Own           bool
}

func (c chart) label(v float64) string { return figure(v/c.scale) + c.unit }

func (c chart) x(v float64) int {
	return 200 + int(480*math.Log(max(v, c.low)/c.low)/math.Log(c.high/c.low))
}

func (c chart) draw(dir string, g *group) {
	var ticks, bars []mark
	for v := math.Pow(10, math.Ceil(math.Log10(c.low))); v <= c.high; v *= 10 {
		ticks = append(ticks, mark{X: c.x(v), Label: c.label(v)})
	}
	for _, name := range g.names {
		value := func(unit string) float64 { return median(g.values[[2]string{name, unit}]) }
		b := mark{Name: strings.ReplaceAll(name, "-", " "), X: c.x(0), Label: c.label(value(c.to))}
		if name == "watch" || name == "callback" || name == "PeerTimeout" {
			b.Own, b.Name = true, "liveness, "+name
		}
		if c.from != "" {
			b.X, b.Dot, b.Label = c.x(value(c.from)), c.x(value(c.dot)), c.label(value(c.dot))
		}
		b.Width = max(c.x(value(c.to))-b.X, 2)
		bars = append(bars, b)
	}
	funcs := template.FuncMap{"add": func(a, b int) int { return a + b }, "mul": func(a, b int) int { return a * b }}
	t := template.Must(template.New("").Funcs(funcs).Parse(svg))
	for name, theme := range themes {
		f := must(os.Create(dir + "/" + c.file + "-" + name + ".svg"))
		check(t.Execute(f, map[string]any{"Title": c.title, "Subtitle": c.subtitle, "Theme": theme, "Ticks": ticks, "Bars": bars}))
		check(f.Close())
	}
}
