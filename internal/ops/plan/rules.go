package plan

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/antipode-io/antipode"
)

// This file is the table of rules. The strategies are tried from cheap to dear, and
// the first that misses no demand is the answer; within active-active the write
// modes are tried in the order that the first fitting row gives.

// miss is a demand that an option does not meet.
type miss struct {
	words

	demand string
	source string
	degree float64 // how far off, to compare misses of a kind: 0 is hardly
	// say finds the words, once it is sure that they are needed: of thousands of options few are told of.
	say func() words
}

// words tell of a miss.
type words struct {
	wish    string // what was asked
	text    string // what the option gives, in a sentence that starts with what is missed
	because string // why it can't be had from this option
	nearest string // what this option gives
}

// demand is a row: what is asked, and when an option misses it (else nil).
type demand struct {
	name   string
	source string
	check  func(q *wish, o *option) *miss
}

const (
	sourceDR       = "AWS, Disaster Recovery of Workloads on AWS"
	sourceTalk     = "ARC209, Multi-Region Active-Active (re:Invent 2018)"
	sourceHub      = "AWS Resilience Hub, best practices"
	sourceCosmos   = "Azure Cosmos DB, consistency levels"
	sourceFibre    = "light in fibre: 200 km/ms"
	sourceFormula  = "docs/plan.md, availability"
	sourceProtocol = "docs/protocol.md"
	sourceFailover = "docs/failover.md"
	sourceSpec     = "docs/spec.md"
)

// demands lists what a strategy is measured by.
func demands() []demand {
	return []demand{
		{"capacity", "static stability: AWS Builders' Library", missesCapacity},
		{"rpo", sourceDR, missesRPO},
		{"rto", sourceDR, missesRTO},
		{"people", "AWS: the RTO includes the time to notice and to decide", missesPeople},
		{"availability", sourceFormula, missesAvailability},
		{"read latency", sourceFibre + "; over budget for 20 % of the users and more", missesReads},
		{"write latency", sourceFibre + "; over budget for 20 % of the users and more", missesWrites},
		{"fresh reads", sourceProtocol, missesFreshness},
		{"writes while cut off", sourceTalk, missesOffline},
	}
}

func missesCapacity(q *wish, o *option) *miss {
	serve := 1
	if o.strategy == ActiveActive {
		serve = len(o.sites)
		if q.scope == scopeRegion {
			serve--
		}
	}
	if can := float64(serve) * q.capacity; can < 0.9999 {
		return &miss{degree: -math.Log(can), say: func() words {
			return words{
				wish: "all of the load", text: fmt.Sprintf("it carries %.0f %% of the load: %s at %.0f %% each", 100*can, count(serve, "region"), 100*q.capacity),
				because: fmt.Sprintf("one region carries %.0f %% of the load", 100*q.capacity), nearest: fmt.Sprintf("%.0f %% of the load", 100*can),
			}
		}}
	}
	return nil
}

func missesRPO(q *wish, o *option) *miss {
	if !q.rpoAsked || o.rpo <= q.rpo {
		return nil
	}
	return &miss{degree: farOff(o.rpo, q.rpo), say: func() words {
		gives := "RPO " + span(o.rpo)
		if o.rpo == everything {
			gives = "everything may be lost with the region"
		}
		return words{wish: "RPO " + span(q.rpo), text: fmt.Sprintf("%s, asked %s: %s", gives, span(q.rpo), o.rpoWhy()), because: o.rpoWhy(), nearest: gives}
	}}
}

func missesRTO(q *wish, o *option) *miss {
	if o.rto <= q.rto {
		return nil
	}
	return &miss{degree: farOff(o.rto, q.rto), say: func() words {
		return words{
			wish: "RTO " + span(q.rto), text: fmt.Sprintf("RTO %s, asked %s: %s", span(o.rto), span(q.rto), o.rtoWhy), because: o.rtoWhy,
			nearest: "RTO " + span(o.rto),
		}
	}}
}

// farOff compares times by their ratio; what is asked as 0 counts as a millisecond.
func farOff(is, asked time.Duration) float64 {
	return math.Log(float64(max(is, time.Millisecond)) / float64(max(asked, time.Millisecond)))
}

func missesPeople(q *wish, o *option) *miss {
	if q.onCall == "always" || q.scope == scopeZone || q.rto >= personRTO || !o.byHand {
		return nil
	}
	return &miss{degree: 1, say: func() words {
		who := map[string]string{"none": "nobody is told", "office-hours": "nobody is there out of hours, for up to 64 h over a weekend"}[q.onCall]
		return words{
			wish: "RTO " + span(q.rto) + " with on_call: " + q.onCall, text: "a person has to start it, and " + who, because: "a person has to start it, and " + who,
			nearest: "the same with somebody on call always",
		}
	}}
}

func missesAvailability(q *wish, o *option) *miss {
	is := 100 * o.drilled.share
	if q.availability <= is+1e-9 {
		return nil
	}
	return &miss{degree: math.Log((100 - is) / math.Max(100-q.availability, 1e-6)), say: func() words {
		return words{
			wish: percent(q.availability) + " available", text: fmt.Sprintf("%s available even when drilled, asked %s", percent(is), percent(q.availability)),
			because: o.drilled.formula(), nearest: percent(is),
		}
	}}
}

func missesReads(q *wish, o *option) *miss {
	return missesLatency("reads", q.readP99, o.latency, func(l *Latency) *Path { return &l.Read })
}

func missesWrites(q *wish, o *option) *miss {
	return missesLatency("writes", q.writeP99, o.latency, func(l *Latency) *Path { return &l.Write })
}

func missesLatency(what string, budget time.Duration, all []Latency, of func(*Latency) *Path) *miss {
	var worst *Latency
	over := 0.0
	for i := range all {
		l := &all[i]
		if p := of(l); p.Over {
			over += p.share
			if worst == nil || p.Estimate > of(worst).Estimate {
				worst = l
			}
		}
	}
	if worst == nil || over < tooMany-1e-9 {
		return nil
	}
	p := of(worst)
	return &miss{degree: farOff(time.Duration(p.Estimate), budget), say: func() words { return latencyWords(what, budget, worst.Users, p, over) }}
}

func latencyWords(what string, budget time.Duration, users string, p *Path, over float64) words {
	because := fmt.Sprintf("a round trip from %s by %s takes %s (light alone: %s)", users, strings.Join(p.Via, ", "), Span(p.Estimate), Span(p.Floor))
	return words{
		wish: fmt.Sprintf("%s within %s", what, span(budget)), text: fmt.Sprintf("%s within %s miss their budget for %.0f %% of the users: %s", what, span(budget), 100*over, because),
		because: because, nearest: fmt.Sprintf("%s within %s", what, Span(p.Estimate)),
	}
}

func missesFreshness(q *wish, o *option) *miss {
	if o.mode != antipode.WriteLocal || q.staleness > o.lag {
		return nil
	}
	return &miss{degree: 1, say: func() words {
		return words{
			wish: "reads at most " + span(q.staleness) + " old", text: fmt.Sprintf("reads are up to %s old, the time a copy takes", span(o.lag)),
			because: "every region accepts writes, and a copy takes its time", nearest: "reads at most " + span(o.lag) + " old",
		}
	}}
}

func missesOffline(q *wish, o *option) *miss {
	if !q.offline || o.strategy == ActiveActive && o.mode == antipode.WriteLocal {
		return nil
	}
	return &miss{degree: 1, say: func() words { return offlineWords(q) }}
}

func offlineWords(q *wish) words {
	because := "a region that is cut off can't know whether another one has taken over"
	if len(q.invariants) > 0 {
		because = fmt.Sprintf("what holds across records (%s) can't be checked by a region that is cut off", strings.Join(q.invariants, ", "))
	}
	return words{
		wish: "writes while a region is cut off", text: "a region that is cut off accepts no writes", because: because,
		nearest: "writes wait until the region is connected again, or go on elsewhere",
	}
}

// modeRule is a row: who may write, and when.
type modeRule struct {
	name   string
	when   func(q *wish) bool
	try    []antipode.WriteMode // those that fit at all, in this order
	reason string
	source string
}

// modes lists how active-active data is written. The first row that fits counts.
func modes() []modeRule {
	const g, p, l = antipode.WriteGlobal, antipode.WritePartitioned, antipode.WriteLocal
	return []modeRule{
		{"cut off", func(q *wish) bool { return q.offline && fits(q, l) }, []antipode.WriteMode{l}, "a region that is cut off accepts writes", sourceTalk},
		{"invariants", func(q *wish) bool { return len(q.invariants) > 0 }, []antipode.WriteMode{g}, "what holds across records is checked in one place", sourceTalk},
		{"one place", func(q *wish) bool { return q.writtenBy == "one-place" }, []antipode.WriteMode{g, l}, "one place writes all of it", sourceTalk},
		{"mostly read", mostlyRead, []antipode.WriteMode{g, p, l}, "95 % and more are reads: read locally, write in one place", sourceTalk},
		{"owner", func(q *wish) bool { return q.writtenBy == "owner" }, []antipode.WriteMode{p, g, l}, "each record has an owner, and is written where that is", sourceTalk},
		{"commute", func(q *wish) bool { return q.commute }, []antipode.WriteMode{l, g}, "the writes commute, so every region may accept them", sourceTalk},
		{"anybody", func(*wish) bool { return true }, []antipode.WriteMode{g}, "anybody changes any record and the changes do not commute: one place puts them in order", sourceTalk},
	}
}

func mostlyRead(q *wish) bool {
	return q.readRate+q.writeRate > 0 && q.readRate/(q.readRate+q.writeRate) >= readMostly
}

// fits reports whether data keeps its meaning when it is written in a mode.
func fits(q *wish, mode antipode.WriteMode) bool {
	switch mode {
	case antipode.WritePartitioned:
		return q.writtenBy == "owner" && len(q.invariants) == 0
	case antipode.WriteLocal:
		// Who must write while cut off has asked for collisions; the version that is not seen stays on record.
		return len(q.invariants) == 0 && (q.commute || q.offline)
	default:
		return true
	}
}

// modesFor returns the row that counts, and its modes that fit.
func modesFor(q *wish) (modeRule, []antipode.WriteMode) {
	all := modes()
	i := slices.IndexFunc(all, func(r modeRule) bool { return r.when(q) })
	var out []antipode.WriteMode
	for _, m := range all[i].try {
		if fits(q, m) {
			out = append(out, m)
		}
	}
	return all[i], out
}
