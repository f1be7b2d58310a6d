package failover

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// HealthyLag is how far a region may be behind the others and still get roles back.
const HealthyLag = 2 * time.Second

// Report is what one region says about itself and what it sees.
type Report struct {
	// Reaches are the regions whose heartbeats were answered just now.
	Reaches []antipode.Region `json:"reaches"`
	// Serving says that it stores data and serves clients: it is not starting, and
	// not being given what it lost.
	Serving bool `json:"serving"`
	// Refuses says why it accepts no writes, whatever roles it has: its clock is wrong.
	Refuses string `json:"refuses,omitempty"`
	// Lag is, per region, how old the oldest write of it may be that is missing here.
	Lag map[antipode.Region]time.Duration `json:"lag,omitempty"`
}

// View is what the leader of the control group knows.
type View struct {
	State *control.State
	// Self is the leader.
	Self antipode.Region
	// Voters are all regions and witnesses that vote.
	Voters []antipode.Region
	// Reports are the fresh ones, the leader's own among them.
	Reports map[antipode.Region]Report
	// Lapsed reports whether a region's lease has ended for sure: package lease.
	Lapsed func(antipode.Region) bool
	// Now is the time by any clock that does not step.
	Now time.Duration
	// Wall goes into the commands: milliseconds since the Unix epoch.
	Wall int64
}

// Condition is what a region is to the leader: a row of the table above.
type Condition string

// The conditions.
const (
	Waiting   Condition = "waiting"
	Live      Condition = "live"
	Suspect   Condition = "suspect"
	Lost      Condition = "lost"
	Detached  Condition = "detached"
	Returning Condition = "returning"
	Back      Condition = "back"
)

// Seen is a region's condition and what it was concluded from.
type Seen struct {
	Condition Condition `json:"condition"`
	Why       string    `json:"why,omitempty"`
}

// Step is a command for the group, and why.
type Step struct {
	Command control.Command
	Why     string
}

// Machine decides for one leader. A new leader starts with a new one, and counts
// anew how long regions have been healthy.
type Machine struct {
	returnAfter time.Duration
	healthy     map[antipode.Region]time.Duration // since when
}

// New returns a machine that gives roles back to regions that have been healthy
// for returnAfter.
func New(returnAfter time.Duration) *Machine {
	return &Machine{returnAfter: returnAfter, healthy: map[antipode.Region]time.Duration{}}
}

// Decide returns what the group should be asked for now, in this order, and what
// each region that stores data is. Deciding twice on the same view gives the
// same; a command that comes too late is refused by the group.
func (m *Machine) Decide(v View) ([]Step, map[antipode.Region]Seen) {
	seen := v.Judge()
	members := v.State.Members()
	for _, name := range members {
		if !v.healthy(name, seen) {
			delete(m.healthy, name)
		} else if _, ok := m.healthy[name]; !ok {
			m.healthy[name] = v.Now
		}
	}
	if len(v.Voters) < 3 {
		return nil, seen // the majority of two is both: nobody is left who may decide
	}
	var steps []Step
	for _, name := range members {
		if s, ok := v.replace(name, seen); ok {
			steps = append(steps, s)
		}
	}
	for _, name := range members {
		if s, ok := m.giveBack(v, name, seen); ok {
			steps = append(steps, s)
		}
	}
	return steps, seen
}

// Judge says what each region that stores data is. Only a Machine knows of Back.
func (v View) Judge() map[antipode.Region]Seen {
	seen := map[antipode.Region]Seen{}
	for _, name := range v.State.Members() {
		seen[name] = v.judge(name)
	}
	return seen
}

// blind lists the voters that say that they can't reach a region.
func (v View) blind(name antipode.Region) (out []antipode.Region) {
	for _, r := range slices.Sorted(maps.Keys(v.Reports)) {
		if r != name && slices.Contains(v.Voters, r) && !slices.Contains(v.Reports[r].Reaches, name) {
			out = append(out, r)
		}
	}
	return out
}

// judge finds a region's row of the table.
func (v View) judge(name antipode.Region) Seen {
	lease := v.State.Regions[name].Lease
	blind := v.blind(name)
	cut := len(blind) > len(v.Voters)/2 && name != v.Self
	by := fmt.Sprintf("%s (%d of %d voters) can't reach it", join(blind), len(blind), len(v.Voters))
	lapsed := v.Lapsed(name)
	switch {
	case lease.Fenced && cut:
		return Seen{Detached, by}
	case lease.Fenced:
		return Seen{Returning, "it is reached again, and takes out what was not within the cutoffs"}
	case lease.Renewed == 0 && lease.Number == 0:
		return Seen{Waiting, "it has never asked for a lease"}
	case lapsed && cut:
		return Seen{Lost, "its lease has lapsed, and " + by}
	case lapsed && len(blind) > 0:
		return Seen{Suspect, "its lease has lapsed, but only " + by}
	case lapsed:
		return Seen{Suspect, "its lease has lapsed, but everybody who answers reaches it"}
	case cut:
		return Seen{Suspect, by + ", but its lease runs"}
	default:
		return Seen{Condition: Live}
	}
}

// able reports whether a region can take roles over now.
func (v View) able(name antipode.Region, seen map[antipode.Region]Seen) bool {
	r, answers := v.Reports[name]
	return answers && r.Serving && r.Refuses == "" && seen[name].Condition == Live
}

// healthy reports whether a region is fit to get roles back.
func (v View) healthy(name antipode.Region, seen map[antipode.Region]Seen) bool {
	if !v.able(name, seen) || len(v.blind(name)) > 0 {
		return false
	}
	for from, lag := range v.Reports[name].Lag {
		if _, answers := v.Reports[from]; answers && lag > HealthyLag {
			return false
		}
	}
	return true
}

// replace proposes successors for the roles of a region that is lost, or was.
func (v View) replace(name antipode.Region, seen map[antipode.Region]Seen) (Step, bool) {
	c := seen[name].Condition
	if c != Lost && (c != Detached || !v.Lapsed(name)) {
		return Step{}, false
	}
	assign, _ := v.Assign(name, seen, false)
	if c == Detached && len(assign) == 0 {
		return Step{}, false
	}
	return Step{Command: v.Fence(name, assign, "", seen[name].Why), Why: fmt.Sprintf("%s is %s: %s", name, c, seen[name].Why)}, true
}

// Fence is the command that fences a region as it is seen now, or gives away
// more of its roles if it is fenced. By is the person who asks for it, if any.
func (v View) Fence(name antipode.Region, assign []control.Assignment, by, why string) control.Command {
	l := v.State.Regions[name].Lease
	return control.Command{Fence: &control.Fence{
		Region: name, Number: l.Number, Renewed: l.Renewed, More: l.Fenced, Assign: assign, Forced: by != "", By: by, Why: why, At: v.Wall,
	}}
}

// Assign finds successors for the roles that a region holds, or has been handed.
// Those that it was to be handed only stay with their holders. Those of pinned
// tables are left out unless pinned is set, which a person does.
// It also returns the roles that nobody can take over now.
func (v View) Assign(lost antipode.Region, seen map[antipode.Region]Seen, pinned bool) (assign []control.Assignment, without []control.RoleID) {
	for _, id := range v.State.LostWith(lost) {
		t, _ := v.State.TableByID(id.Table)
		if t.Pinned() && !pinned {
			continue
		}
		if to, ok := v.successor(t, t.Role(id.Home), lost, seen); ok {
			assign = append(assign, control.Assignment{Role: id, To: to})
		} else {
			without = append(without, id)
		}
	}
	return assign, without
}

// successor chooses who takes a role over.
func (v View) successor(t *control.Table, r control.Role, lost antipode.Region, seen map[antipode.Region]Seen) (antipode.Region, bool) {
	var able []antipode.Region
	for _, name := range t.Replicas {
		if name != lost && v.able(name, seen) {
			able = append(able, name)
		}
	}
	if len(able) == 0 {
		return "", false
	}
	rank := func(name antipode.Region) int {
		if name == r.Next || name == r.Holder { // in the middle of a switch: it has all, or waits for it
			return -1
		}
		if i := slices.Index(t.Successors, name); i >= 0 {
			return i
		}
		return len(t.Successors)
	}
	return slices.MinFunc(able, func(a, b antipode.Region) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(v.lag(a, lost), v.lag(b, lost)), cmp.Compare(a, b))
	}), true
}

// lag returns how far a region is behind another, as it says.
func (v View) lag(name, behind antipode.Region) time.Duration {
	if d, ok := v.Reports[name].Lag[behind]; ok {
		return d
	}
	return 1 << 62 // it has never heard of it
}

// giveBack proposes to switch back to a region what has its seat there.
func (m *Machine) giveBack(v View, name antipode.Region, seen map[antipode.Region]Seen) (Step, bool) {
	if seen[name].Condition != Live {
		return Step{}, false
	}
	roles, elsewhere := v.seated(name, seen)
	if !elsewhere {
		return Step{}, false
	}
	since, ok := m.healthy[name]
	if !ok {
		seen[name] = Seen{Back, "what belongs there is elsewhere; it lags, or not everybody reaches it"}
		return Step{}, false
	}
	seen[name] = Seen{Back, fmt.Sprintf("what belongs there is elsewhere; it goes back once %s has been healthy for %v", name, m.returnAfter)}
	if v.Now-since < m.returnAfter || len(roles) == 0 {
		return Step{}, false
	}
	why := fmt.Sprintf("%s has been healthy for %v", name, m.returnAfter)
	return Step{
		Command: control.Command{Switch: &control.Switch{Roles: roles, To: name, Why: why, At: v.Wall}},
		Why:     fmt.Sprintf("%d roles go back to %s: %s", len(roles), name, why),
	}, true
}

// seated lists the roles that may go back to their seat now, and reports whether
// there are any that are to.
func (v View) seated(name antipode.Region, seen map[antipode.Region]Seen) (roles []control.RoleEpoch, elsewhere bool) {
	for _, t := range v.State.Tables {
		if t.Pinned() || t.Return != control.ReturnAuto {
			continue
		}
		for home, r := range t.Roles {
			if r.Seat != name || r.Holder == name || !t.HasReplica(name) {
				continue
			}
			elsewhere = true
			f, ok := v.State.Failovers[r.Failover]
			if ok && f.Cutoff == nil || r.Next != "" || !v.able(r.Holder, seen) {
				continue
			}
			roles = append(roles, control.RoleEpoch{RoleID: control.RoleID{Table: t.ID, Home: home}, Epoch: r.Epoch})
		}
	}
	slices.SortFunc(roles, func(a, b control.RoleEpoch) int { return a.Compare(b.RoleID) })
	return roles, elsewhere
}

func join(regions []antipode.Region) string {
	out := make([]string, len(regions))
	for i, r := range regions {
		out[i] = string(r)
	}
	return strings.Join(out, ", ")
}
