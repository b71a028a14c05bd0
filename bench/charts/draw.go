package main

import (
	"bytes"
	_ "embed"
	"math"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

//go:embed chart.svg.tmpl
var svg string

// Colours for GitHub's two backgrounds.
var themes = map[string]map[string]any{
	"light": {"Ground": "#ffffff", "Text": "#1f2328", "Faint": "#59636e", "Grid": "#d1d9e0", "Own": "#0969da", "Other": "#afb8c1"},
	"dark":  {"Ground": "#0d1117", "Text": "#f0f6fc", "Faint": "#9198a1", "Grid": "#3d444d", "Own": "#4493f8", "Other": "#656c76"},
}

// A chart has a bar for each subject, on a logarithmic axis.
type chart struct {
	file, group, title, subtitle string
	from, to, dot                string // units; without from, bars begin at the axis
	low, high                    float64
	show                         func(float64) string
}

var drawn = []chart{
	{"latency", "FIN", "From the peer's close to the report", "bar: 10 % to 99 % of the ends; dot and figure: the median", "p10-ns", "p99-ns", "p50-ns", 3e4, 3e7, duration},
	{"memory", "Memory", "Memory for an idle connection, above the bare one", "bytes of heap and stacks", "", "B/conn", "", 10, 1e5, figure},
}

func duration(ns float64) string {
	if ns >= 1e6 {
		return figure(ns/1e6) + " ms"
	}
	return figure(ns/1e3) + " µs"
}

func draw(dir string, groups map[string]*group) error {
	t, err := template.New("chart").Parse(svg)
	if err != nil {
		return err
	}
	for _, c := range drawn {
		g := groups[c.group]
		if g == nil {
			continue
		}
		for name, theme := range themes {
			var b bytes.Buffer
			if err := t.Execute(&b, c.layout(g, theme)); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(dir, c.file+"-"+name+".svg"), b.Bytes(), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

type bar struct {
	Name, Label                               string
	Own                                       bool
	X, Y, Width, Dot, Middle, Baseline, After int
}

type tick struct {
	X     int
	Label string
}

// layout returns what the template needs, in pixels.
func (c chart) layout(g *group, theme map[string]any) map[string]any {
	x := func(v float64) int {
		return 170 + int(500*math.Log(max(v, c.low)/c.low)/math.Log(c.high/c.low))
	}
	bottom := 78 + 30*len(g.names)
	page := map[string]any{"Title": c.title, "Subtitle": c.subtitle, "Bottom": bottom, "Foot": bottom + 20, "Height": bottom + 36}
	var ticks []tick
	for v := math.Pow(10, math.Ceil(math.Log10(c.low))); v <= c.high; v *= 10 {
		ticks = append(ticks, tick{x(v), c.show(v)})
	}
	var bars []bar
	for i, name := range g.names {
		y, value := 80+30*i, g.median(name, c.to)
		b := bar{Name: strings.ReplaceAll(name, "-", " "), X: x(0), Y: y, Middle: y + 8, Baseline: y + 13, Label: c.show(value)}
		b.Own = name == "watch" || name == "callback" || name == "PeerTimeout"
		if b.Own {
			b.Name = "liveness, " + name
		}
		if c.from != "" {
			b.X, b.Dot, b.Label = x(g.median(name, c.from)), x(g.median(name, c.dot)), c.show(g.median(name, c.dot))
		}
		b.Width = max(x(value)-b.X, 2)
		b.After = b.X + b.Width + 10
		bars = append(bars, b)
	}
	page["Ticks"], page["Rows"] = ticks, bars
	for k, v := range theme {
		page[k] = v
	}
	return page
}
