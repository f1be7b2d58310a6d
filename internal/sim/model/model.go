// Package model is the protocol (docs/protocol.md) as four small models, apart
// from the real code: local tables (Check), one region's lease (CheckLeases), the
// roles of global and partitioned tables with one epoch for a whole set of
// replicas (CheckRoles), and with a tenure per role (CheckTenures). Each walks
// every reachable state and compares it with what the writes say by themselves; a
// planted bug turns one rule off, and the walk then finds the loss that the rule
// prevents. Rules are changed here first.
//
// In the model of local tables up to three regions write one key of one shard.
// What can happen, in any order: a region writes; its disk catches up; an entry
// comes from its origin or from any other region that has it; a durable frontier
// is reported; a tombstone is dropped; a journal is cut; a region crashes and
// loses what its disk had not caught up with, or loses its disk and comes back as
// a new incarnation with a copy of another region.
//
// Its State can be driven by hand, Step by Step, beside the real code. A State
// belongs to one goroutine; nothing needs closing. Starred rules that one key
// can't show are not modelled: tables with different replica sets never share a
// shard, and the parts of a transaction over shards apply together.
package model

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

// The largest model: masks and arrays have room for no more.
const (
	MaxRegions = 3
	MaxWrites  = 8
	maxOrigins = 2 * MaxRegions // a region may lose its disk once
)

// ErrConfig wraps what is wrong with a Config.
var ErrConfig = errors.New("model config")

// Config says how much can happen.
type Config struct {
	Regions int   // from 1 to MaxRegions
	Writes  int   // puts and deletes of all regions together, up to MaxWrites
	Crashes int   // of all regions together; each loses what is not on disk yet
	Losses  int   // of whole disks, of all regions together: 0 or 1
	Bugs    []Bug // rules to turn off; none is the protocol
	// Exact makes every fsync and every report of a frontier a step of its own,
	// for driving the real code and for small walks. Without it there are far
	// fewer states for the same losses: a disk catches up at once unless it has
	// stalled on the way to a crash (a delay that ends well only delays what
	// others get), and a region acts as if each acknowledgement had come at the
	// earliest moment (dropping and cutting may come any time later anyway).
	Exact bool
	// MaxStates ends Check early; 0 is no bound.
	MaxStates int
}

// Validate says what is wrong with the configuration.
func (c Config) Validate() error {
	switch {
	case c.Regions < 1 || c.Regions > MaxRegions:
		return fmt.Errorf("%w: %d regions, want 1 to %d", ErrConfig, c.Regions, MaxRegions)
	case c.Writes < 0 || c.Writes > MaxWrites:
		return fmt.Errorf("%w: %d writes, want 0 to %d", ErrConfig, c.Writes, MaxWrites)
	case c.Crashes < 0 || c.Crashes > 100:
		return fmt.Errorf("%w: %d crashes, want 0 to 100", ErrConfig, c.Crashes)
	case c.Losses < 0 || c.Losses > 1:
		return fmt.Errorf("%w: %d lost disks, want 0 or 1", ErrConfig, c.Losses)
	}
	for _, b := range c.Bugs {
		if !slices.Contains(Bugs(), b) {
			return fmt.Errorf("%w: no bug %q", ErrConfig, b)
		}
	}
	return nil
}

// Bug is a rule turned off.
type Bug string

// The planted bugs. Starred ones turn off a rule that the protocol stars.
const (
	ShipUnsynced       Bug = "ship-unsynced"        // ★ §1: an entry leaves its origin before its own fsync
	ReportUnsynced     Bug = "report-unsynced"      // ★ §1: a frontier is reported before it is durable
	KeepIncarnation    Bug = "keep-incarnation"     // ★ §1: a region that lost its disk goes on as the same origin
	NoTieBreak         Bug = "no-tie-break"         // ★ §2: of equal stamps the one that came last is visible
	DropUnstable       Bug = "drop-unstable"        // ★ §2: a tombstone alone is dropped before it is stable
	DropBesideUnstable Bug = "drop-beside-unstable" // ★ §2: a stable visible tombstone takes unstable siblings along
	DropFromSiblings   Bug = "drop-from-siblings"   // ★ §2: a stable tombstone is dropped, its siblings stay
	CountAcksAtOnce    Bug = "count-acks-at-once"   // ★ §2: an acknowledgement counts before its author's earlier writes are here
	RecordMeetings     Bug = "record-meetings"      // ★ §3: only pairs that meet as siblings are recorded
	ForgetEnd          Bug = "forget-end"           // ★ §6: a lost origin leaves the stable frontier before its end is applied here
	AckUnsynced        Bug = "ack-unsynced"         // §1: a write is acknowledged before its fsync
	SkipCausalWait     Bug = "skip-causal-wait"     // §2: an entry is applied before what it had seen
	ApplyEcho          Bug = "apply-echo"           // §2: one's own entries are applied again when they come back
	CutUnstable        Bug = "cut-unstable"         // §2: a journal is cut above the stable frontier
)

// Bugs lists the planted bugs.
func Bugs() []Bug {
	return []Bug{
		ShipUnsynced, ReportUnsynced, KeepIncarnation, NoTieBreak, DropUnstable, DropBesideUnstable, DropFromSiblings,
		CountAcksAtOnce, RecordMeetings, ForgetEnd, AckUnsynced, SkipCausalWait, ApplyEcho, CutUnstable,
	}
}

// Kind is a kind of step.
type Kind uint8

// The kinds of steps.
const (
	Put     Kind = iota // Region puts the item
	Delete              // Region deletes it
	Sync                // Region's disk catches up; its writes are acknowledged (Exact)
	Stall               // Region's disk stands still until it crashes (not Exact)
	Deliver             // Region applies the entry Origin:Seq, which it has from From
	Report              // Region hears From's durable frontier (Exact)
	Drop                // Region drops a tombstone, or the siblings that a tombstone beats
	Cut                 // Region cuts its journal
	Crash               // Region loses what is not on disk
	Lose                // Region loses its disk and comes back with a copy of From
)

// Step is one thing that can happen. Regions are numbered from 0.
type Step struct {
	Kind   Kind
	Region int
	From   int    // Deliver, Report, Lose
	Origin Origin // Deliver
	Seq    int    // Deliver
	// Stamp is the stamp of a Put or Delete; 0 takes one more than the highest
	// stamp that the region has seen, so that concurrent writes often tie.
	Stamp uint64
}

// String says the step in words: "r1 applies r0:2 from r2".
func (s Step) String() string {
	r := "r" + strconv.Itoa(s.Region)
	switch s.Kind {
	case Put:
		return r + " puts"
	case Delete:
		return r + " deletes"
	case Sync:
		return r + " syncs"
	case Stall:
		return r + "'s disk stalls"
	case Deliver:
		return fmt.Sprintf("%s applies %v from r%d", r, Dot{s.Origin, s.Seq}, s.From)
	case Report:
		return fmt.Sprintf("%s hears r%d's frontier", r, s.From)
	case Drop:
		return r + " drops tombstones"
	case Cut:
		return r + " cuts its journal"
	case Crash:
		return r + " crashes"
	case Lose:
		return fmt.Sprintf("%s loses its disk and copies r%d", r, s.From)
	default:
		return "unknown step " + strconv.Itoa(int(s.Kind))
	}
}

// Origin is a region with its incarnation, from 1.
type Origin struct{ Region, Incarnation int }

// Dot is the identity of one write.
type Dot struct {
	Origin Origin
	Seq    int
}

// String gives region, #incarnation from the second on, and sequence: "r1#2:3".
func (d Dot) String() string {
	s := "r" + strconv.Itoa(d.Origin.Region)
	if d.Origin.Incarnation > 1 {
		s += "#" + strconv.Itoa(d.Origin.Incarnation)
	}
	return s + ":" + strconv.Itoa(d.Seq)
}
