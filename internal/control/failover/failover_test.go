package failover_test

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/failover"
	"github.com/antipode-io/antipode/internal/control/lease"
)

const (
	length = 3 * time.Second
	tick   = 250 * time.Millisecond
)

// play is a group of regions with a clock of its own. What regions do by
// themselves (renew, seal, fix, take over, rejoin) it does in their place, as soon
// as they could.
type play struct {
	t       *testing.T
	voters  []antipode.Region
	leader  antipode.Region
	state   *control.State
	now     time.Duration
	machine *failover.Machine
	watch   *lease.Watch
	after   time.Duration
	down    map[antipode.Region]bool
	cut     map[[2]antipode.Region]bool
	lag     map[[2]antipode.Region]time.Duration // of, behind
	lazy    map[antipode.Region]bool             // seals and fixes nothing
	filling map[antipode.Region]bool
	skewed  map[antipode.Region]bool // refuses writes
	seen    map[antipode.Region]failover.Seen
	out     strings.Builder
}

func TestScripts(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		t.Helper()
		p := &play{t: t}
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			t.Helper()
			p.t = t
			p.out.Reset()
			p.do(d)
			return p.out.String()
		})
	})
}

func list(d *datadriven.TestData, key string) (out []antipode.Region) {
	for _, a := range d.CmdArgs {
		if a.Key == key {
			for _, v := range a.Vals {
				out = append(out, antipode.Region(v))
			}
		}
	}
	return out
}

func word(d *datadriven.TestData, key string) string {
	if l := list(d, key); len(l) > 0 {
		return string(l[0])
	}
	return ""
}

// names are the arguments without a value.
func names(d *datadriven.TestData) (out []antipode.Region) {
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			out = append(out, antipode.Region(a.Key))
		}
	}
	return out
}

func (p *play) do(d *datadriven.TestData) {
	args := names(d)
	switch d.Cmd {
	case "regions": // NAME... [witness=(...)] [return_after=30s]
		p.found(d)
	case "table": // NAME global|partitioned ...
		p.table(d)
	case "leader":
		p.lead(args[0])
	case "kill", "start", "lazy", "busy", "fill", "filled", "skew", "right":
		for _, r := range args {
			switch d.Cmd {
			case "skew", "right":
				p.skewed[r] = d.Cmd == "skew"
			case "kill", "start":
				p.down[r] = d.Cmd == "kill"
			case "lazy", "busy":
				p.lazy[r] = d.Cmd == "lazy"
			default:
				p.filling[r] = d.Cmd == "fill"
			}
		}
	case "cut", "heal": // A B: the link; A alone: all its links
		for _, other := range p.voters {
			if len(args) == 2 && other != args[1] {
				continue
			}
			p.cut[[2]antipode.Region{args[0], other}] = d.Cmd == "cut"
			p.cut[[2]antipode.Region{other, args[0]}] = d.Cmd == "cut"
		}
	case "lag": // A B 5s: A is behind B
		v, err := time.ParseDuration(string(args[2]))
		if err != nil {
			p.t.Fatal(err)
		}
		p.lag[[2]antipode.Region{args[0], args[1]}] = v
	case "switch": // TABLE TO: by a person
		p.change(string(args[0]), args[1])
	case "letgo": // TABLE: its holder is about to release it
		t := p.state.Tables[string(args[0])]
		r := t.Role("")
		p.apply("that", control.Command{Leave: &control.Leave{By: r.Holder, Roles: []control.RoleEpoch{{RoleID: control.RoleID{Table: t.ID}, Epoch: r.Epoch}}}})
	case "calloff": // TABLE TO: by a person
		p.callOff(string(args[0]), args[1])
	case "run":
		v, err := time.ParseDuration(string(args[0]))
		if err != nil {
			p.t.Fatal(err)
		}
		for end := p.now + v; p.now < end; {
			p.step()
		}
	case "roles":
		p.roles()
	case "seen":
		for _, name := range p.state.Members() {
			fmt.Fprintf(&p.out, "%s %s: %s\n", name, p.seen[name].Condition, p.seen[name].Why)
		}
	default:
		p.t.Fatalf("no command %s", d.Cmd)
	}
}

func (p *play) found(d *datadriven.TestData) {
	p.voters, p.state = names(d), control.NewState()
	p.after = 30 * time.Second
	if w := word(d, "return_after"); w != "" {
		p.after, _ = time.ParseDuration(w)
	}
	p.down, p.cut = map[antipode.Region]bool{}, map[[2]antipode.Region]bool{}
	p.lag, p.lazy, p.filling = map[[2]antipode.Region]time.Duration{}, map[antipode.Region]bool{}, map[antipode.Region]bool{}
	p.skewed = map[antipode.Region]bool{}
	for _, r := range p.voters {
		p.apply("", control.Command{PutRegion: &control.Region{Name: r, Witness: slices.Contains(list(d, "witness"), r)}})
	}
	p.lead(cmp.Or(antipode.Region(word(d, "leader")), p.voters[0]))
}

func (p *play) table(d *datadriven.TestData) {
	args := names(d)
	t := &control.Table{
		Name: string(args[0]), Writes: antipode.WriteMode(args[1]), Writer: antipode.Region(word(d, "writer")),
		Replicas: list(d, "replicas"), Successors: list(d, "successors"), RPO: word(d, "rpo"),
		Failover: cmp.Or(word(d, "failover"), control.FailoverLease), Return: word(d, "return"),
	}
	if t.Replicas == nil {
		t.Replicas = p.state.Members()
	}
	if t.Return == "" {
		t.Return = control.DefaultReturn(t.Writes)
	}
	p.apply("", control.Command{CreateTable: t})
}

// lead makes a region the leader, which counts everything anew.
func (p *play) lead(r antipode.Region) {
	p.leader = r
	p.machine = failover.New(p.after)
	p.watch = lease.NewWatch(length, func() time.Duration { return p.now })
	p.watch.Observe(p.state)
}

func (p *play) apply(who string, c control.Command) bool {
	next, err := control.Apply(p.state, p.state.Index+1, c)
	if err != nil {
		fmt.Fprintf(&p.out, "%6.2fs %s is refused: %v\n", p.now.Seconds(), who, err)
	}
	p.state = next
	if p.watch != nil {
		p.watch.Observe(p.state)
	}
	return err == nil
}

func (p *play) reaches(a, b antipode.Region) bool {
	return a == b && !p.down[a] || !p.down[a] && !p.down[b] && !p.cut[[2]antipode.Region{a, b}]
}

// led reports whether the leader reaches a majority.
func (p *play) led() bool {
	n := 0
	for _, r := range p.voters {
		if p.reaches(p.leader, r) {
			n++
		}
	}
	return n > len(p.voters)/2
}

func (p *play) step() {
	p.now += tick
	if !p.led() {
		return
	}
	for _, r := range p.state.Members() {
		if p.reaches(r, p.leader) {
			p.live(r)
		}
	}
	v := failover.View{
		State: p.state, Self: p.leader, Voters: p.voters, Reports: map[antipode.Region]failover.Report{},
		Lapsed: p.watch.Lapsed, Now: p.now, Wall: p.now.Milliseconds(),
	}
	for _, r := range p.voters {
		if p.reaches(p.leader, r) {
			v.Reports[r] = p.report(r)
		}
	}
	steps, seen := p.machine.Decide(v)
	p.seen = seen
	for _, s := range steps {
		fmt.Fprintf(&p.out, "%6.2fs %s\n", p.now.Seconds(), s.Why)
		p.apply("that", s.Command)
	}
}

func (p *play) report(r antipode.Region) failover.Report {
	out := failover.Report{Serving: p.state.Regions[r] != nil && !p.state.Regions[r].Witness && !p.filling[r], Lag: map[antipode.Region]time.Duration{}}
	if p.skewed[r] {
		out.Refuses = "its clock is ahead"
	}
	for _, other := range p.voters {
		if p.reaches(r, other) {
			out.Reaches = append(out.Reaches, other)
		}
		out.Lag[other] = p.lag[[2]antipode.Region{r, other}]
	}
	return out
}

// live does what a region does by itself.
func (p *play) live(r antipode.Region) {
	l := p.state.Regions[r].Lease
	if !l.Fenced && p.now%time.Second == 0 {
		p.apply("renewal", control.Command{Renew: &control.Renew{Region: r, Number: l.Number, Length: length.Milliseconds()}})
	}
	if p.lazy[r] {
		return
	}
	blocked := false
	for _, id := range slices.Sorted(maps.Keys(p.state.Failovers)) {
		f := p.state.Failovers[id]
		if f.Cutoff != nil || !slices.Contains(p.state.MembersOf(f.Set), r) {
			continue
		}
		blocked = true
		if _, sealed := f.Sealed[r]; !sealed && !l.Fenced {
			p.apply("seal", control.Command{Seal: &control.Seal{Failover: id, Region: r, Fences: p.state.Fences}})
			f = p.state.Failovers[id]
		}
		if f.Successor == r && len(p.state.Unsealed(f)) == 0 && p.apply("fix", control.Command{Fix: &control.Fix{Failover: id, Fences: p.state.Fences}}) {
			fmt.Fprintf(&p.out, "%6.2fs %s opens failover %d of %s\n", p.now.Seconds(), r, id, f.Lost)
		}
	}
	if l.Fenced && !blocked && p.now%time.Second == 0 {
		fmt.Fprintf(&p.out, "%6.2fs %s rejoins\n", p.now.Seconds(), r)
		p.apply("rejoin", control.Command{Rejoin: &control.Rejoin{Region: r, Number: l.Number}})
	}
	for _, id := range p.state.RolesOf(r) {
		t, _ := p.state.TableByID(id.Table)
		role := t.Role(id.Home)
		if role.Holder == r && role.Next != "" && !role.Leaving && p.reaches(r, role.Next) && !l.Fenced {
			p.apply("leave", control.Command{Leave: &control.Leave{By: r, Roles: []control.RoleEpoch{{RoleID: id, Epoch: role.Epoch}}}})
		}
		if role.Next == r && role.Leaving && p.reaches(r, role.Holder) && !l.Fenced {
			fmt.Fprintf(&p.out, "%6.2fs %s takes %s/%s from %s\n", p.now.Seconds(), r, t.Name, id.Home, role.Holder)
			p.apply("took", control.Command{Took: &control.Took{By: r, Roles: []control.RoleEpoch{{RoleID: id, Epoch: role.Epoch + 1}}}})
		}
	}
}

func (p *play) change(name string, to antipode.Region) {
	t := p.state.Tables[name]
	c := &control.Switch{To: to, By: "me"}
	for home, r := range t.Roles {
		c.Roles = append(c.Roles, control.RoleEpoch{RoleID: control.RoleID{Table: t.ID, Home: home}, Epoch: r.Epoch})
	}
	p.apply("switch", control.Command{Switch: c})
}

func (p *play) callOff(name string, to antipode.Region) {
	t := p.state.Tables[name]
	c := &control.CallOff{To: to, By: "me"}
	for home, r := range t.Roles {
		c.Roles = append(c.Roles, control.RoleEpoch{RoleID: control.RoleID{Table: t.ID, Home: home}, Epoch: r.Epoch})
	}
	p.apply("that", control.Command{CallOff: c})
}

// roles lists who holds what.
func (p *play) roles() {
	for _, name := range slices.Sorted(maps.Keys(p.state.Tables)) {
		t := p.state.Tables[name]
		for _, home := range slices.Sorted(maps.Keys(t.Roles)) {
			r := t.Roles[home]
			fmt.Fprintf(&p.out, "%s/%s %s", name, home, r.Holder+"@"+antipode.Region(strconv.FormatUint(r.Epoch, 10)))
			if r.Next != "" {
				fmt.Fprintf(&p.out, " to %s", r.Next)
			}
			if f, ok := p.state.Failovers[r.Failover]; ok && f.Cutoff == nil {
				p.out.WriteString(" (failing over)")
			}
			p.out.WriteString("\n")
		}
	}
}
