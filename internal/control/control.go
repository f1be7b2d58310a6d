// Package control is what regions agree on: a small state and the commands that
// change it. It is pure: Apply takes a state and a command and returns the next
// state, the same in every region. Package group replicates the commands through
// Raft; nothing here knows how.
//
// A State is immutable once published: readers share it without locks.
package control

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
)

var (
	// ErrTableExists is returned for a table whose name is taken.
	ErrTableExists = errors.New("table exists already")
	// ErrNoTable is returned for a table that is not in the catalog.
	ErrNoTable = errors.New("no such table")
	// ErrProtected is returned for a table that may not be deleted.
	ErrProtected = errors.New("the table is protected against deletion")
	// ErrTableBusy is returned for a change that another one was faster than.
	ErrTableBusy = errors.New("the table was changed a moment ago; look at it again")
	// ErrDropped is returned for a table of the spec that was deleted on request.
	ErrDropped = errors.New("it was deleted, and is not made again because the spec still has it; take it out of the spec, or make it through the API")
	// ErrInvalid wraps a command that contradicts the state or itself.
	ErrInvalid = errors.New("invalid command")
)

// Region is one region as the group knows it.
type Region struct {
	Name        antipode.Region `json:"name"`
	Location    string          `json:"location"`              // as the spec says it
	Witness     bool            `json:"witness,omitempty"`     // votes, keeps no tables
	Incarnation uint32          `json:"incarnation,omitempty"` // of its journal; 0 before it first joined
	Ended       []Ending        `json:"ended,omitempty"`       // origins that will write no more
	Journal     bool            `json:"journal,omitempty"`     // a witness that keeps journals, and counts as a copy
	Lease       Lease           `json:"lease,omitzero"`
	RootPEM     string          `json:"root,omitempty"` // its trust root, when told to the group
}

// Ending names the last entry of an origin per shard. Beyond it nothing counts.
type Ending struct {
	Incarnation uint32                    `json:"incarnation"`
	Last        map[antipode.Shard]uint64 `json:"last"`
}

// KeyAttribute is one attribute of a table's primary key.
type KeyAttribute struct {
	Name string `json:"name"`
	Type string `json:"type"` // S, N or B
}

// Table is one table as the group knows it.
type Table struct {
	ID        antipode.TableID   `json:"id"`
	Name      string             `json:"name"`
	Partition KeyAttribute       `json:"partition"`
	Sort      *KeyAttribute      `json:"sort,omitempty"`
	Writes    antipode.WriteMode `json:"writes"`
	Writer    antipode.Region    `json:"writer,omitempty"` // global
	Epoch     uint64             `json:"epoch"`            // of the writer, from 1
	Rule      antipode.Rule      `json:"rule,omitempty"`   // local
	Priority  []antipode.Region  `json:"priority,omitempty"`
	HomeBy    antipode.HomeBy    `json:"home_by,omitempty"` // partitioned
	HomeAttr  string             `json:"home_attribute,omitempty"`
	Replicas  []antipode.Region  `json:"replicas"` // sorted
	Created   int64              `json:"created"`  // milliseconds since the Unix epoch
	Tags      map[string]string  `json:"tags,omitempty"`
	// Roles are who accepts writes: by home in a partitioned table, under "" in a
	// global one, where Writer and Epoch repeat it.
	Roles map[antipode.Region]Role `json:"roles,omitempty"`
	RPO   string                   `json:"rpo,omitempty"`
	// Copies is how many other members have to have a write on disk before it is
	// answered, where RPO is 0s. 0 stands for 1.
	Copies int `json:"copies,omitempty"`
	// Unprotected says what happens where RPO is 0s and too few members are left:
	// UnprotectedDegrade (the default, "") or UnprotectedBlock.
	Unprotected string `json:"unprotected,omitempty"`
	// Failover is FailoverLease or FailoverPinned ("", for tables of old).
	Failover   string            `json:"failover,omitempty"`
	Successors []antipode.Region `json:"successors,omitempty"` // in order of preference; then by least lag
	Return     string            `json:"return,omitempty"`     // ReturnAuto or ReturnManual
	FromSpec   bool              `json:"from_spec,omitempty"`
	Protected  bool              `json:"protected,omitempty"` // against deletion
	// Options holds what only the API that made the table understands
	// (billing mode, capacity): kept and given back, never looked into.
	Options json.RawMessage `json:"options,omitempty"`

	shards antipode.Shard // of Replicas, computed once: every request asks
}

// HasReplica reports whether the region keeps the table.
func (t *Table) HasReplica(r antipode.Region) bool { return slices.Contains(t.Replicas, r) }

// What happens where an rpo of 0s is promised and too few members are left.
const (
	UnprotectedDegrade = "degrade" // writes go on, on record
	UnprotectedBlock   = "block"   // writes wait
)

// Bound returns the table's rpo, and whether it has one.
func (t *Table) Bound() (time.Duration, bool) {
	if t.RPO == "" {
		return 0, false
	}
	d, err := time.ParseDuration(t.RPO)
	return d, err == nil
}

// AckCopies returns how many other members have to have a write on disk before
// it is answered: 0 unless the rpo is 0s.
func (t *Table) AckCopies() int {
	if d, ok := t.Bound(); !ok || d != 0 {
		return 0
	}
	return max(1, t.Copies)
}

// Shards returns the first shard of the table's set of replicas.
func (t *Table) Shards() antipode.Shard {
	if t.shards == 0 {
		return antipode.ShardSet(t.Replicas)
	}
	return t.shards
}

// State is the agreed state after the entry with this index.
type State struct {
	Index     uint64                      `json:"index"`
	Regions   map[antipode.Region]*Region `json:"regions"`
	Tables    map[string]*Table           `json:"tables"`
	NextTable antipode.TableID            `json:"next_table"` // ids below it are given out
	// Failovers that are under way, and the last ones that ended, by id.
	Failovers    map[uint64]*Failover `json:"failovers,omitempty"`
	LastFailover uint64               `json:"last_failover,omitempty"`
	Fences       uint64               `json:"fences,omitempty"` // how often a region was fenced
	// Dropped are tables of the spec that were deleted since: they are not made again
	// because the file still has them.
	Dropped map[string]bool `json:"dropped,omitempty"`
	byID    map[antipode.TableID]*Table
}

// NewState returns the empty state.
func NewState() *State {
	return &State{
		Regions: map[antipode.Region]*Region{}, Tables: map[string]*Table{}, NextTable: 1,
		Failovers: map[uint64]*Failover{}, Dropped: map[string]bool{}, byID: map[antipode.TableID]*Table{},
	}
}

// TableByID returns the table with this id. A missing id below NextTable is a
// table that was deleted; one from NextTable on is not known here yet.
func (s *State) TableByID(id antipode.TableID) (*Table, bool) {
	t, ok := s.byID[id]
	return t, ok
}

// Members lists the regions that store data, sorted.
func (s *State) Members() []antipode.Region {
	var out []antipode.Region
	for name, r := range s.Regions {
		if !r.Witness {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// Command is one change. Exactly one field is set.
type Command struct {
	PutRegion   *Region    `json:"put_region,omitempty"`
	CreateTable *Table     `json:"create_table,omitempty"` // ID, Epoch are ignored
	DeleteTable string     `json:"delete_table,omitempty"`
	TagTable    *TagTable  `json:"tag_table,omitempty"`
	Configure   *Configure `json:"configure,omitempty"`
	Incarnate   *Incarnate `json:"incarnate,omitempty"`
	Renew       *Renew     `json:"renew,omitempty"`
	Fence       *Fence     `json:"fence,omitempty"`
	Seal        *Seal      `json:"seal,omitempty"`
	Fix         *Fix       `json:"fix,omitempty"`
	Switch      *Switch    `json:"switch,omitempty"`
	Leave       *Leave     `json:"leave,omitempty"`
	CallOff     *CallOff   `json:"call_off,omitempty"`
	Took        *Took      `json:"took,omitempty"`
	Rejoin      *Rejoin    `json:"rejoin,omitempty"`
	Adopt       *Adopt     `json:"adopt,omitempty"`
	Reroot      *Reroot    `json:"reroot,omitempty"`
}

// Reroot replaces the trust root of a region whose machine is gone for good.
type Reroot struct {
	Region  antipode.Region `json:"region"`
	Was     string          `json:"was,omitempty"` // the root to replace, as the group knows it
	RootPEM string          `json:"root"`
}

// TagTable sets and removes tags.
type TagTable struct {
	Name   string            `json:"name"`
	Set    map[string]string `json:"set,omitempty"`
	Remove []string          `json:"remove,omitempty"`
}

// Incarnate gives a region that lost its journal a new incarnation and ends
// the one before at what the others hold of it.
type Incarnate struct {
	Region antipode.Region `json:"region"`
	Was    uint32          `json:"was"` // the incarnation that ends; 0 for none
	Ending *Ending         `json:"ending,omitempty"`
}

// Apply returns the state after the command at this log index. A command that
// is refused changes nothing but the index; its error goes to whoever proposed it.
func Apply(s *State, index uint64, c Command) (*State, error) {
	next := &State{
		Index: index, Regions: maps.Clone(s.Regions), Tables: maps.Clone(s.Tables),
		NextTable: s.NextTable, Dropped: maps.Clone(s.Dropped), Failovers: maps.Clone(s.Failovers), LastFailover: s.LastFailover, Fences: s.Fences, byID: maps.Clone(s.byID),
	}
	if err := next.apply(c); err != nil {
		return s.at(index), err
	}
	return next, nil
}

func (s *State) at(index uint64) *State {
	same := *s
	same.Index = index
	return &same
}

// fields counts the fields that are set.
func (c Command) fields() (n int) {
	for _, v := range reflect.ValueOf(c).Fields() {
		if !v.IsZero() {
			n++
		}
	}
	return n
}

func (s *State) apply(c Command) error {
	if n := c.fields(); n > 1 {
		return fmt.Errorf("%w: it asks for %d changes at once", ErrInvalid, n)
	}
	switch {
	case c.PutRegion != nil:
		r := *c.PutRegion
		if r.Name == "" {
			return fmt.Errorf("put region: %w: it has no name", ErrInvalid)
		}
		if r.Journal && !r.Witness {
			return fmt.Errorf("put region %s: %w: only a witness is told to keep journals", r.Name, ErrInvalid)
		}
		if old, ok := s.Regions[r.Name]; ok {
			if old.Witness != r.Witness || old.Journal != r.Journal {
				return fmt.Errorf("put region %s: %w: what it keeps can't be changed, others count on it", r.Name, ErrInvalid)
			}
			r.Incarnation, r.Ended, r.Lease = old.Incarnation, old.Ended, old.Lease
			r.RootPEM = cmp.Or(old.RootPEM, r.RootPEM) // who has one keeps it, but for Reroot
		}
		s.Regions[r.Name] = &r
	case c.Reroot != nil:
		return s.reroot(*c.Reroot)
	case c.CreateTable != nil:
		return s.createTable(*c.CreateTable)
	case c.DeleteTable != "":
		t, ok := s.Tables[c.DeleteTable]
		if !ok {
			return fmt.Errorf("delete table %s: %w", c.DeleteTable, ErrNoTable)
		}
		if t.Protected {
			return fmt.Errorf("delete table %s: %w", c.DeleteTable, ErrProtected)
		}
		for home, r := range t.Roles {
			s.abandon(RoleID{t.ID, home}, r.Failover)
		}
		delete(s.Tables, c.DeleteTable)
		delete(s.byID, t.ID)
		if t.FromSpec {
			s.Dropped[t.Name] = true
		}
	case c.TagTable != nil:
		return s.tagTable(*c.TagTable)
	case c.Configure != nil:
		return s.configure(*c.Configure)
	case c.Incarnate != nil:
		return s.incarnate(*c.Incarnate)
	default:
		return s.applyRoles(c)
	}
	return nil
}

// applyRoles applies the commands that are about leases and roles.
func (s *State) applyRoles(c Command) error {
	switch {
	case c.Renew != nil:
		return s.renew(*c.Renew)
	case c.Fence != nil:
		return s.fence(*c.Fence)
	case c.Seal != nil:
		return s.seal(*c.Seal)
	case c.Fix != nil:
		return s.fix(*c.Fix)
	case c.Switch != nil:
		return s.beginSwitch(*c.Switch)
	case c.Leave != nil:
		return s.leave(*c.Leave)
	case c.CallOff != nil:
		return s.callOff(*c.CallOff)
	case c.Took != nil:
		return s.took(*c.Took)
	case c.Rejoin != nil:
		return s.rejoin(*c.Rejoin)
	case c.Adopt != nil:
		return s.adopt(*c.Adopt)
	default:
		return fmt.Errorf("%w: no known field is set; this region may be older than the one that sent it", ErrInvalid)
	}
}

func (s *State) createTable(t Table) error {
	if _, ok := s.Tables[t.Name]; ok {
		return fmt.Errorf("create table %s: %w", t.Name, ErrTableExists)
	}
	if t.FromSpec && s.Dropped[t.Name] {
		return fmt.Errorf("create table %s: %w", t.Name, ErrDropped)
	}
	t.Replicas = slices.Compact(slices.Sorted(slices.Values(t.Replicas)))
	if err := s.validate(&t); err != nil {
		return fmt.Errorf("create table %s: %w", t.Name, err)
	}
	t.ID, t.Epoch = s.NextTable, 1
	t.Roles = t.firstRoles()
	s.lendRoles(&t)
	t.shards = antipode.ShardSet(t.Replicas)
	s.NextTable++
	delete(s.Dropped, t.Name)
	s.Tables[t.Name], s.byID[t.ID] = &t, &t
	return nil
}

func (s *State) validate(t *Table) error {
	if t.Name == "" {
		return fmt.Errorf("%w: it has no name", ErrInvalid)
	}
	if len(t.Replicas) == 0 {
		return fmt.Errorf("%w: no replicas", ErrInvalid)
	}
	for _, r := range t.Replicas {
		if reg, ok := s.Regions[r]; !ok || reg.Witness {
			return fmt.Errorf("%w: replica %s is not a region that stores data", ErrInvalid, r)
		}
	}
	switch t.Writes {
	case antipode.WriteGlobal:
		if !t.HasReplica(t.Writer) {
			return fmt.Errorf("%w: writer %q keeps no replica of it", ErrInvalid, t.Writer)
		}
	case antipode.WriteLocal:
		if !slices.Contains(antipode.Rules(), t.Rule) {
			return fmt.Errorf("%w: a table written in local mode needs a rule", ErrInvalid)
		}
	case antipode.WritePartitioned:
	default:
		return fmt.Errorf("%w: write mode %q", ErrInvalid, t.Writes)
	}
	if err := s.validateRPO(t); err != nil {
		return err
	}
	return s.validateFailover(t)
}

func (s *State) validateRPO(t *Table) error {
	bound, ok := t.Bound()
	others := s.OtherCopies(t)
	switch {
	case t.RPO != "" && (!ok || bound < 0):
		return fmt.Errorf("%w: rpo %q is no duration", ErrInvalid, t.RPO)
	case ok && others == 0:
		return fmt.Errorf("%w: it has an rpo, and no other region keeps it", ErrInvalid)
	case t.AckCopies() > others:
		return fmt.Errorf("%w: its rpo of 0s wants each write in %d other regions, and %d others keep it", ErrInvalid, t.AckCopies(), others)
	case t.Copies < 0, t.Copies > 0 && t.AckCopies() == 0:
		return fmt.Errorf("%w: %d copies, which only an rpo of 0s looks at", ErrInvalid, t.Copies)
	case !slices.Contains([]string{"", UnprotectedDegrade, UnprotectedBlock}, t.Unprotected):
		return fmt.Errorf("%w: unprotected is %q", ErrInvalid, t.Unprotected)
	}
	return nil
}

func (s *State) validateFailover(t *Table) error {
	switch {
	case !slices.Contains([]string{"", FailoverLease, FailoverPinned}, t.Failover):
		return fmt.Errorf("%w: failover is %q", ErrInvalid, t.Failover)
	case !slices.Contains([]string{"", ReturnAuto, ReturnManual}, t.Return):
		return fmt.Errorf("%w: return is %q", ErrInvalid, t.Return)
	case t.Writes == antipode.WriteLocal && (t.Failover != "" || t.Return != "" || len(t.Successors) > 0):
		return fmt.Errorf("%w: every region accepts its writes, so nobody can take over", ErrInvalid)
	}
	for i, r := range t.Successors {
		if !t.HasReplica(r) || slices.Contains(t.Successors[:i], r) {
			return fmt.Errorf("%w: successor %s keeps no replica of it, or is listed twice", ErrInvalid, r)
		}
	}
	return nil
}

func (s *State) tagTable(c TagTable) error {
	old, ok := s.Tables[c.Name]
	if !ok {
		return fmt.Errorf("tag table %s: %w", c.Name, ErrNoTable)
	}
	t := *old
	t.Tags = maps.Clone(old.Tags)
	if t.Tags == nil {
		t.Tags = map[string]string{}
	}
	maps.Copy(t.Tags, c.Set)
	for _, k := range c.Remove {
		delete(t.Tags, k)
	}
	s.Tables[t.Name], s.byID[t.ID] = &t, &t
	return nil
}

func (s *State) reroot(c Reroot) error {
	old, ok := s.Regions[c.Region]
	switch {
	case !ok:
		return fmt.Errorf("%w: region %s is not in the group", ErrInvalid, c.Region)
	case c.RootPEM == "":
		return fmt.Errorf("replace the root of %s: %w: there is no new one", c.Region, ErrInvalid)
	case old.RootPEM != c.Was:
		return fmt.Errorf("replace the root of %s: %w: it was replaced by another one meanwhile", c.Region, ErrStale)
	}
	r := *old
	r.RootPEM = c.RootPEM
	s.Regions[c.Region] = &r
	return nil
}

func (s *State) incarnate(c Incarnate) error {
	old, ok := s.Regions[c.Region]
	if !ok {
		return fmt.Errorf("%w: region %s is not in the group", ErrInvalid, c.Region)
	}
	if old.Incarnation != c.Was {
		return fmt.Errorf("%w: %s is at incarnation %d, not %d", ErrInvalid, c.Region, old.Incarnation, c.Was)
	}
	r := *old
	r.Incarnation++
	if c.Ending != nil {
		r.Ended = append(slices.Clone(old.Ended), *c.Ending)
	}
	s.Regions[c.Region] = &r
	s.forgot(c.Region)
	return nil
}

// Encode gives the state as JSON, for a snapshot.
func (s *State) Encode() ([]byte, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode control state: %w", err)
	}
	return b, nil
}

// Decode reads what Encode wrote. It is strict: a field that this version does
// not know would be lost here and kept elsewhere.
func Decode(b []byte) (*State, error) {
	s := NewState()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(s); err != nil {
		return nil, fmt.Errorf("decode control state: it is damaged, or of a newer version: %w", err)
	}
	if s.Regions == nil || s.Tables == nil || s.NextTable == 0 {
		return nil, errors.New("decode control state: it is incomplete")
	}
	for name, r := range s.Regions {
		if r == nil || r.Name != name {
			return nil, fmt.Errorf("decode control state: region %q is damaged", name)
		}
	}
	for name, t := range s.Tables {
		if t == nil || t.Name != name || t.ID >= s.NextTable || s.byID[t.ID] != nil {
			return nil, fmt.Errorf("decode control state: table %q is damaged", name)
		}
		if slices.ContainsFunc(t.Replicas, func(r antipode.Region) bool { return s.Regions[r] == nil }) {
			return nil, fmt.Errorf("decode control state: table %q has a replica in no region", name)
		}
		t.shards = antipode.ShardSet(t.Replicas)
		if t.Roles == nil && t.Writes != antipode.WriteLocal {
			t.Roles = t.firstRoles() // a state from before there were any
		}
		s.byID[t.ID] = t
	}
	if s.Dropped == nil {
		s.Dropped = map[string]bool{}
	}
	if s.Failovers == nil {
		s.Failovers = map[uint64]*Failover{}
	}
	for id, f := range s.Failovers {
		if f == nil || f.ID != id || id > s.LastFailover {
			return nil, fmt.Errorf("decode control state: failover %d is damaged", id)
		}
	}
	return s, nil
}
