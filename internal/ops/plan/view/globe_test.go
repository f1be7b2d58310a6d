package view

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/antipode-io/antipode/internal/spec/geo"
)

// landFile is where `npm pack world-atlas` has the outline. Given, TestLand makes
// land.svgpath of it: go test -run TestLand -land package/land-110m.json
var landFile = flag.String("land", "", "make land.svgpath of this TopoJSON file")

// TestLand checks the outline, after it made it when it was asked to.
func TestLand(t *testing.T) {
	if *landFile != "" {
		land = makeLand(t, *landFile)
		if err := os.WriteFile("land.svgpath", []byte(land), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if bad := regexp.MustCompile(`[^MlzZ0-9.\- ]`).FindString(strings.TrimSpace(land)); bad != "" {
		t.Errorf("the path has %q", bad)
	}
	if rings := strings.Count(land, "M"); rings < 30 || len(land) > 40_000 {
		t.Errorf("%d rings in %d bytes", rings, len(land))
	}
	for _, tc := range []struct {
		what     string
		at       geo.Place
		expected bool
	}{
		{"Kansas", geo.Place{Latitude: 38.5, Longitude: -98}, true},
		{"Frankfurt", geo.Place{Latitude: 50.1, Longitude: 8.7}, true},
		{"the Deccan", geo.Place{Latitude: 18.5, Longitude: 77}, true},
		{"the Amazon", geo.Place{Latitude: -5, Longitude: -60}, true},
		{"Alice Springs", geo.Place{Latitude: -23.7, Longitude: 133.9}, true},
		{"the mid Atlantic", geo.Place{Latitude: 30, Longitude: -40}, false},
		{"the mid Pacific", geo.Place{Latitude: 0, Longitude: -150}, false},
		{"the Indian Ocean", geo.Place{Latitude: -20, Longitude: 80}, false},
	} {
		if got := onLand(t, tc.at); got != tc.expected {
			t.Errorf("%s on land: %v", tc.what, got)
		}
	}
}

// onLand counts how often a ray from the place crosses the outline.
func onLand(t *testing.T, p geo.Place) bool {
	t.Helper()
	x, y := project(p)
	inside := false
	for _, ring := range strings.Split(strings.TrimSpace(land), "M")[1:] {
		start, rest, _ := strings.Cut(strings.TrimSuffix(ring, "z"), "l")
		var points [][2]float64
		var px, py float64
		if _, err := fmt.Sscanf(start, "%g %g", &px, &py); err != nil {
			t.Fatal(err)
		}
		points = append(points, [2]float64{px, py})
		numbers := regexp.MustCompile(`-?(\d+\.?\d*|\.\d+)`).FindAllString(rest, -1)
		for i := 0; i+1 < len(numbers); i += 2 {
			dx, _ := strconv.ParseFloat(numbers[i], 64)
			dy, _ := strconv.ParseFloat(numbers[i+1], 64)
			px, py = px+dx, py+dy
			points = append(points, [2]float64{px, py})
		}
		for i := range points {
			a, b := points[i], points[(i+1)%len(points)]
			if (a[1] > y) != (b[1] > y) && x < a[0]+(y-a[1])/(b[1]-a[1])*(b[0]-a[0]) {
				inside = !inside
			}
		}
	}
	return inside
}

// makeLand projects the outline, leaves out what is too small to see, and rounds.
func makeLand(t *testing.T, file string) string {
	t.Helper()
	var topology struct {
		Transform struct{ Scale, Translate [2]float64 }
		Arcs      [][][2]float64
		Objects   struct {
			Land struct {
				Geometries []struct {
					Type string
					Arcs json.RawMessage
				}
			}
		}
	}
	text, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(text, &topology)
	}
	if err != nil {
		t.Fatal(err)
	}
	arcs := make([][]geo.Place, len(topology.Arcs))
	for i, arc := range topology.Arcs { // quantized, each point counted from the one before
		x, y := 0.0, 0.0
		for _, d := range arc {
			x, y = x+d[0], y+d[1]
			arcs[i] = append(arcs[i], geo.Place{
				Longitude: x*topology.Transform.Scale[0] + topology.Transform.Translate[0],
				Latitude:  y*topology.Transform.Scale[1] + topology.Transform.Translate[1],
			})
		}
	}
	var path strings.Builder
	for _, g := range topology.Objects.Land.Geometries {
		var polygons [][][]int
		if g.Type == "Polygon" {
			polygons = make([][][]int, 1)
			err = json.Unmarshal(g.Arcs, &polygons[0])
		} else {
			err = json.Unmarshal(g.Arcs, &polygons)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, polygon := range polygons {
			for _, ring := range polygon {
				var line []geo.Place
				for _, n := range ring {
					arc := arcs[max(n, ^n)]
					for k := range arc {
						p := arc[k]
						if n < 0 { // backwards
							p = arc[len(arc)-1-k]
						}
						if len(line) > 0 { // beyond the 180th meridian it goes on counting
							p.Longitude += 360 * math.Round((line[len(line)-1].Longitude-p.Longitude)/360)
						}
						line = append(line, p)
					}
				}
				for _, turn := range []float64{-360, 0, 360} {
					piece := clip(clip(line, turn-180, 1), turn+180, -1)
					if len(piece) < 3 || piece[0].Latitude < mapSouth { // Antarctica is off the map
						continue
					}
					flat := make([][2]float64, len(piece))
					for i, p := range piece {
						p.Longitude -= turn
						flat[i][0], flat[i][1] = project(p)
					}
					writeRing(&path, simplify(flat, 0.35))
				}
			}
		}
	}
	return path.String() + "\n"
}

// clip cuts a ring off at a meridian; side says which side stays: 1 is the east
// (Sutherland and Hodgman, 1974).
func clip(ring []geo.Place, meridian, side float64) (out []geo.Place) {
	for i, p := range ring {
		q := ring[(i+1)%len(ring)]
		in, next := (p.Longitude-meridian)*side >= 0, (q.Longitude-meridian)*side >= 0
		if in {
			out = append(out, p)
		}
		if in != next {
			t := (meridian - p.Longitude) / (q.Longitude - p.Longitude)
			out = append(out, geo.Place{Longitude: meridian, Latitude: p.Latitude + t*(q.Latitude-p.Latitude)})
		}
	}
	return out
}

// writeRing leaves out rings of less than four square units.
func writeRing(path *strings.Builder, line [][2]float64) {
	area := 0.0
	for i, p := range line {
		q := line[(i+1)%len(line)]
		area += p[0]*q[1] - q[0]*p[1]
	}
	if math.Abs(area)/2 < 4 {
		return
	}
	tenth := func(f float64) int { return int(math.Round(f * 10)) }
	text := func(n int) string { return strings.TrimPrefix(strconv.FormatFloat(float64(n)/10, 'f', -1, 64), "+") }
	x, y := tenth(line[0][0]), tenth(line[0][1])
	path.WriteString("M" + text(x) + " " + text(y) + "l")
	first := true
	for _, p := range line[1:] {
		dx, dy := tenth(p[0])-x, tenth(p[1])-y
		if dx == 0 && dy == 0 {
			continue
		}
		x, y = x+dx, y+dy
		for _, n := range []string{text(dx), text(dy)} {
			if !first && !strings.HasPrefix(n, "-") {
				path.WriteByte(' ')
			}
			first = false
			path.WriteString(n)
		}
	}
	path.WriteByte('z')
}

// simplify drops points that are no further than that from the line between their
// neighbours (Douglas and Peucker, 1973).
func simplify(line [][2]float64, tolerance float64) [][2]float64 {
	if len(line) < 3 {
		return line
	}
	a, b := line[0], line[len(line)-1]
	worst, at := 0.0, 0
	for i, p := range line[1 : len(line)-1] {
		length := math.Hypot(b[0]-a[0], b[1]-a[1])
		d := math.Hypot(p[0]-a[0], p[1]-a[1])
		if length > 0 {
			d = math.Abs((b[0]-a[0])*(a[1]-p[1])-(a[0]-p[0])*(b[1]-a[1])) / length
		}
		if d > worst {
			worst, at = d, i+1
		}
	}
	if worst <= tolerance {
		return [][2]float64{a, b}
	}
	left := simplify(line[:at+1], tolerance)
	return append(left[:len(left)-1:len(left)-1], simplify(line[at:], tolerance)...)
}
