package group

import (
	"fmt"
	"hash/fnv"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/engine"
)

// Config describes one voter of the control group.
type Config struct {
	// Self is the region that this voter stands for. It is among Voters.
	Self antipode.Region
	// Voters are the regions and witnesses that vote, the same everywhere and for
	// good. The first one listed stands for election at once when a group starts.
	Voters []antipode.Region
	// Store keeps log and state under keys that start with 'r', and only those.
	Store engine.Store
	// Tick is the unit of time of elections; 100 ms when 0. A Core, which has no
	// clock, does not use it.
	Tick time.Duration
	// HeartbeatTicks is how often a leader is heard of, in ticks; 2 when 0.
	HeartbeatTicks int
	// ElectionTicks is how many ticks without a leader make a voter stand for
	// election, plus up to as many at random; 8 when 0. It should be several times
	// the longest round trip: between antipodes that is 300 ms. The pre-vote keeps a
	// voter that is impatient for no reason from disturbing a leader.
	ElectionTicks int
	// FirstStartTicks is how many ticks a new voter waits to hear from all others
	// before a majority of new voters will do to found the group; 50 when 0.
	FirstStartTicks int
	// CompactAfter is how many applied entries the log may hold before it is cut
	// down to a snapshot; 1000 when 0.
	CompactAfter int
	// Send hands a message to the network. It must not wait; a message may be lost.
	// A Core does not use it.
	Send func(to antipode.Region, msg []byte)
	// OnFatal is called once when the voter has stopped for good: its store failed,
	// or the group speaks a newer version. State stays available. It must
	// not call Close, which waits for it. A Core does not use it.
	OnFatal func(error)
	// Logger receives elections and what goes wrong. Nothing is logged when nil.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	set := func(v *int, def int) {
		if *v == 0 {
			*v = def
		}
	}
	set(&c.HeartbeatTicks, 2)
	set(&c.ElectionTicks, 8)
	set(&c.FirstStartTicks, 50)
	set(&c.CompactAfter, 1000)
	if c.Tick == 0 {
		c.Tick = 100 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.Logger = c.Logger.With(slog.String("voter", string(c.Self)))
	c.Voters = slices.Clone(c.Voters)
	if !slices.Contains(c.Voters, c.Self) {
		return c, fmt.Errorf("%w: region %q is not among the voters %q", ErrConfig, c.Self, c.Voters)
	}
	if c.ElectionTicks <= c.HeartbeatTicks {
		return c, fmt.Errorf("%w: %d election ticks must be more than %d heartbeat ticks", ErrConfig, c.ElectionTicks, c.HeartbeatTicks)
	}
	seen := make(map[uint64]antipode.Region)
	for _, v := range c.Voters {
		id := voterID(v)
		other, taken := seen[id]
		switch {
		case v == "":
			return c, fmt.Errorf("%w: a voter has no name", ErrConfig)
		case taken && other == v:
			return c, fmt.Errorf("%w: voter %s is listed twice", ErrConfig, v)
		case taken:
			return c, fmt.Errorf("%w: the names %s and %s have the same hash: rename one of the regions", ErrConfig, v, other)
		case id == 0 || id >= math.MaxUint64-1:
			return c, fmt.Errorf("%w: the name %s has a hash that Raft reserves: rename the region", ErrConfig, v)
		}
		seen[id] = v
	}
	return c, nil
}

// voterID is a region's name in Raft: a hash, so that no list needs to be agreed on.
func voterID(r antipode.Region) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(r)) // hash.Hash never returns an error
	return h.Sum64()
}
