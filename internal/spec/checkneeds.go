package spec

import (
	"fmt"
	"slices"
	"strings"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// The words that answers are made of.
func onCallWords() []string    { return []string{"none", "office-hours", "always"} }
func kindWords() []string      { return []string{"table", "objects", "database", "files", "queue"} }
func whyWords() []string       { return []string{"continuity", "latency", "law"} }
func surviveWords() []string   { return []string{"zone", "region"} }
func doneWords() []string      { return []string{"zones", "caching", "cdn", "faster-restore"} }
func writtenByWords() []string { return []string{"owner", "anybody", "one-place"} }
func invariantWords() []string { return []string{"none", "unique-names", "balances", "other"} }

// Strategies lists what a data set can be kept by, the cheapest first.
func Strategies() []string {
	return []string{"single-region", "backup-restore", "pilot-light", "warm-standby", "active-active"}
}

// checkNeeds looks at the answers one by one. What they mean together is plan's.
func (d *decoder) checkNeeds(s *Spec, n *Needs) {
	d.word("on_call", &n.Company.OnCall, onCallWords())
	d.atLeastZero("transfer_gb", n.Prices.TransferGB)
	d.atLeastZero("storage_gb_month", n.Prices.StorageGBMonth)
	d.atLeastZero("region_month", n.Prices.RegionMonth)
	d.atLeastZero("events_per_year", n.Region.EventsPerYear)
	d.percent("availability", n.Region.Availability)
	d.percent("shared", n.Region.Shared)
	groups := map[string]bool{}
	for i := range n.Users {
		u := &n.Users[i]
		d.unique("a group of users", &u.Name, groups)
		d.atLeastZero("share", u.Share)
		d.checkPoint(&u.Location)
	}
	names := map[string]bool{}
	for i := range n.Data {
		e := &n.Data[i]
		d.unique("a data set", &e.Name, names)
		d.checkData(s, n, e)
	}
}

// unique checks a name against those that were seen before.
func (d *decoder) unique(what string, name *string, seen map[string]bool) {
	switch {
	case *name == "":
		d.problem(d.where(name), what+" has an empty name", "give it one")
	case seen[*name]:
		d.problem(d.where(name), fmt.Sprintf("%s %q is listed above already", what, *name), "give one of them another name or remove it")
	}
	seen[*name] = true
}

func (d *decoder) checkData(s *Spec, n *Needs, e *Data) {
	d.word("kind", &e.Kind, kindWords())
	if _, isTable := s.Table(e.Name); isTable && e.Kind != "" && e.Kind != "table" {
		d.problem(d.where(&e.Kind), fmt.Sprintf("data set %q is of kind %s, and has the name of a table", e.Name, e.Kind), "leave kind out, or give the data set another name")
	}
	d.word("survive", &e.Survive, surviveWords())
	d.word("written_by", &e.WrittenBy, writtenByWords())
	d.word("strategy", &e.Strategy, Strategies())
	d.words("why", e.Why, whyWords())
	d.words("done", e.Done, doneWords())
	d.words("invariants", e.Invariants, invariantWords())
	d.percent("availability", e.Availability)
	for _, f := range []struct {
		name string
		is   *float64
	}{
		{"outage_hour", e.OutageHour},
		{"item_bytes", e.ItemBytes},
		{"volume_gb", e.VolumeGB},
		{"growth_gb_month", e.GrowthGBMonth},
		{"per_second", e.Reads.PerSecond},
		{"per_second", e.Writes.PerSecond},
	} {
		d.atLeastZero(f.name, f.is)
	}
	if c := e.Capacity; c != nil && *c <= 0 {
		d.problem(d.where(c, e), fmt.Sprintf("capacity is %v per cent of the load", *c), "write how much of the whole load one region can carry: 60, or 100 for all of it")
	}
	for _, t := range []*Traffic{&e.Reads, &e.Writes} {
		if t.P99 != nil && *t.P99 == 0 {
			d.problem(d.where(t.P99, e), "p99 is 0s: nothing is answered in no time", "write the budget, such as 50ms, or leave p99 out when there is none")
		}
		d.checkShares(n, t)
	}
	for _, p := range []struct {
		name string
		list []string
	}{{"stay", e.Stay}, {"logs", e.Logs}} {
		d.places(s, p.name, p.list, p.name == "stay")
	}
	if b := e.Backup; b != nil {
		d.places(s, "in", b.In, false)
		if b.Every != nil && *b.Every == 0 {
			d.problem(d.where(b.Every, b), "a backup every 0s", "write how often one is made, such as 24h")
		}
	}
}

func (d *decoder) checkShares(n *Needs, t *Traffic) {
	var names []string
	for i := range n.Users {
		names = append(names, n.Users[i].Name)
	}
	seen := map[string]bool{}
	for i := range t.From {
		f := &t.From[i]
		if !slices.Contains(names, f.Users) {
			d.problem(d.where(&f.Users, f), fmt.Sprintf("from names %q, which is no group of users", f.Users), choose(f.Users, names, "the groups under needs: users: "+quoted(names)))
		}
		if seen[f.Users] {
			d.problem(d.where(&f.Users, f), fmt.Sprintf("from names %s twice", f.Users), "remove one of them")
		}
		seen[f.Users] = true
		d.atLeastZero("share", &f.Share)
	}
}

// places checks names of regions, and of countries where those are meant, too.
func (d *decoder) places(s *Spec, what string, list []string, countries bool) {
	for i := range list {
		name := &list[i]
		if _, ok := s.Region(antipode.Region(*name)); ok {
			continue
		}
		if _, ok := geo.Lookup(*name); ok {
			continue
		}
		if countries && (*name == "EU" || isCountry(*name)) {
			continue
		}
		known := texts(s.DataRegions())
		known = append(known, geo.Codes()...)
		fix := "name a region of this file (" + quoted(s.DataRegions()) + ") or a cloud region"
		if countries {
			fix += ", a country by its two capital letters (DE), or EU"
			known = append(append(known, "EU"), geo.Countries()...)
		}
		if near := nearest(*name, known); near != "" {
			fix = "did you mean " + near + "? Otherwise " + fix
		}
		d.problem(d.where(name), fmt.Sprintf("%s names %q, which is no place that is known here", what, *name), fix)
	}
}

// isCountry reports whether a name looks like a country's: there may be one
// without a cloud region, and then plan says so.
func isCountry(s string) bool {
	return len(s) == 2 && s[0] >= 'A' && s[0] <= 'Z' && s[1] >= 'A' && s[1] <= 'Z'
}

// word checks a text that is one of some words, if it was given.
func (d *decoder) word(what string, is *string, all []string) {
	if _, given := d.at[is]; (given || *is != "") && !slices.Contains(all, *is) {
		d.problem(d.where(is), fmt.Sprintf("%s is %q", what, *is), choose(*is, all, strings.Join(all, ", ")))
	}
}

func (d *decoder) words(what string, list, all []string) {
	for i := range list {
		if slices.Contains(list[:i], list[i]) {
			d.problem(d.where(&list[i]), fmt.Sprintf("%s says %q twice", what, list[i]), "remove one of them")
			continue
		}
		d.word(what, &list[i], all)
	}
}

func (d *decoder) percent(what string, is *float64) {
	if is != nil && (*is <= 0 || *is > 100) {
		d.problem(d.where(is), fmt.Sprintf("%s is %v per cent", what, *is), "write a number above 0 and up to 100, such as 99.95")
	}
}

func (d *decoder) atLeastZero(what string, is *float64) {
	if is != nil && *is < 0 {
		d.problem(d.where(is), fmt.Sprintf("%s is %v", what, *is), "write a number from 0 on")
	}
}
