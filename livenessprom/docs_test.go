package livenessprom_test

import (
	"encoding/json"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/go-liveness/liveness"
	"github.com/go-liveness/liveness/livenessprom"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// exported returns the names of all metrics, sorted, with the words of their label.
func exported(t *testing.T) (names []string, words map[string][]string) {
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(livenessprom.NewCollector(livenessprom.WithSample(1))))
	families, err := registry.Gather()
	require.NoError(t, err)
	words = make(map[string][]string)
	for _, f := range families {
		names = append(names, f.GetName())
		for _, m := range f.Metric {
			for _, l := range m.Label {
				words[l.GetName()] = append(words[l.GetName()], l.GetValue())
			}
		}
	}
	return names, words
}

var metricName = regexp.MustCompile(`\bliveness_[a-z_]+`)

func namesIn(text string) []string {
	set := make(map[string]bool)
	for _, name := range metricName.FindAllString(text, -1) {
		set[name] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func TestMetricsPageNamesEveryMetric(t *testing.T) {
	page, err := os.ReadFile("../docs/metrics.md")
	require.NoError(t, err)
	names, words := exported(t)
	assert.Equal(t, names, namesIn(string(page)))
	for _, label := range []string{"reason", "state"} {
		require.NotEmpty(t, words[label])
		assert.Contains(t, string(page), "`"+label+"`")
		for _, word := range words[label] {
			assert.Contains(t, string(page), "`"+word+"`", label)
		}
	}
	assert.Equal(t, 3, strings.Count(string(page), "- alert: "))
}

// A dashboard is what Grafana needs of one.
type dashboard struct {
	Title         string
	UID           string
	SchemaVersion int
	Templating    struct{ List []struct{ Name, Type string } }
	Panels        []struct {
		ID      int
		Title   string
		Type    string
		GridPos struct{ H, W, X, Y int }
		Targets []struct{ RefID, Expr, LegendFormat string }
	}
}

func TestDashboardShowsEveryMetric(t *testing.T) {
	file, err := os.ReadFile("../docs/grafana.json")
	require.NoError(t, err)
	var d dashboard
	require.NoError(t, json.Unmarshal(file, &d))
	assert.NotEmpty(t, d.Title)
	assert.NotEmpty(t, d.UID)
	assert.Positive(t, d.SchemaVersion)
	var exprs []string
	variables := regexp.MustCompile(`\$\{?([a-z]\w*)`)
	ids := make(map[int]bool)
	for _, p := range d.Panels {
		assert.False(t, ids[p.ID], "two panels %d", p.ID)
		ids[p.ID] = true
		assert.LessOrEqual(t, p.GridPos.X+p.GridPos.W, 24, p.Title)
		assert.NotEmpty(t, p.Targets, p.Title)
		for _, target := range p.Targets {
			exprs = append(exprs, target.Expr)
			assert.Equal(t, strings.Count(target.Expr, "("), strings.Count(target.Expr, ")"), target.Expr)
			for _, v := range variables.FindAllStringSubmatch(target.Expr, -1) {
				assert.True(t, slices.ContainsFunc(d.Templating.List, func(l struct{ Name, Type string }) bool {
					return l.Name == v[1]
				}), "no variable %s", v[1])
			}
		}
	}
	names, words := exported(t)
	assert.Equal(t, names, namesIn(strings.Join(exprs, "\n")))
	for _, reason := range []liveness.Reason{liveness.ReasonLost, liveness.ReasonStalled} {
		assert.Contains(t, words["reason"], string(reason)) // the words that an expression selects
	}
}
