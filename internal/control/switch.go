package control

import (
	"fmt"

	"github.com/antipode-io/antipode"
)

// Switch begins a planned handover of roles, whose holders stay until the
// other region has taken each of them over.
type Switch struct {
	Roles []RoleEpoch     `json:"roles"` // with the epochs that are to end
	To    antipode.Region `json:"to"`
	By    string          `json:"by,omitempty"`
	Why   string          `json:"why,omitempty"`
	At    int64           `json:"at"`
}

func (s *State) beginSwitch(c Switch) error {
	for _, id := range c.Roles {
		t, r, err := s.role(id.RoleID)
		if err != nil {
			return fmt.Errorf("switch: %w", err)
		}
		to, ok := s.Regions[c.To]
		f := s.Failovers[r.Failover]
		switch {
		case r.Epoch != id.Epoch:
			return fmt.Errorf("switch %s: %w: it is at epoch %d, not %d; look again with `antipode status`", t.Name, ErrStale, r.Epoch, id.Epoch)
		case !ok || !t.HasReplica(c.To):
			return fmt.Errorf("switch %s: %w: %s keeps no replica of it", t.Name, ErrInvalid, c.To)
		case to.Lease.Fenced:
			return fmt.Errorf("switch %s: %w: %s is detached; wait until it is back", t.Name, ErrInvalid, c.To)
		case s.Regions[r.Holder] != nil && s.Regions[r.Holder].Lease.Fenced:
			return fmt.Errorf("switch %s: %w: its holder %s is detached and can't hand over", t.Name, ErrInvalid, r.Holder)
		case r.Next != "":
			return fmt.Errorf("switch %s: %w: it is being switched to %s already", t.Name, ErrStale, r.Next)
		case f != nil && f.Cutoff == nil:
			return fmt.Errorf("switch %s: %w: a failover to %s is under way", t.Name, ErrStale, r.Holder)
		}
		if r.Holder == c.To {
			continue
		}
		r = r.hand(c.To)
		if c.By != "" { // a person's word moves the seat; a return goes to it
			r.Seat = c.To
		}
		s.setRole(id.RoleID, r)
	}
	return nil
}

// Leave lets the holder of roles go that are being switched: it is about to
// release them, and proposes this before. From then on the switch can only be
// ended by who takes the role, or by a failover.
type Leave struct {
	Roles []RoleEpoch     `json:"roles"` // with the epochs that are to end
	By    antipode.Region `json:"by"`
}

func (s *State) leave(c Leave) error {
	for _, id := range c.Roles {
		t, r, err := s.role(id.RoleID)
		if err != nil {
			return fmt.Errorf("leave: %w", err)
		}
		if r.Holder != c.By || r.Epoch != id.Epoch || r.Next == "" {
			return fmt.Errorf("leave %s: %w: the switch has ended, or was called off", t.Name, ErrStale)
		}
		r.Leaving = true
		s.setRole(id.RoleID, r)
	}
	return nil
}

// CallOff calls switches off that have not begun to move anything: all of them,
// or, where one has, none.
type CallOff struct {
	Roles []RoleEpoch     `json:"roles"` // with the epochs that were to end
	To    antipode.Region `json:"to"`    // who was to have them
	By    string          `json:"by,omitempty"`
	Why   string          `json:"why,omitempty"`
	At    int64           `json:"at"`
}

func (s *State) callOff(c CallOff) error {
	for _, id := range c.Roles {
		t, r, err := s.role(id.RoleID)
		switch {
		case err != nil:
			return fmt.Errorf("call a switch off: %w", err)
		case r.Next != c.To || r.Epoch != id.Epoch:
			return fmt.Errorf("call the switch of %s off: %w: it has ended", t.Name, ErrStale)
		case r.Leaving:
			return fmt.Errorf("call the switch of %s off: %w: %s has handed it to %s already", t.Name, ErrLeft, r.Holder, r.Next)
		}
		s.setRole(id.RoleID, r.calledOff())
	}
	return nil
}

// Took ends a planned handover: the other region has taken over in all shards.
type Took struct {
	Roles []RoleEpoch     `json:"roles"` // with the epochs that have begun
	By    antipode.Region `json:"by"`
}

func (s *State) took(c Took) error {
	for _, id := range c.Roles {
		t, r, err := s.role(id.RoleID)
		if err != nil {
			return fmt.Errorf("end switch: %w", err)
		}
		if r.Next != c.By || r.Epoch+1 != id.Epoch {
			return fmt.Errorf("end switch of %s: %w", t.Name, ErrStale)
		}
		s.setRole(id.RoleID, Role{Holder: c.By, Epoch: id.Epoch, Seat: r.Seat})
	}
	return nil
}

// hand begins to hand the role over, and calledOff is the role if that ends before
// anything of it was done.
func (r Role) hand(to antipode.Region) Role {
	r.Next, r.Was = to, r.Seat
	return r
}

func (r Role) calledOff() Role {
	r.Next, r.Seat, r.Was = "", r.Was, ""
	return r
}

// HandedTo lists the roles that a region is being handed, sorted, with the epochs
// under which it is to hold them.
func (s *State) HandedTo(region antipode.Region) (out []RoleEpoch) {
	for _, id := range s.RolesOf(region) {
		if r := s.byID[id.Table].Role(id.Home); r.Next == region {
			out = append(out, RoleEpoch{id, r.Epoch + 1})
		}
	}
	return out
}

// keep has the holders keep what they were to hand to a region that is fenced now,
// and have not begun to.
func (s *State) keep(region antipode.Region) {
	for _, id := range s.RolesOf(region) {
		if r := s.byID[id.Table].Role(id.Home); !r.lostWith(region) {
			s.setRole(id, r.calledOff())
		}
	}
}
