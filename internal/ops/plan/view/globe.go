package view

import (
	_ "embed"
	"fmt"
	"math"
	"strings"

	"github.com/antipode-io/antipode/internal/spec/geo"
)

// land is the outline of all land as one SVG path on the map below. It was made
// by TestLand out of Natural Earth's 1:110m land, which is in the public domain,
// as packed by world-atlas 2.0.2 (ISC).
//
//go:embed land.svgpath
var land string

// The map is this wide, with Antarctica cut off, in the units of the path.
const (
	mapWidth  = 1000.0
	mapNorth  = 84.0  // degrees
	mapSouth  = -57.0 // degrees
	mapMargin = 6.0
)

// project places a point of the globe on the map, by the Natural Earth projection
// (Šavrič, Jenny, Patterson, Petrovič and Hurni, "A Polynomial Equation for the
// Natural Earth Projection", 2011).
func project(p geo.Place) (x, y float64) {
	rx, ry := naturalEarth(p.Longitude, p.Latitude)
	top := northEdge()
	return mapMargin + (rx+halfWidth())*scale(), mapMargin + (top-ry)*scale()
}

// mapHeight is how tall the map is.
func mapHeight() float64 {
	_, south := naturalEarth(0, mapSouth)
	return 2*mapMargin + (northEdge()-south)*scale()
}

func scale() float64 { return (mapWidth - 2*mapMargin) / (2 * halfWidth()) }

func halfWidth() float64 {
	x, _ := naturalEarth(180, 0)
	return x
}

func northEdge() float64 {
	_, y := naturalEarth(0, mapNorth)
	return y
}

// naturalEarth takes degrees and gives radii of the globe.
func naturalEarth(longitude, latitude float64) (x, y float64) {
	l, f := radians(longitude), radians(latitude)
	f2 := f * f
	f4 := f2 * f2
	return l * (0.8707 - 0.131979*f2 + f4*(-0.013791+f4*(0.003971*f2-0.001529*f4))),
		f * (1.007226 + f2*(0.015085+f4*(-0.044475+0.028874*f2-0.005916*f4)))
}

func radians(degrees float64) float64 { return degrees * math.Pi / 180 }

// vector is a point on the unit sphere.
type vector [3]float64

func toVector(p geo.Place) vector {
	l, f := radians(p.Longitude), radians(p.Latitude)
	return vector{math.Cos(f) * math.Cos(l), math.Cos(f) * math.Sin(l), math.Sin(f)}
}

func (v vector) place() geo.Place {
	return geo.Place{Longitude: math.Atan2(v[1], v[0]) * 180 / math.Pi, Latitude: math.Atan2(v[2], math.Hypot(v[0], v[1])) * 180 / math.Pi}
}

// polar is the latitude beyond which the map is no place to draw a way: all
// meridians meet there, and it would leave by the top.
const polar = 72.0

// wayPath draws the shortest way between two places as an SVG path, which leaves
// the map at one side and comes back at the other where it has to. One that goes
// by the pole is drawn as a bow instead. It tells where the middle is.
func wayPath(a, b geo.Place) (path string, x, y float64) {
	const steps = 64
	u, w := toVector(a), toVector(b)
	angle := math.Acos(max(-1, min(1, u[0]*w[0]+u[1]*w[1]+u[2]*w[2])))
	if angle < 1e-6 {
		return "", 0, 0
	}
	if math.Pi-angle < 1e-6 { // all ways are equally long
		return bow(a, b)
	}
	var out strings.Builder
	pen, last := "M", a.Longitude
	for i := range steps + 1 {
		t := float64(i) / steps
		from, to := math.Sin((1-t)*angle)/math.Sin(angle), math.Sin(t*angle)/math.Sin(angle)
		p := vector{u[0]*from + w[0]*to, u[1]*from + w[1]*to, u[2]*from + w[2]*to}.place()
		if math.Abs(p.Latitude) > polar {
			return bow(a, b)
		}
		if math.Abs(p.Longitude-last) > 180 {
			pen = "M"
		}
		px, py := project(p)
		if i == steps/2 {
			x, y = px, py
		}
		fmt.Fprintf(&out, "%s%.1f %.1f", pen, px, py)
		pen, last = "L", p.Longitude
	}
	return out.String(), x, y
}

// bow draws a curve that has its middle towards the nearer edge of the map.
func bow(a, b geo.Place) (path string, x, y float64) {
	ax, ay := project(a)
	bx, by := project(b)
	up := 0.3 * math.Abs(bx-ax)
	if a.Latitude+b.Latitude < 0 {
		up = -up
	}
	cx, cy := (ax+bx)/2, max(0, min(mapHeight(), (ay+by)/2-up))
	return fmt.Sprintf("M%.1f %.1fQ%.1f %.1f %.1f %.1f", ax, ay, cx, cy, bx, by), (ax + 2*cx + bx) / 4, (ay + 2*cy + by) / 4
}
