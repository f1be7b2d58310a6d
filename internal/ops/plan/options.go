package plan

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// option is one way to keep one data set: a strategy, where, and how it is written.
type option struct {
	strategy Strategy
	mode     antipode.WriteMode
	sites    []site // the first one writes, or serves while all is well

	rpo, rto       time.Duration // promised
	bounded        bool          // whether rpo is a bound; else nothing was asked and nothing is bounded
	rpoWhy         func() string
	rtoWhy         string
	sync           bool // a write is answered when another region has it
	byHand         bool // a person has to start it
	lag            time.Duration
	latency        []Latency
	mean           time.Duration // of all traffic
	drilled, today downtime
	cost           Cost
	misses         []miss
	passed         []string // write modes that are simpler, and what they miss
}

// best returns the better of the options there are for a strategy; nil when there
// is nowhere to put it, and then why.
func (w *world) best(q *wish, strategy Strategy) (best *option, why string) {
	sites, why := w.candidates(q, strategy)
	if sites == nil {
		return nil, why
	}
	try := func(mode antipode.WriteMode, sites []site) {
		o := w.option(q, strategy, mode, sites)
		if best == nil || better(o, best) {
			best = o
		}
	}
	switch strategy {
	case SingleRegion, BackupRestore:
		for _, s := range sites {
			try(antipode.WriteGlobal, []site{s})
		}
	case PilotLight, WarmStandby:
		subsets(sites, 2, func(s []site) {
			if len(distinct(s)) == 2 {
				try(antipode.WriteGlobal, s)
				try(antipode.WriteGlobal, []site{s[1], s[0]})
			}
		})
	case ActiveActive:
		best = w.bestActive(q, sites)
	}
	if best == nil {
		return nil, "there are too few regions where it may be"
	}
	best.tell()
	return best, ""
}

// bestActive tries modes by preference, few regions before many, and stops when
// something meets all demands.
func (w *world) bestActive(q *wish, sites []site) *option {
	_, modes := modesFor(q)
	var best *option
	var passed []string
	for _, mode := range modes {
		o := w.bestIn(q, mode, sites)
		if o == nil {
			continue
		}
		if o.passed = passed; best == nil || better(o, best) {
			best = o
		}
		if len(o.misses) == 0 {
			return o
		}
		o.tell()
		passed = append(slices.Clip(passed), fmt.Sprintf("%s is not enough: %s", mode, o.misses[0].text))
	}
	return best
}

// bestIn finds the regions for a write mode.
func (w *world) bestIn(q *wish, mode antipode.WriteMode, sites []site) (best *option) {
	least := regionsFor(q)
	most := max(5, least)
	if len(sites) > 6 {
		most = max(3, least) // the choices are too many
	}
	for n := least; n <= min(len(sites), most) && (best == nil || len(best.misses) > 0); n++ {
		subsets(sites, n, func(s []site) {
			if len(distinct(s)) < least {
				return
			}
			for i := range s {
				o := w.option(q, ActiveActive, mode, slices.Concat(s[i:i+1], s[:i], s[i+1:]))
				if best == nil || better(o, best) {
					best = o
				}
				if mode != antipode.WriteGlobal {
					return // nobody is special
				}
			}
		})
	}
	return best
}

// regionsFor says how many regions serve at the least: when one is lost, the
// others carry all of the load.
func regionsFor(q *wish) int {
	spare := 0.0
	if q.scope == scopeRegion {
		spare = 1
	}
	return int(min(8, max(2, math.Ceil(1/q.capacity-1e-9)+spare)))
}

// subsets calls f with every choice of n, in the order of the list.
func subsets(all []site, n int, f func([]site)) {
	var pick func(from int, picked []site)
	pick = func(from int, picked []site) {
		if len(picked) == n {
			f(picked)
			return
		}
		for i := from; i <= len(all)-(n-len(picked)); i++ {
			pick(i+1, append(slices.Clip(picked), all[i]))
		}
	}
	pick(0, nil)
}

// maxSites bounds how many regions are looked at together: beyond, the choices are too many.
const maxSites = 8

// candidates lists the regions where the data may be, and proposes more where
// those of the spec are too few or too far. Nil: there is no place; why says so.
func (w *world) candidates(q *wish, strategy Strategy) (out []site, why string) {
	for _, s := range w.sites {
		if may(q.stay, s.point) {
			out = append(out, s)
		}
	}
	want := 1
	switch strategy {
	case BackupRestore, PilotLight, WarmStandby:
		want = 2
	case ActiveActive:
		want = regionsFor(q)
	case SingleRegion:
	}
	if len(out) == 0 {
		s, ok := w.propose(q.stay, w.witnesses, w.nearUsers(q))
		if !ok {
			return nil, fmt.Sprintf("no region is known where it may be (stay: %s)", quoted(q.stay))
		}
		out = append(out, s)
	}
	for len(distinct(out)) < want {
		s, ok := w.propose(q.stay, slices.Concat(out, w.witnesses), out[0].point)
		if !ok {
			return nil, fmt.Sprintf("it may be in %s only (%s), and this strategy needs %d regions apart from each other", names(out), stayText(q), want)
		}
		out = append(out, s)
	}
	out = w.nearer(q, out)
	if len(out) > maxSites {
		near := w.nearUsers(q)
		slices.SortStableFunc(out, func(a, b site) int { return cmp.Compare(w.rtt(near, a.point), w.rtt(near, b.point)) })
		out = out[:maxSites]
	}
	return out, ""
}

func stayText(q *wish) string {
	if len(q.stay) == 0 {
		return "it may stay anywhere"
	}
	return "stay: " + quoted(q.stay)
}

// distinct leaves out regions that are beside an earlier one: one disaster takes both.
func distinct(all []site) []site {
	var out []site
	for _, s := range all {
		if !slices.ContainsFunc(out, func(o site) bool { return geo.Distance(o.place, s.place) < apartKM }) {
			out = append(out, s)
		}
	}
	return out
}

// nearer adds the region nearest to each group that none of these serves in time, where it would.
func (w *world) nearer(q *wish, out []site) []site {
	for _, f := range []struct {
		groups []group
		budget time.Duration
	}{{q.readers, q.readP99}, {q.writers, q.writeP99}} {
		for _, g := range f.groups {
			inTime := func(s site) bool { return w.rtt(g.point, s.point) <= f.budget }
			if f.budget == 0 || g.share == 0 || slices.ContainsFunc(out, inTime) || len(out) >= maxSites {
				continue
			}
			if s, ok := w.propose(q.stay, slices.Concat(out, w.witnesses), g.point); ok && inTime(s) {
				out = append(out, s)
			}
		}
	}
	return out
}

// nearUsers is the point of the largest group.
func (w *world) nearUsers(q *wish) point {
	all := slices.Concat(q.readers, q.writers)
	return slices.MaxFunc(all, func(a, b group) int { return cmp.Compare(a.share, b.share) }).point
}

// option works an option out.
func (w *world) option(q *wish, strategy Strategy, mode antipode.WriteMode, sites []site) *option {
	o := &option{strategy: strategy, mode: mode, sites: sites}
	w.promises(q, o)
	w.latencies(q, o)
	o.drilled, o.today = w.downtimes(q, o)
	o.cost = w.cost(q, o)
	for _, d := range demands() {
		if m := d.check(q, o); m != nil {
			m.demand, m.source = d.name, d.source
			o.misses = append(o.misses, *m)
		}
	}
	return o
}

// tell finds the words for what is missed.
func (o *option) tell() {
	for i := range o.misses {
		o.misses[i].words = o.misses[i].say()
	}
}

// better orders options of one data set: the fewest misses, the least far off,
// then what is there already, then few regions, then quick ones.
func better(a, b *option) bool {
	added := func(o *option) (n int) {
		for _, s := range o.sites {
			if s.added {
				n++
			}
		}
		return n
	}
	return cmp.Or(
		cmp.Compare(len(a.misses), len(b.misses)), compareFloats(degrees(a), degrees(b)),
		cmp.Compare(added(a), added(b)), cmp.Compare(len(a.sites), len(b.sites)), cmp.Compare(a.mean, b.mean),
	) < 0
}

// compareFloats calls those equal that only rounding tells apart.
func compareFloats(a, b float64) int {
	if math.Abs(a-b) < 1e-9 {
		return 0
	}
	return cmp.Compare(a, b)
}

// promises sets what the configuration gives: RPO and RTO.
func (w *world) promises(q *wish, o *option) {
	o.lag = w.farthest(o.sites) / 2
	backup := min(max(q.rpo, backupLeast), backupMost)
	o.byHand = o.strategy == BackupRestore || o.strategy == PilotLight
	switch {
	case len(o.sites) > 1:
		w.copies(q, o)
	case q.scope == scopeZone:
		o.bounded, o.rpoWhy = true, func() string { return "zones have every write" }
	case !w.elsewhere(q, o.sites):
		o.rpo = everything
		o.rpoWhy = func() string {
			return "the backup may be in no other place, so a region that does not come back takes it along"
		}
	default:
		o.rpo, o.bounded = backup, true
		o.rpoWhy = func() string {
			return "what was written since the last backup is lost with the region, and backups are " + span(backup) + " apart"
		}
	}
	if q.scope == scopeZone && o.strategy != ActiveActive {
		o.rto, o.rtoWhy, o.byHand = w.zoneRTO(q), "another zone takes over", false
		return
	}
	switch o.strategy {
	case SingleRegion:
		o.rto, o.rtoWhy = unpreparedRTO, "nothing is prepared elsewhere: a region that does not come back is built anew"
	case BackupRestore:
		o.rto = max(restoreRTO, personActs+restoreTime(q))
		o.rtoWhy = fmt.Sprintf("noticing, deciding and restoring %s", gigabytes(q.volume))
	case PilotLight:
		o.rto, o.rtoWhy = pilotRTO, "the machines have to be started"
	case WarmStandby:
		o.rto, o.rtoWhy = warmRTO, "the standby has to grow, and users have to find it"
	case ActiveActive:
		o.rto, o.rtoWhy = w.leaseRTO(), "the lost region's lease has to end before another one may write"
		if o.mode == antipode.WriteLocal {
			o.rto, o.rtoWhy = 0, "every region accepts writes"
		}
	}
}

// leaseRTO is how long after the loss of a region another one writes in its place.
func (w *world) leaseRTO() time.Duration { return time.Duration(w.spec.Lease) + afterLease }

// everything is the RPO of what is lost with its region.
const everything = time.Duration(math.MaxInt64)

// elsewhere reports whether there is another place for a backup.
func (w *world) elsewhere(q *wish, sites []site) bool {
	for _, s := range slices.Concat(w.sites, w.witnesses) {
		if may(q.stay, s.point) && len(distinct(append(slices.Clone(sites), s))) > len(distinct(sites)) {
			return true
		}
	}
	_, ok := w.propose(q.stay, sites, sites[0].point)
	return ok
}

// zoneRTO is how long the loss of a zone takes.
func (w *world) zoneRTO(q *wish) time.Duration {
	if q.kind == "table" {
		return w.leaseRTO()
	}
	return zoneRTO
}

// copies sets the RPO of what is copied all the time.
func (w *world) copies(q *wish, o *option) {
	writers := o.sites
	if o.mode == antipode.WriteGlobal {
		writers = o.sites[:1]
	}
	trip := w.copyTrip(o.sites, writers)
	switch {
	case !q.rpoAsked:
		o.rpoWhy = func() string { return "nothing was asked: it is about the time a copy takes, " + span(trip/2) }
	case q.rpo < 2*trip:
		o.sync, o.bounded = true, true
		o.rpoWhy = func() string {
			return fmt.Sprintf("a write is answered when another region has it, %s later", span(trip))
		}
	default:
		o.rpo, o.bounded = q.rpo, true
		o.rpoWhy = func() string { return "writes are held back while an older one is in no other region" }
	}
}

// copyTrip is the round trip from who writes to the nearest other region, the longest of these.
func (w *world) copyTrip(sites, writers []site) time.Duration {
	var worst time.Duration
	for _, a := range writers {
		best := time.Duration(math.MaxInt64)
		for _, b := range sites {
			if a != b {
				best = min(best, w.rtt(a.point, b.point))
			}
		}
		worst = max(worst, best)
	}
	return worst
}

// farthest is the longest round trip between any two.
func (w *world) farthest(sites []site) (worst time.Duration) {
	for i, a := range sites {
		for _, b := range sites[:i] {
			worst = max(worst, w.rtt(a.point, b.point))
		}
	}
	return worst
}

func restoreTime(q *wish) time.Duration {
	per := float64(restorePerGB)
	if slices.Contains(q.data.Done, "faster-restore") {
		per /= fasterBy
	}
	return restoreBuild + time.Duration(min(per*q.volume, float64(10_000*time.Hour)))
}

// latencies works out what each group of users sees.
func (w *world) latencies(q *wish, o *option) {
	var sum float64
	add := func(p *Path, g group, rate, total float64) {
		sum += rate / total * g.share * float64(p.Estimate)
		p.share = g.share
	}
	rates := q.readRate + q.writeRate
	reads, writes := q.readRate, q.writeRate
	if rates == 0 {
		reads, writes, rates = 1, 1, 2
	}
	for _, g := range q.readers {
		l := w.seenBy(o, g.name)
		l.Read = w.path(w.readPath(q, o, g.point), q.readP99)
		l.Share += reads / rates * g.share
		add(&l.Read, g, reads, rates)
	}
	for _, g := range q.writers {
		l := w.seenBy(o, g.name)
		l.Write = w.path(w.writePath(o, g.point), q.writeP99)
		l.Share += writes / rates * g.share
		add(&l.Write, g, writes, rates)
	}
	o.mean = time.Duration(sum)
}

func (w *world) seenBy(o *option, users string) *Latency {
	i := slices.IndexFunc(o.latency, func(l Latency) bool { return l.Users == users })
	if i < 0 {
		o.latency = append(o.latency, Latency{Users: users})
		i = len(o.latency) - 1
	}
	return &o.latency[i]
}

// entry is the region that a user's request goes to.
func (w *world) entry(o *option, user point) site {
	if o.strategy != ActiveActive {
		return o.sites[0]
	}
	return slices.MinFunc(o.sites, func(a, b site) int { return cmp.Compare(w.rtt(user, a.point), w.rtt(user, b.point)) })
}

// readPath lists the points that a read passes.
func (w *world) readPath(q *wish, o *option, user point) []point {
	if (q.kind == "objects" || q.kind == "files") && q.staleness >= edgeStaleness {
		return []point{user, {name: "CDN"}}
	}
	in := w.entry(o, user)
	fresh := o.strategy == ActiveActive && o.mode == antipode.WriteGlobal && q.staleness < o.lag
	if fresh && in != o.sites[0] {
		return []point{user, in.point, o.sites[0].point} // asked of the writer; an owner's home is near the owner
	}
	return []point{user, in.point}
}

// writePath lists the points that a write passes.
func (w *world) writePath(o *option, user point) []point {
	in := w.entry(o, user)
	out := []point{user, in.point}
	if o.mode == antipode.WriteGlobal && in != o.sites[0] {
		in = o.sites[0]
		out = append(out, in.point)
	}
	if o.sync {
		var copyTo *site
		for i := range o.sites {
			if s := &o.sites[i]; *s != in && (copyTo == nil || w.rtt(in.point, s.point) < w.rtt(in.point, copyTo.point)) {
				copyTo = s
			}
		}
		out = append(out, copyTo.point)
	}
	return out
}

// path adds hops up.
func (w *world) path(points []point, budget time.Duration) Path {
	var sum hop
	sum.measured = true
	p := Path{Via: []string{}}
	for i, to := range points[1:] {
		h := hop{low: edge / 2, estimate: edge, high: 2 * edge}
		if to.name != "CDN" || to.place != (geo.Place{}) {
			h = w.hop(points[i], to)
		}
		sum.floor, sum.low, sum.estimate, sum.high = sum.floor+h.floor, sum.low+h.low, sum.estimate+h.estimate, sum.high+h.high
		sum.measured = sum.measured && h.measured
		p.Via = append(p.Via, to.name)
	}
	p.Floor, p.Low, p.Estimate, p.High = spec.Duration(sum.floor), spec.Duration(sum.low), spec.Duration(sum.estimate), spec.Duration(sum.high)
	p.Measured = sum.measured
	if budget > 0 {
		b := spec.Duration(budget)
		p.Budget, p.Over = &b, p.Estimate > b
	}
	return p
}
