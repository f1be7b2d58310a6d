package model

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// The second model: global and partitioned tables (docs/protocol.md §4 and §5) in
// one shard of one set of replicas: up to three regions that keep data, one or
// two keys, a few writes, and failovers: lost regions, wrongly suspected ones and
// planned moves alike. What the group agrees on is one value here, since Raft is
// taken for granted; what regions know of it is each one's own.
//
// Time is left out. A lease is there at its holder or it is not, and the group
// goes on without a region only when it can't be there any more; that this can
// be had from clocks is checked by the model of leases (lease.go). A region that
// stops for a while is one whose steps come late: an answer may be given, a read
// go out, a forwarded request arrive at any later time.
//
// An obligation is taken on as early as it can be: a write counts as answered in
// the first state in which its writer could answer it, a value as read in the
// first state in which it could be. Whatever could still be answered is checked
// in every state, so that answers that come late are covered too.

// The largest model of roles.
const (
	maxSeq    = 5 // own entries of one region
	maxKeys   = 2
	maxEpoch  = 4
	maxSlots  = MaxRegions * maxSeq
	initially = 0 // the version of a key that no entry of the model has written
)

// ErrRoles wraps what is wrong with a RolesConfig.
var ErrRoles = errors.New("model of roles")

// RolesConfig says how much can happen.
type RolesConfig struct {
	Regions     int  // that keep data: 1 to MaxRegions; a witness is no part of the model but of the group
	Keys        int  // 1 or 2
	Writes      int  // by clients, handoffs and deletes included, up to 4
	Failovers   int  // and planned moves: 0 to 3
	Attempts    int  // how often a failover that has begun is given to another successor
	Partitioned bool // each region is the home of items; else region 0 writes the table
	Births      bool // no key exists at first; region 0 is the arbiter (Partitioned)
	Handoffs    bool // homes move (Partitioned)
	Deletes     bool // the key can be deleted, and is born again (Births)
	RPO         int  // the k of rpo 0s: others that have fsynced a write before it is answered; 0 is no promise
	Reads       int  // consistent reads, or failed conditions, that take their time
	Forwards    int  // requests that are forwarded, and sent again after a failover
	Locals      int  // writes to a local table in the same shard
	Crashes     int  // each loses what its disk had not caught up with
	Bugs        []RolesBug
	MaxStates   int // ends CheckRoles early; 0 is no bound
}

// Validate says what is wrong with the configuration.
func (c RolesConfig) Validate() error {
	within := func(what string, n, least, most int) error {
		if n < least || n > most {
			return fmt.Errorf("%w: %d %s, want %d to %d", ErrRoles, n, what, least, most)
		}
		return nil
	}
	err := errors.Join(
		within("regions", c.Regions, 1, MaxRegions), within("keys", c.Keys, 1, maxKeys), within("writes", c.Writes, 0, 4),
		within("failovers", c.Failovers, 0, maxEpoch-1), within("attempts", c.Attempts, 0, 9), within("rpo", c.RPO, 0, max(c.Regions-1, 0)),
		within("reads", c.Reads, 0, 9), within("forwards", c.Forwards, 0, 1), within("local writes", c.Locals, 0, 4), within("crashes", c.Crashes, 0, 9),
	)
	if !c.Partitioned && (c.Births || c.Handoffs) || c.Deletes && !c.Births {
		err = errors.Join(err, fmt.Errorf("%w: births and handoffs need partitioned tables, deletes need births", ErrRoles))
	}
	for _, b := range c.Bugs {
		if !slices.Contains(RolesBugs(), b) {
			err = errors.Join(err, fmt.Errorf("%w: no bug %q", ErrRoles, string(b)))
		}
	}
	return err
}

// RolesBug is a rule of §4 or §5 turned off.
type RolesBug string

// The planted bugs.
const (
	SkipFence          RolesBug = "skip-fence"           // a region is given up while its lease goes on
	FenceWriterOnly    RolesBug = "fence-writer-only"    // only the lost writer is fenced, not a holder that can't be heard
	CheckBeforeAppend  RolesBug = "check-before-append"  // the lease is checked before the critical section, not in it
	SkipAnswerCheck    RolesBug = "skip-answer-check"    // the lease is not checked again after the fsync
	SkipReadCheck      RolesBug = "skip-read-check"      // nor after a consistent read's value was read
	ReadAnyEpoch       RolesBug = "read-any-epoch"       // it is, but for whatever epoch there is by then
	SkipSeal           RolesBug = "skip-seal"            // a survivor says what it has and goes on
	SealInMemory       RolesBug = "seal-in-memory"       // a seal does not survive a crash
	SkipEqualise       RolesBug = "skip-equalise"        // the successor promotes what it has itself
	AckBeyond          RolesBug = "ack-beyond"           // storing an entry beyond the cutoff counts as acknowledging it
	HearTooFew         RolesBug = "hear-too-few"         // a promotion hears N-k members
	BoundOneOrigin     RolesBug = "bound-one-origin"     // the cutoff bounds the entries of the lost writer only
	BoundLastOnly      RolesBug = "bound-last-only"      // an entry is held against the cutoff of the next epoch only
	ApplyBeyond        RolesBug = "apply-beyond"         // entries beyond a cutoff are applied to items
	DropBeyond         RolesBug = "drop-beyond"          // entries beyond a cutoff are not stored, and not counted
	ForgetStranded     RolesBug = "forget-stranded"      // a version is taken out and not listed
	AuthorTakesOut     RolesBug = "author-takes-out"     // only the returning author takes its own versions out
	InstallEarly       RolesBug = "install-early"        // a fetched version is installed before the frontier covers it
	FetchAnywhere      RolesBug = "fetch-anywhere"       // the key's version is fetched from whoever has one
	FetchFirst         RolesBug = "fetch-first"          // it is fetched though the own journal has it
	NoCutoffInEntry    RolesBug = "no-cutoff-in-entry"   // the first entry of an epoch does not carry the cutoff
	CarryLastOnly      RolesBug = "carry-last-only"      // it carries that of its own epoch only
	ActUncovered       RolesBug = "act-uncovered"        // a region acts in an epoch when it knows the cutoff, before it has it all
	SettleNothing      RolesBug = "settle-nothing"       // a successor puts versions it had taken out back as they were
	LeanOnUnanswered   RolesBug = "lean-on-unanswered"   // a failed condition is answered that met an unanswered write of an rpo 0 table
	LeanOnInherited    RolesBug = "lean-on-inherited"    // a successor answers from what fewer than k others hold
	KeepOldGrant       RolesBug = "keep-old-grant"       // a grant of an epoch that ended still gives birth
	GrantUncovered     RolesBug = "grant-uncovered"      // an arbiter grants before the births up to the cutoff are applied
	RetryEarly         RolesBug = "retry-early"          // a forwarded write is sent again before the cutoff is reached
	ForwardAnyEpoch    RolesBug = "forward-any-epoch"    // a forwarded write is taken in an epoch that it was not meant for
	StoreBetween       RolesBug = "store-between"        // a sealed survivor takes entries of the old epoch before it knows the cutoff
	AcceptUnleased     RolesBug = "accept-unleased"      // what is handed to a region is accepted as it arrives, lease or no lease
	RestoreBesideHeard RolesBug = "restore-beside-heard" // a successor writes a stranded version anew where a heard region still has the key
)

// RolesBugs lists the planted bugs.
func RolesBugs() []RolesBug {
	return []RolesBug{
		SkipFence, FenceWriterOnly, CheckBeforeAppend, SkipAnswerCheck, SkipReadCheck, ReadAnyEpoch, SkipSeal, SealInMemory,
		SkipEqualise, AckBeyond, HearTooFew, BoundOneOrigin, BoundLastOnly, ApplyBeyond, DropBeyond, ForgetStranded,
		AuthorTakesOut, InstallEarly, FetchAnywhere, FetchFirst, NoCutoffInEntry, CarryLastOnly, ActUncovered, SettleNothing,
		LeanOnUnanswered, LeanOnInherited, KeepOldGrant, GrantUncovered, RetryEarly, ForwardAnyEpoch,
		StoreBetween, AcceptUnleased, RestoreBesideHeard,
	}
}

// rolesKind is a kind of step.
type rolesKind uint8

const (
	doWrite   rolesKind = iota // the region writes the key
	doDelete                   // it deletes it
	doLocal                    // it writes to a local table
	doHand                     // it hands the key's item to other
	doCheck                    // it checks its lease, to append later (CheckBeforeAppend)
	doGrant                    // as the key's arbiter it grants its birth to other
	doBear                     // it gives birth to the key
	doDeliver                  // it receives entry number other+1 of origin's
	doFence                    // the group begins a failover to the region
	doHear                     // the region seals, and the successor pulls what it has
	doCutoff                   // the successor's frontier becomes the cutoff
	doLearn                    // the region learns what the group knows, and has a lease where it may
	doFetch                    // it fetches the version of a key that it had taken out
	doRestore                  // as successor, it writes a version that it had taken out anew
	doAsk                      // a consistent read begins there
	doTell                     // and is answered
	doForward                  // it forwards a write, for the epoch that it knows
	doArrive                   // the request that was sent for epoch other arrives there
	doStall                    // its disk stands still
	doCrash                    // it crashes
)

// RolesStep is one thing that happens.
type RolesStep struct {
	kind               rolesKind
	region, key, other uint8
	origin             uint8
}

// String says the step in words.
func (t RolesStep) String() string {
	r, k := fmt.Sprintf("r%d", t.region), string(rune('x'+t.key))
	switch t.kind {
	case doWrite:
		return r + " writes " + k
	case doDelete:
		return r + " deletes " + k
	case doLocal:
		return r + " writes to a local table"
	case doHand:
		return fmt.Sprintf("%s hands %s to r%d", r, k, t.other)
	case doCheck:
		return r + " finds that it may write " + k
	case doGrant:
		return fmt.Sprintf("%s grants the birth of %s to r%d", r, k, t.other)
	case doBear:
		return r + " gives birth to " + k
	case doDeliver:
		return fmt.Sprintf("%s receives r%d:%d", r, t.origin, t.other+1)
	case doFence:
		return "a failover to " + r + " begins"
	case doHear:
		return r + " seals and is heard"
	case doCutoff:
		return "the cutoff is what " + r + " has"
	case doLearn:
		return r + " learns what the group knows"
	case doFetch:
		return r + " fetches " + k
	case doRestore:
		return r + " writes its stranded version of " + k + " anew"
	case doAsk:
		return r + " begins to read " + k
	case doTell:
		return r + " answers the read"
	case doForward:
		return r + " forwards a write of " + k
	case doArrive:
		return fmt.Sprintf("%s is reached by what was forwarded for epoch %d", r, t.other)
	case doStall:
		return r + "'s disk stalls"
	case doCrash:
		return r + " crashes"
	}
	return fmt.Sprintf("unknown step %d", t.kind)
}

// RolesResult is what CheckRoles found.
type RolesResult struct {
	States    int         // different states seen
	Depth     int         // steps to the farthest of them
	Truncated bool        // MaxStates ended the walk
	Violation string      // as Result
	Trace     []RolesStep // to the state that is wrong
}

// String lists the trace, a step a line, and what is wrong.
func (r RolesResult) String() string {
	var b strings.Builder
	for _, t := range r.Trace {
		b.WriteString("  " + t.String() + "\n")
	}
	return b.String() + "  " + r.Violation
}

// CheckRoles walks all states that the configuration allows, as Check does.
func CheckRoles(cfg RolesConfig) (RolesResult, error) {
	if err := cfg.Validate(); err != nil {
		return RolesResult{}, err
	}
	m := newRoles(cfg)
	f := explore(m.machine())
	return RolesResult{f.states, f.depth, f.truncated, f.wrong, f.trace}, nil
}
