//go:build linux

package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	draw "github.com/go-analyze/charts"
)

// Themes that GitHub's two backgrounds can carry.
var themes = map[string]draw.ThemeOption{
	"light": {
		BackgroundColor: draw.ColorFromHex("#ffffff"), TextColor: draw.ColorFromHex("#1f2328"),
		AxisStrokeColor: draw.ColorFromHex("#8c959f"), AxisSplitLineColor: draw.ColorFromHex("#d8dee4"),
		SeriesColors: colors("#0969da", "#8250df", "#cf222e", "#1a7f37", "#9a6700", "#57606a", "#bf3989", "#0a3069"),
	},
	"dark": {
		IsDarkMode:      true,
		BackgroundColor: draw.ColorFromHex("#0d1117"), TextColor: draw.ColorFromHex("#e6edf3"),
		AxisStrokeColor: draw.ColorFromHex("#6e7681"), AxisSplitLineColor: draw.ColorFromHex("#30363d"),
		SeriesColors: colors("#58a6ff", "#bc8cff", "#ff7b72", "#3fb950", "#d29922", "#8b949e", "#f778ba", "#a5d6ff"),
	},
}

func colors(hex ...string) (c []draw.Color) {
	for _, h := range hex {
		c = append(c, draw.ColorFromHex(h))
	}
	return c
}

// charts writes the charts, and the tables into the document, from the JSON of the
// runs.
func charts(set settings) error {
	load := func(name string, into any) error {
		b, err := os.ReadFile(filepath.Join(set.docs, "bench", name+".json"))
		if err != nil {
			return err
		}
		return json.Unmarshal(b, into)
	}
	var right correctReport
	var spent costReport
	var growth scaleReport
	tables := map[string]interface{ string() string }{}
	for name, into := range map[string]any{"correct": &right, "cost": &spent, "scale": &growth} {
		if err := load(name, into); errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(os.Stderr, "bench: no %s.json, its tables stay as they are\n", name)
			continue
		} else if err != nil {
			return err
		}
		tables[name] = printed{into.(printer)}
	}
	if len(spent.Latency) > 0 {
		if err := drawAll(set.docs, &spent); err != nil {
			return err
		}
	}
	return fill(filepath.Join(set.docs, "benchmarks.md"), tables)
}

type printer interface{ print(io.Writer) }

type printed struct{ p printer }

func (p printed) string() string {
	var b bytes.Buffer
	p.p.print(&b)
	return b.String()
}

// fill replaces what is between <!-- name --> and <!-- /name -->.
func fill(file string, tables map[string]interface{ string() string }) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := string(b)
	for name, t := range tables {
		begin, end := "<!-- "+name+" -->\n", "<!-- /"+name+" -->\n"
		before, rest, found := strings.Cut(text, begin)
		_, after, foundToo := strings.Cut(rest, end)
		if !found || !foundToo {
			return fmt.Errorf("%s has no place for %s", file, name)
		}
		text = before + begin + "\n" + strings.TrimSpace(t.string()) + "\n\n" + end + after
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// A bar is one line of a chart.
type bar struct {
	name  string
	value float64
}

func drawAll(docs string, r *costReport) error {
	last := 0
	for _, i := range r.Idle {
		last = max(last, i.N)
	}
	bare := r.over(last)
	var memory, cpu, looks []bar
	for _, i := range r.Idle {
		if i.N != last || i.Err != "" {
			continue
		}
		if i.Lean != leanBare && i.N > 1 {
			memory = append(memory, bar{i.Lean, math.Round((i.Heap - bare.Heap))})
		}
		cpu = append(cpu, bar{i.Lean, float64(i.CPU) / 1e6 / i.For.Seconds()})
	}
	slow := ""
	for _, p := range r.Probes {
		if p.NS > 100e3 {
			slow = fmt.Sprintf("; not shown: %s, %.0f µs", p.Name, p.NS/1e3)
			continue
		}
		looks = append(looks, bar{p.Name, p.NS})
	}
	for name, t := range themes {
		theme := draw.MakeTheme(t)
		for file, render := range map[string]func(*draw.Painter) error{
			"latency": func(p *draw.Painter) error { return latencyChart(p, theme, r.Latency) },
			"memory": func(p *draw.Painter) error {
				return barChart(p, theme, "Memory for each idle connection, above bare", fmt.Sprintf("bytes, heap and stacks, at %d connections", last), memory, "%.0f")
			},
			"idlecpu": func(p *draw.Painter) error {
				return barChart(p, theme, fmt.Sprintf("CPU while %d connections are idle", last), "ms of a processor for each second, in all", cpu, "%.2f")
			},
			"looks": func(p *draw.Painter) error {
				return barChart(p, theme, "One look at a live, idle connection", "ns"+slow, looks, "%.0f")
			},
		} {
			p := draw.NewPainter(draw.PainterOptions{OutputFormat: "svg", Width: 760, Height: 380})
			if err := render(p); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			b, err := p.Bytes()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(filepath.Join(docs, "bench"), 0o755); err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(docs, "bench", file+"-"+name+".svg"), append(b, '\n'), 0o644); err != nil {
				return err
			}
		}
	}
	return nil
}

func barChart(p *draw.Painter, theme draw.ColorPalette, title, subtitle string, bars []bar, format string) error {
	bars = slices.Clone(bars)
	slices.Reverse(bars) // the first is drawn at the bottom
	var values []float64
	var labels []string
	for _, b := range bars {
		// The reader's font may be wider than the one that is measured here.
		values, labels = append(values, max(b.value, 0)), append(labels, b.name+strings.Repeat("\u00a0", 2+len(b.name)/6))
	}
	opt := draw.NewBarChartOptionWithData([][]float64{values})
	opt.Horizontal = true
	opt.Theme = theme
	opt.Title = draw.TitleOption{Text: title, Subtext: subtitle, SubtextFontStyle: draw.NewFontStyleWithSize(11)}
	opt.CategoryAxis.Labels = labels
	opt.CategoryAxis.LabelCount = len(labels)
	opt.ValueAxis = []draw.ValueAxisOption{{Min: draw.Ptr(0.0), LabelCount: 6}}
	opt.Legend.Show = draw.Ptr(false)
	shown := func(v float64) string { return fmt.Sprintf(format, v) }
	opt.ValueFormatter = shown
	for i := range opt.SeriesList {
		opt.SeriesList[i].Label.Show = draw.Ptr(true)
		opt.SeriesList[i].Label.ValueFormatter = shown
	}
	opt.Padding = draw.Box{Top: 16, Left: 16, Right: 48, Bottom: 16}
	return p.BarChart(opt)
}

// latencyChart draws the distributions on a logarithmic axis.
func latencyChart(p *draw.Painter, theme draw.ColorPalette, results []latencyResult) error {
	var values [][]float64
	var names, labels []string
	for _, r := range results {
		if r.Name == leanTimers {
			continue
		}
		var line []float64
		for _, q := range r.Quantiles[:100] {
			line = append(line, math.Log10(max(float64(q)/1e3, 1)))
		}
		values, names = append(values, line), append(names, r.Name)
	}
	for i := range 100 {
		labels = append(labels, fmt.Sprint(i))
	}
	opt := draw.NewLineChartOptionWithData(values)
	opt.Theme = theme
	opt.Title = draw.TitleOption{Text: "From the peer's close() to the callback", Subtext: "by percentile; connstate looks every 10 ms", SubtextFontStyle: draw.NewFontStyleWithSize(11)}
	opt.XAxis.Labels = labels
	opt.XAxis.LabelCount = 11
	opt.XAxis.BoundaryGap = draw.Ptr(false)
	opt.YAxis = []draw.ValueAxisOption{{Min: draw.Ptr(0.0), Max: draw.Ptr(5.0), LabelCount: 6, RangeValuePaddingScale: draw.Ptr(0.0), ValueFormatter: func(v float64) string {
		us := math.Pow(10, v)
		if us >= 1000 {
			return fmt.Sprintf("%.0f ms", us/1000)
		}
		return fmt.Sprintf("%.0f µs", us)
	}}}
	opt.Legend.SeriesNames = names
	opt.Legend.Offset = draw.OffsetStr{Left: draw.PositionCenter, Top: draw.PositionBottom}
	opt.Legend.FontStyle = draw.NewFontStyleWithSize(11)
	opt.Symbol = draw.Symbol{Shape: draw.SymbolNone}
	opt.LineStrokeWidth = 2
	opt.Padding = draw.Box{Top: 16, Left: 16, Right: 16, Bottom: 16}
	return p.LineChart(opt)
}
