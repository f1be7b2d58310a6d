package view

import (
	"fmt"
	"math"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/plan"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// chart is the map: everything in the units of its view box.
type chart struct {
	Land          string
	Width, Height float64
	Ways          []way
	Users         []dot
	Regions       []dot
	Labels        []label

	middles []middle // of the ways between regions
}

// middle is where a way's round trip is written.
type middle struct {
	x, y float64
	text string
}

// way is a line between two points, along the great circle.
type way struct{ Class, Path, Title string }

type dot struct {
	X, Y, R      float64
	Class, Title string
}

// label is text beside a dot.
type label struct {
	X, Y          float64
	Anchor, Class string
	Text          string
}

func placeOf(s plan.Site) geo.Place {
	return geo.Place{Code: s.Code, Latitude: s.Latitude, Longitude: s.Longitude}
}

// newChart draws regions and users, the ways between regions that keep the same
// data, and the way from each group to the region that serves it.
func newChart(r *plan.Report, measured []plan.RoundTrip) *chart {
	c := &chart{Land: land, Width: mapWidth, Height: math.Round(mapHeight())}
	sites := map[antipode.Region]plan.Site{}
	for _, s := range r.Regions {
		sites[s.Name] = s
	}
	c.between(r, sites, measured)
	c.toUsers(r, sites)
	c.name(r)
	return c
}

// between draws the ways that data takes, the dearest strategy's colour on top.
func (c *chart) between(r *plan.Report, sites map[antipode.Region]plan.Site, measured []plan.RoundTrip) {
	type pair [2]antipode.Region
	drawn := map[pair]plan.Strategy{}
	var order []pair
	add := func(a, b antipode.Region, s plan.Strategy) {
		if a > b {
			a, b = b, a
		}
		old, there := drawn[pair{a, b}]
		if !there {
			order = append(order, pair{a, b})
		}
		if !there || rank(s) > rank(old) {
			drawn[pair{a, b}] = s
		}
	}
	for _, a := range r.Data {
		for i := range a.Replicas {
			for _, other := range a.Replicas[i+1:] {
				add(a.Replicas[i], other, a.Strategy)
			}
		}
	}
	for _, p := range order {
		a, okA := sites[p[0]]
		b, okB := sites[p[1]]
		if !okA || !okB {
			continue
		}
		took, how := geo.RTT(placeOf(a), placeOf(b)), "estimate"
		if _, ok := geo.Measured(placeOf(a), placeOf(b)); ok {
			how = "table"
		}
		for _, m := range measured {
			if m.From == string(p[0]) && m.To == string(p[1]) || m.From == string(p[1]) && m.To == string(p[0]) {
				took, how = time.Duration(m.RTT), "measured"
			}
		}
		path, x, y := wayPath(placeOf(a), placeOf(b))
		c.middles = append(c.middles, middle{x, y, plan.Span(spec.Duration(took))})
		c.Ways = append(c.Ways, way{
			Class: "way " + string(drawn[p]), Path: path,
			Title: fmt.Sprintf("%s - %s: %s there and back (%s), light alone %s", p[0], p[1], plan.Span(spec.Duration(took)), how, plan.Span(spec.Duration(geo.Floor(placeOf(a), placeOf(b))))),
		})
	}
}

// toUsers draws the groups, and a way to whichever region is the first that their
// reads pass.
func (c *chart) toUsers(r *plan.Report, sites map[antipode.Region]plan.Site) {
	for _, g := range r.Users {
		at := geo.Place{Latitude: g.Latitude, Longitude: g.Longitude}
		x, y := project(at)
		c.Users = append(c.Users, dot{round1(x), round1(y), round1(6 + 16*math.Sqrt(max(0, g.Share))), "users", fmt.Sprintf("%s: %s of the traffic", g.Name, share(g.Share))})
		served := map[string]bool{}
		for _, a := range r.Data {
			for _, l := range a.Latency {
				if l.Users != g.Name || len(l.Read.Via) == 0 || served[l.Read.Via[0]] {
					continue
				}
				served[l.Read.Via[0]] = true
				if s, ok := sites[antipode.Region(l.Read.Via[0])]; ok {
					path, _, _ := wayPath(at, placeOf(s))
					c.Ways = append(c.Ways, way{"way serves", path, fmt.Sprintf("%s reads in %s: %s", g.Name, s.Name, plan.Span(l.Read.Estimate))})
				}
			}
		}
	}
	for _, s := range r.Regions {
		x, y := project(placeOf(s))
		d := dot{round1(x), round1(y), 5.5, "region", fmt.Sprintf("%s, %s", s.Name, s.City)}
		switch {
		case s.Unused:
			d.Class, d.Title = "region unused", d.Title+": nothing in the plan needs it"
		case s.Witness:
			d.Class, d.Title, d.R = "region witness", d.Title+": a witness, which votes and keeps no data", 4.5
		}
		if s.Added {
			d.Class, d.Title = d.Class+" added", d.Title+"; the plan adds it"
		}
		c.Regions = append(c.Regions, d)
	}
}

// name puts names where they cover neither a dot nor one another.
func (c *chart) name(r *plan.Report) {
	type box struct{ x0, y0, x1, y1 float64 }
	var taken []box
	for _, d := range c.Regions {
		taken = append(taken, box{d.X - d.R, d.Y - d.R, d.X + d.R, d.Y + d.R})
	}
	const height = 12.0
	put := func(d dot, class, text string) {
		width := float64(utf8.RuneCountInString(text)) * 6.4
		type spot struct {
			b      box
			x, y   float64
			anchor string
		}
		at := func(x, y float64, anchor string) spot {
			left := x
			switch anchor {
			case "end":
				left = x - width
			case "middle":
				left = x - width/2
			}
			return spot{box{left, y - height + 2, left + width, y + 3}, x, y, anchor}
		}
		gap := d.R + 4
		spots := []spot{
			at(d.X+gap, d.Y+4, "start"), at(d.X-gap, d.Y+4, "end"), at(d.X, d.Y-gap, "middle"), at(d.X, d.Y+gap+9, "middle"),
			at(d.X+gap, d.Y+17, "start"), at(d.X-gap, d.Y+17, "end"), at(d.X+gap, d.Y-9, "start"), at(d.X-gap, d.Y-9, "end"), at(d.X, d.Y+gap+22, "middle"),
		}
		best := slices.IndexFunc(spots, func(s spot) bool {
			return s.b.x0 > 2 && s.b.x1 < c.Width-2 && s.b.y0 > 2 && s.b.y1 < c.Height-2 && !slices.ContainsFunc(taken, func(t box) bool {
				return s.b.x0 < t.x1 && t.x0 < s.b.x1 && s.b.y0 < t.y1 && t.y0 < s.b.y1
			})
		})
		s := spots[max(0, best)]
		taken = append(taken, s.b)
		c.Labels = append(c.Labels, label{round1(s.x), round1(s.y), s.anchor, class, text})
	}
	for i, s := range r.Regions {
		class := "name"
		if s.Unused {
			class = "name unused"
		}
		put(c.Regions[i], class, string(s.Name))
	}
	for i, g := range r.Users {
		put(c.Users[i], "users", fmt.Sprintf("%s %s", g.Name, share(g.Share)))
	}
	for _, m := range c.middles {
		put(dot{X: m.x, Y: m.y}, "took", m.text)
	}
}

func round1(f float64) float64 { return math.Round(f*10) / 10 }
