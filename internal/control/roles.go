package control

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/antipode-io/antipode"
)

var (
	// ErrStale is returned for a command that leans on something that has
	// changed since: a lease that was renewed, an epoch that has ended.
	ErrStale = errors.New("what this leans on has changed since")
	// ErrNotEnough is returned for a cutoff without having heard those that it
	// has to hear.
	ErrNotEnough = errors.New("too few regions have sealed")
	// ErrLeft is returned for a switch that can't be called off any more.
	ErrLeft = errors.New("the point of no return has passed")
)

// RoleID names a right to accept writes: that of the writer of a global table
// (Home is empty), or that of one home of a partitioned table, over the items
// that belong there and the births that it arbitrates. An item keeps the home
// it has while another region holds that home's role.
type RoleID struct {
	Table antipode.TableID `json:"table"`
	Home  antipode.Region  `json:"home,omitempty"`
}

// Compare orders roles by table, then home.
func (r RoleID) Compare(o RoleID) int {
	return cmp.Or(cmp.Compare(r.Table, o.Table), cmp.Compare(r.Home, o.Home))
}

// Role says who holds a role. The holder accepts writes while its region has a
// lease (or the table is pinned), the role's failover, if it came by one, has its
// cutoff, and the holder's journal says so.
type Role struct {
	Holder antipode.Region `json:"holder"`
	// Epoch numbers the tenures; entries carry it. A forced tenure may have the
	// number of another one: then the region's name decides, see Tenure.
	Epoch uint64 `json:"epoch"`
	// Failover is the failover by which the holder got the role; 0 for none.
	Failover uint64 `json:"failover,omitempty"`
	// Next is who the holder hands the role to, under Epoch+1; "" for nobody.
	Next antipode.Region `json:"next,omitempty"`
	// Leaving says that the holder may have released it to Next: the switch can't be
	// called off any more.
	Leaving bool `json:"leaving,omitempty"`
	// Seat is where the role belongs: who it was made for, or who a person
	// switched it to. After a failover it goes back there, by Table.Return.
	Seat antipode.Region `json:"seat,omitempty"`
	// Was is the seat before the switch that is under way.
	Was antipode.Region `json:"was,omitempty"`
}

// Tenure returns what fences the role's holders off from one another.
func (r Role) Tenure() Tenure { return Tenure{r.Epoch, r.Holder} }

// Tenure is one holder's time: the higher one ends all lower ones. Number, then
// region: a person may force a failover on both sides of a cut.
type Tenure struct {
	Epoch  uint64
	Holder antipode.Region
}

// Compare orders tenures.
func (t Tenure) Compare(o Tenure) int {
	return cmp.Or(cmp.Compare(t.Epoch, o.Epoch), cmp.Compare(t.Holder, o.Holder))
}

// Lease is a region's right to hold roles, as the group knows it. How long it
// lasts is counted by its holder, from before it asked for the renewal, and by
// whoever wants to end it, from when the renewal was applied there.
type Lease struct {
	Number  uint64 `json:"number"`  // rises when it is fenced, and when it is given back
	Renewed uint64 `json:"renewed"` // how often it was renewed; what a Fence compares
	// Length is what its holder counts on, in milliseconds, as of the last renewal:
	// whoever ends the lease waits at least as long, whatever its own spec says.
	Length int64 `json:"length,omitempty"`
	Fenced bool  `json:"fenced,omitempty"`
	Since  int64 `json:"since,omitempty"` // milliseconds since the Unix epoch: fenced, or back, since then
}

// How a table's roles outlive their holder.
const (
	FailoverLease  = "lease"  // by lease: another region takes over by itself
	FailoverPinned = "pinned" // never by itself: a person says so
)

// How a role goes back to the region that it was made for.
const (
	ReturnAuto   = "auto"   // by a planned switch, once that region is healthy
	ReturnManual = "manual" // when a person says so
)

// DefaultReturn says how roles go back where the table does not say it: homes by
// themselves, since items belong there; a writer when a person says so, since
// each move of a writer is felt everywhere.
func DefaultReturn(mode antipode.WriteMode) string {
	switch mode {
	case antipode.WritePartitioned:
		return ReturnAuto
	case antipode.WriteGlobal:
		return ReturnManual
	default:
		return ""
	}
}

// DefaultFailover says how a table's roles outlive their holder where the table
// does not say it: by lease where the loss of any one voter leaves a majority
// and another region keeps the table.
func (s *State) DefaultFailover(t *Table) string {
	if len(s.Regions) >= 3 && len(t.Replicas) > 1 {
		return FailoverLease
	}
	return FailoverPinned
}

// OtherCopies counts who would keep a table's writes beside their author: the
// other replicas, and the witnesses that keep journals.
func (s *State) OtherCopies(t *Table) int {
	n := len(t.Replicas) - 1
	for _, r := range s.Regions {
		if r.Witness && r.Journal {
			n++
		}
	}
	return n
}

// Failover is the passing of roles of one set of replicas to one successor
// without the help of who held them.
type Failover struct {
	ID        uint64          `json:"id"`
	Set       antipode.Shard  `json:"set"`
	Lost      antipode.Region `json:"lost"`
	Successor antipode.Region `json:"successor"`
	// Roles and the epochs under which the successor holds them. A role that was
	// taken from the successor before the cutoff was fixed is no longer in it.
	Roles []RoleEpoch `json:"roles"`
	// Sealed has, per region that sealed the old epochs, all that it had then.
	// It is kept until the cutoff is fixed.
	Sealed map[antipode.Region]Frontiers `json:"sealed,omitempty"`
	// Cutoff bounds what counts of all earlier epochs of the roles: of every
	// origin. Nil until it is fixed.
	Cutoff Frontiers `json:"cutoff,omitzero"`
	Forced bool      `json:"forced,omitempty"`
	By     string    `json:"by,omitempty"`  // a person, when one asked for it
	Why    string    `json:"why,omitempty"` // what was seen
	Began  int64     `json:"began"`         // milliseconds since the Unix epoch, by the proposer's clock
	Fixed  int64     `json:"fixed,omitempty"`
}

// RoleEpoch is a role and the epoch of its new tenure.
type RoleEpoch struct {
	RoleID

	Epoch uint64 `json:"epoch"`
}

// Frontiers are frontiers per shard.
type Frontiers map[antipode.Shard]antipode.Frontier

// Clone returns a copy that shares no memory.
func (f Frontiers) Clone() Frontiers {
	out := make(Frontiers, len(f))
	for id, g := range f {
		out[id] = g.Clone()
	}
	return out
}

// Covers reports whether everything within g is within f.
func (f Frontiers) Covers(g Frontiers) bool {
	for id, marks := range g {
		if !f[id].Covers(marks) {
			return false
		}
	}
	return true
}

// keptFailovers is how many failovers the state remembers after their cutoff:
// regions learn of cutoffs from journals too.
const keptFailovers = 64

// Role returns who holds a role of the table. For a home that has no role of its
// own, which old states have, it is that region.
func (t *Table) Role(home antipode.Region) Role {
	if r, ok := t.Roles[home]; ok {
		return r
	}
	if home == "" {
		return Role{Holder: t.Writer, Epoch: t.Epoch}
	}
	return Role{Holder: home, Epoch: 1}
}

// Pinned reports whether the table's roles never move by themselves.
func (t *Table) Pinned() bool { return t.Failover != FailoverLease }

// firstRoles gives a new table's roles to those it was made for.
func (t *Table) firstRoles() map[antipode.Region]Role {
	roles := map[antipode.Region]Role{}
	switch t.Writes {
	case antipode.WriteGlobal:
		roles[""] = Role{Holder: t.Writer, Epoch: t.Epoch, Seat: t.Writer}
	case antipode.WritePartitioned:
		for _, r := range t.Replicas {
			roles[r] = Role{Holder: r, Epoch: 1, Seat: r}
		}
	default:
		return nil
	}
	return roles
}

// lendRoles gives the roles of a new table that were made for a detached region
// to one that is not: nothing was written under them, so no failover is needed.
// Pinned ones stay, since their holder needs no lease.
func (s *State) lendRoles(t *Table) {
	if t.Pinned() {
		return
	}
	for home, r := range t.Roles {
		if !s.Fenced(r.Holder) {
			continue
		}
		for _, to := range slices.Concat(t.Successors, t.Replicas) {
			if !s.Fenced(to) {
				r.Holder = to
				break
			}
		}
		t.Roles[home] = r
		if home == "" {
			t.Writer = r.Holder
		}
	}
}

// Fenced reports whether the region's lease is fenced, so that it is detached.
func (s *State) Fenced(name antipode.Region) bool {
	r, ok := s.Regions[name]
	return ok && r.Lease.Fenced
}

// setRole puts a role into the state, in a copy of its table.
func (s *State) setRole(id RoleID, r Role) {
	t := *s.byID[id.Table]
	t.Roles = maps.Clone(t.Roles)
	if t.Roles == nil {
		t.Roles = map[antipode.Region]Role{}
	}
	t.Roles[id.Home] = r
	if id.Home == "" {
		t.Writer, t.Epoch = r.Holder, r.Epoch
	}
	s.Tables[t.Name], s.byID[t.ID] = &t, &t
}

// RolesOf lists the roles that a region holds, or is being handed, sorted.
func (s *State) RolesOf(region antipode.Region) []RoleID {
	var out []RoleID
	for _, t := range s.byID {
		for home, r := range t.Roles {
			if r.Holder == region || r.Next == region {
				out = append(out, RoleID{t.ID, home})
			}
		}
	}
	slices.SortFunc(out, RoleID.Compare)
	return out
}

// LostWith lists the roles that go to others when a region is lost, sorted: those
// that it holds, or may have been handed. What it was only to be handed stays.
func (s *State) LostWith(region antipode.Region) []RoleID {
	return slices.DeleteFunc(s.RolesOf(region), func(id RoleID) bool {
		r := s.byID[id.Table].Role(id.Home)
		return !r.lostWith(region)
	})
}

func (r Role) lostWith(region antipode.Region) bool {
	return r.Holder == region || r.Next == region && r.Leaving
}

// role finds a role and its table.
func (s *State) role(id RoleID) (*Table, Role, error) {
	t, ok := s.byID[id.Table]
	if !ok {
		return nil, Role{}, fmt.Errorf("role of table %d: %w", id.Table, ErrNoTable)
	}
	r, ok := t.Roles[id.Home]
	if !ok {
		return nil, Role{}, fmt.Errorf("%w: table %s has no home %q", ErrInvalid, t.Name, id.Home)
	}
	return t, r, nil
}

// Renew renews a region's lease.
type Renew struct {
	Region antipode.Region `json:"region"`
	Number uint64          `json:"number"` // of the lease that it asks to renew
	Length int64           `json:"length"` // milliseconds; see Lease.Length
	// Incarnation is that of the journal of who asks; 0 before it has one. A machine
	// in whose place another one was let in has an older one.
	Incarnation uint32 `json:"incarnation,omitempty"`
}

func (s *State) renew(c Renew) error {
	r, err := s.region(c.Region)
	if err != nil {
		return err
	}
	if r.Lease.Fenced || r.Lease.Number != c.Number {
		return fmt.Errorf("renew lease %d of %s: %w: it is fenced", c.Number, c.Region, ErrStale)
	}
	if c.Incarnation != 0 && c.Incarnation != r.Incarnation {
		return fmt.Errorf("renew lease of %s: %w: incarnation %d asks, and %d has taken its place", c.Region, ErrStale, c.Incarnation, r.Incarnation)
	}
	if c.Length < 0 {
		return fmt.Errorf("renew lease of %s: %w: its length is %d ms", c.Region, ErrInvalid, c.Length)
	}
	r.Lease.Renewed++
	r.Lease.Length = c.Length
	s.Regions[r.Name] = r
	return nil
}

// region returns a copy of a region that stores data.
func (s *State) region(name antipode.Region) (*Region, error) {
	old, ok := s.Regions[name]
	if !ok || old.Witness {
		return nil, fmt.Errorf("%w: %q is not a region that stores tables", ErrInvalid, name)
	}
	r := *old
	return &r, nil
}

// Fence ends a region's lease and gives its roles to successors. Roles that had
// no successor then, or are pinned, may be given away later by another Fence of
// the same lease.
type Fence struct {
	Region antipode.Region `json:"region"`
	// Number and Renewed are those of the lease that was seen to lapse, after it was
	// fenced if More is set: if it was renewed or given back since, nothing happens.
	Number  uint64       `json:"number"`
	Renewed uint64       `json:"renewed"`
	More    bool         `json:"more,omitempty"` // it is fenced already
	Assign  []Assignment `json:"assign,omitempty"`
	Forced  bool         `json:"forced,omitempty"`
	By      string       `json:"by,omitempty"`
	Why     string       `json:"why,omitempty"`
	At      int64        `json:"at"` // milliseconds since the Unix epoch
}

// Assignment gives a role to a successor.
type Assignment struct {
	Role RoleID          `json:"role"`
	To   antipode.Region `json:"to"`
}

func (s *State) fence(c Fence) error {
	r, err := s.region(c.Region)
	if err != nil {
		return err
	}
	if r.Lease.Fenced != c.More || r.Lease.Number != c.Number || r.Lease.Renewed != c.Renewed {
		return fmt.Errorf("fence %s: %w: its lease was renewed, ended or given back", c.Region, ErrStale)
	}
	if c.More && len(c.Assign) == 0 {
		return fmt.Errorf("fence %s: %w: it is fenced, and no role is to be given away", c.Region, ErrInvalid)
	}
	seen := map[RoleID]bool{}
	for _, a := range c.Assign {
		t, role, err := s.role(a.Role)
		switch {
		case err != nil:
			return fmt.Errorf("fence %s: %w", c.Region, err)
		case seen[a.Role]:
			return fmt.Errorf("fence %s: %w: a role of table %s is given away twice", c.Region, ErrInvalid, t.Name)
		case !role.lostWith(c.Region):
			return fmt.Errorf("fence %s: %w: it does not hold every role that it would lose", c.Region, ErrStale)
		case a.To == c.Region || !t.HasReplica(a.To) || s.Fenced(a.To):
			return fmt.Errorf("fence %s: %w: %s can't take over a role of table %s", c.Region, ErrInvalid, a.To, t.Name)
		}
		seen[a.Role] = true
	}
	if !c.More {
		r.Lease.Number++
		r.Lease.Fenced, r.Lease.Since = true, c.At
		s.Regions[r.Name] = r
	}
	s.Fences++
	s.unseal(c.Region)
	s.assign(c)
	s.keep(c.Region)
	return nil
}

// unseal has everybody seal and report anew for all failovers that are under way
// in the region's sets. A report from before may go on growing by what the region
// wrote, leaning on what an earlier fencing has ended (the counter-example is in
// docs/protocol.md: two births of one key).
func (s *State) unseal(region antipode.Region) {
	for id, old := range s.Failovers {
		if old.Cutoff == nil && len(old.Sealed) > 0 && slices.Contains(s.MembersOf(old.Set), region) {
			f := *old
			f.Sealed = nil
			s.Failovers[id] = &f
		}
	}
}

// forgot takes back what a region has reported for failovers that are under way: its
// disk is lost, with its seals and with what it said that it had.
func (s *State) forgot(region antipode.Region) {
	for id, old := range s.Failovers {
		if _, told := old.Sealed[region]; told && old.Cutoff == nil {
			f := *old
			f.Sealed = maps.Clone(old.Sealed)
			delete(f.Sealed, region)
			s.Failovers[id] = &f
		}
	}
}

// assign makes a failover for each set of replicas and successor. Tables that
// promise to lose nothing have their own: it may have to wait for regions that
// the others need not hear.
func (s *State) assign(c Fence) {
	type group struct {
		set    antipode.Shard
		to     antipode.Region
		copies int
	}
	made := map[group]*Failover{}
	for _, a := range c.Assign {
		t, role, _ := s.role(a.Role)
		s.abandon(a.Role, role.Failover)
		g := group{t.Shards(), a.To, t.AckCopies()}
		f := made[g]
		if f == nil {
			s.LastFailover++
			f = &Failover{
				ID: s.LastFailover, Set: g.set, Lost: c.Region, Successor: a.To,
				Forced: c.Forced, By: c.By, Why: c.Why, Began: c.At,
			}
			made[g], s.Failovers[f.ID] = f, f
		}
		epoch := role.Epoch + 1
		if role.Next != "" {
			epoch++ // the one under which it was being handed over is used
		}
		f.Roles = append(f.Roles, RoleEpoch{a.Role, epoch})
		s.setRole(a.Role, Role{Holder: a.To, Epoch: epoch, Failover: f.ID, Seat: role.Seat})
	}
	s.forgetFailovers()
}

// abandon takes a role out of a failover that has no cutoff yet: another one
// will have it.
func (s *State) abandon(id RoleID, failover uint64) {
	old, ok := s.Failovers[failover]
	if !ok || old.Cutoff != nil {
		return
	}
	f := *old
	f.Roles = slices.DeleteFunc(slices.Clone(old.Roles), func(r RoleEpoch) bool { return r.RoleID == id })
	s.Failovers[f.ID] = &f
	if len(f.Roles) == 0 {
		delete(s.Failovers, f.ID)
	}
}

func (s *State) forgetFailovers() {
	var done []uint64
	for id, f := range s.Failovers {
		if f.Cutoff != nil {
			done = append(done, id)
		}
	}
	slices.Sort(done)
	for i := 0; i < len(done)-keptFailovers; i++ {
		delete(s.Failovers, done[i])
	}
}

// Seal reports that a region has sealed what a failover ends: from then on it
// applies, acknowledges and forwards nothing of the old epochs until it knows
// the cutoff. Had is all that it had of the set's shards, durably.
type Seal struct {
	Failover uint64          `json:"failover"`
	Region   antipode.Region `json:"region"`
	Had      Frontiers       `json:"had"`
	// Fences is the state's count of them when the region looked at what it has to
	// seal. What it reports must not go on growing by what another fencing ends.
	Fences uint64 `json:"fences"`
}

func (s *State) seal(c Seal) error {
	f, err := s.openFailover(c.Failover)
	if err != nil {
		return err
	}
	if c.Fences != s.Fences {
		return fmt.Errorf("seal for failover %d: %w: another region has been fenced since, seal for that too", f.ID, ErrStale)
	}
	if !slices.Contains(s.MembersOf(f.Set), c.Region) {
		return fmt.Errorf("seal for failover %d: %w: %s keeps none of its tables", f.ID, ErrInvalid, c.Region)
	}
	f.Sealed = maps.Clone(f.Sealed)
	if f.Sealed == nil {
		f.Sealed = map[antipode.Region]Frontiers{}
	}
	f.Sealed[c.Region] = c.Had
	s.Failovers[f.ID] = f
	return nil
}

// openFailover returns a copy of a failover whose cutoff is not fixed.
func (s *State) openFailover(id uint64) (*Failover, error) {
	old, ok := s.Failovers[id]
	if !ok || old.Cutoff != nil {
		return nil, fmt.Errorf("failover %d: %w: it has ended", id, ErrStale)
	}
	f := *old
	return &f, nil
}

// Fix fixes a failover's cutoff: the successor's whole frontier of each shard
// of the set. It covers what every live member had when it sealed, so that
// nothing that they go on to write leans on an entry beyond it.
type Fix struct {
	Failover uint64    `json:"failover"`
	Cutoff   Frontiers `json:"cutoff"`
	Fences   uint64    `json:"fences"` // as in Seal
	At       int64     `json:"at"`
}

func (s *State) fix(c Fix) error {
	f, err := s.openFailover(c.Failover)
	if err != nil {
		return err
	}
	if c.Fences != s.Fences {
		return fmt.Errorf("fix the cutoff of failover %d: %w: another region has been fenced since, seal for that first", f.ID, ErrStale)
	}
	if missing := s.Unsealed(f); len(missing) > 0 {
		return fmt.Errorf("fix the cutoff of failover %d: %w: %v neither sealed nor fenced", f.ID, ErrNotEnough, missing)
	}
	held := 1 // the successor itself, which has sealed before it looked
	for name, had := range f.Sealed {
		switch {
		case name == f.Successor:
		case c.Cutoff.Covers(had):
			held++
		case !s.Regions[name].Witness && !s.Regions[name].Lease.Fenced:
			// What it goes on to write may lean on what it had.
			return fmt.Errorf("fix the cutoff of failover %d: %w: it does not cover what %s had, which is neither lost nor fenced", f.ID, ErrNotEnough, name)
		}
	}
	if want := s.MustHear(f); held < want {
		return fmt.Errorf("fix the cutoff of failover %d: %w: it holds what %d of the others had, and has to hold what %d had", f.ID, ErrNotEnough, held, want)
	}
	f.Cutoff, f.Sealed, f.Fixed = c.Cutoff, nil, c.At
	if f.Cutoff == nil {
		f.Cutoff = Frontiers{}
	}
	s.Failovers[f.ID] = f
	return nil
}

// Unsealed lists the regions that hold a live lease on roles of the failover's
// set of replicas and have not sealed, sorted: each has to, or to be fenced.
func (s *State) Unsealed(f *Failover) []antipode.Region {
	var out []antipode.Region
	for _, name := range s.MembersOf(f.Set) {
		_, sealed := f.Sealed[name]
		if r := s.Regions[name]; name != f.Successor && !sealed && !r.Lease.Fenced && !r.Witness {
			out = append(out, name)
		}
	}
	return out
}

// MustHear returns from how many members other than the one that was lost, the
// successor included, a failover has to have everything: N-k+1 where an rpo of 0s
// is promised (PROTOCOL §5), else the successor's own.
func (s *State) MustHear(f *Failover) int {
	want := 1
	for _, r := range f.Roles {
		if t, ok := s.byID[r.Table]; ok && t.AckCopies() > 0 {
			others := len(s.MembersOf(f.Set)) - 1
			want = max(want, others-t.AckCopies()+1)
		}
	}
	return want
}

// MembersOf lists who keeps the journals of a set of replicas, sorted: the
// replicas, and the witnesses that keep journals. It is empty for a set that no
// table has.
func (s *State) MembersOf(set antipode.Shard) []antipode.Region {
	for _, t := range s.byID {
		if t.Shards() != set.Set() {
			continue
		}
		out := slices.Clone(t.Replicas)
		for name, r := range s.Regions {
			if r.Witness && r.Journal {
				out = append(out, name)
			}
		}
		slices.Sort(out)
		return out
	}
	return nil
}

// Rejoin gives a fenced region a lease again. It proposes this itself, once it
// has taken what lies beyond the cutoffs out of its items.
type Rejoin struct {
	Region antipode.Region `json:"region"`
	Number uint64          `json:"number"`
	At     int64           `json:"at"`
}

func (s *State) rejoin(c Rejoin) error {
	r, err := s.region(c.Region)
	if err != nil {
		return err
	}
	if !r.Lease.Fenced || r.Lease.Number != c.Number {
		return fmt.Errorf("rejoin of %s: %w", c.Region, ErrStale)
	}
	for _, f := range s.Failovers {
		if f.Cutoff == nil && slices.Contains(s.MembersOf(f.Set), c.Region) {
			return fmt.Errorf("rejoin of %s: %w: failover %d has no cutoff yet", c.Region, ErrStale, f.ID)
		}
	}
	r.Lease.Number++ // so that a Fence which saw it fenced comes too late
	r.Lease.Fenced, r.Lease.Since = false, c.At
	s.Regions[r.Name] = r
	return nil
}

// Adopt records what a person forced while the group was out of reach: roles
// that a region took, by its own journal, under tenures higher than the group's.
type Adopt struct {
	Region antipode.Region `json:"region"`
	Set    antipode.Shard  `json:"set"`
	Lost   antipode.Region `json:"lost"`
	Roles  []RoleEpoch     `json:"roles"`
	Cutoff Frontiers       `json:"cutoff"`
	By     string          `json:"by"`
	Why    string          `json:"why"`
	At     int64           `json:"at"`
}

func (s *State) adopt(c Adopt) error {
	f := &Failover{
		Set: c.Set, Lost: c.Lost, Successor: c.Region, Cutoff: c.Cutoff, Forced: true, By: c.By, Why: c.Why, Began: c.At, Fixed: c.At,
	}
	if f.Cutoff == nil {
		f.Cutoff = Frontiers{}
	}
	for _, id := range c.Roles {
		t, r, err := s.role(id.RoleID)
		if err != nil {
			return fmt.Errorf("adopt a forced failover: %w", err)
		}
		if t.Shards() != c.Set.Set() || !t.HasReplica(c.Region) || slices.ContainsFunc(f.Roles, func(o RoleEpoch) bool { return o.RoleID == id.RoleID }) {
			return fmt.Errorf("adopt a forced failover: %w: %s can't hold this role of table %s", ErrInvalid, c.Region, t.Name)
		}
		if r.Tenure().Compare(Tenure{id.Epoch, c.Region}) < 0 {
			f.Roles = append(f.Roles, id)
		}
	}
	if len(f.Roles) == 0 {
		return fmt.Errorf("adopt a forced failover: %w: the roles have gone on", ErrStale)
	}
	s.LastFailover++
	f.ID = s.LastFailover
	s.Failovers[f.ID] = f
	for _, id := range f.Roles {
		_, r, _ := s.role(id.RoleID)
		s.abandon(id.RoleID, r.Failover)
		s.setRole(id.RoleID, Role{Holder: c.Region, Epoch: id.Epoch, Failover: f.ID, Seat: r.Seat})
	}
	s.forgetFailovers()
	return nil
}
