package control_test

import (
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/control"
)

// group is three regions with data, a witness that keeps journals, and tables
// that fail over by lease, by nobody, and not at all.
func group(tb testing.TB) *control.State {
	tb.Helper()
	s := control.NewState()
	for _, r := range []control.Region{
		{Name: "oregon"}, {Name: "mumbai"}, {Name: "tokyo"}, {Name: "frankfurt", Witness: true, Journal: true},
	} {
		s = must(tb, s, control.Command{PutRegion: &r})
	}
	three := []antipode.Region{"oregon", "mumbai", "tokyo"}
	for _, c := range []control.Command{
		table("catalog", func(t *control.Table) {
			*t = control.Table{Name: t.Name, Writes: antipode.WriteGlobal, Writer: "oregon", Replicas: three, Failover: control.FailoverLease}
		}),
		table("users", func(t *control.Table) {
			*t = control.Table{Name: t.Name, Writes: antipode.WritePartitioned, Replicas: three, Failover: control.FailoverLease, RPO: "0s"}
		}),
		table("pinned", func(t *control.Table) {
			*t = control.Table{Name: t.Name, Writes: antipode.WriteGlobal, Writer: "oregon", Replicas: three[:2], Failover: control.FailoverPinned}
		}),
		table("carts", nil),
	} {
		s = must(tb, s, c)
	}
	return s
}

// role ids of the tables of group.
var (
	catalog = control.RoleID{Table: 1}
	users   = func(home antipode.Region) control.RoleID { return control.RoleID{Table: 2, Home: home} }
	pinned  = control.RoleID{Table: 3}
)

func roleOf(tb testing.TB, s *control.State, id control.RoleID) control.Role {
	tb.Helper()
	t, ok := s.TableByID(id.Table)
	if !ok {
		tb.Fatalf("no table %d", id.Table)
	}
	return t.Role(id.Home)
}

// fence is the command that fences a region as it is in the state.
func fence(s *control.State, region antipode.Region, assign ...control.Assignment) control.Command {
	l := s.Regions[region].Lease
	return control.Command{Fence: &control.Fence{Region: region, Number: l.Number, Renewed: l.Renewed, More: l.Fenced, Assign: assign, At: 7}}
}

func to(region antipode.Region, ids ...control.RoleID) (out []control.Assignment) {
	for _, id := range ids {
		out = append(out, control.Assignment{Role: id, To: region})
	}
	return out
}

func seal(f uint64, region antipode.Region, had control.Frontiers) control.Command {
	return control.Command{Seal: &control.Seal{Failover: f, Region: region, Had: had}}
}

func fix(f uint64, cutoff control.Frontiers) control.Command {
	return control.Command{Fix: &control.Fix{Failover: f, Cutoff: cutoff, At: 9}}
}

func renew(s *control.State, region antipode.Region) control.Command {
	return control.Command{Renew: &control.Renew{Region: region, Number: s.Regions[region].Lease.Number, Length: 3000}}
}

func rejoin(s *control.State, region antipode.Region) control.Command {
	return control.Command{Rejoin: &control.Rejoin{Region: region, Number: s.Regions[region].Lease.Number, At: 11}}
}

// change is a switch of roles as they are in the state.
func change(tb testing.TB, s *control.State, by string, region antipode.Region, ids ...control.RoleID) control.Command {
	tb.Helper()
	c := &control.Switch{To: region, By: by}
	for _, id := range ids {
		c.Roles = append(c.Roles, control.RoleEpoch{RoleID: id, Epoch: roleOf(tb, s, id).Epoch})
	}
	return control.Command{Switch: c}
}

func took(by antipode.Region, epoch uint64, id control.RoleID) control.Command {
	return control.Command{Took: &control.Took{By: by, Roles: []control.RoleEpoch{{RoleID: id, Epoch: epoch}}}}
}

// marks are what was written of a shard of the tables' set.
func marks(seq uint64, by antipode.Region) control.Frontiers {
	set := antipode.ShardSet([]antipode.Region{"mumbai", "oregon", "tokyo"})
	return control.Frontiers{set: antipode.Frontier{}.With(antipode.Origin{Region: by, Incarnation: 1}, seq)}
}

// upToDate has a report or a cutoff say that it was made with the state known.
func upToDate(s *control.State, c control.Command) control.Command {
	switch {
	case c.Seal != nil:
		report := *c.Seal
		report.Fences = s.Fences
		c.Seal = &report
	case c.Fix != nil:
		cutoff := *c.Fix
		cutoff.Fences = s.Fences
		c.Fix = &cutoff
	}
	return c
}

func refused(tb testing.TB, s *control.State, c control.Command, want error, says string) {
	tb.Helper()
	_, err := control.Apply(s, s.Index+1, upToDate(s, c))
	if !errors.Is(err, want) || err != nil && !strings.Contains(err.Error(), says) {
		tb.Errorf("got %v, want %v with %q", err, want, says)
	}
}

func expect(tb testing.TB, s *control.State, id control.RoleID, want control.Role) {
	tb.Helper()
	if diff := cmp.Diff(want, roleOf(tb, s, id)); diff != "" {
		tb.Errorf("role %v (-want +got):\n%s", id, diff)
	}
}

func TestLease(t *testing.T) {
	s := group(t)
	s = must(t, s, renew(s, "oregon"))
	if got := s.Regions["oregon"].Lease; got != (control.Lease{Renewed: 1, Length: 3000}) {
		t.Errorf("renewed: %+v", got)
	}
	refused(t, s, control.Command{Renew: &control.Renew{Region: "oregon", Number: 1}}, control.ErrStale, "")
	refused(t, s, control.Command{Renew: &control.Renew{Region: "oregon", Length: -1}}, control.ErrInvalid, "length")
	refused(t, s, control.Command{Renew: &control.Renew{Region: "frankfurt"}}, control.ErrInvalid, "not a region that stores tables")
	refused(t, s, control.Command{Renew: &control.Renew{Region: "atlantis"}}, control.ErrInvalid, "atlantis")

	// A renewal that was agreed on first defeats the fence.
	seen := fence(s, "oregon")
	s = must(t, s, renew(s, "oregon"))
	refused(t, s, seen, control.ErrStale, "renewed")
	renewal := renew(s, "oregon")
	s = must(t, s, fence(s, "oregon"))
	if got := s.Regions["oregon"].Lease; got != (control.Lease{Number: 1, Renewed: 2, Length: 3000, Fenced: true, Since: 7}) {
		t.Errorf("fenced: %+v", got)
	}
	refused(t, s, renewal, control.ErrStale, "fenced")
	refused(t, s, renew(s, "oregon"), control.ErrStale, "fenced")
	refused(t, s, seen, control.ErrStale, "")
	refused(t, s, fence(s, "oregon"), control.ErrInvalid, "no role is to be given away")
	refused(t, s, rejoin(s, "mumbai"), control.ErrStale, "")

	// A fence of the detached region that comes after its return is late.
	late := fence(s, "oregon", to("mumbai", pinned)...)
	s = must(t, s, rejoin(s, "oregon"))
	if got := s.Regions["oregon"].Lease; got.Fenced || got.Number != 2 || got.Since != 11 {
		t.Errorf("back: %+v", got)
	}
	refused(t, s, late, control.ErrStale, "given back")
	must(t, s, renew(s, "oregon"))
}

func TestFailover(t *testing.T) {
	s := group(t)
	mine := []control.RoleID{catalog, users("oregon"), pinned}
	if diff := cmp.Diff(mine, s.RolesOf("oregon")); diff != "" {
		t.Fatalf("roles of oregon (-want +got):\n%s", diff)
	}
	for name, c := range map[string]control.Command{
		"to itself":       fence(s, "oregon", to("oregon", catalog)...),
		"to no replica":   fence(s, "oregon", to("tokyo", pinned)...),
		"to the witness":  fence(s, "oregon", to("frankfurt", catalog)...),
		"twice":           fence(s, "oregon", to("mumbai", catalog, catalog)...),
		"no such home":    fence(s, "oregon", to("mumbai", users("frankfurt"))...),
		"more, not yet":   {Fence: &control.Fence{Region: "oregon", More: true, Assign: to("mumbai", catalog)}},
		"a witness":       {Fence: &control.Fence{Region: "frankfurt"}},
		"another's roles": fence(s, "oregon", to("tokyo", users("mumbai"))...),
		"of no table":     fence(s, "oregon", to("tokyo", control.RoleID{Table: 99})...),
	} {
		if _, err := control.Apply(s, s.Index+1, c); err == nil {
			t.Errorf("%s: not refused", name)
		}
	}
	// Two successors of one set, and one of another: three failovers.
	s = must(t, s, fence(s, "oregon", slices.Concat(to("mumbai", catalog), to("tokyo", users("oregon")), to("mumbai", pinned))...))
	expect(t, s, catalog, control.Role{Holder: "mumbai", Epoch: 2, Failover: 1, Seat: "oregon"})
	expect(t, s, users("oregon"), control.Role{Holder: "tokyo", Epoch: 2, Failover: 2, Seat: "oregon"})
	expect(t, s, pinned, control.Role{Holder: "mumbai", Epoch: 2, Failover: 3, Seat: "oregon"})
	if tab := s.Tables["catalog"]; tab.Writer != "mumbai" || tab.Epoch != 2 {
		t.Errorf("the writer of catalog: %s at epoch %d", tab.Writer, tab.Epoch)
	}

	refused(t, s, fix(1, nil), control.ErrNotEnough, "[tokyo] neither sealed nor fenced")
	refused(t, s, seal(1, "sydney", nil), control.ErrInvalid, "keeps none")
	refused(t, s, seal(77, "tokyo", nil), control.ErrStale, "ended")
	s = must(t, s, seal(1, "tokyo", marks(5, "oregon")))
	s = must(t, s, seal(1, "mumbai", marks(3, "oregon")))
	refused(t, s, fix(1, marks(4, "oregon")), control.ErrNotEnough, "does not cover what tokyo had")
	refused(t, s, rejoin(s, "oregon"), control.ErrStale, "no cutoff yet")
	refused(t, s, change(t, s, "me", "tokyo", catalog), control.ErrStale, "failover to mumbai is under way")
	s = must(t, s, fix(1, marks(6, "oregon")))
	f := s.Failovers[1]
	if f.Cutoff == nil || f.Sealed != nil || f.Fixed != 9 || !f.Cutoff.Covers(marks(5, "oregon")) {
		t.Errorf("fixed: %+v", f)
	}
	refused(t, s, fix(1, marks(9, "oregon")), control.ErrStale, "ended")
	refused(t, s, seal(1, "tokyo", nil), control.ErrStale, "ended")

	// users promises to lose nothing with one other copy: of mumbai, tokyo and the
	// witness three have to be heard, the successor among them.
	if got := s.MustHear(s.Failovers[2]); got != 3 {
		t.Errorf("must hear %d, want 3", got)
	}
	s = must(t, s, seal(2, "mumbai", marks(6, "oregon")))
	refused(t, s, fix(2, marks(6, "oregon")), control.ErrNotEnough, "has to hold what 3 had")
	s = must(t, s, seal(2, "frankfurt", marks(8, "oregon")))
	refused(t, s, fix(2, marks(6, "oregon")), control.ErrNotEnough, "")
	s = must(t, s, fix(2, marks(8, "oregon")))
	s = must(t, s, fix(3, nil))
	if s.Failovers[3].Cutoff == nil {
		t.Error("an empty cutoff is taken for none")
	}
	s = must(t, s, rejoin(s, "oregon"))
	if got := s.RolesOf("oregon"); got != nil {
		t.Errorf("it came back and holds %v", got)
	}
}

// TestTwoFailovers: the successor is lost before the cutoff is fixed, and then
// another region.
func TestTwoFailovers(t *testing.T) {
	s := group(t)
	s = must(t, s, fence(s, "oregon", to("mumbai", catalog, users("oregon"))...))
	s = must(t, s, seal(1, "tokyo", marks(5, "oregon")))
	s = must(t, s, fence(s, "mumbai", to("tokyo", catalog, users("oregon"), users("mumbai"))...))
	if s.Failovers[1] != nil || s.Failovers[2] != nil || len(s.Failovers) != 2 {
		t.Errorf("failovers without roles go on: %v", s.Failovers)
	}
	expect(t, s, catalog, control.Role{Holder: "tokyo", Epoch: 3, Failover: 3, Seat: "oregon"})
	refused(t, s, fix(1, nil), control.ErrStale, "ended")
	s = must(t, s, fix(3, marks(5, "oregon"))) // all others are fenced
	// users promises to lose nothing, and what oregon wrote may be at mumbai only.
	s = must(t, s, seal(4, "frankfurt", nil))
	refused(t, s, fix(4, marks(5, "oregon")), control.ErrNotEnough, "has to hold what 3 had")
	s = must(t, s, seal(4, "mumbai", marks(6, "oregon"))) // fenced, and heard all the same
	s = must(t, s, fix(4, marks(6, "oregon")))

	refused(t, s, fence(s, "tokyo", to("mumbai", catalog)...), control.ErrInvalid, "can't take over")
	s = must(t, s, rejoin(s, "mumbai"))
	s = must(t, s, fence(s, "tokyo", to("mumbai", catalog)...))
	expect(t, s, catalog, control.Role{Holder: "mumbai", Epoch: 4, Failover: 5, Seat: "oregon"})
	if s.Failovers[3].Cutoff == nil || len(s.Failovers[3].Roles) != 1 {
		t.Error("what was fixed has been changed")
	}
	// Later, by the same fence, what had found no successor.
	s = must(t, s, fence(s, "tokyo", to("mumbai", users("tokyo"))...))
	expect(t, s, users("tokyo"), control.Role{Holder: "mumbai", Epoch: 2, Failover: 6, Seat: "tokyo"})
}

// TestLostDuringFailover: a region that has to seal is lost and fenced: the
// cutoff needs it no longer.
func TestLostDuringFailover(t *testing.T) {
	s := group(t)
	s = must(t, s, fence(s, "oregon", to("mumbai", catalog)...))
	refused(t, s, fix(1, nil), control.ErrNotEnough, "tokyo")
	s = must(t, s, fence(s, "tokyo", to("mumbai", users("tokyo"))...))
	must(t, s, fix(1, nil))

	// One that has sealed loses its disk: it says anew what it has.
	s = group(t)
	s = must(t, s, fence(s, "oregon", to("mumbai", catalog)...))
	s = must(t, s, seal(1, "tokyo", marks(5, "oregon")))
	s = must(t, s, control.Command{Incarnate: &control.Incarnate{Region: "tokyo", Was: s.Regions["tokyo"].Incarnation}})
	refused(t, s, fix(1, marks(5, "oregon")), control.ErrNotEnough, "tokyo")
	s = must(t, s, seal(1, "tokyo", marks(3, "oregon")))
	must(t, s, fix(1, marks(3, "oregon")))
}

func TestSwitch(t *testing.T) {
	s := group(t)
	stale := change(t, s, "me", "mumbai", catalog)
	refused(t, s, change(t, s, "", "tokyo", pinned), control.ErrInvalid, "keeps no replica")
	refused(t, s, change(t, s, "", "atlantis", catalog), control.ErrInvalid, "keeps no replica")
	refused(t, s, control.Command{Switch: &control.Switch{To: "mumbai", Roles: []control.RoleEpoch{{RoleID: control.RoleID{Table: 9}}}}}, control.ErrNoTable, "")

	s = must(t, s, change(t, s, "me", "mumbai", catalog, users("tokyo")))
	expect(t, s, catalog, control.Role{Holder: "oregon", Epoch: 1, Next: "mumbai", Seat: "mumbai", Was: "oregon"})
	refused(t, s, stale, control.ErrStale, "being switched to mumbai already")
	refused(t, s, took("tokyo", 2, catalog), control.ErrStale, "")
	refused(t, s, took("mumbai", 3, catalog), control.ErrStale, "")
	s = must(t, s, took("mumbai", 2, catalog))
	expect(t, s, catalog, control.Role{Holder: "mumbai", Epoch: 2, Seat: "mumbai"})
	refused(t, s, took("mumbai", 2, catalog), control.ErrStale, "")
	refused(t, s, stale, control.ErrStale, "it is at epoch 2, not 1")
	// Without a person the seat stays.
	s = must(t, s, change(t, s, "", "tokyo", users("oregon")))
	expect(t, s, users("oregon"), control.Role{Holder: "oregon", Epoch: 1, Next: "tokyo", Seat: "oregon", Was: "oregon"})
	if got := s.RolesOf("tokyo"); !slices.Contains(got, users("oregon")) {
		t.Errorf("what is being handed to tokyo is not among its roles: %v", got)
	}
	// To whom it belongs already: nothing happens.
	again := must(t, s, change(t, s, "", "mumbai", catalog))
	expect(t, again, catalog, control.Role{Holder: "mumbai", Epoch: 2, Seat: "mumbai"})

	s = must(t, s, fence(s, "mumbai"))
	refused(t, s, change(t, s, "me", "mumbai", pinned), control.ErrInvalid, "mumbai is detached")
	refused(t, s, change(t, s, "me", "tokyo", catalog), control.ErrInvalid, "its holder mumbai is detached")
}

// TestCallOff: a switch can be called off until its holder was let go.
func TestCallOff(t *testing.T) {
	s := group(t)
	s = must(t, s, change(t, s, "me", "mumbai", catalog, users("tokyo")))
	refused(t, s, leave("tokyo", 1, catalog), control.ErrStale, "called off")
	refused(t, s, leave("oregon", 2, catalog), control.ErrStale, "")
	refused(t, s, callOff("tokyo", 1, catalog), control.ErrStale, "it has ended")
	refused(t, s, callOff("mumbai", 2, catalog), control.ErrStale, "it has ended")
	refused(t, s, callOff("mumbai", 1, control.RoleID{Table: 9}), control.ErrNoTable, "")

	off := must(t, s, callOff("mumbai", 1, catalog))
	expect(t, off, catalog, control.Role{Holder: "oregon", Epoch: 1, Seat: "oregon"})
	refused(t, off, leave("oregon", 1, catalog), control.ErrStale, "called off")
	refused(t, off, callOff("mumbai", 1, catalog), control.ErrStale, "it has ended")
	must(t, off, change(t, off, "me", "tokyo", catalog))

	s = must(t, s, leave("oregon", 1, catalog))
	expect(t, s, catalog, control.Role{Holder: "oregon", Epoch: 1, Next: "mumbai", Leaving: true, Seat: "mumbai", Was: "oregon"})
	s = must(t, s, leave("oregon", 1, catalog)) // once more, late
	refused(t, s, callOff("mumbai", 1, users("tokyo"), catalog), control.ErrLeft, "oregon has handed it to mumbai already")
	s = must(t, s, took("mumbai", 2, catalog))
	expect(t, s, catalog, control.Role{Holder: "mumbai", Epoch: 2, Seat: "mumbai"})
	refused(t, s, leave("oregon", 1, catalog), control.ErrStale, "")
}

func leave(by antipode.Region, epoch uint64, id control.RoleID) control.Command {
	return control.Command{Leave: &control.Leave{By: by, Roles: []control.RoleEpoch{{RoleID: id, Epoch: epoch}}}}
}

func callOff(to antipode.Region, epoch uint64, ids ...control.RoleID) control.Command {
	c := &control.CallOff{To: to, By: "me"}
	for _, id := range ids {
		c.Roles = append(c.Roles, control.RoleEpoch{RoleID: id, Epoch: epoch})
	}
	return control.Command{CallOff: c}
}

// TestLostMidSwitch: holder or heir is lost between Switch and Took. The epoch
// of the handover is used up if the holder was let go.
func TestLostMidSwitch(t *testing.T) {
	s := group(t)
	s = must(t, s, change(t, s, "me", "mumbai", catalog, pinned))
	holder := must(t, s, fence(s, "oregon", to("mumbai", catalog)...))
	expect(t, holder, catalog, control.Role{Holder: "mumbai", Epoch: 3, Failover: 1, Seat: "mumbai"})
	refused(t, holder, took("mumbai", 2, catalog), control.ErrStale, "")

	refused(t, s, fence(s, "mumbai", to("oregon", catalog)...), control.ErrStale, "does not hold")
	kept := must(t, s, fence(s, "mumbai"))
	expect(t, kept, catalog, control.Role{Holder: "oregon", Epoch: 1, Seat: "oregon"})
	expect(t, kept, pinned, control.Role{Holder: "oregon", Epoch: 1, Seat: "oregon"})

	left := must(t, must(t, s, leave("oregon", 1, catalog)), leave("oregon", 1, pinned))
	heir := must(t, left, fence(left, "mumbai", to("oregon", catalog)...))
	expect(t, heir, catalog, control.Role{Holder: "oregon", Epoch: 3, Failover: 1, Seat: "mumbai"})
	expect(t, heir, pinned, control.Role{Holder: "oregon", Epoch: 1, Next: "mumbai", Leaving: true, Seat: "mumbai", Was: "oregon"})
	refused(t, heir, took("mumbai", 2, catalog), control.ErrStale, "")
}

func TestAdopt(t *testing.T) {
	set := antipode.ShardSet([]antipode.Region{"mumbai", "oregon", "tokyo"})
	s := group(t)
	adopt := func(epoch uint64, ids ...control.RoleID) control.Command {
		a := &control.Adopt{Region: "tokyo", Set: set, Lost: "oregon", Cutoff: marks(4, "oregon"), By: "me", Why: "fire", At: 5}
		for _, id := range ids {
			a.Roles = append(a.Roles, control.RoleEpoch{RoleID: id, Epoch: epoch})
		}
		return control.Command{Adopt: a}
	}
	refused(t, s, adopt(2), control.ErrStale, "gone on")
	refused(t, s, adopt(2, pinned), control.ErrInvalid, "can't hold")
	refused(t, s, adopt(2, catalog, catalog), control.ErrInvalid, "can't hold")
	got := must(t, s, adopt(2, catalog, users("oregon")))
	expect(t, got, catalog, control.Role{Holder: "tokyo", Epoch: 2, Failover: 1, Seat: "oregon"})
	if f := got.Failovers[1]; !f.Forced || f.Cutoff == nil || f.By != "me" || len(f.Roles) != 2 {
		t.Errorf("%+v", f)
	}
	refused(t, got, adopt(2, catalog), control.ErrStale, "gone on")

	// The group failed over meanwhile, under the same number: tokyo is above mumbai.
	tie := must(t, s, fence(s, "oregon", to("mumbai", catalog)...))
	tie = must(t, tie, adopt(2, catalog))
	expect(t, tie, catalog, control.Role{Holder: "tokyo", Epoch: 2, Failover: 2, Seat: "oregon"})
	if _, ok := tie.Failovers[1]; ok {
		t.Error("the failover that lost its role goes on")
	}
	// And twice: the group is ahead.
	ahead := must(t, s, fence(s, "oregon", to("tokyo", catalog)...))
	ahead = must(t, ahead, fence(ahead, "tokyo", to("mumbai", catalog)...))
	refused(t, ahead, adopt(2, catalog), control.ErrStale, "gone on")
}

// TestTableBornDetached: a table made while a replica is detached has no role
// there that nobody could use.
func TestTableBornDetached(t *testing.T) {
	s := group(t)
	s = must(t, s, fence(s, "oregon"))
	both := []antipode.Region{"oregon", "mumbai", "tokyo"}
	s = must(t, s, table("one", func(t *control.Table) {
		*t = control.Table{Name: t.Name, Writes: antipode.WriteGlobal, Writer: "oregon", Replicas: both, Successors: both[2:], Failover: control.FailoverLease}
	}))
	expect(t, s, control.RoleID{Table: 5}, control.Role{Holder: "tokyo", Epoch: 1, Seat: "oregon"})
	if s.Tables["one"].Writer != "tokyo" {
		t.Errorf("writer %s", s.Tables["one"].Writer)
	}
	s = must(t, s, table("two", func(t *control.Table) {
		*t = control.Table{Name: t.Name, Writes: antipode.WritePartitioned, Replicas: both[:2], Failover: control.FailoverLease}
	}))
	expect(t, s, control.RoleID{Table: 6, Home: "oregon"}, control.Role{Holder: "mumbai", Epoch: 1, Seat: "oregon"})
	expect(t, s, control.RoleID{Table: 6, Home: "mumbai"}, control.Role{Holder: "mumbai", Epoch: 1, Seat: "mumbai"})
	s = must(t, s, table("pin", func(t *control.Table) {
		*t = control.Table{Name: t.Name, Writes: antipode.WriteGlobal, Writer: "oregon", Replicas: both}
	}))
	expect(t, s, control.RoleID{Table: 7}, control.Role{Holder: "oregon", Epoch: 1, Seat: "oregon"})
	// All replicas detached: it waits for the one it was made for.
	s = must(t, s, fence(s, "mumbai"))
	s = must(t, s, table("none", func(t *control.Table) {
		*t = control.Table{Name: t.Name, Writes: antipode.WriteGlobal, Writer: "oregon", Replicas: both[:2], Failover: control.FailoverLease}
	}))
	expect(t, s, control.RoleID{Table: 8}, control.Role{Holder: "oregon", Epoch: 1, Seat: "oregon"})
}

// TestDeletedMidFailover: a failover ends with its last table.
func TestDeletedMidFailover(t *testing.T) {
	s := group(t)
	s = must(t, s, fence(s, "oregon", to("mumbai", catalog)...))
	s = must(t, s, control.Command{DeleteTable: "catalog"})
	if len(s.Failovers) != 0 {
		t.Errorf("%v goes on", s.Failovers)
	}
	must(t, s, rejoin(s, "oregon"))
}

func TestSafetyRefused(t *testing.T) {
	s := world(t)
	global := func(change func(*control.Table)) control.Command {
		return table("x", func(t *control.Table) {
			t.Writes, t.Rule, t.Writer = antipode.WriteGlobal, "", "oregon"
			change(t)
		})
	}
	for name, c := range map[string]control.Command{
		"failover":             global(func(t *control.Table) { t.Failover = "maybe" }),
		"return":               global(func(t *control.Table) { t.Return = "maybe" }),
		"successor":            global(func(t *control.Table) { t.Successors = []antipode.Region{"frankfurt"} }),
		"successor twice":      global(func(t *control.Table) { t.Successors = []antipode.Region{"mumbai", "mumbai"} }),
		"unprotected":          global(func(t *control.Table) { t.Unprotected = "maybe" }),
		"rpo":                  global(func(t *control.Table) { t.RPO = "soon" }),
		"negative rpo":         global(func(t *control.Table) { t.RPO = "-1s" }),
		"copies without rpo 0": global(func(t *control.Table) { t.RPO, t.Copies = "5s", 1 }),
		"more copies":          global(func(t *control.Table) { t.RPO, t.Copies = "0s", 2 }),
		"fewer than none":      global(func(t *control.Table) { t.RPO, t.Copies = "0s", -1 }),
		"rpo alone":            global(func(t *control.Table) { t.RPO, t.Replicas = "5s", []antipode.Region{"oregon"} }),
		"failover of local":    table("x", func(t *control.Table) { t.Failover = control.FailoverLease }),
		"return of local":      table("x", func(t *control.Table) { t.Return = control.ReturnAuto }),
		"successors of local":  table("x", func(t *control.Table) { t.Successors = []antipode.Region{"oregon"} }),
		"journal of a region":  {PutRegion: &control.Region{Name: "tokyo", Journal: true}},
		"journal later":        {PutRegion: &control.Region{Name: "frankfurt", Witness: true, Journal: true}},
		"a witness later":      {PutRegion: &control.Region{Name: "oregon", Witness: true}},
	} {
		if _, err := control.Apply(s, s.Index+1, c); !errors.Is(err, control.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	keeper := control.Region{Name: "dublin", Witness: true, Journal: true}
	s = must(t, s, control.Command{PutRegion: &keeper})
	must(t, s, global(func(t *control.Table) { t.RPO, t.Copies = "0s", 2 }))
	must(t, s, global(func(t *control.Table) { t.RPO, t.Replicas = "0s", []antipode.Region{"oregon"} }))
}

// commands draws commands, most of them plausible ones in the state.
type commands struct {
	tb  testing.TB
	rnd *rand.Rand
	old []control.Command // to be sent again, late
}

func pick[T any](c *commands, of ...T) T { return of[c.rnd.IntN(len(of))] }

func (c *commands) region() antipode.Region {
	return pick[antipode.Region](c, "oregon", "mumbai", "tokyo", "tokyo", "mumbai", "frankfurt", "atlantis")
}

func (c *commands) roles() (out []control.RoleID) {
	all := []control.RoleID{catalog, users("oregon"), users("mumbai"), users("tokyo"), pinned, {Table: 5}, {Table: 99}}
	for _, id := range all {
		if c.rnd.IntN(3) == 0 {
			out = append(out, id)
		}
	}
	return out
}

func (c *commands) failover(s *control.State) uint64 {
	if s.LastFailover == 0 {
		return 0
	}
	return s.LastFailover - uint64(c.rnd.IntN(int(min(s.LastFailover, 4))))
}

func (c *commands) next(s *control.State) control.Command {
	if len(c.old) > 0 && c.rnd.IntN(8) == 0 {
		return pick(c, c.old...)
	}
	r := c.region()
	var lease control.Lease
	if reg, ok := s.Regions[r]; ok {
		lease = reg.Lease
	}
	cmd := control.Command{Renew: &control.Renew{Region: r, Number: lease.Number, Length: 1}}
	switch c.rnd.IntN(10) {
	case 0, 1:
		f := &control.Fence{Region: r, Number: lease.Number, Renewed: lease.Renewed, More: lease.Fenced}
		if c.rnd.IntN(4) > 0 {
			for _, id := range s.RolesOf(r) {
				f.Assign = append(f.Assign, control.Assignment{Role: id, To: c.region()})
			}
		} else {
			f.Assign = to(c.region(), c.roles()...)
		}
		cmd = control.Command{Fence: f}
	case 2, 3:
		cmd = upToDate(s, seal(c.failover(s), r, marks(uint64(c.rnd.IntN(4)), "oregon")))
	case 4, 5:
		cmd = upToDate(s, fix(c.failover(s), marks(uint64(c.rnd.IntN(5)), "oregon")))
	case 6:
		if c.rnd.IntN(3) == 0 {
			cmd = c.handover(s, r)
			break
		}
		sw := &control.Switch{To: r, By: pick(c, "", "me")}
		for _, id := range c.roles() {
			epoch := uint64(1)
			if t, ok := s.TableByID(id.Table); ok {
				epoch = t.Role(id.Home).Epoch
			}
			sw.Roles = append(sw.Roles, control.RoleEpoch{RoleID: id, Epoch: epoch})
		}
		cmd = control.Command{Switch: sw}
	case 7:
		tk := &control.Took{By: r}
		for _, id := range s.RolesOf(r) {
			t, _ := s.TableByID(id.Table)
			if role := t.Role(id.Home); role.Next == r {
				tk.Roles = append(tk.Roles, control.RoleEpoch{RoleID: id, Epoch: role.Epoch + 1})
			}
		}
		cmd = control.Command{Took: tk}
	case 8:
		cmd = control.Command{Rejoin: &control.Rejoin{Region: r, Number: lease.Number}}
		if c.rnd.IntN(6) == 0 {
			a := &control.Adopt{Region: r, Lost: c.region(), Set: antipode.ShardSet([]antipode.Region{"mumbai", "oregon", "tokyo"})}
			for _, id := range c.roles() {
				a.Roles = append(a.Roles, control.RoleEpoch{RoleID: id, Epoch: uint64(c.rnd.IntN(6))})
			}
			cmd = control.Command{Adopt: a}
		}
	case 9:
		if c.rnd.IntN(4) == 0 {
			cmd = pick(c, control.Command{DeleteTable: "extra"}, table("extra", func(t *control.Table) {
				*t = control.Table{Name: t.Name, Writes: antipode.WriteGlobal, Writer: "mumbai", Replicas: []antipode.Region{"oregon", "mumbai"}, Failover: control.FailoverLease}
			}))
		}
	}
	c.old = append(c.old, cmd)
	return cmd
}

// handover lets a holder go, or calls a switch off.
func (c *commands) handover(s *control.State, r antipode.Region) control.Command {
	l, off := &control.Leave{By: r}, &control.CallOff{To: r}
	for _, id := range s.RolesOf(r) {
		t, _ := s.TableByID(id.Table)
		role := control.RoleEpoch{RoleID: id, Epoch: t.Role(id.Home).Epoch}
		if t.Role(id.Home).Holder == r {
			l.Roles = append(l.Roles, role)
		} else {
			off.Roles = append(off.Roles, role)
		}
	}
	return pick(c, control.Command{Leave: l}, control.Command{CallOff: off})
}

// TestRandomCommands applies commands in any order, many of them stale, and
// checks what must hold after each.
func TestRandomCommands(t *testing.T) {
	for seed := range uint64(100) {
		c := &commands{tb: t, rnd: rand.New(rand.NewPCG(seed, 1))}
		run(t, c, group(t), 120)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func FuzzCommands(f *testing.F) {
	f.Add(uint64(1), uint64(2))
	f.Fuzz(func(t *testing.T, a, b uint64) {
		run(t, &commands{tb: t, rnd: rand.New(rand.NewPCG(a, b))}, group(t), 60)
	})
}

func run(t *testing.T, c *commands, s *control.State, steps int) {
	t.Helper()
	for range steps {
		cmd := c.next(s)
		before, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		next, refusal := control.Apply(s, s.Index+1, cmd)
		after, err := s.Encode()
		if err != nil || string(before) != string(after) {
			t.Fatalf("the state before was changed by %+v", cmd)
		}
		if refusal != nil {
			if !errors.Is(refusal, control.ErrStale) && !errors.Is(refusal, control.ErrInvalid) && !errors.Is(refusal, control.ErrNotEnough) && !errors.Is(refusal, control.ErrLeft) &&
				!errors.Is(refusal, control.ErrNoTable) && !errors.Is(refusal, control.ErrTableExists) {
				t.Fatalf("refused without a class: %v", refusal)
			}
			same := *next
			same.Index = s.Index
			if b, err := same.Encode(); err != nil || string(b) != string(before) {
				t.Fatalf("it was refused and has changed something:\n%s\n%s", before, b)
			}
		}
		checkState(t, next)
		checkStep(t, s, next)
		s = next
	}
	// A snapshot means the same as the log: what is empty comes back empty, and not as none.
	b, err := s.Encode()
	if err != nil {
		t.Fatal(err)
	}
	again, err := control.Decode(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(s, again, cmpopts.IgnoreUnexported(control.State{}, control.Table{})); diff != "" {
		t.Fatalf("decoded (-want +got):\n%s", diff)
	}
}

// checkState checks one state.
func checkState(t *testing.T, s *control.State) {
	t.Helper()
	open := map[control.RoleID]uint64{}
	for id, f := range s.Failovers {
		if f.Cutoff != nil {
			continue
		}
		if len(f.Roles) == 0 {
			t.Fatalf("failover %d has no roles and goes on", id)
		}
		for _, r := range f.Roles {
			if other, ok := open[r.RoleID]; ok {
				t.Fatalf("role %v is in failovers %d and %d, which both go on", r.RoleID, id, other)
			}
			open[r.RoleID] = id
			if now := roleOf(t, s, r.RoleID); now.Holder != f.Successor || now.Epoch != r.Epoch || now.Failover != id {
				t.Fatalf("failover %d is to give %v to %s, and it is %+v", id, r, f.Successor, now)
			}
		}
	}
	for _, tab := range s.Tables {
		for home, r := range tab.Roles {
			if !tab.HasReplica(r.Holder) || r.Next != "" && !tab.HasReplica(r.Next) || r.Next == r.Holder || !tab.HasReplica(r.Seat) || (r.Next == "") != (r.Was == "") || r.Leaving && r.Next == "" {
				t.Fatalf("role %q of %s: %+v", home, tab.Name, r)
			}
			if home == "" && (tab.Writer != r.Holder || tab.Epoch != r.Epoch) {
				t.Fatalf("%s: writer %s, epoch %d, and the role is %+v", tab.Name, tab.Writer, tab.Epoch, r)
			}
		}
	}
}

// checkStep checks what may change from one state to the next: a tenure ends
// only by a higher one, and what was fixed stays.
func checkStep(t *testing.T, a, b *control.State) {
	t.Helper()
	for name, was := range a.Tables {
		is, ok := b.Tables[name]
		if !ok || is.ID != was.ID {
			continue
		}
		for home, r := range was.Roles {
			now := is.Roles[home]
			if c := now.Tenure().Compare(r.Tenure()); c < 0 {
				t.Fatalf("role %q of %s goes from tenure %+v back to %+v", home, name, r, now)
			}
		}
	}
	for id, was := range a.Failovers {
		if is, ok := b.Failovers[id]; ok && was.Cutoff != nil && !cmp.Equal(was, is) {
			t.Fatalf("failover %d was fixed and has changed", id)
		}
	}
	for name, was := range a.Regions {
		if is := b.Regions[name].Lease; is.Number < was.Lease.Number || is.Renewed < was.Lease.Renewed {
			t.Fatalf("the lease of %s goes back from %+v to %+v", name, was.Lease, is)
		}
	}
}

// TestFenceAgain: what was reported for one failover does not count any more once
// another region of the set has been fenced, in whatever order that arrives.
func TestFenceAgain(t *testing.T) {
	s := group(t)
	s = must(t, s, fence(s, "oregon", to("mumbai", catalog)...))
	report := upToDate(s, seal(1, "tokyo", marks(5, "oregon")))
	cutoff := upToDate(s, fix(1, marks(6, "oregon")))
	s = must(t, s, report)
	s = must(t, s, fence(s, "tokyo"))
	if got := s.Failovers[1].Sealed; len(got) > 0 {
		t.Errorf("still sealed: %v", got)
	}
	for _, late := range []control.Command{report, cutoff} {
		if _, err := control.Apply(s, s.Index+1, late); !errors.Is(err, control.ErrStale) {
			t.Errorf("%+v: %v, want %v", late, err, control.ErrStale)
		}
	}
	s = must(t, s, fix(1, marks(6, "oregon")))
	if s.Failovers[1].Cutoff == nil {
		t.Error("no cutoff")
	}
}
