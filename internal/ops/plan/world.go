package plan

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/drill"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// point is where something is: a region or a group of users.
type point struct {
	name  string
	place geo.Place
}

// site is a region that keeps data, or could.
type site struct {
	point

	added bool // it is not in the spec
}

func (s site) region() antipode.Region { return antipode.Region(s.name) }

// group is a group of users with its parts of all traffic, of which there is 1.
type group struct {
	point

	share float64
}

// world is what is the same for all data sets.
type world struct {
	spec      *spec.Spec
	needs     *spec.Needs // never nil
	sites     []site
	witnesses []site
	groups    []group
	measured  map[[2]string]RoundTrip
	drills    []*drill.Record // the oldest first
	catalog   []geo.Place
	clouds    map[string]string // by code
	names     map[string]string // by code: what a region there is called when it is added
	hops      map[[2]spot]hop
}

func newWorld(in Input) *world {
	w := &world{spec: in.Spec, needs: in.Spec.Needs, measured: map[[2]string]RoundTrip{}, hops: map[[2]spot]hop{}, clouds: map[string]string{}, names: map[string]string{}}
	if w.needs == nil {
		w.needs = &spec.Needs{}
	}
	for i := range w.spec.Regions {
		r := &w.spec.Regions[i]
		s := site{point: point{string(r.Name), r.Location.Place()}}
		if r.Witness {
			w.witnesses = append(w.witnesses, s)
		} else {
			w.sites = append(w.sites, s)
		}
	}
	for i := range w.needs.Users {
		u := &w.needs.Users[i]
		w.groups = append(w.groups, group{point{u.Name, u.Location.Place()}, or(u.Share, 1)})
	}
	shares(w.groups)
	for _, m := range in.RoundTrips {
		key := pair(m.From, m.To)
		if old, ok := w.measured[key]; m.RTT > 0 && (!ok || !m.Measured.Before(old.Measured)) {
			w.measured[key] = m
		}
	}
	for _, r := range in.Drills {
		if r != nil {
			w.drills = append(w.drills, r)
		}
	}
	slices.SortStableFunc(w.drills, func(a, b *drill.Record) int { return a.Started.Compare(b.Started) })
	codes := geo.Codes()
	for _, code := range codes {
		if p, ok := geo.Lookup(code); ok {
			w.catalog = append(w.catalog, p)
			w.clouds[code] = cloudOf(codes, code)
		}
	}
	for _, p := range w.catalog {
		w.names[p.Code] = w.nameFor(p)
	}
	return w
}

func or[T any](p *T, def T) T {
	if p == nil {
		return def
	}
	return *p
}

// shares makes the shares add up to 1. Where they add up to nothing, they are equal.
func shares(groups []group) {
	sum, largest := 0.0, 0.0
	for _, g := range groups {
		largest = max(largest, g.share)
	}
	for i := range groups {
		if largest > 0 {
			groups[i].share /= largest // so that the sum is no infinity
		} else {
			groups[i].share = 1
		}
		sum += groups[i].share
	}
	for i := range groups {
		groups[i].share /= sum
	}
}

func pair(a, b string) [2]string {
	if b < a {
		a, b = b, a
	}
	return [2]string{a, b}
}

// spot is a point as a key that is quick to look up.
type spot struct {
	name                string
	latitude, longitude float64
}

// hop is a round trip between two points.
type hop struct {
	floor, low, estimate, high time.Duration
	measured                   bool
}

func (w *world) hop(a, b point) hop {
	if a == b {
		return hop{measured: true}
	}
	key := [2]spot{{a.name, a.place.Latitude, a.place.Longitude}, {b.name, b.place.Latitude, b.place.Longitude}}
	if h, ok := w.hops[key]; ok {
		return h
	}
	h := hop{floor: geo.Floor(a.place, b.place)}
	h.low, h.high = scale(h.floor, bandLow), scale(h.floor, bandHigh)
	m, measured := w.measured[pair(a.name, b.name)]
	switch {
	case measured:
		h.estimate = time.Duration(cmp.Or(m.P99, m.RTT))
		h.low, h.high, h.measured = h.estimate, h.estimate, true
	case geo.Distance(a.place, b.place) < nearbyKM:
		h.estimate = nearby
	default:
		h.estimate = geo.RTT(a.place, b.place)
	}
	h.low, h.high = min(h.low, h.estimate), max(h.high, h.estimate)
	w.hops[key] = h
	return h
}

func scale(d time.Duration, by float64) time.Duration { return time.Duration(float64(d) * by) }

func (w *world) rtt(a, b point) time.Duration { return w.hop(a, b).estimate }

// may reports whether data that has to stay somewhere may be at a place. A bare
// point has no country, so only its region's name lets data there.
func may(stay []string, p point) bool {
	if len(stay) == 0 {
		return true
	}
	return slices.ContainsFunc(stay, func(s string) bool {
		return s == p.name || p.place.Code != "" && (s == p.place.Code || s == p.place.Country || s == "EU" && geo.InEU(p.place.Country))
	})
}

// cloudOf tells clouds apart by the order of the table, where regions of one are
// listed together.
func cloudOf(codes []string, code string) string {
	switch i := slices.Index(codes, code); {
	case i < 0:
		return ""
	case i < slices.Index(codes, "us-central1"):
		return "AWS"
	case i < slices.Index(codes, "eastus"):
		return "Google Cloud"
	default:
		return "Azure"
	}
}

// propose finds a cloud region to add: one where the data may stay, apart from
// what is there, the same cloud's if it can be, the nearest to a point.
func (w *world) propose(stay []string, apart []site, to point) (site, bool) {
	var cloud string
	for _, s := range slices.Concat(apart, w.sites) {
		if cloud = w.clouds[s.place.Code]; cloud != "" {
			break
		}
	}
	var best site
	bestCost := math.Inf(1)
	for _, p := range w.catalog {
		s := site{point{w.names[p.Code], p}, true}
		if !may(stay, s.point) ||
			slices.ContainsFunc(apart, func(o site) bool { return geo.Distance(o.place, p) < proposeKM }) {
			continue
		}
		cost := geo.Distance(to.place, p)
		if cloud != "" && w.clouds[p.Code] != cloud {
			cost += 50_000 // further than anything on earth
		}
		if cost < bestCost {
			best, bestCost = s, cost
		}
	}
	return best, !math.IsInf(bestCost, 1)
}

// nameFor makes a region's name out of a place's city, one that is free.
func (w *world) nameFor(p geo.Place) string {
	name := strings.Trim(strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r
		case r == ' ' || r == '.':
			return '-'
		default:
			return -1
		}
	}, strings.ToLower(p.City)), "-")
	if _, taken := w.spec.Region(antipode.Region(name)); taken || w.inCity(p) {
		return p.Code
	}
	return name
}

// inCity reports whether the table knows an earlier region in the same city.
func (w *world) inCity(p geo.Place) bool {
	i := slices.IndexFunc(w.catalog, func(o geo.Place) bool { return o.City == p.City })
	return i >= 0 && w.catalog[i].Code != p.Code
}
