package plan

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// assemble makes the spec that up runs out of the answers, and the map.
func (w *world) assemble(r *Report) {
	next := *w.spec
	next.Regions, next.Tables = slices.Clone(w.spec.Regions), nil
	needs := *w.needs
	needs.Data = slices.Clone(w.needs.Data)
	next.Needs = &needs
	for i := range r.Data {
		for _, name := range r.Data[i].Replicas {
			w.addRegion(&next, name, false)
		}
	}
	for i := range r.Data {
		w.addWitness(&next, &r.Data[i])
	}
	for i := range r.Data {
		a := &r.Data[i]
		if t, ok := w.tableFor(a); ok {
			next.Tables = append(next.Tables, t)
		}
		w.note(&needs, a)
	}
	slices.SortStableFunc(next.Tables, func(a, b spec.Table) int { return w.order(a.Name) - w.order(b.Name) })
	w.majority(&next)
	w.keepUsers(&next)
	withoutJournals(&next)
	w.draw(r, &next)
	advised, err := complete(&next)
	if err != nil { // no more is known to stand in the way, but advice must not fail for it
		advised = w.spec
		r.NotYet = append(r.NotYet, "the spec: what is advised here could not be written as one, so it is left as it was: "+err.Error())
	}
	r.advised = advised
}

// order keeps tables in the file's order, new ones after them.
func (w *world) order(table string) int {
	i := slices.IndexFunc(w.spec.Tables, func(t spec.Table) bool { return t.Name == table })
	if i < 0 {
		return len(w.spec.Tables)
	}
	return i
}

// addWitness adds the one that an answer needs, unless what other answers added
// votes as well.
func (w *world) addWitness(next *spec.Spec, a *Answer) {
	_, have := next.Region(a.Witness)
	if a.Witness == "" || have {
		return
	}
	var voters []site
	for i := range next.Regions {
		r := &next.Regions[i]
		voters = append(voters, site{point: point{string(r.Name), r.Location.Place()}})
	}
	if len(distinct(voters)) < 3 {
		w.addRegion(next, a.Witness, true)
		return
	}
	a.Witness = ""
	a.Reasons = slices.DeleteFunc(a.Reasons, func(r Reason) bool { return r.Rule == "witness" })
}

// addRegion adds a region that the spec lacks.
func (w *world) addRegion(next *spec.Spec, name antipode.Region, witness bool) {
	if i := slices.IndexFunc(next.Regions, func(r spec.Region) bool { return r.Name == name }); i >= 0 {
		if !witness && i >= len(w.spec.Regions) {
			next.Regions[i].Witness = false // one answer's witness is another's replica
		}
		return
	}
	i := slices.IndexFunc(w.catalog, func(p geo.Place) bool { return w.names[p.Code] == string(name) })
	next.Regions = append(next.Regions, spec.Region{Name: name, Location: spec.Location{Code: w.catalog[i].Code}, Witness: witness})
}

// majority adds a witness where tables that are kept as they are would be left with two voters.
func (w *world) majority(next *spec.Spec) {
	if len(next.Regions) != 2 || len(next.DataRegions()) != 2 {
		return
	}
	for _, t := range next.Tables {
		if t.Writes == antipode.WriteLocal || len(t.Replicas) < 2 {
			continue
		}
		if s, ok := w.witness(w.sites); ok {
			w.addRegion(next, s.region(), true)
		}
		return
	}
}

// keepUsers writes down where users were assumed to be, which is near the regions
// of the file: with more regions in it the same assumption would be another one.
func (w *world) keepUsers(next *spec.Spec) {
	if len(next.Needs.Users) > 0 || len(next.DataRegions()) == len(w.sites) {
		return
	}
	for i := range w.spec.Regions {
		if r := &w.spec.Regions[i]; !r.Witness {
			next.Needs.Users = append(next.Needs.Users, spec.Users{Name: near(string(r.Name)), Location: r.Location})
		}
	}
	for i := range next.Needs.Data {
		if d := &next.Needs.Data[i]; !slices.Contains(d.Why, "latency") && w.answered(d) {
			first := []spec.Share{{Users: near(w.sites[0].name), Share: 1}}
			d.Reads.From, d.Writes.From = first, first
		}
	}
}

// withoutJournals takes the journals away from witnesses that are where some data
// must not be, unless a table has too few other copies.
func withoutJournals(next *spec.Spec) {
	if slices.ContainsFunc(next.Tables, func(t spec.Table) bool { return t.RPO != nil && len(t.Replicas)-1 < max(1, t.RPOCopies) }) {
		return
	}
	for i := range next.Regions {
		r := &next.Regions[i]
		p := point{string(r.Name), r.Location.Place()}
		if r.Journal && slices.ContainsFunc(next.Needs.Data, func(d spec.Data) bool { return !may(d.Stay, p) }) {
			r.Journal = false
		}
	}
}

// tableFor is the table that an answer asks for.
func (w *world) tableFor(a *Answer) (spec.Table, bool) {
	old, ok := w.spec.Table(a.Name)
	switch {
	case !a.IsTable || len(a.Replicas) == 0 || !ok && !spec.IsTableName(a.Name):
		return spec.Table{}, false
	case !a.Asked:
		return *old, true
	case !ok:
		old = &spec.Table{Name: a.Name, Key: spec.Key{Partition: spec.KeyAttribute{Name: "id", Type: "S"}}}
	}
	t := spec.Table{Name: old.Name, Key: old.Key, Writes: a.Writes, Writer: a.Writer, Rule: a.Rule, Home: spec.Home(a.Home), Replicas: a.Replicas}
	if t.Writes == antipode.WriteLocal && t.Rule == antipode.RuleRegionPriority {
		t.Priority = slices.DeleteFunc(slices.Clone(old.Priority), func(r antipode.Region) bool { return !slices.Contains(a.Replicas, r) })
		if len(t.Priority) == 0 {
			t.Priority = a.Replicas
		}
	}
	if len(a.Replicas) < 2 {
		return t, true
	}
	if t.RPO = a.RPO.Promised; t.RPO != nil && *t.RPO == 0 {
		t.RPOCopies, t.Unprotected = a.RPOCopies, old.Unprotected
	}
	if t.Writes != antipode.WriteLocal {
		t.Successors = a.Successors
		if old.Writes == t.Writes { // another mode has another default
			t.Return = old.Return
		}
	}
	return t, true
}

// note writes down what was decided.
func (w *world) note(needs *spec.Needs, a *Answer) {
	i := slices.IndexFunc(needs.Data, func(d spec.Data) bool { return d.Name == a.Name })
	if i < 0 {
		needs.Data = append(needs.Data, spec.Data{Name: a.Name})
		i = len(needs.Data) - 1
	}
	d := &needs.Data[i]
	d.Strategy = string(a.Strategy)
	if len(a.Replicas) == 0 {
		return
	}
	every, keep := a.Backup.Every, a.Backup.Keep
	d.Backup = &spec.Backup{Every: &every, Keep: &keep, In: a.Backup.In}
	d.Logs = slices.DeleteFunc(slices.Clone(d.Logs), func(name string) bool { return !may(d.Stay, w.placeOf(name)) })
}

// complete fills in the defaults, by way of the file: then it is sure that it loads.
func complete(s *spec.Spec) (*spec.Spec, error) {
	for base := s.BasePort; ; base += spec.PortStride {
		next := *s
		next.Regions = slices.Clone(s.Regions)
		for i := range next.Regions {
			if r := &next.Regions[i]; r.Addresses == (spec.Addresses{}) {
				at := func(offset int) string { return "127.0.0.1:" + strconv.Itoa(base+spec.PortStride*i+offset) }
				r.Addresses = spec.Addresses{API: at(spec.OffsetAPI), Operator: at(spec.OffsetOperator), Link: at(spec.OffsetLink)}
			}
		}
		text, err := next.Marshal()
		if err == nil {
			var out *spec.Spec
			if out, err = spec.Load(text, "antipode.yaml"); err == nil {
				return out, nil
			}
		}
		// Ports that are taken may stand in the way, and there are others.
		if base > s.BasePort+20*spec.PortStride {
			return nil, fmt.Errorf("complete the advised spec: %w", err)
		}
	}
}

// draw fills in the map.
func (w *world) draw(r *Report, next *spec.Spec) {
	r.Regions, r.Users = []Site{}, []Group{}
	used := map[string]bool{}
	for i := range r.Data {
		a := &r.Data[i]
		for _, name := range append(slices.Clone(a.Replicas), a.Witness) {
			used[string(name)] = true
		}
		for _, name := range a.Backup.In {
			used[name] = true
		}
	}
	for i := range next.Regions {
		g := &next.Regions[i]
		p := g.Location.Place()
		r.Regions = append(r.Regions, Site{
			Name: g.Name, Code: p.Code, City: p.City, Latitude: p.Latitude, Longitude: p.Longitude, Witness: g.Witness,
			Added: i >= len(w.spec.Regions), Unused: len(r.Data) > 0 && !used[string(g.Name)],
		})
	}
	for _, g := range w.groups {
		r.Users = append(r.Users, Group{g.name, g.share, g.place.Latitude, g.place.Longitude})
	}
}

// pinned reports whether a table waits for a person when its writer is lost.
func pinned(t *spec.Table) bool { return t.Failover == control.FailoverPinned && len(t.Replicas) > 1 }
