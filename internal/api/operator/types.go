package operator

import (
	"encoding/json"
	"time"

	"github.com/antipode-io/antipode"
)

// State says how a region is doing.
type State string

// The states of a region. Of these a region never says StateDown of itself:
// whoever asks in vain does.
const (
	StateLive        State = "live"        // serves, and nothing waits to be applied for longer than usual
	StateLagging     State = "lagging"     // serves, and is behind another region
	StateDetached    State = "detached"    // serves alone: it can't reach a majority, or was replaced and is not back yet
	StateDraining    State = "draining"    // starts or stops, and takes no clients
	StateQuarantined State = "quarantined" // was shut out by the others
	StateDown        State = "down"        // does not answer
)

// Health is what a load balancer or a supervisor wants to know.
type Health struct {
	Ready  bool   `json:"ready"` // serves clients
	State  State  `json:"state"`
	Reason string `json:"reason,omitempty"` // why it is not ready, and what it waits for
}

// RegionStatus is what a region says of itself.
type RegionStatus struct {
	Name    antipode.Region `json:"name"`
	State   State           `json:"state"`
	Reason  string          `json:"reason,omitempty"` // of a state other than live
	Witness bool            `json:"witness,omitempty"`
	API     string          `json:"api"` // URL of the client API; empty for a witness
	// LagMS gives, per origin (as Origin.String), the age in milliseconds of its
	// oldest write that is not applied here yet; 0 where none is missing.
	LagMS map[string]int64 `json:"lag_ms"`
	// Frontier gives, per origin and shard (as their String), the highest
	// sequence applied here with none missing below.
	Frontier map[string]map[string]uint64 `json:"frontier"`
	Tables   []TableStatus                `json:"tables"`
	Roles    []RoleStatus                 `json:"roles"`           // of all tables, as known here
	Lease    *HeldLease                   `json:"lease,omitempty"` // of this region, where it needs one

	Peers   []PeerStatus    `json:"peers,omitempty"`
	Leader  antipode.Region `json:"leader,omitempty"` // of the control group, as known here
	Index   uint64          `json:"control_index"`    // of the agreed state held here
	Clock   ClockStatus     `json:"clock"`
	Store   StoreStatus     `json:"store"`
	Version string          `json:"version"`
	PID     int             `json:"pid"`
	Started time.Time       `json:"started"`
}

// TableStatus is one table as a region knows it.
type TableStatus struct {
	Name   string             `json:"name"`
	Writes antipode.WriteMode `json:"writes"`
	Writer antipode.Region    `json:"writer"` // global tables; else empty
	Rule   antipode.Rule      `json:"rule"`   // local tables; else empty
	Items  int64              `json:"items"`  // in this region
	// What the table was made with, as in the spec; empty where it has no meaning.
	Replicas []antipode.Region `json:"replicas,omitempty"`
	Home     string            `json:"home,omitempty"`
	RPO      string            `json:"rpo,omitempty"` // a duration; empty: no bound
	Copies   int               `json:"rpo_copies,omitempty"`
	Failover string            `json:"failover,omitempty"`
}

// HeldLease is a region's own lease.
type HeldLease struct {
	Held   bool  `json:"held"`
	LeftMS int64 `json:"left_ms"` // for how long at least
	Fenced bool  `json:"fenced,omitempty"`
}

// PeerStatus is how a region sees another one.
type PeerStatus struct {
	Name      antipode.Region `json:"name"`
	Connected bool            `json:"connected"`
	RTTMS     float64         `json:"rtt_ms"`              // smoothed; 0 when not known
	DelayMS   float64         `json:"delay_ms,omitempty"`  // emulated, one way, of what is sent to it
	Cut       bool            `json:"cut,omitempty"`       // on request, in one or both directions, at this end
	BehindMS  int64           `json:"behind_ms,omitempty"` // age of the oldest write of this region that the peer has not confirmed
}

// ClockStatus is how far this clock is from the others'.
type ClockStatus struct {
	OffsetMS      float64 `json:"offset_ms"`      // positive when ahead of the peers
	UncertaintyMS float64 `json:"uncertainty_ms"` // either way
	Refuses       string  `json:"refuses,omitempty"`
	SkewMS        int64   `json:"skew_ms,omitempty"` // emulated: what SkewClock set
}

// StoreStatus is what is on a region's disk.
type StoreStatus struct {
	DiskBytes    uint64 `json:"disk_bytes"`
	WaitingBytes uint64 `json:"journal_waiting_bytes"` // received, and not applied because something before it is missing
	JournalBytes uint64 `json:"journal_bytes"`
}

// Collision is one collision on record.
type Collision struct {
	Table string `json:"table"`
	// Key holds the key attributes as DynamoDB JSON.
	Key     json.RawMessage `json:"key"`
	Visible string          `json:"visible"` // dot of the version that readers see
	First   string          `json:"first"`   // dot of the version that was written first
	// FirstByMS is how long the first was before the next, by the origins' own
	// clocks, which may be wrong by ClockUncertaintyMS together.
	FirstByMS          int64              `json:"first_by_ms"`
	ClockUncertaintyMS int64              `json:"clock_uncertainty_ms"`
	Rule               antipode.Rule      `json:"rule"`
	Final              bool               `json:"final"` // equal in all regions, and can't change
	Versions           []CollisionVersion `json:"versions"`
}

// CollisionVersion is one of the versions that collided.
type CollisionVersion struct {
	Region antipode.Region `json:"region"`
	Stamp  string          `json:"stamp"` // as Stamp.String
	Dot    string          `json:"dot"`
	// Item is DynamoDB JSON, or null for a delete.
	Item json.RawMessage `json:"item"`
}

// HomeStatus says which region an item belongs to.
type HomeStatus struct {
	Table string          `json:"table"`
	Key   []string        `json:"key"` // partition key, then sort key, as plain text
	Home  antipode.Region `json:"home"`
}

// Direction is a direction of a link, seen from the region that is asked.
type Direction string

// The directions.
const (
	Both     Direction = "both"
	Outgoing Direction = "out"
	Incoming Direction = "in"
)
