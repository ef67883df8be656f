package gandi

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"strconv"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"github.com/reeve-paas/reeve/coordinator/core"
)

// A picture is 640 × 300 pixels of 1/96 inch; drawing is in points of 1/72 inch, from the lower left corner.
const (
	pictureWidth  = 640 * vg.Inch / 96
	pictureHeight = 300 * vg.Inch / 96
	pictureDPI    = 96

	margin = 9 * vg.Length(1)
	header = 24 * vg.Length(1)
	footer = 20 * vg.Length(1)
)

var (
	ink       = color.NRGBA{0x24, 0x29, 0x2f, 0xff}
	faintInk  = color.NRGBA{0x65, 0x6d, 0x76, 0xff}
	gridInk   = color.NRGBA{0xe3, 0xe6, 0xea, 0xff}
	seriesInk = []color.NRGBA{{0x2d, 0xa4, 0x4e, 0xff}, {0x09, 0x69, 0xda, 0xff}}
)

func drawSVG(one *graph, u core.Usage) ([]byte, error) {
	c := vgsvg.New(pictureWidth, pictureHeight)
	drawGraph(draw.New(c), one, u)
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("write the SVG: %w", err)
	}
	// Hardly anybody has the font the text was measured with; the first two of these have the same widths.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

func drawPNG(one *graph, u core.Usage) ([]byte, error) {
	c := vgimg.NewWith(vgimg.UseWH(pictureWidth, pictureHeight), vgimg.UseDPI(pictureDPI))
	drawGraph(draw.New(c), one, u)
	var b bytes.Buffer
	if _, err := (vgimg.PngCanvas{Canvas: c}).WriteTo(&b); err != nil {
		return nil, fmt.Errorf("write the PNG: %w", err)
	}
	return b.Bytes(), nil
}

// drawGraph draws title, axes, lines and a legend with numbers.
func drawGraph(c draw.Canvas, one *graph, u core.Usage) {
	shown := one.shown(u)
	p := newPlot()
	p.X.Min, p.X.Max = float64(u.From.Unix()), float64(u.From.Add(one.span.span).Unix())
	p.X.Tick.Marker = timeTicks(one.span.span)
	unit := core.UnitRate
	if len(shown) > 0 {
		unit = shown[0].Unit
	}
	p.Y.Min, p.Y.Max, p.Y.Tick.Marker = valueAxis(unit, u.CPUs, highest(shown))
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = gridInk, gridInk
	p.Add(grid)
	empty := true
	for i, s := range shown {
		for _, part := range parts(u, s.Values, one.now) {
			p.Add(lineOf(part, seriesInk[i], i == 0))
			empty = false
		}
	}
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	area := draw.Crop(c, margin, -margin*2, footer, -header)
	p.Draw(area)
	heading(c, one, u)
	if empty {
		label(c, vg.Point{X: c.Center().X, Y: c.Center().Y}, "no data", 14, faintInk, draw.XCenter)
		return
	}
	legend(c, shown)
}

// shown are the series of the picture. One that is always nothing, as steal mostly is, is left out after the first.
func (one *graph) shown(u core.Usage) []core.Series {
	var shown []core.Series
	for _, s := range u.Series {
		for i, want := range one.kind.shown {
			if s.Label == want && (i == 0 || one.kind.metric != core.MetricCPU || highest([]core.Series{s}) > 0) {
				shown = append(shown, s)
				break
			}
		}
	}
	return shown
}

func newPlot() *plot.Plot {
	p := plot.New()
	for _, a := range []*plot.Axis{&p.X, &p.Y} {
		a.Padding = 0
		a.Color = faintInk
		a.Tick.Length = 3
		a.Tick.Color = faintInk
		a.Tick.Label.Font = sans(8)
		a.Tick.Label.Color = ink
	}
	return p
}

func sans(size float64) font.Font {
	return font.Font{Typeface: "Liberation", Variant: "Sans", Size: font.Length(size)}
}

func label(c draw.Canvas, at vg.Point, words string, size float64, ink color.Color, align draw.XAlignment) vg.Length {
	style := text.Style{Color: ink, Font: sans(size), XAlign: align, Handler: plot.DefaultTextHandler}
	c.FillText(style, at, words)
	return style.Width(words)
}

// heading says what the picture shows and when.
func heading(c draw.Canvas, one *graph, u core.Usage) {
	y := c.Max.Y - 15
	x := c.Min.X + margin
	x += label(c, vg.Point{X: x, Y: y}, one.title(), 10, ink, draw.XLeft) + 8
	if one.kind.metric == core.MetricDisk {
		used, total := fill(u)
		if total > 0 {
			label(c, vg.Point{X: x, Y: y}, "data: "+amount(used, core.UnitBytes)+" of "+amount(total, core.UnitBytes)+" used", 8, faintInk, draw.XLeft)
		}
	}
	number, unit := one.span.name[:len(one.span.name)-1], one.span.name[len(one.span.name)-1:]
	label(c, vg.Point{X: c.Max.X - margin, Y: y}, "last "+number+" "+unit+" until "+one.now.Format("2006-01-02 15:04")+" UTC", 8, faintInk, draw.XRight)
}

// fill is how full the data volume was last seen; 0 when nobody knows.
func fill(u core.Usage) (used, total float64) {
	for _, s := range u.Series {
		if s.Unit != core.UnitBytes {
			continue
		}
		switch last, _, _ := summary(s.Values); s.Label {
		case "used":
			used = last
		case "total":
			total = last
		}
	}
	return used, total
}

// legend names the lines, with their last, mean and highest values.
func legend(c draw.Canvas, shown []core.Series) {
	x, y := c.Min.X+margin, c.Min.Y+7
	for i, s := range shown {
		c.SetColor(seriesInk[i])
		c.Fill(vg.Rectangle{Min: vg.Point{X: x, Y: y - 0.5}, Max: vg.Point{X: x + 7, Y: y + 6.5}}.Path())
		last, mean, top := summary(s.Values)
		words := fmt.Sprintf("%s  now %s, mean %s, max %s", s.Label, amount(last, s.Unit), amount(mean, s.Unit), amount(top, s.Unit))
		x += 10 + label(c, vg.Point{X: x + 10, Y: y}, words, 8, ink, draw.XLeft) + 14
	}
}

// summary ignores what is missing. The last value is the newest one there is.
func summary(values []float64) (last, mean, top float64) {
	n := 0
	for _, v := range values {
		if !math.IsNaN(v) {
			last, mean, top = v, mean+v, max(top, v)
			n++
		}
	}
	return last, mean / float64(max(n, 1)), top
}

func highest(series []core.Series) float64 {
	top := 0.0
	for _, s := range series {
		_, _, t := summary(s.Values)
		top = max(top, t)
	}
	return top
}

// parts are the pieces of a line without a gap. Each value is a point in the middle of its step; the first and the last
// are drawn out to the edges, so that a value that stands alone is seen.
func parts(u core.Usage, values []float64, now time.Time) []plotter.XYs {
	var all []plotter.XYs
	step, from, end := u.Step.Seconds(), float64(u.From.Unix()), float64(now.Unix())
	for i := 0; i < len(values); {
		if math.IsNaN(values[i]) {
			i++
			continue
		}
		at := from + float64(i)*step
		part := plotter.XYs{{X: at, Y: values[i]}}
		for ; i < len(values) && !math.IsNaN(values[i]); i++ {
			at = from + float64(i)*step
			part = append(part, plotter.XY{X: min(at+step/2, end), Y: values[i]})
		}
		all = append(all, append(part, plotter.XY{X: min(at+step, end), Y: values[i-1]}))
	}
	return all
}

func lineOf(part plotter.XYs, ink color.NRGBA, fill bool) *plotter.Line {
	l := &plotter.Line{XYs: part, LineStyle: draw.LineStyle{Color: ink, Width: 1}}
	if fill {
		ink.A = 0x40
		l.FillColor = ink
	}
	return l
}

// ticks are marks that were worked out before.
type ticks func(lo, hi float64) []plot.Tick

func (t ticks) Ticks(lo, hi float64) []plot.Tick { return t(lo, hi) }

// valueAxis starts at 0 and ends at a round number above the data: for CPUs at all of them, for rates never below 1 kB/s.
func valueAxis(unit string, cpus int64, top float64) (lo, hi float64, marks plot.Ticker) {
	step, least := 250.0, 1000.0
	if unit == core.UnitPercent {
		least = 100 * float64(max(cpus, 1))
		step = least / 4
	}
	if top > least {
		step = roundStep(top / 4)
		least = math.Ceil(top/step) * step
	}
	hi = least
	return 0, hi, ticks(func(lo, hi float64) []plot.Tick {
		var marks []plot.Tick
		for v := 0.0; v <= hi+step/2; v += step {
			marks = append(marks, plot.Tick{Value: v, Label: amount(v, unit)})
		}
		return marks
	})
}

// roundStep is the smallest of 1, 2, 2.5 and 5 times a power of ten that is not below v.
func roundStep(v float64) float64 {
	if v <= 0 {
		return 0
	}
	power := math.Pow(10, math.Floor(math.Log10(v)))
	for _, n := range []float64{1, 2, 2.5, 5} {
		if n*power >= v {
			return n * power
		}
	}
	return 10 * power
}

// amount writes a value for people, with three digits at most: "12.5 %", "1.25 MB/s", "0".
func amount(v float64, unit string) string {
	if v == 0 {
		return "0"
	}
	prefix := ""
	if unit != core.UnitPercent {
		for _, p := range []string{"k", "M", "G", "T", "P"} {
			if v < 999.5 {
				break
			}
			v, prefix = v/1000, p
		}
	}
	digits := 0
	switch {
	case v < 9.995:
		digits = 2
	case v < 99.95:
		digits = 1
	}
	number := strconv.FormatFloat(v, 'f', digits, 64)
	if digits > 0 {
		number = trimZeros(number)
	}
	return number + " " + prefix + unit
}

func trimZeros(number string) string {
	for number[len(number)-1] == '0' {
		number = number[:len(number)-1]
	}
	if number[len(number)-1] == '.' {
		number = number[:len(number)-1]
	}
	return number
}

// timeTicks marks round times of day in UTC, or days.
func timeTicks(span time.Duration) plot.Ticker {
	every, layout := 24*time.Hour, "Jan 2"
	minor := 6 * time.Hour
	switch {
	case span <= time.Hour:
		every, minor, layout = 10*time.Minute, 5*time.Minute, "15:04"
	case span <= 24*time.Hour:
		every, minor, layout = 3*time.Hour, time.Hour, "15:04"
	case span > 7*24*time.Hour:
		every, minor = 5*24*time.Hour, 24*time.Hour
	}
	return ticks(func(lo, hi float64) []plot.Tick {
		var marks []plot.Tick
		end := time.Unix(int64(hi), 0).UTC()
		for t := time.Unix(int64(lo), 0).UTC().Truncate(minor).Add(minor); !t.After(end); t = t.Add(minor) {
			tick := plot.Tick{Value: float64(t.Unix())}
			if t.Equal(t.Truncate(every)) {
				tick.Label = t.Format(layout)
				if every < 24*time.Hour && t.Hour() == 0 && t.Minute() == 0 {
					tick.Label = t.Format("Jan 2")
				}
			}
			marks = append(marks, tick)
		}
		return marks
	})
}
