package drill

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/antipode-io/antipode"
)

const (
	oregon, mumbai, frankfurt               = 0, 1, 2
	global, rpo0, partitioned, local        = 0, 1, 2, 3
	ms                                      = time.Millisecond
	faultAt, takenAt, healedAt, endAt       = 10 * time.Second, 13 * time.Second, 20 * time.Second, 26 * time.Second
	rtt                                     = 200 * ms
	homeOfOregon, homeOfMumbai        int64 = 0, 1
)

// scene is a drill in which all went as promised, for tests to spoil.
type scene struct {
	*Evidence

	value int64
}

// newScene gives the evidence of a drill without a fault in it: writes and reads
// from both regions, every 100 ms, one after the other.
func newScene(t *testing.T, kind string) *scene {
	t.Helper()
	k, ok := KindOf(kind)
	if !ok {
		t.Fatalf("no drill %s", kind)
	}
	s := &scene{Evidence: &Evidence{
		Kind: k, Sites: []antipode.Region{"oregon", "mumbai", "frankfurt"}, Data: []int{oregon, mumbai}, Target: oregon,
		Tables: drillTables(), Majority: true, RTO: 5 * time.Second, Fault: faultAt, Healed: healedAt, Recovered: healedAt + 2*time.Second,
		Away: k.alone, Missing: map[int64]bool{}, Stranded: map[int64]bool{}, Found: map[int][]map[string]int64{},
		Collisions: make([]map[string][][]int64, 4),
		OneWay:     func(int, int) time.Duration { return rtt * 2 / 5 },
	}}
	for _, site := range s.Data {
		for range s.Tables {
			s.Found[site] = append(s.Found[site], map[string]int64{})
		}
	}
	s.Collisions[local] = map[string][][]int64{}
	for at := time.Second; at < endAt; at += 250 * ms {
		s.second(at)
	}
	if k.Must == MustFailOver {
		s.Failovers = []Failover{
			{ID: 1, Lost: "oregon", To: "mumbai", Began: faultAt + 2*time.Second, Fixed: faultAt + 2800*ms, Tables: []string{s.Tables[rpo0].Name}},
			{ID: 2, Lost: "oregon", To: "mumbai", Began: faultAt + 2*time.Second, Fixed: faultAt + 2500*ms, Tables: []string{s.Tables[global].Name, s.Tables[partitioned].Name}},
		}
		s.Moves = []Move{{At: takenAt, Table: s.Tables[global].Name, From: "oregon", To: "mumbai"}}
	}
	return s
}

// second does one operation of each kind at each region that could, one after
// the other but for a duel.
func (s *scene) second(at time.Duration) {
	away := s.Kind.alone && at >= faultAt && at < healedAt
	for n, site := range s.Data {
		at := at + time.Duration(n)*40*ms
		if away && (site == oregon || at < takenAt) {
			continue
		}
		for table := range s.Tables[:local] {
			s.write(table, site, Receipt, 0, at)
			key := int64(site)
			if away {
				key = homeOfOregon // mumbai has taken it over
			}
			v := s.write(table, site, Put, key, at+10*ms)
			s.read(table, site, Consult, key, v, at+20*ms)
			s.read(table, site, Peek, key, v, at+30*ms)
		}
	}
	key := int64(at / ms)
	var values []int64
	for _, site := range s.Data {
		if away && site == oregon {
			continue
		}
		s.write(local, site, Receipt, 0, at)
		values = append(values, s.write(local, site, Duel, key, at))
	}
	if len(values) > 1 {
		s.Collisions[local][keyOf(Duel, key)] = [][]int64{values}
	}
}

func (s *scene) op(o Op) *Op {
	s.Ops = append(s.Ops, o)
	return &s.Ops[len(s.Ops)-1]
}

// write does one that is acknowledged after 5 ms, and found everywhere.
func (s *scene) write(table, site int, v Verb, key int64, at time.Duration) int64 {
	s.value++
	if v == Receipt {
		key = s.value
	}
	s.op(Op{Table: table, Site: site, Verb: v, Key: key, Value: s.value, Call: at, Return: at + 5*ms, Outcome: Done})
	for _, at := range s.Data {
		s.Found[at][table][keyOf(v, key)] = s.value
	}
	return s.value
}

func (s *scene) read(table, site int, v Verb, key, value int64, at time.Duration) {
	s.op(Op{Table: table, Site: site, Verb: v, Key: key, Value: value, Call: at, Return: at + 5*ms, Outcome: Done})
}

// last gives the last operation that was called before a time.
func (s *scene) last(table, site int, v Verb, before time.Duration) *Op {
	var out *Op
	for i := range s.Ops {
		if o := &s.Ops[i]; o.Table == table && o.Site == site && o.Verb == v && o.Call < before && (out == nil || o.Call > out.Call) {
			out = o
		}
	}
	return out
}

func (s *scene) lose(o *Op) {
	for _, site := range s.Data {
		delete(s.Found[site][o.Table], keyOf(o.Verb, o.Key))
	}
}

// TestAllIsWell: nothing is found against a drill in which nothing went wrong.
func TestAllIsWell(t *testing.T) {
	for _, k := range Kinds() {
		v := Judge(newScene(t, k.Name).Evidence)
		for _, c := range v.Checks {
			if c.Result == Broken {
				t.Errorf("%s: %s is broken: %s %q", k.Name, c.Name, c.Measured, c.Examples)
			}
		}
		if !v.Passed {
			t.Errorf("%s did not pass", k.Name)
		}
	}
}

// TestEachFaultIsCaught spoils the evidence in one way each and wants exactly
// the checks that it concerns to be broken.
func TestEachFaultIsCaught(t *testing.T) {
	for _, tc := range []struct {
		name, kind string
		spoil      func(s *scene)
		broken     string // names of checks
		says       string
	}{
		{"a lost receipt", RegionDown, func(s *scene) { s.lose(s.last(global, mumbai, Receipt, faultAt)) }, "acknowledged writes", "1 of "},
		{"a receipt in one region only", LinkCut, func(s *scene) {
			o := s.last(partitioned, mumbai, Receipt, faultAt)
			delete(s.Found[oregon][partitioned], keyOf(o.Verb, o.Key))
		}, "copies", "1 of "},
		{"a lost duel", LinkCut, func(s *scene) {
			o := s.last(local, oregon, Duel, faultAt)
			other := s.last(local, mumbai, Duel, faultAt)
			other.Call, other.Return = o.Call-time.Second, o.Call-900*ms // long before, so that it can't have overwritten it
			for _, site := range s.Data {
				s.Found[site][local][keyOf(Duel, o.Key)] = other.Value
			}
			delete(s.Collisions[local], keyOf(Duel, o.Key))
		}, "acknowledged writes", "1 of "},
		{"a collision off the record", LinkCut, func(s *scene) {
			s.Collisions[local][keyOf(Duel, s.last(local, oregon, Duel, faultAt).Key)] = nil
		}, "acknowledged writes, collisions", "1 of "},
		{"a collision that names one version twice", LinkCut, func(s *scene) {
			o := s.last(local, oregon, Duel, faultAt)
			s.Collisions[local][keyOf(Duel, o.Key)] = [][]int64{{o.Value, o.Value}}
		}, "collisions", "1 of "},
		{"an rpo of 0 with a write at one region only", RegionDown, func(s *scene) {
			s.Missing[s.last(rpo0, oregon, Receipt, faultAt).Value] = true
		}, "RPO", "(1 writes)"},
		{"an rpo of 0 with a stranded write", Isolated, func(s *scene) {
			o := s.last(rpo0, oregon, Receipt, faultAt)
			s.lose(o)
			s.Stranded[o.Value] = true
		}, "RPO", ""},
		{"a stranded write that was shown, in a table with an rpo of 0", Isolated, func(s *scene) {
			o := s.last(rpo0, oregon, Put, faultAt)
			s.Stranded[o.Value] = true
		}, "RPO, answers", ""},
		{"nothing failed over", RegionFrozen, func(s *scene) {
			for i := range s.Ops {
				if o := &s.Ops[i]; o.Site == mumbai && s.Tables[o.Table].roles() && o.Call > faultAt && o.Call < healedAt && o.Verb.writes() {
					o.Outcome = Unknown
				}
			}
		}, "RTO", "not kept"},
		{"one table did not fail over", RegionDown, func(s *scene) {
			for i := range s.Ops {
				if o := &s.Ops[i]; o.Table == global && o.Site == mumbai && o.Call > faultAt && o.Call < healedAt && o.Verb.writes() {
					o.Outcome = Unknown
				}
			}
		}, "RTO", "not kept"},
		{"too late", RegionDown, func(s *scene) { s.RTO = 2 * time.Second }, "RTO", "not kept"},
		{"only what was on its way comes back", RegionDown, func(s *scene) {
			for i := range s.Ops {
				switch o := &s.Ops[i]; {
				case o.Site != mumbai || !s.Tables[o.Table].roles() || !s.during(o) || o.Verb == Peek:
				case o.Verb == Receipt:
					o.Call = faultAt - ms
				default:
					o.Outcome = Never
				}
			}
		}, "RTO", "not kept"},
		{"a role moved without need", LinkCut, func(s *scene) {
			s.Moves = []Move{{At: takenAt, Table: s.Tables[global].Name, From: "oregon", To: "mumbai"}}
		}, "roles", "1 moved"},
		{"a failover without need", Flap, func(s *scene) {
			s.Failovers = []Failover{{ID: 3, Lost: "oregon", To: "mumbai", Began: takenAt}}
		}, "roles", ""},
		{"a region that was well lost its role", Isolated, func(s *scene) {
			s.Moves = append(s.Moves, Move{At: takenAt, Table: s.Tables[partitioned].Name, Home: "mumbai", From: "mumbai", To: "oregon"})
		}, "roles", ""},
		{"a second writer", Isolated, func(s *scene) {
			s.write(global, oregon, Receipt, 0, takenAt+time.Second)
		}, "one writer", "1 writes by"},
		{"a stale consistent read", LinkCut, func(s *scene) {
			old := s.last(global, oregon, Put, faultAt-time.Second)
			s.read(global, mumbai, Consult, old.Key, old.Value, healedAt)
		}, "answers", "1 wrong"},
		{"a consistent read that finds nothing", OneWayCut, func(s *scene) {
			s.read(partitioned, mumbai, Consult, homeOfOregon, 0, faultAt)
		}, "answers", "1 wrong"},
		{"a read of what nobody wrote", ClockSkew, func(s *scene) {
			s.read(global, mumbai, Peek, homeOfMumbai, 1_000_000, faultAt)
		}, "answers", "1 wrong"},
		{"an overwritten register that was lost", LinkCut, func(s *scene) {
			old := s.last(global, oregon, Put, faultAt)
			for _, site := range s.Data {
				s.Found[site][global][keyOf(Put, old.Key)] = old.Value
			}
		}, "answers", "1 wrong"},
		{"a local read that fails", Isolated, func(s *scene) {
			s.op(Op{Table: global, Site: oregon, Verb: Peek, Call: faultAt + ms, Return: faultAt + 2*ms, Outcome: Unknown})
		}, "static stability", "1 of "},
		{"a write to a local table that fails elsewhere", RegionDown, func(s *scene) {
			s.op(Op{Table: local, Site: mumbai, Verb: Receipt, Value: 1_000_001, Key: 1_000_001, Call: faultAt + ms, Return: faultAt + 2*ms, Outcome: Never})
		}, "static stability", "1 of "},
		{"a slow return", SlowRegion, func(s *scene) { s.Recovered = s.Healed + backWithin + ms }, "return", "20.0 s"},
		{"no return", RegionDown, func(s *scene) { s.Recovered = -1 }, "return", "not all live"},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			s := newScene(t, tc.kind)
			tc.spoil(s)
			v := Judge(s.Evidence)
			var broken []string
			measured := ""
			for _, c := range v.Checks {
				if c.Result == Broken {
					broken = append(broken, c.Name)
					measured += c.Measured + "; "
					if len(c.Examples) == 0 {
						t.Errorf("%s is broken and gives no example", c.Name)
					}
				}
			}
			if got := strings.Join(broken, ", "); got != tc.broken || !strings.Contains(measured, tc.says) {
				t.Errorf("broken: %q (%s); want %q (%s)", got, measured, tc.broken, tc.says)
			}
			if v.Passed {
				t.Error("it passed")
			}
		})
	}
}

// TestExcused: what is listed, or may have been, is no fault.
func TestExcused(t *testing.T) {
	for _, tc := range []struct {
		name, kind string
		change     func(s *scene)
	}{
		{"a stranded write that is listed, and its reads", RegionDown, func(s *scene) {
			o := *s.last(global, oregon, Put, faultAt)
			s.Stranded[o.Value] = true
			before := s.last(global, oregon, Put, o.Call)
			s.read(global, mumbai, Consult, o.Key, before.Value, takenAt+time.Second)
			for i := range s.Ops { // nothing else was written to it since
				if p := &s.Ops[i]; p.Table == global && p.Key == o.Key && p.Call > o.Return && (p.Verb == Put || p.Verb == Consult) && p.Value != before.Value {
					p.Outcome = Never
				}
			}
			for _, site := range s.Data {
				s.Found[site][global][keyOf(Put, o.Key)] = before.Value
			}
		}},
		{"a stranded write that its forwarder repeated elsewhere", RegionDown, func(s *scene) {
			for _, verb := range []Verb{Receipt, Put} {
				key := homeOfMumbai
				s.write(rpo0, mumbai, verb, key, takenAt+ms)
				o := &s.Ops[len(s.Ops)-1]
				o.Call = faultAt - ms // when it was sent, and forwarded to oregon
				s.Stranded[o.Value] = true
				if verb == Put {
					s.read(rpo0, mumbai, Consult, key, o.Value, o.Return+ms)
					s.Found[oregon][rpo0][keyOf(Put, key)] = s.last(rpo0, mumbai, Put, endAt).Value
					s.Found[mumbai][rpo0][keyOf(Put, key)] = s.last(rpo0, mumbai, Put, endAt).Value
				}
			}
		}},
		{"a write whose outcome nobody knows, there and not there", LinkCut, func(s *scene) {
			for _, there := range []bool{true, false} {
				v := s.write(global, mumbai, Receipt, 0, faultAt)
				o := &s.Ops[len(s.Ops)-1]
				if o.Outcome = Unknown; !there {
					s.lose(o)
				}
				_ = v
			}
		}},
		{"an unknown write that takes effect much later", LinkCut, func(s *scene) {
			v := s.write(partitioned, mumbai, Put, homeOfMumbai, faultAt)
			s.Ops[len(s.Ops)-1].Outcome = Ended
			s.read(partitioned, oregon, Consult, homeOfMumbai, v, endAt+time.Second)
		}},
		{"missing writes where no bound is promised", RegionDown, func(s *scene) {
			s.Missing[s.last(local, oregon, Receipt, faultAt).Value] = true
			s.Missing[s.last(global, oregon, Receipt, faultAt).Value] = true
		}},
		{"a planned switch of another table", LinkCut, func(s *scene) {
			s.Moves = []Move{{At: takenAt, Table: "catalog", From: "mumbai", To: "oregon"}}
		}},
		{"no majority", RegionDown, func(s *scene) {
			s.Majority, s.Moves, s.Failovers = false, nil, nil
			for i := range s.Ops {
				if o := &s.Ops[i]; o.Site == mumbai && s.Tables[o.Table].roles() && s.during(o) && o.Verb.writes() {
					o.Outcome = Unknown
				}
			}
		}},
		{"a duel that was overwritten by one that had seen it", LinkCut, func(s *scene) {
			o := s.last(local, oregon, Duel, faultAt)
			delete(s.Collisions[local], keyOf(Duel, o.Key))
			other := s.last(local, mumbai, Duel, faultAt)
			other.Call, other.Return = o.Return+rtt, o.Return+rtt+5*ms
		}},
		{"a read that would show what no other region has", Isolated, func(s *scene) {
			s.op(Op{Table: rpo0, Site: oregon, Verb: Peek, Call: faultAt + ms, Return: faultAt + 2*ms, Outcome: Unknown})
		}},
		{"clients of the region that is down", RegionDown, func(s *scene) {
			s.op(Op{Table: local, Site: oregon, Verb: Peek, Call: faultAt + ms, Return: faultAt + 2*ms, Outcome: Never})
		}},
	} {
		t.Run(strings.ReplaceAll(tc.name, " ", "-"), func(t *testing.T) {
			s := newScene(t, tc.kind)
			tc.change(s)
			for _, c := range Judge(s.Evidence).Checks {
				if c.Result == Broken {
					t.Errorf("%s is broken: %s %q", c.Name, c.Measured, c.Examples)
				}
			}
		})
	}
}

// TestFigures: what is measured is what was.
func TestFigures(t *testing.T) {
	s := newScene(t, RegionDown)
	first := s.last(global, oregon, Receipt, faultAt-500*ms)
	s.Missing[first.Value] = true
	s.Missing[s.last(global, oregon, Receipt, faultAt).Value] = true
	f := Judge(s.Evidence).Figures[global]
	seen, detect, decide := millis(faultAt-first.Return), Millis(2000), Millis(500)
	execute := millis(takenAt + 15*ms - faultAt - 2500*ms)
	want := Figures{
		Table: "antipode-drill-global", Writes: antipode.WriteGlobal, RPOSeen: &seen, Missing: 2,
		Acknowledged: f.Acknowledged, Pause: f.Pause, Recovery: f.Recovery,
	}
	if diff := cmp.Diff(want, f); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if f.Pause < 3000 || f.Pause > 3400 {
		t.Errorf("a pause of %v ms; want one from the fault to when mumbai took over", f.Pause)
	}
	if f.Recovery == nil {
		t.Fatal("no recovery")
	}
	*f.Recovery.Execute, execute = Millis(int(*f.Recovery.Execute/100)), Millis(int(execute/100))
	if diff := cmp.Diff(&Recovery{Total: f.Recovery.Total, Detect: &detect, Decide: &decide, Execute: &execute}, f.Recovery); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// TestOrderDoesNotMatter: the ledger is gathered from many clients.
func TestOrderDoesNotMatter(t *testing.T) {
	a, b := newScene(t, RegionDown), newScene(t, RegionDown)
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(b.Ops), func(i, k int) { b.Ops[i], b.Ops[k] = b.Ops[k], b.Ops[i] })
	if diff := cmp.Diff(Judge(a.Evidence), Judge(b.Evidence)); diff != "" {
		t.Errorf("-in order +shuffled\n%s", diff)
	}
}

func TestExamplesAreBounded(t *testing.T) {
	s := newScene(t, LinkCut)
	for i := range s.Ops {
		if o := &s.Ops[i]; o.Table == global && o.Verb == Receipt {
			s.lose(o)
		}
	}
	c := Judge(s.Evidence).Checks[0]
	if n := len(c.Examples); n != maxExamples+1 || !strings.HasPrefix(c.Examples[n-1], "and ") {
		t.Errorf("%d examples: %q", n, c.Examples)
	}
	if want := fmt.Sprintf("%d of ", 2*len(keysOf(s.Ops, 4, func(o *Op) bool { return o.Table == global && o.Verb == Receipt && o.Site == oregon })[global])); !strings.HasPrefix(c.Measured, want) {
		t.Errorf("measured %q; want %s…", c.Measured, want)
	}
}
