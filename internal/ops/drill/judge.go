package drill

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
)

// Result is what came of a check.
type Result string

// The results.
const (
	Kept      Result = "kept"
	Broken    Result = "broken"
	NotJudged Result = "not judged" // nothing happened that it could be told by
)

// Check compares a promise with what was seen.
type Check struct {
	Name     string `json:"name"`
	Promised string `json:"promised"`
	Measured string `json:"measured"`
	Result   Result `json:"result"`
	// Examples are of what broke it.
	Examples []string `json:"examples,omitempty"`
}

// Figures are what was measured of one table.
type Figures struct {
	Table        string             `json:"table"`
	Writes       antipode.WriteMode `json:"writes"`
	RPO          *Millis            `json:"rpo_promised_ms"` // nil: no bound
	RPOSeen      *Millis            `json:"rpo_ms"`          // nil: not looked for
	Missing      int                `json:"missing"`         // acknowledged, and at no other region while the target was away
	Stranded     int                `json:"stranded"`        // acknowledged, and listed as stranded in the end
	Lost         int                `json:"lost"`            // acknowledged, and nowhere
	Acknowledged int                `json:"acknowledged"`
	Failed       int                `json:"failed"`
	Pause        Millis             `json:"pause_ms"` // the longest without an acknowledged write at a region that the fault spares
	Recovery     *Recovery          `json:"recovery,omitempty"`
}

// Recovery is the time from the fault to the first write elsewhere of what the
// lost region wrote, and its parts where the regions have them on record.
type Recovery struct {
	Total   Millis  `json:"total_ms"`
	Detect  *Millis `json:"detect_ms,omitempty"`  // fault to the end of its lease
	Decide  *Millis `json:"decide_ms,omitempty"`  // to the cutoff
	Execute *Millis `json:"execute_ms,omitempty"` // to the first write
}

// Millis is a duration in milliseconds.
type Millis float64

func millis(d time.Duration) Millis { return Millis(d.Microseconds()) / 1000 }

func millisOf(d time.Duration) *Millis {
	m := millis(d)
	return &m
}

// Verdict is what comes of the evidence.
type Verdict struct {
	Passed  bool      `json:"passed"`
	Checks  []Check   `json:"checks"`
	Figures []Figures `json:"tables"`
}

// backWithin is the promised bound on a region's return.
const backWithin = 20 * time.Second

// Judge compares the evidence with the promises.
func Judge(e *Evidence) Verdict {
	j := &judge{Evidence: e, wrote: map[int64]*Op{}}
	for i := range e.Ops {
		if o := &e.Ops[i]; o.Verb.writes() {
			j.wrote[o.Value] = o
		}
	}
	j.findRepeated()
	v := Verdict{Figures: j.figures()}
	v.Checks = []Check{
		j.loss(v.Figures), j.rpo(v.Figures), j.rto(v.Figures), j.roles(), j.oneWriter(),
		j.answers(), j.collisions(), j.serves(), j.agree(), j.back(),
	}
	v.Passed = !slices.ContainsFunc(v.Checks, func(c Check) bool { return c.Result == Broken })
	return v
}

type judge struct {
	*Evidence

	wrote map[int64]*Op // by value
	lost  []*Op
	// repeated are listed as stranded, by value, and came about all the same.
	repeated map[int64]bool
	// byDuel is duels(), once it was needed.
	byDuel map[[2]int64][]*Op
}

// maxExamples bounds how many of a kind are told.
const maxExamples = 5

// verdict makes a check of what was found against it.
func verdict(name, promised, measured string, examples []string) Check {
	c := Check{Name: name, Promised: promised, Measured: measured, Result: Kept, Examples: examples}
	if len(examples) > 0 {
		c.Result = Broken
	}
	if len(examples) > maxExamples {
		c.Examples = append(slices.Clone(examples[:maxExamples]), fmt.Sprintf("and %d more", len(examples)-maxExamples))
	}
	return c
}

func (j *judge) tell(o *Op) string {
	what := map[Verb]string{Receipt: "write", Put: "write", Duel: "write", Consult: "consistent read", Peek: "read"}[o.Verb]
	return fmt.Sprintf("%s %s of %s at %s, sent at %s, answered at %s", j.Tables[o.Table].Name, what, keyOf(o.Verb, o.Key), j.Sites[o.Site], at(o.Call), at(o.Return))
}

func at(d time.Duration) string { return fmt.Sprintf("%.3f s", d.Seconds()) }

// figures counts, table by table.
func (j *judge) figures() []Figures {
	out := make([]Figures, len(j.Tables))
	first := make([]time.Duration, len(j.Tables)) // of what was missing, when it was acknowledged
	last := make([]time.Duration, len(j.Tables))
	for i := range j.Tables {
		t := &j.Tables[i]
		out[i] = Figures{Table: t.Name, Writes: t.Writes, Pause: millis(j.pause(i))}
		if t.RPO >= 0 {
			out[i].RPO = millisOf(t.RPO)
		}
	}
	for i := range j.Ops {
		o := &j.Ops[i]
		f := &out[o.Table]
		switch {
		case !o.Verb.writes():
			continue
		case o.failed():
			f.Failed++
			continue
		case o.Outcome != Done:
			continue
		}
		f.Acknowledged++
		if j.Stranded[o.Value] && !j.repeated[o.Value] {
			f.Stranded++
		} else if o.Verb == Receipt && j.gone(o) || o.Verb == Duel && j.duelLost(o) {
			f.Lost++
			j.lost = append(j.lost, o)
		}
		if o.Verb == Receipt && j.Missing[o.Value] {
			f.Missing++
			if f.Missing == 1 || o.Return < first[o.Table] {
				first[o.Table] = o.Return
			}
			last[o.Table] = max(last[o.Table], o.Return)
		}
	}
	for i := range out {
		f := &out[i]
		switch {
		case f.Missing > 0:
			f.RPOSeen = millisOf(max(j.Fault, last[i]) - first[i])
		case j.Away:
			f.RPOSeen = millisOf(0)
		}
		f.Recovery = j.recovery(i)
	}
	return out
}

// gone reports whether no region has what was written in the end.
func (j *judge) gone(o *Op) bool {
	key := keyOf(o.Verb, o.Key)
	for _, tables := range j.Found {
		if tables[o.Table][key] == o.Value {
			return false
		}
	}
	return true
}

// pause is the longest time without an acknowledged write to a table, at any one
// region whose clients the fault spares.
func (j *judge) pause(table int) time.Duration {
	var worst time.Duration
	for _, site := range j.Data {
		if j.suffers(site) || j.Kind.alone && site == j.Target {
			continue
		}
		times := []time.Duration{j.Healed}
		for i := range j.Ops {
			if o := &j.Ops[i]; o.Table == table && o.Site == site && o.Verb.writes() && o.Outcome == Done && o.Return > j.Fault && o.Return < j.Healed {
				times = append(times, o.Return)
			}
		}
		slices.Sort(times)
		was := j.Fault
		for _, t := range times {
			worst, was = max(worst, t-was), t
		}
	}
	return worst
}

// recovery finds the first write elsewhere of what only the target could write
// before. Only what was sent after the fault counts: an older one may have been
// on its way back.
func (j *judge) recovery(table int) *Recovery {
	if !j.expects() || !j.Tables[table].roles() {
		return nil
	}
	o := j.taken(table)
	if o == nil {
		return nil
	}
	r := &Recovery{Total: millis(o.Return - j.Fault)}
	for _, f := range j.Failovers {
		if f.Lost == j.Sites[j.Target] && slices.Contains(f.Tables, j.Tables[table].Name) && f.Fixed >= f.Began && f.Began >= j.Fault && o.Return >= f.Fixed {
			r.Detect, r.Decide, r.Execute = millisOf(f.Began-j.Fault), millisOf(f.Fixed-f.Began), millisOf(o.Return-f.Fixed)
			break
		}
	}
	return r
}

// taken is the first acknowledged write elsewhere, or nil.
func (j *judge) taken(table int) *Op {
	var first *Op
	for i := range j.Ops {
		o := &j.Ops[i]
		if o.Table != table || o.Site == j.Target || !o.Verb.writes() || o.Outcome != Done || !j.during(o) {
			continue
		}
		if j.Tables[table].Writes == antipode.WritePartitioned && (o.Verb != Put || homeOf(o.Key, j.Data) != j.Target) {
			continue // its home may be at the region that was asked
		}
		if first == nil || o.Return < first.Return {
			first = o
		}
	}
	return first
}

func (j *judge) loss(figures []Figures) Check {
	acknowledged, stranded := 0, 0
	for _, f := range figures {
		acknowledged, stranded = acknowledged+f.Acknowledged, stranded+f.Stranded
	}
	var examples []string
	for _, o := range j.lost {
		examples = append(examples, j.tell(o))
	}
	measured := fmt.Sprintf("%d of %d lost", len(j.lost), acknowledged)
	if stranded > 0 {
		measured += fmt.Sprintf(", %d listed as stranded", stranded)
	}
	return verdict("acknowledged writes", "none lost without being listed", measured, examples)
}

func (j *judge) rpo(figures []Figures) Check {
	var promised, measured, broken []string
	for i, f := range figures {
		if f.RPO == nil {
			continue
		}
		promised = append(promised, fmt.Sprintf("%v in %s", j.Tables[i].RPO, f.Table))
		if f.RPOSeen != nil {
			measured = append(measured, fmt.Sprintf("%.0f ms (%d writes)", *f.RPOSeen, f.Missing))
		}
		// With 0 any write counts, also one that was acknowledged at the fault's very moment.
		if f.RPOSeen != nil && *f.RPOSeen > *f.RPO || *f.RPO == 0 && f.Missing+f.Stranded > 0 {
			broken = append(broken, fmt.Sprintf("%s: %d acknowledged writes were at no other region, %d stranded", f.Table, f.Missing, f.Stranded))
		}
	}
	c := verdict("RPO", strings.Join(promised, ", "), strings.Join(measured, ", "), broken)
	if len(measured) == 0 && c.Result == Kept {
		c.Measured, c.Result = "no region was away", NotJudged
	}
	return c
}

func (j *judge) rto(figures []Figures) Check {
	var broken []string
	var worst Millis
	for i, f := range figures {
		switch {
		case !j.Tables[i].roles() || !j.expects():
		case f.Recovery == nil:
			broken = append(broken, f.Table+": no write succeeded elsewhere; nothing failed over")
		case f.Recovery.Total > millis(j.RTO):
			broken = append(broken, fmt.Sprintf("%s: the first write elsewhere took %.2f s", f.Table, f.Recovery.Total/1000))
		default:
			worst = max(worst, f.Recovery.Total)
		}
	}
	c := verdict("RTO", fmt.Sprintf("%v", j.RTO), fmt.Sprintf("%.2f s", worst/1000), broken)
	switch {
	case len(broken) > 0:
		c.Measured = "not kept"
	case j.Kind.Must != MustFailOver:
		c.Measured, c.Result = "no region was lost", NotJudged
	case !j.Majority:
		c.Measured, c.Result = "without a majority nothing fails over by itself", NotJudged
	}
	return c
}

// roles: nothing moves unless it has to. Of the drill's own tables every move
// counts; other tables may be switched by plan while it runs, as their roles are
// that return some time after an earlier failover, and so only failovers count.
func (j *judge) roles() Check {
	var told []string
	var moves []Move
	for _, m := range j.Moves {
		if !j.own(m.Table) {
			continue
		}
		moves = append(moves, m)
		told = append(told, fmt.Sprintf("%s passed from %s to %s at %s", m.role(), m.From, m.To, at(m.At)))
	}
	for _, f := range j.Failovers {
		if f.Lost != j.Sites[j.Target] || j.Kind.Must == MustStay {
			told = append(told, fmt.Sprintf("failover %d of %s to %s at %s", f.ID, f.Lost, f.To, at(f.Began)))
		}
	}
	measured := fmt.Sprintf("%d moved", len(j.Moves))
	switch j.Kind.Must {
	case MustStay:
		return verdict("roles", "none moves: all still reach the majority", measured, told)
	case MayFailOver:
		return Check{Name: "roles", Promised: "may move", Measured: measured, Result: NotJudged}
	case MustFailOver:
	}
	var other []string // of regions that were well
	for i, m := range moves {
		if m.From != j.Sites[j.Target] && m.At < j.Healed {
			other = append(other, told[i])
		}
	}
	for _, f := range j.Failovers {
		if f.Lost != j.Sites[j.Target] {
			other = append(other, fmt.Sprintf("failover %d of %s to %s at %s", f.ID, f.Lost, f.To, at(f.Began)))
		}
	}
	return verdict("roles", "only those of "+string(j.Sites[j.Target])+" move", measured, other)
}

// own reports whether a table is one of the drill's.
func (j *judge) own(table string) bool {
	return slices.ContainsFunc(j.Tables, func(t Table) bool { return t.Name == table })
}

// oneWriter: once another region has taken over, the one that is away
// acknowledges nothing.
func (j *judge) oneWriter() Check {
	const name, promised = "one writer", "never two for one role"
	if !j.Kind.alone {
		return Check{Name: name, Promised: promised, Measured: "by the answers, below", Result: NotJudged}
	}
	var second []string
	for i := range j.Tables {
		t := j.taken(i)
		if t == nil || !j.Tables[i].roles() {
			continue
		}
		for k := range j.Ops {
			if o := &j.Ops[k]; o.Table == i && o.Site == j.Target && o.Verb.writes() && o.Outcome == Done && o.Call > t.Return && o.Return < j.Healed {
				second = append(second, fmt.Sprintf("%s; %s had taken over at %s", j.tell(o), j.Sites[t.Site], at(t.Return)))
			}
		}
	}
	return verdict(name, promised, fmt.Sprintf("%d writes by a second one", len(second)), second)
}

// serves: where the fault does not reach, local reads never fail and tables
// that are written anywhere can be written. With an rpo of 0 the writer shows
// nothing that no other region has, so there a read may have to wait for one.
func (j *judge) serves() Check {
	asked := 0
	var failed []string
	for i := range j.Ops {
		o := &j.Ops[i]
		local := o.Verb == Peek || o.Verb.writes() && !j.Tables[o.Table].roles()
		waits := j.Tables[o.Table].RPO == 0 && o.Site == j.Target
		if !local || waits || !j.during(o) || j.suffers(o.Site) {
			continue
		}
		asked++
		if o.failed() {
			failed = append(failed, j.tell(o)+" in vain")
		}
	}
	return verdict("static stability", "local reads and writes go on elsewhere", fmt.Sprintf("%d of %d failed", len(failed), asked), failed)
}

// agree: in the end all regions have the same.
func (j *judge) agree() Check {
	var differ []string
	keys := 0
	for i := range j.Tables {
		all := map[string]bool{}
		for _, site := range j.Data {
			for key := range j.Found[site][i] {
				all[key] = true
			}
		}
		keys += len(all)
		for key := range all {
			want := j.Found[j.Data[0]][i][key]
			for _, site := range j.Data[1:] {
				if got := j.Found[site][i][key]; got != want {
					differ = append(differ, fmt.Sprintf("%s %s is %d at %s and %d at %s", j.Tables[i].Name, key, want, j.Sites[j.Data[0]], got, j.Sites[site]))
				}
			}
		}
	}
	slices.SortFunc(differ, cmp.Compare)
	return verdict("copies", "equal in all regions in the end", fmt.Sprintf("%d of %d items differ", len(differ), keys), differ)
}

func (j *judge) back() Check {
	const name = "return"
	promised := fmt.Sprintf("all live within %v", backWithin)
	switch took := j.Recovered - j.Healed; {
	case j.Recovered < 0:
		return verdict(name, promised, "not all live", []string{"a region was not live, or behind, when the drill gave up; see antipode status"})
	case took > backWithin:
		return verdict(name, promised, fmt.Sprintf("%.1f s", took.Seconds()), []string{"it took longer than promised"})
	default:
		return verdict(name, promised, fmt.Sprintf("%.1f s", took.Seconds()), nil)
	}
}
