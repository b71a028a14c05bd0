package main

import (
	_ "embed"
	"math"
	"os"
	"strings"
	"text/template"
)

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
	label                        func(float64) string
}

var charts = []chart{
	{"latency", "FIN", "From the peer's close to the report", "bar: 10 % to 99 % of the ends; dot and figure: the median", "p10-ns", "p99-ns", "p50-ns", 3e4, 3e7, duration},
	{"memory", "Many", "Memory for an idle connection, above the bare one", "bytes of heap and stacks", "", "B/conn", "", 10, 1e5, figure},
}

func duration(ns float64) string {
	if ns >= 1e6 {
		return figure(ns/1e6) + " ms"
	}
	return figure(ns/1e3) + " µs"
}

// A mark is a bar or a line of the grid, in pixels.
type mark struct {
	X, Width, Dot int
	Name, Label   string
	Own           bool
}

func (c chart) x(v float64) int {
	return 170 + int(500*math.Log(max(v, c.low)/c.low)/math.Log(c.high/c.low))
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
	t := template.Must(template.New("").Funcs(template.FuncMap{
		"add": func(a, b int) int { return a + b },
		"mul": func(a, b int) int { return a * b },
	}).Parse(svg))
	for name, theme := range themes {
		f := must(os.Create(dir + "/" + c.file + "-" + name + ".svg"))
		check(t.Execute(f, map[string]any{"Title": c.title, "Subtitle": c.subtitle, "Theme": theme, "Ticks": ticks, "Bars": bars}))
		check(f.Close())
	}
}
