package collision

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/antipode-io/antipode"
)

const shard = antipode.Shard(0x1f09c2d3a4b50007)

var (
	oregon   = antipode.Origin{Region: "oregon", Incarnation: 1}
	oregon2  = antipode.Origin{Region: "oregon", Incarnation: 2}
	mumbai   = antipode.Origin{Region: "mumbai", Zone: "a", Incarnation: 1}
	dublin   = antipode.Origin{Region: "dublin", Incarnation: 1}
	priority = []antipode.Region{"mumbai", "oregon"}
	empties  = cmpopts.EquateEmpty()
)

func version(o antipode.Origin, seq uint64, ms int64, body string) Version {
	v := Version{Dot: antipode.Dot{Origin: o, Shard: shard, Seq: seq}, Stamp: antipode.MakeStamp(ms, 0), Body: []byte(body)}
	if body == "" {
		v.Delete, v.Body = true, nil
	}
	return v
}

func bodies(versions []Version) []string {
	var out []string
	for _, v := range versions {
		out = append(out, string(v.Body))
	}
	return out
}

func TestApply(t *testing.T) {
	a := version(oregon, 1, 10, "a")
	b := version(mumbai, 1, 11, "b")
	c := version(oregon, 5, 12, "c")
	before := []Version{b, a}
	got := Apply(before, c, antipode.Frontier{{Origin: oregon, Seq: 4}})
	if diff := cmp.Diff([]string{"b", "c"}, bodies(got)); diff != "" {
		t.Errorf("overwrites what it has seen, keeps what it has not (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"b", "a"}, bodies(before)); diff != "" {
		t.Errorf("changed its argument:\n%s", diff)
	}
	if diff := cmp.Diff(got, Apply(got, c, antipode.Frontier{{Origin: oregon, Seq: 4}})); diff != "" {
		t.Errorf("a second time doubles:\n%s", diff)
	}
	both := antipode.Frontier{{Origin: mumbai, Seq: 1}, {Origin: oregon, Seq: 5}}
	if diff := cmp.Diff([]string{"d"}, bodies(Apply(got, version(dublin, 1, 1, "d"), both))); diff != "" {
		t.Errorf("having seen all, replaces all, whatever its stamp:\n%s", diff)
	}
}

func TestVisible(t *testing.T) {
	late := version(oregon, 9, 30, "late")
	tests := []struct {
		name     string
		siblings []Version
		want     map[antipode.Rule]string
	}{
		{"stamps", []Version{version(dublin, 1, 20, "mid"), late, version(mumbai, 1, 10, "early")}, map[antipode.Rule]string{
			antipode.RuleLastWriter: "late", antipode.RuleFirstWriter: "early", antipode.RuleRegionPriority: "early",
		}},
		{"equal stamps: region", []Version{version(mumbai, 7, 30, "mumbai"), late, version(dublin, 8, 30, "dublin")}, map[antipode.Rule]string{
			antipode.RuleLastWriter: "late", antipode.RuleFirstWriter: "dublin", antipode.RuleRegionPriority: "mumbai",
		}},
		{"equal stamps: incarnation", []Version{version(oregon2, 1, 30, "second"), late}, map[antipode.Rule]string{
			antipode.RuleLastWriter: "second", antipode.RuleFirstWriter: "late", antipode.RuleRegionPriority: "second",
		}},
		{"regions not listed come last", []Version{version(dublin, 1, 40, "dublin"), late}, map[antipode.Rule]string{
			antipode.RuleLastWriter: "dublin", antipode.RuleFirstWriter: "late", antipode.RuleRegionPriority: "late",
		}},
		{"unknown rule", []Version{version(dublin, 1, 40, "dublin"), late}, map[antipode.Rule]string{"from-the-future": "dublin"}},
	}
	for _, test := range tests {
		for rule, want := range test.want {
			for range 6 {
				rand.Shuffle(len(test.siblings), func(i, j int) {
					test.siblings[i], test.siblings[j] = test.siblings[j], test.siblings[i]
				})
				got, ok := Visible(test.siblings, rule, priority)
				if !ok || string(got.Body) != want {
					t.Errorf("%s, %s: got %q, want %q", test.name, rule, got.Body, want)
				}
			}
		}
	}
	if _, ok := Visible(nil, antipode.RuleLastWriter, nil); ok {
		t.Error("something visible of nothing")
	}
}

func TestDroppable(t *testing.T) {
	put, tomb := version(oregon, 1, 10, "put"), version(mumbai, 1, 20, "")
	all := func(antipode.Dot) bool { return true }
	notPut := func(d antipode.Dot) bool { return d != put.Dot }
	notTomb := func(d antipode.Dot) bool { return d != tomb.Dot }
	tests := []struct {
		name     string
		siblings []Version
		rule     antipode.Rule
		stable   func(antipode.Dot) bool
		want     bool
	}{
		{"alone and stable", []Version{tomb}, antipode.RuleLastWriter, all, true},
		{"alone, not stable", []Version{tomb}, antipode.RuleLastWriter, notTomb, false},
		{"an item", []Version{put}, antipode.RuleLastWriter, all, false},
		{"nothing", nil, antipode.RuleLastWriter, all, false},
		{"visible over a put", []Version{put, tomb}, antipode.RuleLastWriter, all, true},
		{"visible, put not stable", []Version{put, tomb}, antipode.RuleLastWriter, notPut, false},
		{"visible, tombstone not stable", []Version{put, tomb}, antipode.RuleLastWriter, notTomb, false},
		{"not visible", []Version{put, tomb}, antipode.RuleFirstWriter, all, false},
	}
	for _, test := range tests {
		if got := Droppable(test.siblings, test.rule, nil, test.stable); got != test.want {
			t.Errorf("%s: got %v, want %v", test.name, got, test.want)
		}
	}
}

// The shape that makes pairs of siblings a wrong record: c overwrites a, and b
// is concurrent with both. A region that meets a, c, b never has a beside b.
func TestCollisionsBeyondSiblings(t *testing.T) {
	a := Entry{Version: version(oregon, 1, 10, "a"), Uncertainty: 2 * time.Millisecond}
	b := Entry{Version: version(mumbai, 3, 15, "b"), Uncertainty: 2 * time.Millisecond}
	c := Entry{Version: version(oregon, 2, 20, "c"), Context: antipode.Frontier{{Origin: oregon, Seq: 1}}}
	later := Entry{Version: version(dublin, 1, 21, "d"), Context: antipode.Frontier{{Origin: mumbai, Seq: 3}, {Origin: oregon, Seq: 2}}}
	got := Collisions([]Entry{later, c, b, a, b}, antipode.RuleLastWriter, nil)
	want := []Record{{
		Versions: []Recorded{
			{Entry: a, Beside: []Interval{{mumbai, 3, 3}}, BeatenBy: []Interval{{mumbai, 3, 3}}},
			{Entry: b, Beside: []Interval{{oregon, 1, 2}}, BeatenBy: []Interval{{oregon, 2, 2}}},
			{Entry: c, Beside: []Interval{{mumbai, 3, 3}}},
		},
		Visible: 2, Rival: 1, Lead: 5 * time.Millisecond,
	}}
	if diff := cmp.Diff(want, got, empties); diff != "" {
		t.Fatalf("(-want +got):\n%s", diff)
	}
	if !got[0].Certain() || string(got[0].First().Body) != "a" {
		t.Error("a was first, 5 ms before b with clocks good to 2 ms each: certain")
	}
	got[0].Versions[1].Uncertainty = 3 * time.Millisecond
	if got[0].Certain() {
		t.Error("5 ms before with clocks good to 2 and 3 ms: not certain")
	}
	if Final(got[0], func(d antipode.Dot) bool { return d != b.Dot }) || !Final(got[0], func(antipode.Dot) bool { return true }) {
		t.Error("final is when all versions are stable")
	}
}

// world is a run of origins that write one key (and others, which leave gaps in
// the sequences) and hear of each other at random.
type world struct {
	origins []antipode.Origin
	entries []Entry // of the key, in the order they were written
	deps    []Entry // of all keys
}

func drawWorld(t *rapid.T, maxWrites int) world {
	w := world{origins: []antipode.Origin{dublin, mumbai, oregon}}
	if rapid.Bool().Draw(t, "zones") {
		w.origins = []antipode.Origin{oregon, oregon2, mumbai}
	}
	n := len(w.origins)
	frontiers := make([]antipode.Frontier, n)
	clocks := make([]antipode.Stamp, n)
	pull := func(to, from int) { // everything that from has: always causal
		frontiers[to] = frontiers[to].Join(frontiers[from])
		clocks[to] = max(clocks[to], clocks[from])
	}
	for range rapid.IntRange(1, maxWrites).Draw(t, "writes") {
		for range rapid.IntRange(0, 2).Draw(t, "pulls") {
			pull(rapid.IntRange(0, n-1).Draw(t, "to"), rapid.IntRange(0, n-1).Draw(t, "from"))
		}
		o := rapid.IntRange(0, n-1).Draw(t, "origin")
		clocks[o] = max(clocks[o]+1, antipode.Stamp(rapid.IntRange(0, 8).Draw(t, "clock"))<<15)
		e := Entry{Context: frontiers[o].Clone(), Version: Version{Stamp: clocks[o], Dot: antipode.Dot{
			Origin: w.origins[o], Shard: shard, Seq: frontiers[o].Seq(w.origins[o]) + 1,
		}}}
		if e.Delete = rapid.Bool().Draw(t, "delete"); !e.Delete {
			e.Body = []byte(e.Dot.String())
		}
		frontiers[o] = frontiers[o].With(w.origins[o], e.Dot.Seq)
		w.deps = append(w.deps, e)
		if rapid.IntRange(0, 4).Draw(t, "key") > 0 {
			w.entries = append(w.entries, e)
		}
	}
	return w
}

// eachOrder visits every causal order of the entries.
func eachOrder(entries []Entry, visit func([]Entry)) {
	var walk func(done []Entry, f antipode.Frontier, left []Entry)
	walk = func(done []Entry, f antipode.Frontier, left []Entry) {
		if len(left) == 0 {
			visit(done)
			return
		}
		for i, e := range left {
			if f.Covers(e.Context) && f.Seq(e.Dot.Origin) == e.Dot.Seq-1 {
				walk(append(slices.Clip(done), e), f.Clone().With(e.Dot.Origin, e.Dot.Seq), slices.Delete(slices.Clone(left), i, i+1))
			}
		}
	}
	walk(nil, nil, entries)
}

func TestEveryOrderConverges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 6)
		rule := rapid.SampledFrom(antipode.Rules()).Draw(t, "rule")
		var want []Version // by definition: what nobody has seen
		for _, e := range w.entries {
			if !slices.ContainsFunc(w.entries, func(f Entry) bool { return f.Saw(e.Dot) }) {
				want = append(want, e.Version)
			}
		}
		Sort(want)
		records := Collisions(w.entries, rule, priority)
		checkRecords(t, w.entries, records, rule)
		orders := 0
		eachOrder(w.deps, func(order []Entry) {
			orders++
			var siblings []Version
			var history []Entry
			for _, e := range order {
				if slices.ContainsFunc(w.entries, func(f Entry) bool { return f.Dot == e.Dot }) {
					siblings = Apply(siblings, e.Version, e.Context)
					history = append(history, e)
				}
			}
			if diff := cmp.Diff(want, siblings, empties); diff != "" {
				t.Fatalf("siblings (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(records, Collisions(history, rule, priority), empties); diff != "" {
				t.Fatalf("records (-want +got):\n%s", diff)
			}
		})
		if orders == 0 {
			t.Fatal("the entries have no causal order at all")
		}
	})
}

func TestCollisionsOfLongHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := drawWorld(t, 60)
		rule := rapid.SampledFrom(antipode.Rules()).Draw(t, "rule")
		checkRecords(t, w.entries, Collisions(w.entries, rule, priority), rule)
	})
}

// checkRecords compares with the definitions, each taken literally.
func checkRecords(t *rapid.T, history []Entry, records []Record, rule antipode.Rule) {
	type pair struct{ a, b antipode.Dot }
	at := map[antipode.Dot]int{} // version to record
	for n, r := range records {
		if len(r.Versions) < 2 || !slices.IsSortedFunc(r.Versions, func(a, b Recorded) int { return Compare(a.Version, b.Version) }) {
			t.Fatalf("record %d is too short or out of order: %v", n, r)
		}
		for _, v := range r.Versions {
			if m, twice := at[v.Dot]; twice {
				t.Fatalf("%v is in records %d and %d", v.Dot, m, n)
			}
			at[v.Dot] = n
		}
	}
	truth := map[pair]bool{}
	for a, b := range Pairs(history) {
		truth[pair{a.Dot, b.Dot}], truth[pair{b.Dot, a.Dot}] = true, true
		ra, inA := at[a.Dot]
		rb, inB := at[b.Dot]
		if !inA || !inB || ra != rb {
			t.Fatalf("%v and %v collided, not recorded together", a.Dot, b.Dot)
		}
	}
	within := func(list []Interval, d antipode.Dot) bool {
		return slices.ContainsFunc(list, func(i Interval) bool { return i.Origin == d.Origin && i.First <= d.Seq && d.Seq <= i.Last })
	}
	for _, r := range records {
		reached := map[antipode.Dot]bool{r.Versions[0].Dot: true}
		for grown := true; grown; {
			grown = false
			for _, v := range r.Versions {
				for _, u := range r.Versions {
					if reached[u.Dot] && !reached[v.Dot] && truth[pair{u.Dot, v.Dot}] {
						reached[v.Dot], grown = true, true
					}
				}
			}
		}
		var maximal []Version
		for _, v := range r.Versions {
			if !reached[v.Dot] {
				t.Fatalf("%v does not hang together with its record", v.Dot)
			}
			if !slices.ContainsFunc(r.Versions, func(u Recorded) bool { return u.Saw(v.Dot) }) {
				maximal = append(maximal, v.Version)
			}
			for _, h := range history {
				if got, want := within(v.Beside, h.Dot), truth[pair{v.Dot, h.Dot}]; got != want {
					t.Fatalf("%v beside %v: got %v, want %v", v.Dot, h.Dot, got, want)
				}
				want := truth[pair{v.Dot, h.Dot}] && Beats(h.Version, v.Version, rule, priority)
				if got := within(v.BeatenBy, h.Dot); got != want {
					t.Fatalf("%v beaten by %v: got %v, want %v", v.Dot, h.Dot, got, want)
				}
			}
			if got := Beside(history, v.Entry); !slices.ContainsFunc(got, func(h Entry) bool { return truth[pair{v.Dot, h.Dot}] }) {
				t.Fatalf("nothing beside %v: %v", v.Dot, got)
			}
		}
		visible, _ := Visible(maximal, rule, priority)
		if r.Versions[r.Visible].Dot != visible.Dot {
			t.Fatalf("visible is %v, want %v", r.Versions[r.Visible].Dot, visible.Dot)
		}
		rival := slices.IndexFunc(r.Versions, func(v Recorded) bool { return truth[pair{v.Dot, r.First().Dot}] })
		if r.Rival != rival {
			t.Fatalf("rival is %d, want %d", r.Rival, rival)
		}
	}
}

// hotKey is two regions overwriting one key all the time while hearing of each
// other late, with a third one that reads along and writes now and then.
func hotKey(n int) []Entry {
	random := rand.New(rand.NewPCG(1, 2))
	origins := []antipode.Origin{dublin, mumbai, oregon}
	frontiers := make([]antipode.Frontier, len(origins))
	var out []Entry
	for i := range n {
		o := random.IntN(2)
		if i%50 == 0 {
			o = 2
		}
		seq := frontiers[o].Seq(origins[o]) + 1
		out = append(out, Entry{Version: version(origins[o], seq, int64(i), "x"), Context: frontiers[o].Clone()})
		frontiers[o] = frontiers[o].With(origins[o], seq)
		if i%20 == 0 {
			to, from := random.IntN(3), random.IntN(3)
			frontiers[to] = frontiers[to].Join(frontiers[from])
		}
	}
	return out
}

func BenchmarkCollisionsHotKey(b *testing.B) {
	for _, n := range []int{100, 1000, 10_000} {
		history := hotKey(n)
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if len(Collisions(history, antipode.RuleLastWriter, nil)) == 0 {
					b.Fatal("no collisions")
				}
			}
		})
	}
}

func BenchmarkApply(b *testing.B) {
	old := []Version{version(oregon, 1, 10, "a")}
	e, context := version(oregon, 2, 11, "b"), antipode.Frontier{{Origin: oregon, Seq: 1}}
	b.ReportAllocs()
	for b.Loop() {
		if len(Apply(old, e, context)) != 1 {
			b.Fatal("not replaced")
		}
	}
}
