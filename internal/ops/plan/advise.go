package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/spec"
)

// Advise answers for every data set of the input.
func Advise(in Input) Report {
	w := newWorld(in)
	r := Report{Currency: w.currency(), Data: []Answer{}, Assumed: w.assumed(), NotYet: []string{}}
	verdicts := make([]*verdict, 0, len(w.needs.Data))
	for i := range w.needs.Data {
		d := &w.needs.Data[i]
		if !w.answered(d) {
			continue // its table is told of below
		}
		v := w.decide(w.wish(d))
		verdicts = append(verdicts, v)
		r.Data = append(r.Data, w.answer(v))
	}
	for i := range w.spec.Tables {
		t := &w.spec.Tables[i]
		if !slices.ContainsFunc(verdicts, func(v *verdict) bool { return v.q.table == t }) {
			r.Data = append(r.Data, w.unasked(t))
		}
	}
	for i := range r.Data {
		a := &r.Data[i]
		a.PromisedRPO, a.PromisedRTO, a.CostFactor = flat(a.RPO.Promised), flat(a.RTO.Promised), a.Cost.Factor
		r.Month, r.MonthOne = r.Month+a.Cost.Month, r.MonthOne+a.Cost.MonthOne
		for _, text := range a.NotYet {
			if !slices.Contains(r.NotYet, text) {
				r.NotYet = append(r.NotYet, text)
			}
		}
	}
	w.assemble(&r)
	r.Lints = lints(w, in.Source, verdicts)
	return r
}

// flat writes a bound as one would in the file.
func flat(d *spec.Duration) *string {
	if d == nil {
		return nil
	}
	return new(written(*d))
}

// verdict is the options for one data set, and which was chosen.
type verdict struct {
	q       *wish
	ladder  []*option // by strategy; nil: there is nowhere to put it
	nowhere []string  // by strategy: why
	chosen  *option   // nil: there is nowhere for the data at all
}

// decide picks the cheapest strategy that misses nothing, else the one that misses least.
func (w *world) decide(q *wish) *verdict {
	v := &verdict{q: q}
	for _, s := range strategies() {
		o, why := w.best(q, s)
		v.ladder, v.nowhere = append(v.ladder, o), append(v.nowhere, why)
		if o != nil && (v.chosen == nil || nearer(o, v.chosen)) {
			v.chosen = o
		}
	}
	return v
}

// nearer reports whether an option meets more of what was asked than a cheaper one.
func nearer(o, cheaper *option) bool {
	if len(o.misses) != len(cheaper.misses) {
		return len(o.misses) < len(cheaper.misses)
	}
	return degrees(o) < degrees(cheaper)-math.Log(worthwhile)
}

// worthwhile is by how much nearer to a wish that nothing meets a dearer strategy has to come.
const worthwhile = 3

func degrees(o *option) (sum float64) {
	for _, m := range o.misses {
		sum += m.degree
	}
	return sum
}

// assumed lists what was not said about the company as a whole.
func (w *world) assumed() []Assume {
	out := []Assume{}
	add := func(missing bool, a Assume) {
		if missing {
			out = append(out, a)
		}
	}
	n := w.needs
	add(len(n.Data) == 0, Assume{"needs.data", "tables stay as they are", "nothing was said about any data; antipode plan init asks"})
	add(n.Company.OnCall == "", Assume{"company.on_call", "always", "else a person's part of a recovery has no bound"})
	add(n.Region.Availability == nil, Assume{"region.availability", percent(regionAvailability), "one region with zones"})
	add(n.Region.EventsPerYear == nil, Assume{"region.events_per_year", number(eventsPerYear), "a cautious guess"})
	add(n.Region.Shared == nil, Assume{"region.shared", "100 %", "nothing was named that all regions need together"})
	add(n.Prices.RegionMonth == nil, Assume{"prices.region_month", w.money(regionMonth), "a guess: costs in money follow from it, factors don't"})
	add(n.Prices.StorageGBMonth == nil, Assume{"prices.storage_gb_month", "0.25, and 0.023 for objects and files", "the usual prices of AWS, in USD"})
	add(n.Prices.TransferGB == nil, Assume{"prices.transfer_gb", "0.02", "the usual price between regions of AWS, in USD"})
	return out
}

// answer puts a verdict in words.
func (w *world) answer(v *verdict) Answer {
	q, o := v.q, v.chosen
	a := Answer{
		Name: q.name, Kind: q.kind, IsTable: q.kind == "table", Asked: true, Scope: q.scope,
		Reasons: []Reason{}, Ladder: []Rung{}, Latency: []Latency{}, Impossible: []Impossible{}, Sensitive: []Sensitivity{},
		Assumed: q.assumed, First: []string{}, Drills: []Drill{}, NotYet: []string{}, Replicas: []antipode.Region{}, Backup: BackupAdvice{In: []string{}},
	}
	if o == nil {
		a.Strategy = SingleRegion
		a.Impossible = []Impossible{{"data that stays in " + quoted(q.stay), v.nowhere[0], "a region of your own there, with its latitude and longitude, and its name under stay"}}
		a.Why = "Not possible: " + v.nowhere[0] + "."
		a.RPO.State, a.RTO.State = Unproven, Unproven
		return a
	}
	one := v.ladder[SingleRegion.Rank()]
	for _, option := range v.ladder {
		if option != nil {
			w.value(q, option, one.drilled)
		}
	}
	a.Strategy, a.Cost, a.Latency = o.strategy, o.cost, o.latency
	w.bounds(v, &a)
	w.place(v, &a)
	a.Ladder = w.rungs(v)
	a.Impossible = w.impossible(v)
	a.Reasons = w.reasons(v, &a)
	a.Why = w.why(v, &a)
	a.First = w.first(v)
	a.Drills = w.drillsFor(q, o)
	a.NotYet = notYet(q, o)
	a.Sensitive = w.sensitive(v)
	return a
}

// bounds fills in RPO, RTO and availability.
func (w *world) bounds(v *verdict, a *Answer) {
	q, o := v.q, v.chosen
	a.RPO.Asked, a.RTO.Asked = q.data.RPO, q.data.RTO
	if o.bounded {
		d := spec.Duration(o.rpo)
		a.RPO.Promised = &d
	}
	rto := spec.Duration(o.rto)
	a.RTO.Promised = &rto
	a.RPO.Note, a.RTO.Note = o.rpoWhy(), o.rtoWhy
	if o.strategy == ActiveActive && q.scope == scopeRegion {
		a.RTO.Note += "; users of the lost region need about a minute more to reach another one"
	}
	w.prove(q, o, &a.RPO, &a.RTO)
	a.Availability = Availability{
		Asked: q.data.Availability, Today: 100 * o.today.share, Drilled: 100 * o.drilled.share,
		MinutesToday: o.today.minutes, MinutesDrilled: o.drilled.minutes, Formula: o.drilled.formula(), Proven: o.today.proven && o.strategy != SingleRegion,
	}
	switch {
	case len(o.sites) < 2, o.strategy != ActiveActive:
		a.Consistency = "every read sees all that was acknowledged before"
	case o.mode == antipode.WriteLocal:
		a.Consistency = fmt.Sprintf("a read may miss what another region accepted in the last %s or so", span(o.lag))
	case o.mode == antipode.WriteGlobal && q.staleness < o.lag:
		a.Consistency = fmt.Sprintf("reads ask the writer (ConsistentRead): a local one may miss the last %s or so", span(o.lag))
	default:
		a.Consistency = fmt.Sprintf("a local read may miss the last %s or so of other regions' writes; a ConsistentRead misses nothing", span(o.lag))
	}
}

// place says where it is kept and who takes over.
func (w *world) place(v *verdict, a *Answer) {
	q, o := v.q, v.chosen
	for _, s := range o.sites {
		a.Replicas = append(a.Replicas, s.region())
	}
	a.Backup = w.backup(q, o)
	if len(o.sites) > 1 && o.strategy == ActiveActive || a.IsTable {
		a.Writes = o.mode
	}
	switch a.Writes {
	case antipode.WriteLocal:
		a.Rule = antipode.RuleLastWriter
		if q.table != nil && q.table.Writes == antipode.WriteLocal {
			a.Rule = q.table.Rule
		}
	case antipode.WritePartitioned:
		a.Home = string(antipode.HomeCreator)
		if q.table != nil && q.table.Home != "" {
			a.Home = string(q.table.Home)
		}
	case antipode.WriteGlobal:
		a.Writer = o.sites[0].region()
	}
	if len(o.sites) < 2 {
		return
	}
	if o.sync {
		a.RPOCopies = 1
	}
	if a.Writes == antipode.WriteGlobal {
		others := slices.Clone(o.sites[1:])
		slices.SortStableFunc(others, func(x, y site) int { return int(w.rtt(o.sites[0].point, x.point) - w.rtt(o.sites[0].point, y.point)) })
		for _, s := range others {
			a.Successors = append(a.Successors, s.region())
		}
	}
	if a.Writes != antipode.WriteLocal && a.IsTable {
		a.Failover = control.FailoverLease
		if s, ok := w.witness(o.sites); ok {
			a.Witness = s.region()
		}
	}
}

// witness finds who gives two regions a majority: one of the spec's, else one that
// is proposed between them. With three regions of data there is no need.
func (w *world) witness(sites []site) (site, bool) {
	for _, s := range w.witnesses {
		if len(distinct(append(slices.Clone(sites), s))) > len(distinct(sites)) {
			return s, true
		}
	}
	if len(sites) > 2 {
		return site{}, false
	}
	for _, s := range w.sites { // a third region that votes anyway
		if len(distinct(append(slices.Clone(sites), s))) > 2 {
			return site{}, false
		}
	}
	middle := sites[0].point
	return w.propose(nil, sites, middle)
}

// backup says which backup goes with an option.
func (w *world) backup(q *wish, o *option) BackupAdvice {
	b := BackupAdvice{Every: spec.Duration(backupMost), Keep: spec.Duration(backupKeep), In: []string{}}
	if len(o.sites) == 1 {
		b.Every = spec.Duration(min(max(q.rpo, backupLeast), backupMost))
	}
	have := q.data.Backup
	if have != nil && have.Every != nil {
		b.Every = min(b.Every, *have.Every)
	}
	if have != nil && have.Keep != nil {
		b.Keep = max(b.Keep, *have.Keep)
	}
	if have != nil {
		for _, name := range have.In {
			if may(q.stay, w.placeOf(name)) {
				b.In = append(b.In, name)
			}
		}
	}
	apart := func(s site) bool { return len(distinct(append(slices.Clone(o.sites), s))) > len(distinct(o.sites)) }
	if len(b.In) > 0 && len(o.sites) > 1 || slices.ContainsFunc(b.In, func(name string) bool { return apart(site{point: w.placeOf(name)}) }) {
		return b
	}
	for _, s := range slices.Concat(w.sites, w.witnesses) {
		if may(q.stay, s.point) && apart(s) {
			b.In = append(b.In, s.name)
			return b
		}
	}
	last := o.sites[len(o.sites)-1].name // beside a copy, but not beside the one that writes
	if s, ok := w.propose(q.stay, o.sites, o.sites[0].point); ok && len(o.sites) == 1 {
		last = s.place.Code
	}
	b.In = append(b.In, last)
	return b
}

// rungs shows every strategy, and what it misses.
func (w *world) rungs(v *verdict) []Rung {
	out := make([]Rung, 0, len(v.ladder))
	for i, s := range strategies() {
		o := v.ladder[i]
		if o == nil {
			out = append(out, Rung{Strategy: s, Misses: []string{v.nowhere[i]}})
			continue
		}
		r := Rung{Strategy: s, Meets: len(o.misses) == 0, Chosen: o == v.chosen, Misses: []string{}, Availability: 100 * o.drilled.share, Cost: o.cost}
		for _, m := range o.misses {
			r.Misses = append(r.Misses, m.text)
		}
		rto := spec.Duration(o.rto)
		r.RTO = &rto
		if o.bounded {
			rpo := spec.Duration(o.rpo)
			r.RPO = &rpo
		}
		out = append(out, r)
	}
	return out
}

// impossible lists the wishes that the answer does not meet, since nothing does.
func (w *world) impossible(v *verdict) []Impossible {
	q, o := v.q, v.chosen
	out := []Impossible{}
	if s := o.sites[len(o.sites)-1]; s.added && o.strategy.Rank() > BackupRestore.Rank() && len(w.sites) == 1 {
		one := "one region with zones and a backup elsewhere"
		if b := v.ladder[BackupRestore.Rank()]; b != nil {
			one = fmt.Sprintf("%s with a restore elsewhere: RPO %s, RTO %s", w.sites[0].name, span(b.rpo), span(b.rto))
		}
		out = append(out, Impossible{
			fmt.Sprintf("RPO %s and RTO %s with the one region %s", span(q.rpo), span(q.rto), w.sites[0].name),
			"what is only there is gone, or out of reach, when it is",
			fmt.Sprintf("%s; or %s with a second region, such as %s (%s): RPO %s, RTO %s", one, o.strategy, s.place.City, s.place.Code, span(o.rpo), span(o.rto)),
		})
	}
	for _, m := range o.misses {
		i := Impossible{m.wish, m.because, m.nearest}
		if m.demand == "write latency" && o.sync {
			i.Wish = fmt.Sprintf("RPO %s with %s", span(q.rpo), m.wish)
			i.Because = "a write is answered when another region has it, and " + m.because
			i.Nearest = fmt.Sprintf("RPO 0 s with %s; or %s with an RPO of %s; or a witness with journal: true within %.0f km of the writer, where light is back in time",
				m.nearest, m.wish, span(2*w.copyTrip(o.sites, o.sites[:1])), q.writeP99.Seconds()*100_000)
		}
		if w.crowded(v) {
			i.Because += "; " + v.nowhere[ActiveActive.Rank()]
			i.Nearest += fmt.Sprintf(" (the loss of a zone: RPO 0 s, RTO %s), or a second region of your own there, by its latitude and longitude, and its name under stay", span(w.zoneRTO(q)))
		}
		out = append(out, i)
	}
	return out
}

// crowded reports whether there is no second region for the data.
func (w *world) crowded(v *verdict) bool { return v.ladder[ActiveActive.Rank()] == nil }

// reasons lists the rules that decided.
func (w *world) reasons(v *verdict, a *Answer) []Reason {
	q, o := v.q, v.chosen
	out := []Reason{{"survive", fmt.Sprintf("RPO and RTO are for the loss of a %s", q.scope), sourceSpec}}
	for i, s := range strategies()[:o.strategy.Rank()] {
		if v.ladder[i] == nil {
			out = append(out, Reason{"place", fmt.Sprintf("%s: %s", s, v.nowhere[i]), sourceSpec})
			continue
		}
		for _, m := range v.ladder[i].misses {
			out = append(out, Reason{m.demand, fmt.Sprintf("%s: %s", s, m.text), m.source})
		}
	}
	if o.strategy == ActiveActive {
		row, _ := modesFor(q)
		out = append(out, Reason{"writes: " + row.name, fmt.Sprintf("%s: %s", o.mode, modeReason(q, o)), row.source})
		text := fmt.Sprintf("%s carry the load, and the mean round trip of all requests is the shortest: %s", names(o.sites), span(o.mean))
		if a.Writer != "" {
			text += "; " + string(a.Writer) + " writes"
		}
		out = append(out, Reason{"placement", text, sourceFibre})
	}
	if o.mode == antipode.WriteLocal {
		out = append(out, Reason{"rule", fmt.Sprintf("%s decides which of two versions is seen, and the other stays on record", a.Rule), sourceProtocol})
	}
	if len(o.sites) > 1 && q.rpoAsked {
		out = append(out, Reason{"rpo", "RPO " + span(o.rpo) + ": " + o.rpoWhy(), sourceProtocol})
	}
	if a.Witness != "" {
		out = append(out, Reason{"witness", fmt.Sprintf("with %s three vote, so one region may take over from the other by itself", a.Witness), sourceFailover})
	}
	return append(out, Reason{"backup", "replicas copy mistakes, so there is a backup besides", sourceDR})
}

// why puts the answer in a sentence or two.
func (w *world) why(v *verdict, a *Answer) string {
	q, o := v.q, v.chosen
	var parts []string
	if len(a.Impossible) > 0 {
		i := a.Impossible[0]
		parts = append(parts, fmt.Sprintf("Not possible: %s, because %s; nearest possible: %s.", i.Wish, i.Because, i.Nearest))
	}
	where := ""
	if len(a.Backup.In) > 0 {
		where = " in " + quoted(a.Backup.In)
	}
	switch cheaper := v.below(); {
	case o.strategy == SingleRegion && len(o.misses) > 0:
		parts = append(parts, fmt.Sprintf("So it is one region, %s, with zones and a backup%s.", names(o.sites), where))
	case o.strategy == SingleRegion:
		parts = append(parts, fmt.Sprintf("One region, %s, with zones and a backup%s is enough.", names(o.sites), where))
	case cheaper == nil:
		parts = append(parts, fmt.Sprintf("%s is the cheapest that meets it.", o.strategy))
	default:
		parts = append(parts, fmt.Sprintf("%s is not enough: %s.", cheaper.strategy, v.telling(cheaper).text))
	}
	if o.strategy == ActiveActive {
		parts = append(parts, fmt.Sprintf("Writes are %s: %s.", o.mode, modeReason(q, o)))
	}
	return strings.Join(parts, " ")
}

// modeReason says why it is written in this mode.
func modeReason(q *wish, o *option) string {
	row, modes := modesFor(q)
	switch o.mode {
	case modes[0]:
		return row.reason
	case antipode.WriteLocal:
		return "they keep their meaning in any order, and " + strings.Join(o.passed, "; ")
	default:
		return strings.Join(o.passed, "; ")
	}
}

// below is the dearest option that is cheaper than the chosen one.
func (v *verdict) below() *option {
	for i := v.chosen.strategy.Rank() - 1; i >= 0; i-- {
		if o := v.ladder[i]; o != nil && len(o.misses) > 0 {
			return o
		}
	}
	return nil
}

// telling is the miss of an option that most of the cheaper ones share.
func (v *verdict) telling(o *option) miss {
	shared := func(m miss) (n int) {
		for _, other := range v.ladder[:v.chosen.strategy.Rank()] {
			if other != nil && slices.ContainsFunc(other.misses, func(x miss) bool { return x.demand == m.demand }) {
				n++
			}
		}
		return n
	}
	return slices.MaxFunc(o.misses, func(a, b miss) int { return shared(a) - shared(b) })
}

// first lists what to do before any of this.
func (w *world) first(v *verdict) []string {
	q, o := v.q, v.chosen
	done := func(what string) bool { return slices.Contains(q.data.Done, what) }
	out := []string{}
	if !done("zones") {
		out = append(out, fmt.Sprintf("spread it over the zones of %s: that takes away most failures, at a millisecond", o.sites[0].name))
	}
	if !done("cdn") && (q.kind == "objects" || q.kind == "files") && q.staleness >= edgeStaleness && q.readP99 > 0 {
		out = append(out, "put a CDN in front: what may be a minute old needs no other region to be near its readers (reckoned with here)")
	}
	if !done("caching") && q.kind != "objects" && q.kind != "files" && o.strategy == ActiveActive && q.staleness >= edgeStaleness {
		out = append(out, "try a cache near the readers: reads may be a minute old; but a p99 is a miss's, so it needs 99 hits of 100")
	}
	if b := v.ladder[BackupRestore.Rank()]; !done("faster-restore") && b != nil && q.scope == scopeRegion && b.rto > restoreRTO {
		out = append(out, fmt.Sprintf("practise a faster restore: %s take %s now", gigabytes(q.volume), span(restoreTime(q))))
	}
	return out
}

// notYet lists what the advice needs and antipode does not do.
func notYet(q *wish, o *option) []string {
	out := []string{"backups: antipode makes none yet; use your own"}
	if q.kind != "table" {
		return append(out, fmt.Sprintf("%s: antipode keeps tables; this data stays with what keeps it now", q.kind))
	}
	if o.strategy != ActiveActive {
		out = append(out, "zones: antipode runs a region as one process; a zone's loss is the region's")
	}
	if o.strategy == PilotLight || o.strategy == WarmStandby {
		out = append(out, "standby: antipode keeps the data live in both regions and moves its writer by itself; the service's machines are yours to start")
	}
	if len(o.sites) > 1 {
		out = append(out, "users: antipode does not send users to another region yet; your DNS does")
	}
	if o.mode == antipode.WriteLocal && q.commute {
		out = append(out, "merge: there is no rule that adds up counters or unites sets yet; make each entry an item of its own, so that none is written twice")
	}
	return out
}

// unasked tells of a table that needs says nothing about.
func (w *world) unasked(t *spec.Table) Answer {
	q := w.wish(&spec.Data{Name: t.Name})
	o := &option{strategy: SingleRegion, mode: t.Writes}
	for _, r := range t.Replicas {
		i := slices.IndexFunc(w.sites, func(s site) bool { return s.region() == r })
		o.sites = append(o.sites, w.sites[i])
	}
	if t.Writer != "" {
		i := slices.IndexFunc(o.sites, func(s site) bool { return s.region() == t.Writer })
		o.sites[0], o.sites[i] = o.sites[i], o.sites[0]
	}
	if len(o.sites) > 1 {
		o.strategy, q.scope = ActiveActive, scopeRegion
	}
	if t.RPO != nil {
		q.rpoAsked, q.rpo = true, time.Duration(*t.RPO)
	}
	q.data.RPO = t.RPO
	o = w.option(q, o.strategy, o.mode, o.sites)
	o.tell()
	v := &verdict{q: q, chosen: o, ladder: []*option{o}, nowhere: []string{""}}
	w.value(q, o, o.drilled)
	a := Answer{
		Name: t.Name, Kind: "table", IsTable: true, Scope: q.scope, Strategy: o.strategy, Cost: o.cost, Latency: o.latency,
		Reasons: []Reason{{"not asked", "needs: data: says nothing about it", sourceSpec}}, Ladder: []Rung{}, Impossible: []Impossible{}, Sensitive: []Sensitivity{},
		Assumed: q.assumed, First: []string{}, Replicas: []antipode.Region{},
		Why: "Nothing was said about what it is for, so it is left as it is. antipode plan init asks, and may find that less is enough.",
	}
	w.bounds(v, &a)
	a.RPO.Asked = nil
	w.place(v, &a)
	a.Writes, a.Rule, a.Home, a.Failover, a.Successors = t.Writes, t.Rule, string(t.Home), t.Failover, t.Successors
	a.Drills, a.NotYet = w.drillsFor(q, o), notYet(q, o)
	return a
}
