package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The fourth model: a tenure per role, as the code has it, where the model of
// roles has one epoch for all of a set of replicas. A failover ends the tenures
// of the roles that the lost region held, and no others; the regions that are
// left go on writing under theirs. Up to four regions, one key, so that two can be
// lost at once and two successors be at work. What is the same in both models
// (leases, paused reads and answers, rpo 0s, crashes, forwarded writes) is checked
// there.

// The largest model of tenures.
const (
	tenureRegions = 4
	tenureSeq     = 6 // own entries of one region
	tenureSlots   = tenureRegions * tenureSeq
	tenureEvents  = 6 // failovers and switches, numbered from 2
)

// ErrTenures wraps what is wrong with a TenuresConfig.
var ErrTenures = errors.New("model of tenures")

// TenuresConfig says how much can happen.
type TenuresConfig struct {
	Regions   int  // 2 to 4; region n is what role n was made for, and holds it at first
	Writes    int  // births and handoffs included
	Failovers int  // regions fenced
	Switches  int  // planned ones
	Cancels   int  // switches called off; with none, the holder may release at once
	Rejoins   int  // of regions that were fenced
	Births    bool // the key does not exist at first; role 0 arbitrates it
	Handoffs  bool // the item moves between homes; it is born at home 0
	Bugs      []TenuresBug
	MaxStates int
}

// Validate says what is wrong with the configuration.
func (c TenuresConfig) Validate() error {
	switch {
	case c.Regions < 2 || c.Regions > tenureRegions:
		return fmt.Errorf("%w: %d regions, want 2 to %d", ErrTenures, c.Regions, tenureRegions)
	case c.Writes < 0 || c.Writes > 4:
		return fmt.Errorf("%w: %d writes, want 0 to 4", ErrTenures, c.Writes)
	case c.Cancels < 0 || c.Cancels > c.Switches:
		return fmt.Errorf("%w: %d cancels of %d switches", ErrTenures, c.Cancels, c.Switches)
	case c.Failovers < 0 || c.Switches < 0 || c.Failovers+c.Switches > tenureEvents-2:
		return fmt.Errorf("%w: %d failovers and %d switches, want at most %d", ErrTenures, c.Failovers, c.Switches, tenureEvents-2)
	}
	for _, b := range c.Bugs {
		if !slices.Contains(TenuresBugs(), b) {
			return fmt.Errorf("%w: no bug %q", ErrTenures, string(b))
		}
	}
	return nil
}

// TenuresBug is a rule turned off.
type TenuresBug string

// The planted bugs.
const (
	SealOne        TenuresBug = "seal-one"         // a region seals one failover and not all that are under way
	KeepSeals      TenuresBug = "keep-seals"       // what was heard before another region was fenced still counts
	CoverSome      TenuresBug = "cover-some"       // a cutoff need not cover what a live region had
	FixBesideLive  TenuresBug = "fix-beside-live"  // nor need that region have sealed
	BoundOneTenure TenuresBug = "bound-one-tenure" // a cutoff bounds the tenure before it only
	CarryOwnRoles  TenuresBug = "carry-own-roles"  // the entry that opens a tenure carries the cutoffs of its roles only
	CarryNoSeals   TenuresBug = "carry-no-seals"   // the entry that opens a tenure does not name the failovers that are under way
	OldGrantBears  TenuresBug = "old-grant-bears"  // a grant of an arbiter whose tenure was sealed still gives birth
	RejoinEarly    TenuresBug = "rejoin-early"     // a fenced region has a lease again before it knows all cutoffs
	OpenUnreleased TenuresBug = "open-unreleased"  // the next holder begins before the release has arrived
	WriteReleased  TenuresBug = "write-released"   // the holder goes on after its release
	BearUnopened   TenuresBug = "bear-unopened"    // a region gives birth by a grant before it has applied what the arbiter had
	PullUnlearned  TenuresBug = "pull-unlearned"   // a successor pulls before the cutoffs that are fixed are in force there
	ReleaseForgets TenuresBug = "release-forgets"  // a release does not name the grants that are out
	ReleaseUntold  TenuresBug = "release-untold"   // the holder releases before the group knows that it is about to
	CancelLeft     TenuresBug = "cancel-left"      // a switch is called off though its holder was let go
)

// TenuresBugs lists the planted bugs.
func TenuresBugs() []TenuresBug {
	return []TenuresBug{
		SealOne, KeepSeals, CoverSome, FixBesideLive, BoundOneTenure, CarryOwnRoles, CarryNoSeals, OldGrantBears, RejoinEarly, OpenUnreleased,
		WriteReleased, BearUnopened, PullUnlearned, ReleaseForgets, ReleaseUntold, CancelLeft,
	}
}

// tenureKind is a kind of step.
type tenureKind uint8

const (
	tenWrite   tenureKind = iota // the region writes the key
	tenHand                      // it hands the item to home other
	tenGrant                     // it grants the key's birth to region other
	tenBear                      // it gives birth to the key
	tenDeliver                   // it receives origin other's next entry
	tenFence                     // it is fenced; its roles go to region other
	tenSeal                      // it seals, and reports to failover other, whose successor pulls
	tenFix                       // the cutoff of failover other is fixed by its successor
	tenLearn                     // it learns of failover or switch other from the group
	tenRejoin                    // it has a lease again
	tenSwitch                    // the group begins to hand role event to region other
	tenLeave                     // the group lets the holder go, which is to release role other
	tenCancel                    // the group calls the switch of role other off
	tenRelease                   // the region releases role other
	tenTook                      // it has taken role other
	tenFetch                     // it fetches the key from region other
	tenRestore                   // it writes its stranded version anew, under role other
)

// TenuresStep is one thing that happens.
type TenuresStep struct {
	kind                 tenureKind
	region, other, event uint8
}

// String says the step in words.
func (t TenuresStep) String() string {
	r := fmt.Sprintf("r%d", t.region)
	switch t.kind {
	case tenWrite:
		return r + " writes"
	case tenHand:
		return fmt.Sprintf("%s hands the item to home %d", r, t.other)
	case tenGrant:
		return fmt.Sprintf("%s grants the birth to r%d", r, t.other)
	case tenBear:
		return r + " gives birth"
	case tenDeliver:
		return fmt.Sprintf("%s receives r%d:%d", r, t.other, t.event)
	case tenFence:
		return fmt.Sprintf("%s is fenced, its roles go to r%d", r, t.other)
	case tenSeal:
		return fmt.Sprintf("%s seals for failover %d", r, t.other)
	case tenFix:
		return fmt.Sprintf("%s fixes the cutoff of failover %d", r, t.other)
	case tenLearn:
		return fmt.Sprintf("%s learns the cutoff of failover %d", r, t.other)
	case tenRejoin:
		return r + " rejoins"
	case tenSwitch:
		return fmt.Sprintf("role %d is to go to r%d", t.event, t.other)
	case tenLeave:
		return fmt.Sprintf("%s may release role %d", r, t.other)
	case tenCancel:
		return fmt.Sprintf("the switch of role %d is called off", t.other)
	case tenRelease:
		return fmt.Sprintf("%s releases role %d", r, t.other)
	case tenTook:
		return fmt.Sprintf("%s has taken role %d", r, t.other)
	case tenFetch:
		return fmt.Sprintf("%s fetches the key from r%d", r, t.other)
	case tenRestore:
		return fmt.Sprintf("%s writes its stranded version anew under role %d", r, t.other)
	}
	return fmt.Sprintf("unknown step %d", t.kind)
}

// TenuresResult is what CheckTenures found.
type TenuresResult struct {
	States    int
	Depth     int
	Truncated bool
	Violation string
	Trace     []TenuresStep
}

// String lists the trace, a step a line, and what is wrong.
func (r TenuresResult) String() string {
	var b strings.Builder
	for _, t := range r.Trace {
		b.WriteString("  " + t.String() + "\n")
	}
	return b.String() + "  " + r.Violation
}

// CheckTenures walks all states that the configuration allows, as Check does.
func CheckTenures(cfg TenuresConfig) (TenuresResult, error) {
	if err := cfg.Validate(); err != nil {
		return TenuresResult{}, err
	}
	f := explore(newTenures(cfg).machine())
	return TenuresResult{f.states, f.depth, f.truncated, f.wrong, f.trace}, nil
}
