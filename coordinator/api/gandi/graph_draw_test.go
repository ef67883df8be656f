package gandi

import (
	"bytes"
	"encoding/xml"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/reeve-paas/reeve/coordinator/core"
)

var drawNow = time.Date(2026, 11, 20, 17, 22, 40, 0, time.UTC)

// drawn is a graph of made-up values with a gap; a nil value function means no data at all.
func drawn(kind, span int, cpus int64, value func(series, i int) float64) (*graph, core.Usage) {
	one := &graph{kind: graphKinds[kind], span: graphRanges[span], node: core.Node{ID: "n", Num: 12}, now: drawNow, token: "token"}
	step := one.span.picture
	to := drawNow.Truncate(step).Add(step)
	u := core.Usage{From: to.Add(-one.span.span), Step: step, CPUs: cpus}
	unit := core.UnitRate
	if one.kind.metric == core.MetricCPU {
		unit = core.UnitPercent
	}
	for n, name := range one.kind.shown {
		s := core.Series{Label: name, Unit: unit, Values: make([]float64, one.span.span/step)}
		for i := range s.Values {
			s.Values[i] = math.NaN()
			if f := float64(i) / float64(len(s.Values)); value != nil && i < len(s.Values)-1 && (f < 0.4 || f > 0.47) {
				s.Values[i] = value(n, i)
			}
		}
		u.Series = append(u.Series, s)
	}
	if one.kind.metric == core.MetricDisk && value != nil {
		u.Series = append(u.Series, core.Series{Label: "used", Unit: core.UnitBytes, Values: []float64{1.234e9}},
			core.Series{Label: "total", Unit: core.UnitBytes, Values: []float64{10.5e9}})
	}
	return one, u
}

var drawings = map[string]func() (*graph, core.Usage){
	"cpu-24h": func() (*graph, core.Usage) {
		return drawn(0, 1, 1, func(s, i int) float64 {
			if s == 1 {
				return max(0, 8*math.Sin(float64(i)/9))
			}
			return 50 + 45*math.Sin(float64(i)/23)*math.Cos(float64(i)/3)
		})
	},
	"cpu-1h-2": func() (*graph, core.Usage) {
		return drawn(0, 0, 2, func(s, i int) float64 { return float64(1-s) * (20 + 170*float64(i)/60) })
	},
	"cpu-30d-8": func() (*graph, core.Usage) {
		return drawn(0, 3, 8, func(s, i int) float64 { return float64(1-s) * (300 + 200*math.Sin(float64(i)/12)) })
	},
	"disk-7d": func() (*graph, core.Usage) {
		return drawn(1, 2, 1, func(s, i int) float64 { return 3e6*math.Abs(math.Sin(float64(i)/20)) + float64(s)*2e6 })
	},
	"disk-1h-huge": func() (*graph, core.Usage) {
		return drawn(1, 0, 1, func(s, i int) float64 { return 123456789012 + float64(s*i)*1e9 })
	},
	"net-24h-idle": func() (*graph, core.Usage) {
		return drawn(2, 1, 1, func(s, i int) float64 { return 40 + 10*float64(s) })
	},
	"net-1h": func() (*graph, core.Usage) {
		return drawn(2, 0, 1, func(s, i int) float64 { return float64((i*7919)%1000) * 700 })
	},
	"none-24h": func() (*graph, core.Usage) { return drawn(0, 1, core.Unknown, nil) },
	"none-7d":  func() (*graph, core.Usage) { return drawn(1, 2, core.Unknown, nil) },
}

// TestPictures also keeps the pictures for people to look at: REEVE_GRAPH_DIR=/tmp/graphs go test -run TestPictures.
func TestPictures(t *testing.T) {
	keep := os.Getenv("REEVE_GRAPH_DIR")
	var wg sync.WaitGroup // all at once: handlers draw at the same time
	for name, make := range drawings {
		wg.Go(func() {
			one, u := make()
			svg, err := drawSVG(one, u)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			pic, err := drawPNG(one, u)
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if keep != "" {
				if err := os.WriteFile(filepath.Join(keep, name+".svg"), svg, 0o644); err != nil {
					t.Error(err)
				}
				if err := os.WriteFile(filepath.Join(keep, name+".png"), pic, 0o644); err != nil {
					t.Error(err)
				}
			}
			img, err := png.Decode(bytes.NewReader(pic))
			if err != nil {
				t.Errorf("%s: %v", name, err)
			} else if size := img.Bounds().Size(); size.X != 640 || size.Y != 300 {
				t.Errorf("%s: got %v pixels, want 640 × 300", name, size)
			}
			words, err := textOf(svg)
			if err != nil {
				t.Errorf("%s: the SVG is no XML: %v", name, err)
			}
			if !strings.Contains(words, one.title()) || !strings.Contains(words, "2026-11-20 17:22 UTC") {
				t.Errorf("%s: got the words %q, want the title and the time", name, words)
			}
			if got, want := strings.Contains(words, "no data"), strings.HasPrefix(name, "none"); got != want {
				t.Errorf("%s: says \"no data\" is %t, want %t", name, got, want)
			}
		})
	}
	wg.Wait()
}

// textOf is what can be read in an SVG.
func textOf(svg []byte) (string, error) {
	var words strings.Builder
	d := xml.NewDecoder(bytes.NewReader(svg))
	for {
		token, err := d.Token()
		if err == io.EOF {
			return words.String(), nil
		}
		if err != nil {
			return "", err
		}
		if c, ok := token.(xml.CharData); ok {
			words.WriteString(strings.TrimSpace(string(c)) + "\n")
		}
	}
}
