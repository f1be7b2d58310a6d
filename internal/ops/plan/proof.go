package plan

import (
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/drill"
	"github.com/antipode-io/antipode/internal/spec"
)

// A drill works on tables of its own, one in each write mode and one with an RPO
// of 0, so its figures are proof for a table of that kind, when it ran on all
// regions that keep the table.

// figures returns what a drill saw of the kind of table that an option makes.
func figures(r *drill.Record, o *option) (drill.Figures, bool) {
	for _, s := range o.sites {
		if !slices.ContainsFunc(r.Sites, func(in drill.SiteRecord) bool { return !in.Witness && in.Name == s.region() }) {
			return drill.Figures{}, false
		}
	}
	i := slices.IndexFunc(r.Figures, func(f drill.Figures) bool {
		return f.Writes == o.mode && (f.RPO != nil && *f.RPO == 0) == o.sync
	})
	if i < 0 || len(o.sites) < 2 {
		return drill.Figures{}, false
	}
	return r.Figures[i], true
}

// failover reports whether a drill was one in which another region has to take over.
func failover(r *drill.Record) bool { return r.Kind.Must == drill.MustFailOver }

// record counts the failovers that were practised with this kind of table: how
// many, how many passed, and how long the latest took; negative: it never took over.
func (w *world) record(q *wish, o *option) (run, passed int, took time.Duration) {
	took = -1
	if q.kind != "table" {
		return 0, 0, took
	}
	for _, r := range w.drills {
		f, ok := figures(r, o)
		if !ok || !failover(r) {
			continue
		}
		run++
		if r.Passed {
			passed++
		}
		if d, ok := recovery(f); ok {
			took = d
		}
	}
	return run, passed, took
}

// noPause is what passes between two writes of a drill's load when nothing is
// wrong, on a busy machine too: a shorter silence is no outage.
const noPause = 500 * time.Millisecond

// recovery is how long it took until the table was written again: where it has
// roles until another region had them, else the longest pause elsewhere.
func recovery(f drill.Figures) (time.Duration, bool) {
	switch {
	case f.Recovery != nil:
		return toDuration(f.Recovery.Total), true
	case f.Writes == antipode.WriteLocal && toDuration(f.Pause) < noPause:
		return 0, true
	case f.Writes == antipode.WriteLocal:
		return toDuration(f.Pause), true
	default:
		return 0, false
	}
}

func toDuration(m drill.Millis) time.Duration {
	return time.Duration(float64(m) * float64(time.Millisecond))
}

// prove fills in what the latest fitting drill says.
func (w *world) prove(q *wish, o *option, rpo, rto *Promise) {
	rpo.State, rto.State = Unproven, Unproven
	if q.kind != "table" || len(o.sites) < 2 {
		return
	}
	for _, r := range slices.Backward(w.drills) {
		f, ok := figures(r, o)
		if !ok || !failover(r) {
			continue
		}
		if rpo.Drill == "" && f.RPOSeen != nil {
			rpo.measured(r, toDuration(*f.RPOSeen), f.Lost > 0)
		}
		if d, ok := recovery(f); rto.Drill == "" {
			rto.measured(r, d, !ok)
			if !ok {
				rto.Measured, rto.Note = nil, "nothing took over in that drill"
			}
		}
	}
	if o.strategy != ActiveActive && rto.State == Proven {
		rto.State = Unproven
		rto.Note = "measured for the data; that the machines start in time has not been practised"
	}
}

func (p *Promise) measured(r *drill.Record, d time.Duration, broken bool) {
	seen, at := spec.Duration(d), r.Started
	p.Measured, p.Drill, p.Date = &seen, r.ID, &at
	p.State = Proven
	if broken || p.Promised != nil && seen > *p.Promised {
		p.State = Broken
	}
}

// drillsFor lists the drills that hold an option to its word.
func (w *world) drillsFor(q *wish, o *option) []Drill {
	restore := Drill{Name: "restore", Shows: "that the backup can be restored, and how long that takes"}
	if len(o.sites) < 2 || q.kind != "table" {
		out := []Drill{restore}
		if len(o.sites) > 1 {
			out = append(out, Drill{Name: "region-loss", Region: o.sites[0].region(), Shows: "that " + string(o.strategy) + " keeps RPO and RTO"})
		}
		return out
	}
	shows := []struct{ name, shows string }{
		{drill.RegionDown, "what is lost and how long it takes when " + o.sites[0].name + " dies"},
		{drill.RegionFrozen, "that a region that hangs, and wakes up, does no harm"},
		{drill.Isolated, "that a region that is cut off stops writing what others have taken over"},
		{drill.LinkCut, "that nothing moves when it need not"},
	}
	if o.mode == antipode.WriteLocal {
		shows = append(shows, struct{ name, shows string }{drill.ClockSkew, "that a wrong clock changes at most which of two versions is seen"})
	}
	var out []Drill
	for _, s := range shows {
		d := Drill{Name: s.name, Region: o.sites[0].region(), Shows: s.shows, Command: "antipode drill run " + s.name + " --region " + o.sites[0].name}
		for _, r := range slices.Backward(w.drills) {
			if _, ok := figures(r, o); ok && r.Kind.Name == s.name {
				at := r.Started
				d.Last, d.Passed = &at, r.Passed
				break
			}
		}
		out = append(out, d)
	}
	if o.strategy != ActiveActive {
		out = append(out, Drill{Name: "standby", Region: o.sites[1].region(), Shows: "that the machines in " + o.sites[1].name + " start and carry the load in time"})
	}
	return append(out, restore)
}
