package plan

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// This file is the table of lints: contradictions in a spec, also in one that has
// no needs. Each says where, why, and what to write instead.

// lintRule is a row.
type lintRule struct {
	name     string
	severity string
	source   string
	check    func(l *linter)
}

func lintRules() []lintRule {
	return []lintRule{
		{"strategy-misses", Error, sourceHub, lintStrategy},
		{"strategy-copies", Error, sourceDR, lintCopies},
		{"rto-below-zone", Error, sourceHub, lintZoneRTO},
		{"rto-below-lease", Error, sourceFailover, lintLease},
		{"rpo-budget", Error, sourceCosmos, lintBudget},
		{"rpo-unbounded", Warning, sourceSpec, lintUnbounded},
		{"local-invariant", Error, sourceTalk, lintInvariant},
		{"local-collisions", Warning, sourceTalk, lintCollisions},
		{"local-stale", Error, sourceProtocol, lintStale},
		{"offline-mode", Error, sourceTalk, lintOffline},
		{"no-witness", Warning, sourceFailover, lintNoWitness},
		{"pinned-rto", Error, sourceFailover, lintPinned},
		{"witness-place", Error, sourceFailover, lintWitnessPlace},
		{"same-place", Warning, sourceDR, lintSamePlace},
		{"no-backup", Warning, sourceDR, lintNoBackup},
		{"backup-too-rare", Error, sourceDR, lintBackupRare},
		{"backup-beside", Warning, sourceDR, lintBackupBeside},
		{"capacity", Error, "static stability: AWS Builders' Library", lintCapacity},
		{"residency", Error, "what needs: data: stay says", lintResidency},
		{"shared-nines", Error, sourceFormula, lintShared},
	}
}

// linter collects what the rules find.
type linter struct {
	w     *world
	src   *spec.Source
	rule  lintRule
	about []subject
	out   []Lint
}

// subject is a data set, a table, or both.
type subject struct {
	name  string
	data  *spec.Data  // nil: a table of which needs says nothing
	table *spec.Table // nil: no table
	v     *verdict    // nil: nothing was asked
	dpath string      // needs.data.2
	tpath string      // tables.1
}

func lints(w *world, src *spec.Source, verdicts []*verdict) []Lint {
	l := &linter{w: w, src: src, out: []Lint{}}
	for i := range w.needs.Data {
		d := &w.needs.Data[i]
		s := subject{name: d.Name, data: d, dpath: "needs.data." + strconv.Itoa(i)}
		if k := slices.IndexFunc(verdicts, func(v *verdict) bool { return v.q.data == d }); k >= 0 {
			s.v = verdicts[k]
		}
		if k := slices.IndexFunc(w.spec.Tables, func(t spec.Table) bool { return t.Name == d.Name }); k >= 0 && (d.Kind == "" || d.Kind == "table") {
			s.table, s.tpath = &w.spec.Tables[k], "tables."+strconv.Itoa(k)
		}
		l.about = append(l.about, s)
	}
	for i := range w.spec.Tables {
		t := &w.spec.Tables[i]
		if !slices.ContainsFunc(l.about, func(s subject) bool { return s.table == t }) {
			l.about = append(l.about, subject{name: t.Name, table: t, tpath: "tables." + strconv.Itoa(i)})
		}
	}
	for _, l.rule = range lintRules() {
		l.rule.check(l)
	}
	slices.SortStableFunc(l.out, func(a, b Lint) int { return cmp.Or(a.Line-b.Line, a.Column-b.Column) })
	return l.out
}

func (l *linter) add(name, path, message, fix string) {
	line, column := l.src.Position(path)
	l.out = append(l.out, Lint{
		Rule: l.rule.name, Severity: l.rule.severity, Data: name, Path: path, Line: line, Column: column,
		Message: message, Fix: fix, Source: l.rule.source,
	})
}

// asked visits what something was asked of.
func (l *linter) asked(visit func(s *subject, q *wish)) {
	for i := range l.about {
		if s := &l.about[i]; s.v != nil {
			visit(s, s.v.q)
		}
	}
}

// tables visits tables of which something was asked.
func (l *linter) tables(visit func(s *subject, q *wish, t *spec.Table)) {
	l.asked(func(s *subject, q *wish) {
		if s.table != nil {
			visit(s, q, s.table)
		}
	})
}

// strategyOf is what was decided, or what a table with one copy comes to.
func (s *subject) strategyOf() (Strategy, string) {
	switch {
	case s.data != nil && s.data.Strategy != "":
		return Strategy(s.data.Strategy), "strategy is " + s.data.Strategy
	case s.table != nil && len(s.table.Replicas) == 1:
		return BackupRestore, fmt.Sprintf("only %s keeps table %s, so there is nothing but a restore from backup", s.table.Replicas[0], s.name)
	default:
		return "", ""
	}
}

// lintStrategy: what was decided does not give what is asked: 99.99 % by a restore from backup.
func lintStrategy(l *linter) {
	l.asked(func(s *subject, q *wish) {
		strategy, is := s.strategyOf()
		if strategy == "" || s.v.chosen == nil {
			return
		}
		o := s.v.ladder[strategy.Rank()]
		if o == nil {
			l.add(s.name, s.dpath+".strategy", is+", and "+s.v.nowhere[strategy.Rank()], "write strategy: "+string(s.v.chosen.strategy)+", or let it stay in more places")
			return
		}
		fields := map[string]string{
			"rpo": "rpo", "rto": "rto", "people": "rto", "availability": "availability", "read latency": "reads.p99", "write latency": "writes.p99",
			"writes while cut off": "offline", "capacity": "capacity", "fresh reads": "staleness",
		}
		for _, m := range o.misses {
			fix := fmt.Sprintf("ask for less (%s), or take %s", m.nearest, s.v.chosen.strategy)
			if s.v.chosen == o {
				fix = "nothing gives it; nearest possible: " + m.nearest
			}
			l.add(s.name, s.dpath+"."+fields[m.demand], is+", and "+m.text, fix)
		}
	})
}

// lintCopies: what was decided needs a second copy, and the table has none.
func lintCopies(l *linter) {
	for i := range l.about {
		s := &l.about[i]
		if s.data != nil && s.table != nil && Strategy(s.data.Strategy).Rank() >= PilotLight.Rank() && len(s.table.Replicas) == 1 {
			l.add(s.name, s.tpath+".replicas", fmt.Sprintf("strategy is %s, and only %s keeps table %s", s.data.Strategy, s.table.Replicas[0], s.name), "add a replica, or take the strategy away and ask antipode plan")
		}
	}
}

func lintZoneRTO(l *linter) {
	l.asked(func(s *subject, q *wish) {
		if d := s.data; d.RTO != nil && d.ZoneRTO != nil && *d.RTO < *d.ZoneRTO {
			l.add(s.name, s.dpath+".rto", fmt.Sprintf("rto %s for the loss of a region is shorter than zone_rto %s for that of a zone: to lose more never takes less time", Span(*d.RTO), Span(*d.ZoneRTO)),
				fmt.Sprintf("write a zone_rto of at most %s, or a longer rto", Span(*d.RTO)))
		}
	})
}

func lintLease(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		if d := s.data.RTO; d != nil && time.Duration(*d) < l.w.leaseRTO() && t.Writes != antipode.WriteLocal && len(t.Replicas) > 1 && q.scope == scopeRegion {
			l.add(s.name, s.dpath+".rto", fmt.Sprintf("rto is %s, and a %s table is written again %s after the loss of a region: the lease of %s has to end first", Span(*d), t.Writes, span(l.w.leaseRTO()), Span(l.w.spec.Lease)),
				fmt.Sprintf("ask for an rto of %s, shorten the lease, or write in local mode what keeps its meaning there", span(l.w.leaseRTO())))
		}
	})
}

// lintBudget: a write that waits for another region can't be answered before light is back from there.
func lintBudget(l *linter) {
	l.asked(func(s *subject, q *wish) {
		o := s.v.chosen
		if o == nil || !o.sync || s.table != nil && s.table.RPO != nil && *s.table.RPO == 0 {
			return
		}
		for _, m := range o.misses {
			if m.demand == "write latency" {
				l.add(s.name, s.dpath+".writes.p99", fmt.Sprintf("rpo %s needs another region to have a write before it is answered, and %s", span(q.rpo), m.text), fmt.Sprintf("allow %s, or a longer rpo", m.nearest))
			}
		}
	})
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		if t.RPO == nil || *t.RPO != 0 || q.writeP99 == 0 {
			return
		}
		trip, from, to := l.w.protection(t)
		if trip > q.writeP99 {
			l.add(s.name, s.tpath+".rpo", fmt.Sprintf("rpo is 0s, so a write waits for another region to have it, and writes have a budget of %s: from %s to %s and back takes %s", span(q.writeP99), from, to, span(trip)),
				fmt.Sprintf("allow writes %s, write an rpo of %s or more, or put a witness with journal: true nearer", span(trip), span(2*trip)))
		}
	})
}

// protection is the round trip to the nearest other copy of a table's journal, for the worst of its writers.
func (w *world) protection(t *spec.Table) (worst time.Duration, from, to string) {
	writers := t.Replicas
	if t.Writes == antipode.WriteGlobal {
		writers = []antipode.Region{t.Writer}
	}
	keepers := slices.Clone(t.Replicas)
	for i := range w.spec.Regions {
		if r := &w.spec.Regions[i]; r.Journal {
			keepers = append(keepers, r.Name)
		}
	}
	for _, a := range writers {
		nearest, best := time.Duration(-1), antipode.Region("")
		for _, b := range keepers {
			if d := w.rtt(w.placeOf(string(a)), w.placeOf(string(b))); a != b && (nearest < 0 || d < nearest) {
				nearest, best = d, b
			}
		}
		if nearest > worst {
			worst, from, to = nearest, string(a), string(best)
		}
	}
	return worst, from, to
}

func lintUnbounded(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		if !q.rpoAsked || q.scope != scopeRegion || len(t.Replicas) < 2 || t.RPO != nil && *t.RPO <= *s.data.RPO {
			return
		}
		is := "has no rpo, so nothing bounds what is lost"
		if t.RPO != nil {
			is = "has rpo " + Span(*t.RPO)
		}
		l.add(s.name, s.tpath+".rpo", fmt.Sprintf("%s is asked to lose at most %s with a region, and the table %s", s.name, span(q.rpo), is), "write rpo: "+written(*s.data.RPO)+" in the table")
	})
}

func lintInvariant(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		if t.Writes == antipode.WriteLocal && len(q.invariants) > 0 {
			l.add(s.name, s.tpath+".writes", fmt.Sprintf("table %s is written in every region, and %s must hold across its records: two regions can each do what is allowed, and both together are not", s.name, quoted(q.invariants)),
				"write writes: global")
		}
	})
}

func lintCollisions(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		if t.Writes == antipode.WriteLocal && len(q.invariants) == 0 && !fits(q, antipode.WriteLocal) && len(t.Replicas) > 1 {
			l.add(s.name, s.tpath+".writes", fmt.Sprintf("table %s is written in every region, and its writes do not commute: of two at the same time, %s shows one, and the other is only on record", s.name, t.Rule),
				"write writes: partitioned where records have an owner, global where they have none, or make each entry an item of its own and say commute: true")
		}
	})
}

func lintStale(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		lag := l.w.farthest(l.w.replicas(t)) / 2
		if t.Writes == antipode.WriteLocal && len(t.Replicas) > 1 && s.data.Staleness != nil && q.staleness < lag {
			l.add(s.name, s.dpath+".staleness", fmt.Sprintf("reads may be %s old, and table %s is written in every region: a copy takes %s to arrive", span(q.staleness), s.name, span(lag)),
				"allow "+span(lag)+", or write writes: global")
		}
	})
}

func (w *world) replicas(t *spec.Table) []site {
	var out []site
	for _, r := range t.Replicas {
		out = append(out, site{point: w.placeOf(string(r))})
	}
	return out
}

func lintOffline(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		if q.offline && t.Writes != antipode.WriteLocal {
			l.add(s.name, s.tpath+".writes", fmt.Sprintf("%s must accept writes in a region that is cut off, and table %s is written in %s mode: such a region has no lease", s.name, s.name, t.Writes),
				"write writes: local with a rule, or offline: false")
		}
	})
}

// lintNoWitness: two voters can't tell a cut from a death, so nothing fails over by itself.
func lintNoWitness(l *linter) {
	if len(l.w.spec.Regions) != 2 {
		return
	}
	for i := range l.about {
		s := &l.about[i]
		if t := s.table; t != nil && pinned(t) {
			message := fmt.Sprintf("two regions without a witness: when %s is lost, table %s waits for a person, since a cut and a death look the same", t.Replicas[0], s.name)
			if s.v != nil && s.data.RTO != nil && s.v.q.rto < personActs {
				message += fmt.Sprintf("; its rto is %s, and a person takes %s", span(s.v.q.rto), span(personActs))
			}
			l.add(s.name, s.tpath+".failover", message, "add a region with witness: true in a third place")
		}
	}
}

func lintPinned(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		if len(l.w.spec.Regions) > 2 && pinned(t) && q.scope == scopeRegion && s.data.RTO != nil && q.rto < personActs {
			l.add(s.name, s.tpath+".failover", fmt.Sprintf("failover is pinned, so a person decides, which takes %s at the best, and rto is %s", span(personActs), span(q.rto)), "write failover: lease")
		}
	})
}

// lintWitnessPlace: a witness beside a region falls with it, and then the others are no majority.
func lintWitnessPlace(l *linter) {
	voters := slices.Concat(l.w.sites, l.w.witnesses)
	for i := range l.w.spec.Regions {
		r := &l.w.spec.Regions[i]
		beside := func(s site) bool { return geo.Distance(r.Location.Place(), s.place) < apartKM }
		k := slices.IndexFunc(l.w.sites, beside)
		if !r.Witness || k < 0 {
			continue
		}
		left := len(slices.DeleteFunc(slices.Clone(voters), beside))
		if 2*left > len(voters) {
			continue
		}
		l.add("", "regions."+strconv.Itoa(i)+".location", fmt.Sprintf("the witness %s is where %s is: what befalls that place leaves %d of %d votes, which is no majority", r.Name, l.w.sites[k].name, left, len(voters)),
			"put the witness in a third place; it keeps no tables, so it may be small and far away")
	}
}

func lintSamePlace(l *linter) {
	for i := range l.about {
		s := &l.about[i]
		if t := s.table; t != nil && len(t.Replicas) > 1 && len(distinct(l.w.replicas(t))) == 1 {
			l.add(s.name, s.tpath+".replicas", fmt.Sprintf("%s keep table %s, and all are within %.0f km: one disaster takes them together", quoted(t.Replicas), s.name, apartKM), "name replicas in another place")
		}
	}
}

// lintNoBackup: replicas copy mistakes too.
func lintNoBackup(l *linter) {
	const why = "replicas copy mistakes within a second: what is deleted by mistake is deleted everywhere"
	for i := range l.about {
		s := &l.about[i]
		switch {
		case s.data == nil:
			l.add(s.name, s.tpath, fmt.Sprintf("no backup is named for table %s; %s", s.name, why),
				"make one with a tool of your own, and write needs: {data: [{name: "+s.name+", backup: {every: 24h, in: [PLACE]}}]}")
		case s.data.Backup == nil:
			l.add(s.name, s.dpath, fmt.Sprintf("no backup is named for %s; %s", s.name, why), "add backup: {every: 24h, keep: 720h, in: [PLACE]}")
		}
	}
}

func lintBackupRare(l *linter) {
	l.asked(func(s *subject, q *wish) {
		strategy, is := s.strategyOf()
		b := s.data.Backup
		if b == nil || b.Every == nil || !q.rpoAsked || q.scope != scopeRegion || strategy != SingleRegion && strategy != BackupRestore {
			return
		}
		if time.Duration(*b.Every) > q.rpo {
			l.add(s.name, s.dpath+".backup.every", fmt.Sprintf("a backup is made every %s, and at most %s may be lost: %s", Span(*b.Every), span(q.rpo), is), "write every: "+written(*s.data.RPO)+", or allow more to be lost")
		}
	})
}

func lintBackupBeside(l *linter) {
	l.asked(func(s *subject, q *wish) {
		b := s.data.Backup
		if b == nil || len(b.In) == 0 || s.table == nil || len(s.table.Replicas) > 1 {
			return
		}
		home := l.w.replicas(s.table)
		beside := !slices.ContainsFunc(b.In, func(name string) bool { return geo.Distance(l.w.placeOf(name).place, home[0].place) >= apartKM })
		if !beside {
			return
		}
		if other, ok := l.w.propose(q.stay, home, home[0].point); ok {
			l.add(s.name, s.dpath+".backup.in", fmt.Sprintf("the backup of %s is where its only copy is: what takes %s takes both", s.name, home[0].name), "keep one elsewhere, too: in: ["+other.place.Code+"]")
		}
	})
}

func lintCapacity(l *linter) {
	l.tables(func(s *subject, q *wish, t *spec.Table) {
		n := len(t.Replicas)
		if strategy, _ := s.strategyOf(); n < 2 || q.scope != scopeRegion || strategy != "" && strategy != ActiveActive || float64(n-1)*q.capacity >= 0.9999 {
			return
		}
		l.add(s.name, s.dpath+".capacity", fmt.Sprintf("when one of %d regions is lost, the others carry %.0f %% of the load", n, 100*float64(n-1)*q.capacity),
			fmt.Sprintf("raise each region to %.0f %%, or add regions until all but one carry everything", 100/float64(n-1)))
	})
}

// lintResidency: a copy, a backup, a log or a journal is where the data must not be.
func lintResidency(l *linter) {
	for i := range l.about {
		s := &l.about[i]
		if s.data == nil || len(s.data.Stay) == 0 {
			continue
		}
		stay := s.data.Stay
		check := func(path, what string, p point) {
			if may(stay, p) {
				return
			}
			where := p.place.Country
			if p.place.Code == "" {
				where = "a bare point, whose country is not known here"
			}
			l.add(s.name, path, fmt.Sprintf("%s of %s is in %s (%s), and it must stay in %s", what, s.name, p.name, where, quoted(stay)), "keep it elsewhere, or add "+p.name+" to stay")
		}
		if s.table != nil {
			for k, r := range s.table.Replicas {
				check(s.tpath+".replicas."+strconv.Itoa(k), "a replica", l.w.placeOf(string(r)))
			}
			for k := range l.w.spec.Regions {
				if r := &l.w.spec.Regions[k]; r.Journal {
					check("regions."+strconv.Itoa(k)+".journal", "the journal", l.w.placeOf(string(r.Name)))
				}
			}
		}
		if b := s.data.Backup; b != nil {
			for k, name := range b.In {
				check(s.dpath+".backup.in."+strconv.Itoa(k), "a backup", l.w.placeOf(name))
			}
		}
		for k, name := range s.data.Logs {
			check(s.dpath+".logs."+strconv.Itoa(k), "a log", l.w.placeOf(name))
		}
	}
}

func lintShared(l *linter) {
	l.asked(func(s *subject, q *wish) {
		if q.availability > 100*q.shared+1e-9 {
			l.add(s.name, s.dpath+".availability", fmt.Sprintf("%s is asked, and what all regions need together is available %s of the time: no number of regions helps", percent(q.availability), percent(100*q.shared)),
				"do without what they share, or ask for at most "+percent(100*q.shared))
		}
	})
}
