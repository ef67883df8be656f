package gandi

import (
	"context"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/reeve-paas/reeve/coordinator/api/gandi/xmlrpc"
	"github.com/reeve-paas/reeve/coordinator/core"
)

// Limits of one hosting.metric.query.
const (
	maxMetricPoints = 5000 // of all instances together
	maxMetricIDs    = 100
)

// usageCore is what hosting.metric.query asks of the rules; *core.Core has it. Without it there are no series.
type usageCore interface {
	Usage(ctx context.Context, id core.NodeID, m core.Metric, from, to time.Time, step time.Duration) (core.Usage, error)
}

// metricSeries is one series of an answer: the values of a line, told apart from others by a label.
type metricSeries struct {
	label, value string
	line, unit   string
	minus        string // line that is taken off
}

// metricQueries are the queries that have samples behind them (spec 2.10). Any other has no series, which is valid.
var metricQueries = map[string]struct {
	metric core.Metric
	series []metricSeries
}{
	"vfs.df.bytes.all": {core.MetricDisk, []metricSeries{{"size", "free", "total", core.UnitBytes, "used"}, {"size", "used", "used", core.UnitBytes, ""}}},
	"vbd.bytes.all":    {core.MetricDisk, []metricSeries{{"direction", "read", "read", core.UnitRate, ""}, {"direction", "write", "written", core.UnitRate, ""}}},
	"vif.bytes.all":    {core.MetricNet, []metricSeries{{"direction", "in", "in", core.UnitRate, ""}, {"direction", "out", "out", core.UnitRate, ""}}},
	"vcpu.usage.all":   {core.MetricCPU, []metricSeries{{"", "", "total", core.UnitPercent, ""}}},
}

// metricRequest is what hosting.metric.query was asked for.
type metricRequest struct {
	query    string
	resource string // its type
	ids      []int64
	from, to time.Time
	step     time.Duration
	fold     func([]float64) float64
}

// metricQuery answers with one array of series. Every point is the start of its step; one without a value has no samples.
func (c *call) metricQuery() error {
	v, err := c.argStruct(0)
	if err != nil {
		return err
	}
	q, err := readMetricRequest(v)
	if err != nil {
		return err
	}
	usage, can := c.d.opts.Core.(usageCore)
	known, ok := metricQueries[q.query]
	c.out.BeginArray()
	if can && ok && q.resource == paasProduct {
		for _, id := range q.ids {
			app, err := c.app(id)
			if err != nil {
				return err
			}
			for _, s := range known.series {
				values, err := c.metricValues(usage, app.Nodes, known.metric, s, q)
				if err != nil {
					return err
				}
				c.writeMetric(q, id, s, values)
			}
		}
	}
	c.out.EndArray()
	return nil
}

// fine is the length of the steps that samples are read in before they are folded into those asked for.
func (q *metricRequest) fine() time.Duration {
	fine := core.SampleStep
	if q.from.Before(time.Now().Add(-core.FineSamples)) {
		fine = core.CoarseStep
	}
	if q.step < fine || q.step%fine != 0 {
		return q.step
	}
	return fine
}

// metricValues adds up one line over all nodes of an instance.
func (c *call) metricValues(usage usageCore, nodes []core.Node, m core.Metric, s metricSeries, q *metricRequest) ([]float64, error) {
	fine := q.fine()
	per := int(q.step / fine)
	sums := make([]float64, int(q.to.Sub(q.from)/q.step))
	for i := range sums {
		sums[i] = math.NaN()
	}
	for _, n := range nodes {
		u, err := usage.Usage(c.ctx, n.ID, m, q.from, q.to, fine)
		if err != nil {
			return nil, err
		}
		values := lineValues(u, s.line, s.unit)
		if less := lineValues(u, s.minus, s.unit); less != nil {
			for i := range values {
				values[i] -= less[i]
			}
		}
		for i := range sums {
			part := slices.DeleteFunc(slices.Clone(values[i*per:(i+1)*per]), math.IsNaN)
			if len(part) == 0 {
				continue
			}
			if math.IsNaN(sums[i]) {
				sums[i] = 0
			}
			sums[i] += q.fold(part)
		}
	}
	return sums, nil
}

// lineValues are those of one line of a usage; nil when there is no such line.
func lineValues(u core.Usage, label, unit string) []float64 {
	for _, s := range u.Series {
		if s.Label == label && s.Unit == unit {
			return s.Values
		}
	}
	return nil
}

var (
	fieldMetric       = xmlrpc.NewField("metric")
	fieldMetricTime   = xmlrpc.NewField("timestamp")
	fieldMetricValue  = xmlrpc.NewField("value")
	fieldPoints       = xmlrpc.NewField("points")
	fieldResourceType = xmlrpc.NewField("resource_type")
	metricLabels      = map[string]*xmlrpc.Field{"size": &fieldSize, "direction": new(xmlrpc.NewField("direction"))}
)

func (c *call) writeMetric(q *metricRequest, id int64, s metricSeries, values []float64) {
	out := c.out
	out.BeginStruct()
	fieldMetric.String(out, strings.TrimSuffix(q.query, ".all"))
	fieldResourceID.Int(out, id)
	fieldResourceType.String(out, "paas")
	if label := metricLabels[s.label]; label != nil {
		label.Begin(out)
		out.BeginArray()
		out.String(s.value)
		out.EndArray()
		out.EndMember()
	}
	fieldPoints.Begin(out)
	out.BeginArray()
	for i, v := range values {
		out.BeginStruct()
		fieldMetricTime.String(out, q.from.Add(time.Duration(i)*q.step).Format("2006-01-02T15:04:05"))
		if !math.IsNaN(v) {
			fieldMetricValue.Double(out, v)
		}
		out.EndStruct()
	}
	out.EndArray()
	out.EndMember()
	out.EndStruct()
}

var metricUnits = map[string]time.Duration{"minutes": time.Minute, "hours": time.Hour, "days": 24 * time.Hour}

var metricFolds = map[string]func([]float64) float64{
	"max": slices.Max[[]float64],
	"min": slices.Min[[]float64],
	"sum": func(v []float64) (sum float64) {
		for _, x := range v {
			sum += x
		}
		return sum
	},
	"avg": func(v []float64) (mean float64) {
		for _, x := range v {
			mean += x / float64(len(v))
		}
		return mean
	},
}

// readMetricRequest reads the struct of a query. Without a sampler it is the mean of every five minutes.
func readMetricRequest(v xmlrpc.Value) (*metricRequest, error) {
	q := &metricRequest{step: 5 * time.Minute, fold: metricFolds["avg"]}
	err := readMembers(v, []string{"query", "start", "end", "resource_id", "resource_type"}, func(name string, v xmlrpc.Value) (bool, error) {
		var err error
		switch name {
		case "query":
			q.query, err = textMember(name, v)
		case "resource_type":
			q.resource, err = textMember(name, v)
		case "start":
			q.from, err = timeMember(name, v)
		case "end":
			q.to, err = timeMember(name, v)
		case "resource_id":
			err = q.readIDs(v)
		case "sampler":
			err = q.readSampler(v)
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return nil, err
	}
	q.from = q.from.Truncate(q.step)
	q.to = q.to.Add(q.step - 1).Truncate(q.step)
	if !q.to.After(q.from) {
		return nil, faultf(badParameter, "end must come after start")
	}
	if n := int64(q.to.Sub(q.from)/q.fine()) * int64(max(len(q.ids), 1)); n > maxMetricPoints {
		return nil, faultf(badParameter, "the query looks at %d steps, more than %d: ask for a shorter time or fewer instances", n, maxMetricPoints)
	}
	return q, nil
}

func (q *metricRequest) readIDs(v xmlrpc.Value) error {
	items, ok := v.AsList()
	if !ok {
		return faultf(notList, "resource_id must be a list of integers, not %s", v.What())
	}
	if len(items) > maxMetricIDs {
		return faultf(badParameter, "resource_id has more than %d ids", maxMetricIDs)
	}
	for _, item := range items {
		id, ok := item.AsInt()
		if !ok {
			return faultf(notInteger, "resource_id must be a list of integers, not of %s", item.Kind)
		}
		q.ids = append(q.ids, id)
	}
	return nil
}

func (q *metricRequest) readSampler(v xmlrpc.Value) error {
	sampler, ok := v.AsStruct(true)
	if !ok {
		return faultf(notStruct, "sampler must be a struct, not %s", v.What())
	}
	if len(sampler.Members) == 0 {
		return nil
	}
	var unit, function string
	var n int64
	err := readMembers(sampler, []string{"unit", "value", "function"}, func(name string, v xmlrpc.Value) (bool, error) {
		var err error
		switch name {
		case "unit":
			unit, err = textMember(name, v)
		case "function":
			function, err = textMember(name, v)
		case "value":
			var ok bool
			if n, ok = v.AsInt(); !ok {
				err = faultf(notInteger, "value must be an integer, not %s", v.What())
			}
		default:
			return false, nil
		}
		return true, err
	})
	if err != nil {
		return err
	}
	if n < 1 || n > 1000 || metricUnits[unit] == 0 || metricFolds[function] == nil {
		return faultf(badParameter, "sampler needs a unit (minutes, hours, days), a value from 1 to 1000 and a function (avg, sum, max, min)")
	}
	q.step, q.fold = time.Duration(n)*metricUnits[unit], metricFolds[function]
	return nil
}

// readMembers hands every member of a struct to member, which says whether it knows it. Nil is the same as absent.
func readMembers(v xmlrpc.Value, mandatory []string, member func(name string, v xmlrpc.Value) (known bool, err error)) error {
	for _, m := range v.Members {
		if m.Value.Kind == xmlrpc.Nil {
			continue
		}
		known, err := member(m.Name, m.Value)
		if err != nil {
			return err
		}
		if !known {
			return faultf(unknownKey, "unknown key '%s'", clip(m.Name))
		}
	}
	for _, name := range mandatory {
		if _, ok := v.Member(name); !ok {
			return faultf(missingKey, "missing mandatory key '%s'", name)
		}
	}
	return nil
}

func textMember(name string, v xmlrpc.Value) (string, error) {
	text, ok := v.AsString()
	if !ok {
		return "", faultf(notString, "%s must be a string, not %s", name, v.What())
	}
	return text, nil
}

func timeMember(name string, v xmlrpc.Value) (time.Time, error) {
	t, ok := v.AsTime()
	if !ok {
		return t, faultf(notDate, "%s must be a time like 2026-01-31 23:59:59", name)
	}
	return t, nil
}
