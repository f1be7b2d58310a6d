package plan

import (
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
)

// What a loss is that RPO and RTO are for.
const (
	scopeZone   = "zone"
	scopeRegion = "region"
)

// wish is what is asked of one data set, with what was assumed filled in.
type wish struct {
	name  string
	kind  string
	data  *spec.Data
	table *spec.Table // nil: the spec has none of this name
	scope string

	rpo, rto          time.Duration
	rpoAsked          bool
	availability      float64 // per cent, 0: no demand
	capacity          float64 // of one region, 1 is the whole load
	readRate          float64
	writeRate         float64
	readP99, writeP99 time.Duration // 0: no budget
	readers, writers  []group
	staleness         time.Duration
	itemBytes         float64
	volume            float64 // GB, in a year
	writtenBy         string
	commute, offline  bool
	invariants        []string
	stay              []string
	onCall            string
	events, outage    float64 // a year, minutes each
	shared            float64 // 1 is always
	assumed           []Assume
}

func (q *wish) assume(field, assumed, because string) {
	q.assumed = append(q.assumed, Assume{field, assumed, because})
}

// take returns an answer, or notes what is assumed in its place.
func take[T any](q *wish, field string, is *T, def T, text, because string) T {
	if is == nil {
		q.assume(field, text, because)
		return def
	}
	return *is
}

// wish reads the answers of one data set.
func (w *world) wish(d *spec.Data) *wish {
	q := &wish{name: d.Name, kind: d.Kind, data: d, stay: d.Stay}
	if q.kind == "" {
		q.kind = "table"
	}
	if t, ok := w.spec.Table(d.Name); ok && q.kind == "table" {
		q.table = t
	}
	w.reliability(q)
	q.scope = q.scopeOf(d)
	q.rpoAsked = d.RPO != nil
	q.rpo = time.Duration(take(q, "rpo", d.RPO, spec.Duration(askedRPO), "24 h", "a nightly backup keeps it"))
	q.rto = time.Duration(take(q, "rto", d.RTO, spec.Duration(askedRTO), "24 h", "nobody said that it is urgent"))
	q.availability = or(d.Availability, 0)
	q.writtenBy = d.WrittenBy
	if q.writtenBy == "" {
		q.writtenBy = "anybody"
		q.assume("written_by", "anybody", "it asks the most of the data")
	}
	q.commute = take(q, "commute", d.Commute, false, "no", "it asks the most of the data")
	q.invariants = slices.DeleteFunc(slices.Clone(d.Invariants), func(s string) bool { return s == "none" })
	if len(d.Invariants) == 0 {
		q.assume("invariants", "none", "most data has none across records")
	}
	q.offline = take(q, "offline", d.Offline, false, "no", "a region that is cut off is rare")
	q.staleness = time.Duration(take(q, "staleness", d.Staleness, spec.Duration(staleness), "10 s is all right", "most readers don't notice"))
	w.traffic(q, d)
	q.itemBytes = take(q, "item_bytes", d.ItemBytes, itemBytes, "1,000", "a small record")
	q.volume = take(q, "volume_gb", d.VolumeGB, volumeGB, "10", "it matters for the cost and for how long a restore takes") + 12*or(d.GrowthGBMonth, 0)
	q.capacity = take(q, "capacity", d.Capacity, 100, "100 %", "quotas and machines were not looked at") / 100
	if len(d.Stay) == 0 {
		q.assume("stay", "anywhere", "no law was named")
	}
	if d.OutageHour == nil {
		q.assume("outage_hour", "not reckoned with", "then nobody can tell whether it is worth its cost")
	}
	return q
}

// reliability takes over what is the same for all data sets.
func (w *world) reliability(q *wish) {
	n := w.needs
	q.onCall = n.Company.OnCall
	if q.onCall == "" {
		q.onCall = "always"
	}
	q.events = or(n.Region.EventsPerYear, eventsPerYear)
	q.shared = or(n.Region.Shared, 100) / 100
	if down := (1 - or(n.Region.Availability, regionAvailability)/100) * minutesPerYear; q.events > 0 {
		q.outage = down / q.events
	}
}

// oneRegion is the availability of one region, per cent.
func (q *wish) oneRegion() float64 {
	return 100 * q.shared * (1 - q.events*q.outage/minutesPerYear)
}

// scopeOf says which loss the data has to survive.
func (q *wish) scopeOf(d *spec.Data) string {
	urgent := func(t *spec.Duration) bool { return t != nil && time.Duration(*t) < time.Hour }
	switch {
	case d.Survive != "":
		return d.Survive
	case slices.Contains(d.Why, "continuity"):
		return scopeRegion
	case len(d.Why) > 0:
		q.assume("survive", scopeZone, "why does not say continuity")
		return scopeZone
	case urgent(d.RTO), urgent(d.RPO), d.ZoneRTO != nil && d.RTO != nil:
		q.assume("survive", scopeRegion, "rto or rpo is under an hour, or there is one for zones besides")
		return scopeRegion
	case or(d.Availability, 0) > q.oneRegion()+1e-9:
		q.assume("survive", scopeRegion, fmt.Sprintf("one region is available %s of the time", percent(q.oneRegion())))
		return scopeRegion
	default:
		q.assume("survive", scopeZone, "nobody said that the loss of a region must be survived in time")
		return scopeZone
	}
}

func (w *world) traffic(q *wish, d *spec.Data) {
	q.readRate = take(q, "reads.per_second", d.Reads.PerSecond, readRate, "100", "ten reads for a write")
	q.writeRate = take(q, "writes.per_second", d.Writes.PerSecond, writeRate, "10", "ten reads for a write")
	if d.Reads.P99 != nil {
		q.readP99 = time.Duration(*d.Reads.P99)
	} else {
		q.assume("reads.p99", "no budget", "nobody said that reads are too slow")
	}
	if d.Writes.P99 != nil {
		q.writeP99 = time.Duration(*d.Writes.P99)
	} else {
		q.assume("writes.p99", "no budget", "nobody said that writes are too slow")
	}
	all := w.groups
	if len(all) == 0 {
		sites, text := w.sites[:1], "near "+w.sites[0].name
		if slices.Contains(d.Why, "latency") {
			sites, text = w.sites, "near each region, as many near each"
		}
		for _, s := range sites {
			all = append(all, group{point{near(s.name), s.place}, 1})
		}
		shares(all)
		q.assume("users", text, "no groups were named")
	}
	q.readers, q.writers = from(all, d.Reads.From), from(all, d.Writes.From)
}

// near names the users that are assumed to be near a region.
func near(region string) string { return "users near " + region }

// from gives groups other shares.
func from(all []group, list []spec.Share) []group {
	if len(list) == 0 {
		return all
	}
	out := make([]group, 0, len(list))
	for _, f := range list {
		if i := slices.IndexFunc(all, func(g group) bool { return g.name == f.Users }); i >= 0 {
			out = append(out, group{all[i].point, f.Share})
		}
	}
	shares(out)
	return out
}

// answered reports whether an entry is a question: one about a table that holds
// just what plan wrote itself is none.
func (w *world) answered(d *spec.Data) bool {
	if _, ok := w.spec.Table(d.Name); !ok || d.Strategy == "" {
		return true
	}
	rest := *d
	rest.Name, rest.Kind, rest.Backup, rest.Logs, rest.Strategy = "", "", nil, nil, ""
	return !reflect.DeepEqual(rest, spec.Data{})
}

// placeOf finds where a word of backup or logs is: a region of the spec or a cloud region.
func (w *world) placeOf(name string) point {
	if r, ok := w.spec.Region(antipode.Region(name)); ok {
		return point{name, r.Location.Place()}
	}
	for _, p := range w.catalog {
		if p.Code == name {
			return point{name, p}
		}
	}
	return point{name: name}
}
