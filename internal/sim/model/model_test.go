package model

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/replica/collision"
)

func soaking() bool { return os.Getenv("ANTIPODE_SOAK") != "" }

// TestProtocol walks all states of models small enough for every run of the
// tests, and with ANTIPODE_SOAK=1 those of the larger ones: 15 million states,
// a minute and some GB of memory.
func TestProtocol(t *testing.T) {
	tests := []struct {
		name string
		soak bool
		cfg  Config
	}{
		{"four writes", false, Config{Regions: 3, Writes: 4}},
		{"three writes and a crash", false, Config{Regions: 3, Writes: 3, Crashes: 1}},
		{"three writes and a lost disk", false, Config{Regions: 3, Writes: 3, Losses: 1}},
		{"two writes, two crashes and a lost disk", false, Config{Regions: 2, Writes: 2, Crashes: 2, Losses: 1}},
		{"exactly, one write", false, Config{Regions: 3, Writes: 1, Crashes: 2, Exact: true}},
		{"exactly, two regions", false, Config{Regions: 2, Writes: 2, Crashes: 1, Losses: 1, Exact: true}},
		{"five writes", true, Config{Regions: 3, Writes: 5}},
		{"four writes and a crash", true, Config{Regions: 3, Writes: 4, Crashes: 1}},
		{"four writes and a lost disk", true, Config{Regions: 3, Writes: 4, Losses: 1}},
		{"three writes, a crash and a lost disk", true, Config{Regions: 3, Writes: 3, Crashes: 1, Losses: 1}},
		{"exactly, two writes", true, Config{Regions: 3, Writes: 2, Exact: true}},
		{"exactly, two regions and more", true, Config{Regions: 2, Writes: 3, Crashes: 1, Losses: 1, Exact: true}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if test.soak && !soaking() {
				t.Skip("larger model; ANTIPODE_SOAK=1 runs it")
			}
			res, err := Check(test.cfg)
			if err != nil {
				t.Fatal(err)
			}
			if res.Violation != "" || res.Truncated {
				t.Fatalf("%s, after\n%s", res.Violation, list(res.Trace))
			}
			t.Logf("%d states, the farthest %d steps away", res.States, res.Depth)
		})
	}
}

func list(steps []Step) string {
	var b strings.Builder
	for _, s := range steps {
		b.WriteString("  " + s.String() + "\n")
	}
	return b.String()
}

// planted says for each bug what the model must be allowed so that it shows, and how.
func planted() map[Bug]struct {
	cfg  Config
	want string
} {
	type p = struct {
		cfg  Config
		want string
	}
	plain := Config{Regions: 3, Writes: 3}
	crash := Config{Regions: 3, Writes: 2, Crashes: 1}
	loss := Config{Regions: 3, Writes: 2, Losses: 1}
	return map[Bug]p{
		ShipUnsynced:       {crash, "fork"},
		ReportUnsynced:     {crash, "lost"},
		KeepIncarnation:    {loss, "fork"},
		NoTieBreak:         {plain, "diverged"},
		DropUnstable:       {plain, "resurrected"},
		DropBesideUnstable: {plain, "diverged"},
		DropFromSiblings:   {plain, "resurrected"},
		CountAcksAtOnce:    {plain, "records"},
		RecordMeetings:     {plain, "records"},
		ForgetEnd:          {loss, "records"},
		AckUnsynced:        {crash, "lost"},
		SkipCausalWait:     {plain, "diverged"},
		ApplyEcho:          {plain, "diverged"},
		CutUnstable:        {plain, "lost"},
	}
}

// TestPlantedBugs: without its rule, the protocol loses something within a dozen steps.
func TestPlantedBugs(t *testing.T) {
	all := planted()
	for _, bug := range Bugs() {
		t.Run(string(bug), func(t *testing.T) {
			test, ok := all[bug]
			if !ok {
				t.Fatal("no test for this bug")
			}
			cfg := test.cfg
			cfg.Bugs = []Bug{bug}
			res, err := Check(cfg)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%d states: %s\n%s", res.States, res.Violation, list(res.Trace))
			if !strings.HasPrefix(res.Violation, test.want) || len(res.Trace) > 12 {
				t.Errorf("got %q after %d steps, want it %s", res.Violation, len(res.Trace), test.want)
			}
			if wrong := replay(t, cfg, res.Trace); !strings.HasPrefix(wrong, test.want) {
				t.Errorf("step by step with every fsync and report the same run gives %q, want it %s", wrong, test.want)
			}
		})
	}
}

// replay takes a trace of the coarse model through the exact one: fsyncs,
// reports and cuts are done as soon as they can be, but for a stalled disk.
func replay(t *testing.T, cfg Config, steps []Step) string {
	t.Helper()
	cfg.Exact = true
	s, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	stalled := -1
	for _, step := range steps {
		switch {
		case step.Kind == Stall:
			stalled = step.Region
		case !s.Do(step):
			t.Fatalf("%v is not a step of the exact model, in\n%s", step, list(steps))
		}
		if step.Kind == Crash {
			stalled = -1
		}
		for _, kind := range []Kind{Sync, Report, Cut} {
			for _, next := range s.Enabled() {
				if next.Kind == kind && (kind != Sync || next.Region != stalled) {
					s.Do(next)
				}
			}
			if wrong := s.Violation(); wrong != "" {
				return wrong
			}
		}
	}
	return s.Violation()
}

// TestRandomRuns goes where walking everything can't: more writes, crashes and a
// lost disk, every fsync by itself. At the end all is delivered, and all must be equal.
func TestRandomRuns(t *testing.T) {
	runs := 300
	if soaking() {
		runs = 30_000
	}
	for seed := range uint64(runs) {
		random := rand.New(rand.NewPCG(seed, 1))
		s, err := New(Config{Regions: 3, Writes: MaxWrites, Crashes: 3, Losses: random.IntN(2), Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		var trace []Step
		take := func(step Step) {
			if step.Kind == Put || step.Kind == Delete {
				step.Stamp = 1 + random.Uint64N(6) // any clocks will do, ties included
			}
			trace = append(trace, step)
			if !s.Do(step) {
				t.Fatalf("seed %d: an enabled step can't be done: %v", seed, step)
			}
			if wrong := s.Violation(); wrong != "" {
				t.Fatalf("seed %d: %s, after\n%s", seed, wrong, list(trace))
			}
		}
		for range 120 {
			if steps := s.Enabled(); len(steps) > 0 {
				take(steps[random.IntN(len(steps))])
			}
		}
		for settling := true; settling; {
			settling = false
			for _, step := range s.Enabled() {
				if step.Kind == Sync || step.Kind == Deliver {
					take(step)
					settling = true
					break
				}
			}
		}
		for r := 1; r < 3; r++ {
			if diff := cmp.Diff(s.Frontier(0), s.Frontier(r)); diff != "" {
				t.Fatalf("seed %d: not all was delivered to r%d:\n%s%s", seed, r, diff, list(trace))
			}
			if diff := cmp.Diff(s.Recorded(0), s.Recorded(r)); diff != "" {
				t.Fatalf("seed %d: records differ in r%d:\n%s%s", seed, r, diff, list(trace))
			}
		}
	}
}

// beside is the real decisions driven next to the model.
type beside struct {
	*State
	now, disk [MaxRegions][]collision.Version
	known     map[Dot]collision.Entry
}

// TestCollisionAgrees compares siblings, what is visible, what may be dropped
// and what collided after every step.
func TestCollisionAgrees(t *testing.T) {
	for seed := range uint64(100) {
		random := rand.New(rand.NewPCG(seed, 2))
		s, err := New(Config{Regions: 3, Writes: MaxWrites, Crashes: 1, Exact: true})
		if err != nil {
			t.Fatal(err)
		}
		b := beside{State: s, known: map[Dot]collision.Entry{}}
		var trace []Step
		for range 150 {
			steps := s.Enabled()
			if len(steps) == 0 {
				break
			}
			step := steps[random.IntN(len(steps))]
			trace = append(trace, step)
			b.take(step)
			if wrong := b.compare(step.Region); wrong != "" {
				t.Fatalf("seed %d: %s, after\n%s", seed, wrong, list(trace))
			}
		}
	}
}

func (b *beside) take(step Step) {
	r := step.Region
	d := Dot{step.Origin, step.Seq}
	if step.Kind == Put || step.Kind == Delete {
		o := Origin{r, b.Incarnation(r)}
		d = Dot{o, b.Frontier(r)[o] + 1}
	}
	b.Do(step)
	switch step.Kind {
	case Put, Delete, Deliver:
		b.known[d] = b.entry(d)
		b.now[r] = collision.Apply(b.now[r], b.known[d].Version, b.known[d].Context)
	case Drop:
		b.now[r] = nil
	case Sync:
		b.disk[r] = b.now[r]
	case Crash:
		b.now[r] = b.disk[r]
	default: // nothing that the item could show
	}
}

func (b *beside) entry(d Dot) collision.Entry {
	var e collision.Entry
	for _, w := range b.Known() {
		if w.Dot == d {
			e.Version = collision.Version{Dot: dot(d), Stamp: antipode.Stamp(w.Stamp), Delete: w.Delete}
		}
	}
	for o, seq := range b.Context(d) {
		e.Context = e.Context.With(origin(o), uint64(seq))
	}
	return e
}

func (b *beside) compare(r int) string {
	rule, got := antipode.RuleLastWriter, b.now[r]
	same := func(w Write, v collision.Version) bool { return dot(w.Dot) == v.Dot && w.Delete == v.Delete }
	if want := b.Siblings(r); !slices.EqualFunc(want, got, same) {
		return fmt.Sprintf("siblings in r%d: model %v, collision %v", r, want, got)
	}
	shown, ok := b.Visible(r)
	if visible, okToo := collision.Visible(got, rule, nil); ok != okToo || ok && !same(shown, visible) {
		return fmt.Sprintf("visible in r%d: model %v, collision %v", r, shown, visible)
	}
	stable := func(d antipode.Dot) bool {
		for known, e := range b.known {
			if e.Dot == d {
				return b.Stable(r, known)
			}
		}
		return false
	}
	if want := slices.Contains(b.Enabled(), Step{Kind: Drop, Region: r}); want != collision.Droppable(got, rule, nil, stable) {
		return fmt.Sprintf("r%d may drop: model %v, collision %v", r, want, !want)
	}
	want, pairs := map[[2]antipode.Dot]bool{}, map[[2]antipode.Dot]bool{}
	for _, p := range b.Recorded(r) {
		want[[2]antipode.Dot{dot(p[0]), dot(p[1])}] = true
	}
	frontier, history := b.Frontier(r), []collision.Entry(nil)
	for d, e := range b.known {
		if d.Seq <= frontier[d.Origin] {
			history = append(history, e)
		}
	}
	for _, record := range collision.Collisions(history, rule, nil) {
		for i, a := range record.Versions {
			for _, v := range record.Versions[i+1:] {
				if slices.ContainsFunc(a.Beside, func(i collision.Interval) bool {
					return i.Origin == v.Dot.Origin && i.First <= v.Dot.Seq && v.Dot.Seq <= i.Last
				}) {
					pairs[[2]antipode.Dot{a.Dot, v.Dot}] = true
				}
			}
		}
	}
	if !maps.Equal(want, pairs) {
		return fmt.Sprintf("records in r%d: model %v, collision %v", r, want, pairs)
	}
	return ""
}

func origin(o Origin) antipode.Origin {
	return antipode.Origin{Region: antipode.Region("r" + strconv.Itoa(o.Region)), Incarnation: uint32(o.Incarnation)}
}

func dot(d Dot) antipode.Dot { return antipode.Dot{Origin: origin(d.Origin), Seq: uint64(d.Seq)} }

func TestConfig(t *testing.T) {
	for _, cfg := range []Config{
		{},
		{Regions: 4},
		{Regions: 1, Writes: MaxWrites + 1},
		{Regions: 1, Crashes: -1},
		{Regions: 1, Losses: 2},
		{Regions: 1, Bugs: []Bug{"gremlins"}},
	} {
		if _, err := Check(cfg); !errors.Is(err, ErrConfig) {
			t.Errorf("%+v: got %v, want ErrConfig", cfg, err)
		}
	}
	res, err := Check(Config{Regions: 3, Writes: 3, MaxStates: 1000})
	if err != nil || !res.Truncated || res.States < 1000 {
		t.Errorf("bounded: %+v, %v", res, err)
	}
}

func TestDoRefuses(t *testing.T) {
	s, err := New(Config{Regions: 2, Writes: 1, Exact: true})
	if err != nil {
		t.Fatal(err)
	}
	before := *s
	for _, step := range []Step{
		{Kind: Sync},
		{Kind: Stall},
		{Kind: Cut, Region: 1},
		{Kind: Drop, Region: 7},
		{Kind: 99},
		{Kind: Deliver, Region: 1, Origin: Origin{0, 1}, Seq: 1},
	} {
		if s.Do(step) || cmp.Diff(before.Known(), s.Known()) != "" {
			t.Errorf("%v was done", step)
		}
	}
	if !s.Do(Step{Kind: Put, Region: 1, Stamp: 77}) || s.Known()[0].Stamp != 77 {
		t.Error("a put with a stamp was not done as asked")
	}
	if len(s.Acknowledged()) != 0 || !s.Do(Step{Kind: Sync, Region: 1}) || len(s.Acknowledged()) != 1 {
		t.Error("a write is acknowledged by its fsync")
	}
}
