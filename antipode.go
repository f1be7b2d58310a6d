// Package antipode holds the words that every other package speaks: Region,
// Origin, Shard, Dot, Stamp, Frontier, Mutation and the write modes. It imports
// the standard library only and contains no behaviour beyond what the words mean.
//
// The map of the code, from the client inwards:
//
//	internal/api/dynamo       parses a client's request
//	internal/data/table       decides who writes; evaluates; commits item and entry in one batch
//	internal/replica/journal  numbers the entry and keeps it
//	internal/replica/ship     carries entries between regions
//	internal/replica/collision  decides what is visible and what collided
//	internal/control          what regions agree on (group: the Raft group)
//	internal/engine           the ordered key-value store below (pebblekv: Pebble)
//	internal/link             how regions reach each other
//
// internal/region builds one running region out of them.
package antipode

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Region names one site that can serve the application alone. It is what
// antipode.yaml calls it, never a cloud's code for it.
type Region string

// Origin is a region together with its incarnation: the author of a journal.
// A region that lost its disk comes back as a new incarnation, so that no
// sequence number is ever used twice. Zone is empty until a region has zones.
type Origin struct {
	Region      Region
	Zone        string
	Incarnation uint32
}

// String gives region, /zone if there is one, and #incarnation from the second
// on: "oregon", "oregon/a", "oregon#2".
func (o Origin) String() string {
	s := string(o.Region)
	if o.Zone != "" {
		s += "/" + o.Zone
	}
	if o.Incarnation > 1 {
		s += "#" + strconv.FormatUint(uint64(o.Incarnation), 10)
	}
	return s
}

// ParseOrigin reads what String wrote.
func ParseOrigin(s string) (Origin, error) {
	o := Origin{Incarnation: 1}
	rest, inc, ok := strings.Cut(s, "#")
	if ok {
		n, err := strconv.ParseUint(inc, 10, 32)
		if err != nil || n < 2 {
			return Origin{}, fmt.Errorf("parse origin %q: incarnation must be a number from 2", s)
		}
		o.Incarnation = uint32(n)
	}
	region, zone, _ := strings.Cut(rest, "/")
	if region == "" {
		return Origin{}, fmt.Errorf("parse origin %q: no region", s)
	}
	o.Region, o.Zone = Region(region), zone
	return o, nil
}

// Compare orders origins by region, zone, incarnation.
func (o Origin) Compare(p Origin) int {
	if c := strings.Compare(string(o.Region), string(p.Region)); c != 0 {
		return c
	}
	if c := strings.Compare(o.Zone, p.Zone); c != 0 {
		return c
	}
	return cmp.Compare(o.Incarnation, p.Incarnation)
}

// ShardsPerSet is how many hash ranges a set of replicas has.
const ShardsPerSet = 16

// Shard is a fixed hash range of partition keys within a set of replicas: the
// unit of ordering. The upper 48 bits name the set of replicas, the lower 16
// the range, so that tables with different replicas never share a shard.
type Shard uint64

// ShardSet returns the first shard of the set that these replicas make. The
// order in which they are given does not matter.
func ShardSet(replicas []Region) Shard {
	sorted := slices.Clone(replicas)
	slices.Sort(sorted)
	h := fnv.New64a()
	for _, r := range sorted {
		_, _ = h.Write([]byte(r)) // hash.Hash never returns an error
		_, _ = h.Write([]byte{0})
	}
	return Shard(h.Sum64() &^ 0xffff)
}

// Set returns the shard's set of replicas, as the first shard of it.
func (s Shard) Set() Shard { return s &^ 0xffff }

// Range returns the shard's hash range, from 0 to ShardsPerSet-1.
func (s Shard) Range() int { return int(s & 0xffff) }

// String gives set and range: "1f09c2d3a4b5/7".
func (s Shard) String() string {
	return strconv.FormatUint(uint64(s)>>16, 16) + "/" + strconv.Itoa(s.Range())
}

// ParseShard reads what String wrote.
func ParseShard(text string) (Shard, error) {
	set, rng, ok := strings.Cut(text, "/")
	hi, err := strconv.ParseUint(set, 16, 48)
	lo, err2 := strconv.ParseUint(rng, 10, 16)
	if !ok || err != nil || err2 != nil {
		return 0, fmt.Errorf("parse shard %q: want SET/RANGE, as in 1f09c2d3a4b5/7", text)
	}
	return Shard(hi<<16 | lo), nil
}

// Dot is the identity of one write.
type Dot struct {
	Origin Origin
	Shard  Shard
	Seq    uint64
}

// IsZero reports whether the dot names no write.
func (d Dot) IsZero() bool { return d.Seq == 0 }

// String gives origin:shard:sequence.
func (d Dot) String() string {
	return d.Origin.String() + ":" + d.Shard.String() + ":" + strconv.FormatUint(d.Seq, 10)
}

// ParseDot reads what String wrote.
func ParseDot(text string) (Dot, error) {
	parts := strings.Split(text, ":")
	if len(parts) != 3 {
		return Dot{}, fmt.Errorf("parse dot %q: want ORIGIN:SHARD:SEQUENCE", text)
	}
	o, err := ParseOrigin(parts[0])
	if err != nil {
		return Dot{}, err
	}
	s, err := ParseShard(parts[1])
	if err != nil {
		return Dot{}, err
	}
	n, err := strconv.ParseUint(parts[2], 10, 64)
	if err != nil || n == 0 {
		return Dot{}, fmt.Errorf("parse dot %q: sequence must be a number from 1", text)
	}
	return Dot{o, s, n}, nil
}

// Stamp is a hybrid logical timestamp: 48 bits of milliseconds since the Unix
// epoch, 16 bits of counter (Kulkarni et al., OPODIS 2014).
type Stamp uint64

// MakeStamp packs milliseconds since the Unix epoch and a counter.
func MakeStamp(ms int64, counter uint16) Stamp { return Stamp(ms)<<16 | Stamp(counter) }

// Millis returns milliseconds since the Unix epoch.
func (s Stamp) Millis() int64 { return int64(s >> 16) }

// Counter returns the logical part.
func (s Stamp) Counter() uint16 { return uint16(s) }

// Time returns the physical part as a UTC time.
func (s Stamp) Time() time.Time { return time.UnixMilli(s.Millis()).UTC() }

// String gives the time in UTC with milliseconds, and the counter:
// "2026-11-23T02:39:28.120Z+3".
func (s Stamp) String() string {
	return s.Time().Format("2006-01-02T15:04:05.000Z") + "+" + strconv.Itoa(int(s.Counter()))
}

// Mark is one origin's entry of a frontier.
type Mark struct {
	Origin Origin
	Seq    uint64
}

// Frontier says, for one shard, the highest sequence applied per origin with
// none missing below it. It is sorted by origin and has no zero sequences; the
// zero value is the empty frontier. Frontiers are small (one mark per region
// and incarnation), so a sorted slice beats a map.
type Frontier []Mark

func (f Frontier) find(o Origin) (int, bool) {
	return slices.BinarySearchFunc(f, o, func(m Mark, o Origin) int { return m.Origin.Compare(o) })
}

// Seq returns the highest sequence of this origin, or 0.
func (f Frontier) Seq(o Origin) uint64 {
	if i, ok := f.find(o); ok {
		return f[i].Seq
	}
	return 0
}

// Includes reports whether the write with this dot is within the frontier. The
// dot must be of the frontier's shard.
func (f Frontier) Includes(d Dot) bool { return d.Seq <= f.Seq(d.Origin) }

// Covers reports whether every write within g is within f.
func (f Frontier) Covers(g Frontier) bool {
	for _, m := range g {
		if f.Seq(m.Origin) < m.Seq {
			return false
		}
	}
	return true
}

// With returns the frontier raised to seq for o. It reuses f's memory, so the
// caller gives up f; a lower seq changes nothing.
func (f Frontier) With(o Origin, seq uint64) Frontier {
	i, ok := f.find(o)
	switch {
	case ok:
		f[i].Seq = max(f[i].Seq, seq)
	case seq > 0:
		f = slices.Insert(f, i, Mark{o, seq})
	}
	return f
}

// Join returns the least frontier that covers both. It reuses f's memory.
func (f Frontier) Join(g Frontier) Frontier {
	for _, m := range g {
		f = f.With(m.Origin, m.Seq)
	}
	return f
}

// Meet returns the greatest frontier that both cover, in fresh memory.
func (f Frontier) Meet(g Frontier) Frontier {
	var out Frontier
	for _, m := range f {
		if n := min(m.Seq, g.Seq(m.Origin)); n > 0 {
			out = append(out, Mark{m.Origin, n})
		}
	}
	return out
}

// Marks returns the frontier with the origins as text, as it is written in JSON.
func (f Frontier) Marks() map[string]uint64 {
	marks := make(map[string]uint64, len(f))
	for _, m := range f {
		marks[m.Origin.String()] = m.Seq
	}
	return marks
}

// ParseMarks reads what Marks has written.
func ParseMarks(marks map[string]uint64) (Frontier, error) {
	f := make(Frontier, 0, len(marks))
	for name, seq := range marks {
		o, err := ParseOrigin(name)
		if err != nil {
			return nil, err
		}
		f = f.With(o, seq)
	}
	return f, nil
}

// Clone returns a copy that shares no memory.
func (f Frontier) Clone() Frontier { return slices.Clone(f) }

// TableID names a table for ever: a table that is deleted and made again under
// the same name has another one. The control group gives them out in rising order.
type TableID uint32

// Mutation is what a write asks a member to do to one item: the new body (an
// item as DynamoDB JSON), or its removal.
type Mutation struct {
	Table  TableID
	Key    []byte // encoded primary key: partition key, then sort key
	Body   []byte // the item as DynamoDB JSON; nil for a delete
	Delete bool
	Home   Region // partitioned tables: the region the item belongs to after this write
}

// WriteMode says who accepts writes to a table.
type WriteMode string

// The three patterns.
const (
	WriteGlobal      WriteMode = "global"      // one writer region; others forward to it
	WritePartitioned WriteMode = "partitioned" // every item has a home
	WriteLocal       WriteMode = "local"       // anywhere; collisions are detected and a rule decides
)

// WriteModes lists the write modes.
func WriteModes() []WriteMode { return []WriteMode{WriteGlobal, WritePartitioned, WriteLocal} }

// Rule says how the visible version is chosen from siblings.
type Rule string

// The rules for tables written in local mode.
const (
	RuleLastWriter     Rule = "last-writer"     // highest stamp, then the dot
	RuleFirstWriter    Rule = "first-writer"    // lowest stamp, then the dot
	RuleRegionPriority Rule = "region-priority" // the region listed first, then last-writer
)

// Rules lists the rules.
func Rules() []Rule { return []Rule{RuleLastWriter, RuleFirstWriter, RuleRegionPriority} }

// HomeBy says where an item of a partitioned table is born.
type HomeBy string

// The ways to choose a home. HomeAttribute is followed by ":" and the name of
// the attribute that holds a region's name.
const (
	HomeCreator   HomeBy = "creator"
	HomeAttribute HomeBy = "attribute"
	HomePrefix    HomeBy = "prefix" // the partition key starts with REGION and one of # / : .
)
