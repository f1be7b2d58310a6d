package plan

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode/internal/spec"
)

// change is one input with another value.
type change struct {
	field, now, value string
	far               float64 // how far the value is from what was said, as a logarithm
	apply             func(*spec.Data)
}

// wordChange is how far apart two words are, in the measure of the ratios: a factor of ten.
const wordChange = math.Ln10

// sensitive finds the one or two inputs that the answer hangs on most: it asks
// again with each input changed, the nearest values first. What was assumed comes
// before what was said.
func (w *world) sensitive(v *verdict) []Sensitivity {
	type found struct {
		Sensitivity

		assumed bool
		far     float64
	}
	var all []found
	seen := map[string]bool{}
	changes := w.changes(v.q)
	slices.SortStableFunc(changes, func(a, b change) int { return cmp.Compare(a.far, b.far) })
	for _, c := range changes {
		if seen[c.field] {
			continue
		}
		d := *v.q.data
		c.apply(&d)
		other := w.decide(w.wish(&d))
		o := other.chosen
		if o == nil || o.strategy == v.chosen.strategy && o.mode == v.chosen.mode || len(o.misses) > 0 && len(v.chosen.misses) == 0 {
			continue
		}
		seen[c.field] = true
		s := Sensitivity{Input: c.field, Now: c.now, If: c.value, Then: o.strategy, Month: o.cost.Month}
		if o.strategy == ActiveActive {
			s.Writes = o.mode
		}
		all = append(all, found{s, s.Now == notSaid, c.far})
	}
	slices.SortStableFunc(all, func(a, b found) int {
		if a.assumed != b.assumed {
			if a.assumed {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.far, b.far)
	})
	out := []Sensitivity{}
	for _, f := range all[:min(2, len(all))] {
		out = append(out, f.Sensitivity)
	}
	return out
}

const notSaid = "not said"

// changes lists the values that are tried in place of what was said.
func (w *world) changes(q *wish) []change {
	var out []change
	const second, hour = time.Second, time.Hour
	times := func(field string, is *spec.Duration, def, least time.Duration, values []time.Duration, set func(*spec.Data, *spec.Duration)) {
		now, text := def, notSaid
		if is != nil {
			now, text = time.Duration(*is), span(time.Duration(*is))
		}
		for _, v := range values {
			if is == nil || v != now {
				far := math.Abs(math.Log(float64(max(v, least)) / float64(max(now, least))))
				d := spec.Duration(v)
				out = append(out, change{field, text, span(v), far, func(e *spec.Data) { set(e, &d) }})
			}
		}
	}
	d := q.data
	times("rto", d.RTO, q.rto, second, []time.Duration{0, 5 * second, 2 * time.Minute, 30 * time.Minute, 4 * hour, 24 * hour, 72 * hour},
		func(e *spec.Data, t *spec.Duration) { e.RTO = t })
	times("rpo", d.RPO, q.rpo, second, []time.Duration{0, 5 * second, 5 * time.Minute, hour, 24 * hour}, func(e *spec.Data, t *spec.Duration) { e.RPO = t })
	budgets := []time.Duration{10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond}
	times("reads.p99", d.Reads.P99, second, time.Millisecond, budgets, func(e *spec.Data, t *spec.Duration) { e.Reads.P99 = t })
	times("writes.p99", d.Writes.P99, second, time.Millisecond, budgets, func(e *spec.Data, t *spec.Duration) { e.Writes.P99 = t })
	times("staleness", d.Staleness, q.staleness, time.Millisecond, []time.Duration{0, second, time.Minute}, func(e *spec.Data, t *spec.Duration) { e.Staleness = t })
	out = append(out, numberChanges(q)...)
	out = append(out, wordChanges(q)...)
	for i := range out {
		if c := &out[i]; c.field == "survive" && c.now != notSaid {
			c.far *= 2 // it says the same as the question
		}
	}
	return out
}

// numberChanges are those of availability, capacity and volume.
func numberChanges(q *wish) []change {
	var out []change
	d := q.data
	for _, v := range []float64{99, 99.9, 99.95, 99.99} {
		now, text := 99.0, notSaid
		if d.Availability != nil {
			now, text = *d.Availability, percent(*d.Availability)
		}
		if v != now {
			far := math.Abs(math.Log(math.Max(100-v, 1e-6) / math.Max(100-now, 1e-6)))
			out = append(out, change{"availability", text, percent(v), far, func(e *spec.Data) { e.Availability = &v }})
		}
	}
	for _, v := range []float64{50, 100} {
		if d.Capacity != nil && v != 100*q.capacity { // who said nothing has not looked at it
			out = append(out, change{"capacity", number(*d.Capacity) + " %", number(v) + " %", wordChange + math.Abs(math.Log(v/100/q.capacity)), func(e *spec.Data) { e.Capacity = &v }})
		}
	}
	for _, by := range []float64{0.1, 10, 100} {
		text, v := notSaid, by*q.volume
		if d.VolumeGB != nil {
			text = gigabytes(*d.VolumeGB)
		}
		out = append(out, change{"volume_gb", text, gigabytes(v), math.Abs(math.Log(by)), func(e *spec.Data) { e.VolumeGB, e.GrowthGBMonth = &v, nil }})
	}
	return out
}

// wordChanges are those of answers that are words.
func wordChanges(q *wish) []change {
	var out []change
	d := q.data
	add := func(field, said, now string, all []string, set func(*spec.Data, string)) {
		if said == "" {
			said = notSaid
		}
		for _, v := range all {
			if v != now {
				out = append(out, change{field, said, v, wordChange, func(e *spec.Data) { set(e, v) }})
			}
		}
	}
	yes := func(is *bool) string {
		switch {
		case is == nil:
			return ""
		case *is:
			return "yes"
		default:
			return "no"
		}
	}
	truth := func(is bool) string { return yes(&is) }
	flag := func(set func(*spec.Data, *bool)) func(*spec.Data, string) {
		return func(e *spec.Data, v string) { b := v == "yes"; set(e, &b) }
	}
	survive := d.Survive
	if survive == "" && len(d.Why) > 0 {
		survive = q.scope + ", by why"
	}
	add("survive", survive, q.scope, []string{scopeZone, scopeRegion}, func(e *spec.Data, v string) { e.Survive = v })
	add("written_by", d.WrittenBy, q.writtenBy, []string{"owner", "anybody", "one-place"}, func(e *spec.Data, v string) { e.WrittenBy = v })
	add("commute", yes(d.Commute), truth(q.commute), []string{"no", "yes"}, flag(func(e *spec.Data, b *bool) { e.Commute = b }))
	if d.Offline != nil { // who said nothing has no such region
		add("offline", yes(d.Offline), truth(q.offline), []string{"no", "yes"}, flag(func(e *spec.Data, b *bool) { e.Offline = b }))
	}
	holds := "none"
	if len(q.invariants) > 0 {
		holds = "some"
	}
	add("invariants", strings.Join(d.Invariants, ", "), holds, []string{"none", "some"}, func(e *spec.Data, v string) {
		e.Invariants = []string{map[string]string{"none": "none", "some": "other"}[v]}
	})
	if len(d.Stay) > 0 {
		add("stay", strings.Join(d.Stay, ", "), "", []string{"anywhere"}, func(e *spec.Data, _ string) { e.Stay = nil })
	}
	return out
}
