package region

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/control"
	"github.com/antipode-io/antipode/internal/control/failover"
	"github.com/antipode-io/antipode/internal/data/table"
)

// roleStatus describes a role as the group has it.
func roleStatus(s *control.State, id control.RoleID) operator.RoleStatus {
	out := operator.RoleStatus{Table: fmt.Sprintf("(deleted table %d)", id.Table), Home: id.Home}
	t, ok := s.TableByID(id.Table)
	if !ok {
		return out
	}
	r := t.Role(id.Home)
	out.Table, out.Holder, out.Epoch, out.Next = t.Name, r.Holder, r.Epoch, r.Next
	if f, ok := s.Failovers[r.Failover]; ok && f.Cutoff == nil {
		out.Failover = f.ID
	}
	return out
}

// roles lists all roles, by table and home. Where this region's journal knows
// better than the group who holds one, because a person forced it, that counts.
func (r *Region) roles() []operator.RoleStatus {
	s := r.group.State()
	out := []operator.RoleStatus{}
	for _, t := range sortedTables(s) {
		for _, home := range slices.Sorted(maps.Keys(t.Roles)) {
			st := roleStatus(s, control.RoleID{Table: t.ID, Home: home})
			if d := r.data.Load(); d != nil && t.HasReplica(r.cfg.Name) {
				if known := d.tables.Holder(t, home); known.Tenure() != t.Role(home).Tenure() {
					st.Holder, st.Epoch, st.Failover = known.Holder, known.Epoch, 0
				}
			}
			out = append(out, st)
		}
	}
	return out
}

// heldLease describes this region's lease; nil where it has no use for one.
func (r *Region) heldLease() *operator.HeldLease {
	if r.lease == nil {
		return nil
	}
	return &operator.HeldLease{
		Held: r.lease.Valid(), LeftMS: max(0, r.lease.Left().Milliseconds()), Fenced: r.group.State().Fenced(r.cfg.Name),
	}
}

// pollEvery is how often what was asked of the group is looked at again.
const pollEvery = 50 * time.Millisecond

// until waits for something to be so, and reports whether it came about before
// ctx ended.
func (r *Region) until(ctx context.Context, done func() bool) bool {
	for !done() {
		select {
		case <-time.After(pollEvery):
		case <-ctx.Done():
			return false
		case <-r.ctx.Done():
			return false
		}
	}
	return true
}

// patience bounds how long a call waits for what it has begun, below what
// clients wait for an answer.
const patience = 20 * time.Second

// Switch hands roles over to another region.
func (r *Region) Switch(ctx context.Context, q operator.SwitchRequest) (operator.SwitchStatus, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var out operator.SwitchStatus
	// What this region knew before it was cut off is no answer: others may hold
	// those roles by now.
	if st := r.group.Status(); len(st.Reachable) <= len(st.Voters)/2 {
		return out, fmt.Errorf("%w: %s reaches %d of %d voters, so it can't agree on anything, and what it knows of who accepts writes may be old; nothing was changed",
			operator.ErrUnavailable, r.cfg.Name, len(st.Reachable), len(st.Voters))
	}
	if q.Cancel {
		return r.callOff(ctx, q)
	}
	c, err := r.beginSwitch(ctx, q, &out)
	if err != nil {
		return out, err
	}
	var failed error
	r.until(ctx, func() bool {
		out.Pending, failed = r.switching(c)
		return out.Pending == 0 || failed != nil
	})
	for _, id := range c.Roles {
		out.Roles = append(out.Roles, roleStatus(r.group.State(), id.RoleID))
	}
	return out, failed
}

// beginSwitch has the group begin a switch, and returns it with the roles that are
// on their way to that region already: who asks again waits for the same.
func (r *Region) beginSwitch(ctx context.Context, q operator.SwitchRequest, out *operator.SwitchStatus) (*control.Switch, error) {
	for again := true; ; again = false {
		s := r.group.State()
		out.Skipped = nil
		c, err := r.planSwitch(s, q, out)
		if err != nil {
			return nil, err
		}
		begin := *c
		begin.Roles = slices.DeleteFunc(slices.Clone(c.Roles), func(id control.RoleEpoch) bool {
			t, _ := s.TableByID(id.Table)
			return t.Role(id.Home).Next == q.To
		})
		if len(begin.Roles) == 0 {
			return c, nil
		}
		if err := r.checkHeir(r.ask(ctx), s, &begin); err != nil {
			return nil, err
		}
		_, err = r.group.Propose(ctx, control.Command{Switch: &begin})
		if err == nil {
			return c, nil
		}
		if !again || !errors.Is(err, control.ErrStale) {
			return nil, told(err)
		} // else it has gone on meanwhile, perhaps to where it is to go
	}
}

// callOff calls off what is being switched and has not begun to move.
func (r *Region) callOff(ctx context.Context, q operator.SwitchRequest) (out operator.SwitchStatus, err error) {
	called := map[control.RoleID]bool{}
	for {
		s := r.group.State()
		offs, left, err := r.underWay(s, q)
		switch {
		case err != nil:
			return out, err
		case len(offs) == 0 && len(called) == 0 && len(left) > 0:
			role := roleStatus(s, left[0])
			return out, fmt.Errorf("%w: the point of no return has passed: %s has handed %s to %s, which takes it over as soon as it can; if %s is lost, see `antipode failover %s`",
				operator.ErrConflict, role.Holder, role.Table, role.Next, role.Next, role.Next)
		case len(offs) == 0 && len(called) == 0:
			return out, fmt.Errorf("%w: nothing of %s is being switched; see `antipode status`", operator.ErrConflict, cmp.Or(q.Table, string(q.Region)))
		case len(offs) == 0:
			out.Pending = len(left)
			for _, id := range slices.SortedFunc(maps.Keys(called), control.RoleID.Compare) {
				out.Roles = append(out.Roles, roleStatus(s, id))
			}
			return out, nil
		}
		for _, off := range offs {
			_, err := r.group.Propose(ctx, control.Command{CallOff: off})
			switch {
			case err == nil:
				for _, id := range off.Roles {
					called[id.RoleID] = true
				}
			case !errors.Is(err, control.ErrStale) && !errors.Is(err, control.ErrLeft): // else it has gone on: look again
				return out, told(err)
			}
		}
	}
}

// underWay finds what is being switched and may be called off, by heir, and what
// has gone too far.
func (r *Region) underWay(s *control.State, q operator.SwitchRequest) (offs []*control.CallOff, left []control.RoleID, err error) {
	if _, ok := s.Tables[q.Table]; q.Table != "" && !ok {
		return nil, nil, fmt.Errorf("%w: there is no table %s", operator.ErrNotFound, q.Table)
	}
	if reg, ok := s.Regions[q.Region]; q.Region != "" && (!ok || reg.Witness) {
		return nil, nil, fmt.Errorf("%w: there is neither a table nor a region with data that is called %s", operator.ErrNotFound, q.Region)
	}
	for _, t := range sortedTables(s) {
		for _, home := range slices.Sorted(maps.Keys(t.Roles)) {
			id, role := control.RoleID{Table: t.ID, Home: home}, t.Role(home)
			switch {
			case q.Table != "" && t.Name != q.Table, q.Region != "" && role.Holder != q.Region, role.Next == "", q.To != "" && role.Next != q.To:
			case role.Leaving:
				left = append(left, id)
			default:
				i := slices.IndexFunc(offs, func(c *control.CallOff) bool { return c.To == role.Next })
				if i < 0 {
					i = len(offs)
					offs = append(offs, &control.CallOff{To: role.Next, By: q.By, Why: q.Why, At: r.cfg.Now().UnixMilli()})
				}
				offs[i].Roles = append(offs[i].Roles, control.RoleEpoch{RoleID: id, Epoch: role.Epoch})
			}
		}
	}
	return offs, left, nil
}

// planSwitch lists the roles that are to move.
func (r *Region) planSwitch(s *control.State, q operator.SwitchRequest, out *operator.SwitchStatus) (*control.Switch, error) {
	if reg, ok := s.Regions[q.To]; !ok || reg.Witness {
		return nil, fmt.Errorf("%w: %s is not a region that stores tables; they are %v", operator.ErrInvalid, q.To, s.Members())
	}
	c := &control.Switch{To: q.To, By: q.By, Why: q.Why, At: r.cfg.Now().UnixMilli()}
	if q.Table != "" {
		t, ok := s.Tables[q.Table]
		switch {
		case !ok:
			return nil, fmt.Errorf("%w: there is no table %s", operator.ErrNotFound, q.Table)
		case t.Writes == antipode.WriteLocal:
			return nil, fmt.Errorf("%w: table %s is written in local mode: every region accepts its writes, and there is nothing to switch", operator.ErrInvalid, t.Name)
		case !t.HasReplica(q.To):
			return nil, fmt.Errorf("%w: %s keeps no replica of %s; it is in %v", operator.ErrInvalid, q.To, t.Name, t.Replicas)
		}
		for _, home := range slices.Sorted(maps.Keys(t.Roles)) {
			if role := t.Role(home); role.Holder != q.To {
				c.Roles = append(c.Roles, control.RoleEpoch{RoleID: control.RoleID{Table: t.ID, Home: home}, Epoch: role.Epoch})
			}
		}
		return c, nil
	}
	if reg, ok := s.Regions[q.Region]; !ok || reg.Witness {
		return nil, fmt.Errorf("%w: there is neither a table nor a region with data that is called %s", operator.ErrNotFound, q.Region)
	}
	if q.Region == q.To {
		return nil, fmt.Errorf("%w: a region can't hand over to itself; name another one than %s", operator.ErrInvalid, q.To)
	}
	for _, id := range s.RolesOf(q.Region) {
		t, _ := s.TableByID(id.Table)
		switch role := t.Role(id.Home); {
		case role.Holder != q.Region: // it is being handed to that region
		case t.HasReplica(q.To):
			c.Roles = append(c.Roles, control.RoleEpoch{RoleID: id, Epoch: role.Epoch})
		case !slices.Contains(out.Skipped, t.Name):
			out.Skipped = append(out.Skipped, t.Name)
		}
	}
	return c, nil
}

// checkHeir refuses a switch that would stall: to a region that is not well or
// is behind, or from one that can't hand over.
func (r *Region) checkHeir(v failover.View, s *control.State, c *control.Switch) error {
	if s.Fenced(c.To) {
		return fmt.Errorf("%w: %s is detached: it was replaced and has not come back yet; see `antipode status`", operator.ErrConflict, c.To)
	}
	heir, ok := v.Reports[c.To]
	switch {
	case !ok:
		return fmt.Errorf("%w: %s can't be reached from %s, and could not take over", operator.ErrUnavailable, c.To, r.cfg.Name)
	case !heir.Serving:
		return fmt.Errorf("%w: %s is starting, and could not take over yet", operator.ErrUnavailable, c.To)
	case heir.Refuses != "":
		return fmt.Errorf("%w: %s accepts no writes: %s", operator.ErrConflict, c.To, heir.Refuses)
	}
	for _, id := range c.Roles {
		t, _ := s.TableByID(id.Table)
		holder := t.Role(id.Home).Holder
		lag, known := heir.Lag[holder]
		switch {
		case s.Fenced(holder):
			return fmt.Errorf("%w: %s, which holds a role of %s, is detached and can't hand over; `antipode failover %s` gives its roles away", operator.ErrConflict, holder, t.Name, holder)
		case !slices.Contains(heir.Reaches, holder):
			return fmt.Errorf("%w: %s and %s, which holds a role of %s, can't reach each other, so nothing can be handed over; if %s is lost, see `antipode failover`", operator.ErrUnavailable, c.To, holder, t.Name, holder)
		case !known:
			return fmt.Errorf("%w: %s has not heard of the journal of %s yet, and can't tell how far it is behind; try again in a moment", operator.ErrUnavailable, c.To, holder)
		case lag > failover.HealthyLag:
			return fmt.Errorf("%w: %s is behind %s by %v: writes would stand still for as long; wait until it has caught up (below %v)", operator.ErrConflict, c.To, holder, lag.Round(time.Second), failover.HealthyLag)
		}
	}
	return nil
}

// switching counts the roles that have not moved. One that has gone elsewhere
// meanwhile, by a failover, is an error.
func (r *Region) switching(c *control.Switch) (pending int, err error) {
	s := r.group.State()
	for _, id := range c.Roles {
		t, ok := s.TableByID(id.Table)
		if !ok {
			continue
		}
		switch role := t.Role(id.Home); {
		case role.Holder == c.To && role.Failover > 0 && role.Epoch != id.Epoch:
			return pending, fmt.Errorf("%w: a failover came between: %s has the role of %s, and what was not there yet is set aside when its former holder is back; see `antipode stranded list`", operator.ErrConflict, c.To, t.Name)
		case role.Holder == c.To:
		case role.Next == c.To:
			pending++
		case role.Epoch == id.Epoch:
			return pending, fmt.Errorf("%w: it was called off, or %s was lost before %s had handed anything to it; %s keeps its role of %s", operator.ErrConflict, c.To, role.Holder, role.Holder, t.Name)
		default:
			return pending, fmt.Errorf("%w: a failover came between: a role of %s went to %s", operator.ErrConflict, t.Name, role.Holder)
		}
	}
	return pending, nil
}

// Failover gives the roles of a lost region to others, because a person says so.
func (r *Region) Failover(ctx context.Context, q operator.FailoverRequest) (operator.FailoverResult, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s := r.group.State()
	if reg, ok := s.Regions[q.Region]; !ok || reg.Witness {
		return operator.FailoverResult{}, fmt.Errorf("%w: %s is not a region that stores tables; they are %v", operator.ErrNotFound, q.Region, s.Members())
	}
	if q.Region == r.cfg.Name {
		return operator.FailoverResult{}, fmt.Errorf("%w: %s answers, so it is not lost; ask a region that is to take over, or use `antipode switch %s --to REGION`", operator.ErrInvalid, q.Region, q.Region)
	}
	if st := r.group.Status(); len(st.Reachable) > len(st.Voters)/2 {
		return r.agreedFailover(ctx, q)
	}
	return r.forcedFailover(ctx, q)
}

// forcedFailover is that of a region that has no majority to agree with.
func (r *Region) forcedFailover(ctx context.Context, q operator.FailoverRequest) (operator.FailoverResult, error) {
	st := r.group.Status()
	d := r.data.Load()
	switch {
	case d == nil:
		return operator.FailoverResult{}, fmt.Errorf("%w: %s stores no tables, or not yet; ask a region that is to take over", operator.ErrConflict, r.cfg.Name)
	case slices.Contains(r.mesh.Reaches(), q.Region):
		return operator.FailoverResult{}, fmt.Errorf("%w: %s answers %s, so it is not lost; use `antipode switch %s --to REGION` once a majority can be reached", operator.ErrConflict, q.Region, r.cfg.Name, q.Region)
	case !q.Force:
		return operator.FailoverResult{}, fmt.Errorf("%w: %s reaches %d of %d voters, so it can't tell whether %s is lost or only cut off; if you know that %s accepts no writes any more, say --force: what it still accepts will not count, and is listed as stranded when it is back",
			operator.ErrUnavailable, r.cfg.Name, len(st.Reachable), len(st.Voters), q.Region, q.Region)
	}
	roles, err := d.tables.Force(ctx, q.Region, q.By, q.Why)
	if err != nil {
		return operator.FailoverResult{}, told(err)
	}
	out := operator.FailoverResult{Forced: true}
	s := r.group.State()
	for _, id := range roles {
		role := roleStatus(s, id.RoleID)
		role.Holder, role.Epoch, role.Next, role.Failover = r.cfg.Name, id.Epoch, "", 0
		out.Roles = append(out.Roles, role)
	}
	return out, nil
}

// agreedFailover has the group agree. By itself it moves all roles but those of
// pinned tables, as soon as it may; a person moves those too.
func (r *Region) agreedFailover(ctx context.Context, q operator.FailoverRequest) (operator.FailoverResult, error) {
	for {
		v := r.ask(ctx)
		done, err := r.tryFailover(ctx, v, q)
		if err != nil {
			return operator.FailoverResult{}, err
		}
		if done {
			return r.awaitCutoffs(ctx, v, q.Region)
		}
		select {
		case <-time.After(viewEvery):
		case <-ctx.Done():
			return operator.FailoverResult{}, fmt.Errorf("%w: the lease of %s has not ended yet, or another change came between; nothing was changed, ask again", operator.ErrUnavailable, q.Region)
		}
	}
}

// tryFailover proposes the failover if it may be done now. It is not done when
// it is only a matter of time.
func (r *Region) tryFailover(ctx context.Context, v failover.View, q operator.FailoverRequest) (done bool, err error) {
	seen := v.Judge()
	c := seen[q.Region]
	lapsed := v.Lapsed(q.Region) || c.Condition == failover.Waiting
	switch c.Condition {
	case failover.Live, failover.Back:
		return false, fmt.Errorf("%w: %s is alive; use `antipode switch %s --to REGION`, which loses nothing", operator.ErrConflict, q.Region, q.Region)
	case failover.Returning:
		return false, fmt.Errorf("%w: %s was replaced and is coming back by itself; `antipode failover list` tells how far it is", operator.ErrConflict, q.Region)
	case failover.Suspect:
		if v.Lapsed(q.Region) {
			return false, fmt.Errorf("%w: %s; a majority has to lose sight of it before others may take its place (stop its process, if it is broken)", operator.ErrConflict, c.Why)
		}
	case failover.Waiting, failover.Lost, failover.Detached:
	}
	if !lapsed {
		return false, nil
	}
	assign, without := v.Assign(q.Region, seen, true)
	if len(assign) == 0 {
		return r.nothingToAssign(v.State, q.Region, without)
	}
	_, err = r.group.Propose(ctx, v.Fence(q.Region, assign, q.By, cmp.Or(q.Why, c.Why)))
	if errors.Is(err, control.ErrStale) {
		return false, nil // the leader was faster, or it has renewed: look again
	}
	return err == nil, told(err)
}

// nothingToAssign says why no role can be given away.
func (r *Region) nothingToAssign(s *control.State, lost antipode.Region, without []control.RoleID) (bool, error) {
	if len(without) > 0 {
		return false, fmt.Errorf("%w: nobody can take over: no other region that keeps %s is reached, serves and has a lease", operator.ErrConflict, strings.Join(tableNames(s, without), ", "))
	}
	for _, id := range slices.Sorted(maps.Keys(s.Failovers)) {
		if f := s.Failovers[id]; f.Lost == lost && f.Cutoff == nil {
			return false, fmt.Errorf("%w: failover %d of %s to %s is under way, and waits for %s", operator.ErrConflict, id, lost, f.Successor, waitsFor(s, f))
		}
	}
	if !s.Fenced(lost) {
		return false, fmt.Errorf("%w: %s holds no role that could be given away", operator.ErrConflict, lost)
	}
	return false, fmt.Errorf("%w: %s is detached and holds no role any more; others have taken over, see `antipode status`", operator.ErrConflict, lost)
}

func tableNames(s *control.State, ids []control.RoleID) (names []string) {
	for _, id := range ids {
		if t, ok := s.TableByID(id.Table); ok && !slices.Contains(names, t.Name) {
			names = append(names, t.Name)
		}
	}
	return names
}

// waitsFor says what a failover without a cutoff waits for.
func waitsFor(s *control.State, f *control.Failover) string {
	if missing := s.Unsealed(f); len(missing) > 0 {
		return joinNames(missing) + " to say what they have"
	}
	// The lost region counts again when it is back: it has what it answered.
	var away []antipode.Region
	have := 1 // the successor itself
	for _, name := range s.MembersOf(f.Set) {
		switch _, sealed := f.Sealed[name]; {
		case name == f.Successor:
		case sealed:
			have++
		default:
			away = append(away, name)
		}
	}
	if short := s.MustHear(f) - have; short > 0 && len(away) > 0 {
		return fmt.Sprintf("%d of %s to be back, since rpo: 0s promises that nothing that was answered is lost", short, joinNames(away))
	}
	return string(f.Successor) + " to have what the others have"
}

func joinNames(names []antipode.Region) string {
	out := make([]string, len(names))
	for i, n := range names {
		out[i] = string(n)
	}
	return strings.Join(out, ", ")
}

// awaitCutoffs waits until the new holders may accept writes.
func (r *Region) awaitCutoffs(ctx context.Context, v failover.View, lost antipode.Region) (operator.FailoverResult, error) {
	mine := func(s *control.State) (fs []*control.Failover) {
		for _, id := range slices.Sorted(maps.Keys(s.Failovers)) {
			if f := s.Failovers[id]; id > v.State.LastFailover && f.Lost == lost {
				fs = append(fs, f)
			}
		}
		return fs
	}
	fixed := r.until(ctx, func() bool {
		fs := mine(r.group.State())
		return len(fs) > 0 && !slices.ContainsFunc(fs, func(f *control.Failover) bool { return f.Cutoff == nil })
	})
	s := r.group.State()
	out := operator.FailoverResult{Pending: !fixed}
	for _, f := range mine(s) {
		for _, id := range f.Roles {
			out.Roles = append(out.Roles, roleStatus(s, id.RoleID))
		}
	}
	out.Left = tableNames(s, s.LostWith(lost))
	return out, nil
}

// Failovers tells of failovers and leases.
func (r *Region) Failovers(ctx context.Context) (operator.FailoverList, error) {
	v := r.ask(ctx)
	seen := v.Judge()
	if mine := r.seen.Load(); mine != nil { // the leader's machine also knows who is to get something back
		for name, s := range *mine {
			if s.Condition == failover.Back && seen[name].Condition == failover.Live {
				seen[name] = s
			}
		}
	}
	out := operator.FailoverList{Failovers: []operator.FailoverStatus{}, Leases: []operator.LeaseStatus{}}
	for _, id := range slices.Backward(slices.Sorted(maps.Keys(v.State.Failovers))) {
		f := v.State.Failovers[id]
		st := operator.FailoverStatus{
			ID: f.ID, Lost: f.Lost, Successor: f.Successor, Forced: f.Forced, By: f.By, Why: f.Why, Began: f.Began, Fixed: f.Fixed,
		}
		for _, id := range f.Roles {
			role := roleStatus(v.State, id.RoleID)
			role.Holder, role.Epoch, role.Next, role.Failover = f.Successor, id.Epoch, "", 0
			st.Roles = append(st.Roles, role)
		}
		if f.Cutoff == nil {
			st.WaitsFor, st.Waits = v.State.Unsealed(f), waitsFor(v.State, f)
		}
		out.Failovers = append(out.Failovers, st)
	}
	forced, err := r.forcedAlone(v.State)
	if err != nil {
		return out, told(err)
	}
	out.Failovers = append(forced, out.Failovers...)
	r.watchMu.Lock()
	defer r.watchMu.Unlock()
	for _, name := range v.State.Members() {
		l := v.State.Regions[name].Lease
		out.Leases = append(out.Leases, operator.LeaseStatus{
			Region: name, Condition: string(seen[name].Condition), Why: seen[name].Why, Fenced: l.Fenced, Since: l.Since,
			AgeMS: r.watch.Age(name).Milliseconds(),
		})
	}
	return out, nil
}

// forcedAlone lists what a person forced here and the group does not know of yet.
func (r *Region) forcedAlone(s *control.State) ([]operator.FailoverStatus, error) {
	d := r.data.Load()
	if d == nil {
		return nil, nil
	}
	all, err := d.tables.Forced()
	if err != nil {
		return nil, err
	}
	var out []operator.FailoverStatus
	for _, f := range all {
		if slices.ContainsFunc(slices.Collect(maps.Values(s.Failovers)), func(g *control.Failover) bool {
			return g.Forced && g.Lost == f.Lost && g.Successor == r.cfg.Name && g.Began == f.At
		}) {
			continue // it has just been told
		}
		st := operator.FailoverStatus{Lost: f.Lost, Successor: r.cfg.Name, Forced: true, By: f.By, Why: f.Why, Began: f.At, Fixed: f.At}
		for _, id := range f.Roles {
			role := roleStatus(s, id.RoleID)
			role.Holder, role.Epoch, role.Next, role.Failover = r.cfg.Name, id.Epoch, "", 0
			st.Roles = append(st.Roles, role)
		}
		out = append(out, st)
	}
	return out, nil
}

// Stranded lists stranded writes.
func (r *Region) Stranded(ctx context.Context, region antipode.Region) ([]operator.Stranded, error) {
	d := r.data.Load()
	if d == nil {
		return nil, fmt.Errorf("%w: %s stores no tables, or not yet; ask a region that does", operator.ErrConflict, r.cfg.Name)
	}
	if reg, ok := r.group.State().Regions[region]; region != "" && (!ok || reg.Witness) {
		return nil, fmt.Errorf("%w: %s is not a region that stores tables", operator.ErrNotFound, region)
	}
	list, err := d.tables.Stranded(ctx, region)
	if err != nil {
		return nil, told(err)
	}
	out := []operator.Stranded{}
	for i := range list {
		w := &list[i]
		t, ok := r.group.State().Tables[w.Table]
		if !ok {
			continue
		}
		key, err := keyJSON(t, w.Key)
		if err != nil {
			return nil, fmt.Errorf("key of a stranded write in %s: %w", t.Name, err)
		}
		st := operator.Stranded{
			Dot: w.Dot.String(), Table: w.Table, Key: key, Kind: w.Kind.String(), Stamp: w.Stamp.String(), Home: w.Home,
			Item: itemJSON(w.Body), State: w.State, By: w.By, At: w.At, Now: itemJSON(w.Now), Unsure: w.Unknown,
		}
		if w.Delete {
			st.Item = itemJSON(nil)
		}
		if !w.Again.IsZero() {
			st.Again = w.Again.String()
		}
		out = append(out, st)
	}
	return out, nil
}

func itemJSON(body []byte) json.RawMessage {
	if body == nil {
		return json.RawMessage("null")
	}
	return json.RawMessage(body)
}

// DecideStranded restores or discards stranded writes.
func (r *Region) DecideStranded(ctx context.Context, q operator.DecideRequest) ([]operator.Decision, error) {
	d := r.data.Load()
	if d == nil {
		return nil, fmt.Errorf("%w: %s stores no tables, or not yet; ask a region that does", operator.ErrConflict, r.cfg.Name)
	}
	var out []operator.Decision
	for _, text := range q.Dots {
		dot, err := antipode.ParseDot(text)
		if err != nil {
			return out, fmt.Errorf("%w: %q is no name of a stranded write; `antipode stranded list` shows them: %w", operator.ErrInvalid, text, err)
		}
		if q.Restore {
			err = d.tables.RestoreStranded(ctx, dot, q.Force, q.By)
		} else {
			err = d.tables.DiscardStranded(ctx, dot, q.By)
		}
		decision := operator.Decision{Dot: text}
		if err != nil {
			decision.Error = explainDecision(err)
		}
		out = append(out, decision)
	}
	return out, nil
}

func explainDecision(err error) string {
	if refused, ok := errors.AsType[*table.Error](err); ok {
		return refused.Message
	}
	return err.Error()
}
