package plan

import (
	"fmt"
	"math"
	"time"

	"github.com/antipode-io/antipode"
)

// downtime is what the honest formula gives: a year's minutes without service
//
//	U = f × [p × (detect + decide + switch) + (1 − p) × outage] + false × switch
//	A = s × (1 − U / 525,600)
//
// with f events a year that take a region as a whole, p the part of failovers that
// work, false switches a year for nothing, and s the availability of what all
// regions share. 1 − (1 − a)ⁿ, which is usually drawn, takes failover for instant
// and perfect.
type downtime struct {
	share   float64 // A, 0 to 1
	minutes float64 // (1 − A) × 525,600
	formula func() string
	proven  bool
}

// downtimes works it out with regular drills, and with those that there were.
func (w *world) downtimes(q *wish, o *option) (drilled, today downtime) {
	if o.strategy == SingleRegion {
		u := q.events * q.outage
		d := q.down(u, func() string {
			return fmt.Sprintf("%s × %s until the region is back", events(q.events), minutes(q.outage))
		})
		d.proven = true // there is no failover to practise
		return d, d
	}
	take, automatic := w.switchTime(q, o)
	drilled = q.failing(drilledWorks, take, automatic)
	p := untriedWorks
	run, passed, measured := w.record(q, o)
	if run > 0 {
		p = min(drilledWorks, (float64(passed)+untriedWorks)/float64(run+1))
		if o.strategy == ActiveActive && measured >= 0 {
			take = (measured + userRTO).Minutes()
		}
	} else if !automatic {
		take += untriedPerson - personActs.Minutes() // 5 + 30 minutes in place of 3 + 10
	}
	today = q.failing(p, take, automatic)
	today.proven = run > 0
	if today.share > drilled.share {
		drilled = today
	}
	return drilled, today
}

// untriedPerson is how long a person takes to notice and to decide who never practised: 5 and 30 minutes.
const untriedPerson = 35.0

// switchTime is detect + decide + switch in minutes, and whether no person is in it.
func (w *world) switchTime(q *wish, o *option) (float64, bool) {
	switch o.strategy {
	case BackupRestore:
		return personActs.Minutes() + q.meanWait() + restoreTime(q).Minutes(), false
	case PilotLight:
		return pilotRTO.Minutes() + q.meanWait(), false
	case WarmStandby:
		return warmRTO.Minutes(), true
	default:
		data := w.leaseRTO()
		if o.mode == antipode.WriteLocal {
			data = 0
		}
		return (data + userRTO).Minutes(), true
	}
}

// meanWait is how long nobody is there on average, in minutes.
func (q *wish) meanWait() float64 {
	switch q.onCall {
	case "none":
		return noneMeanWait
	case "office-hours":
		return officeMeanWait
	default:
		return 0
	}
}

func (q *wish) failing(p, take float64, automatic bool) downtime {
	take = min(take, q.outage) // by then the region is back
	u := q.events * (p*take + (1-p)*q.outage)
	if automatic {
		u += falseSwitches * take
	}
	return q.down(u, func() string {
		text := fmt.Sprintf("%s × (%s × %s + %s × %s)", events(q.events), number(p), minutes(take), number(1-p), minutes(q.outage))
		if automatic {
			text += fmt.Sprintf(" + %s false switches × %s", number(falseSwitches), minutes(take))
		}
		return text
	})
}

func (q *wish) down(u float64, terms func() string) downtime {
	a := q.shared * math.Max(0, 1-u/minutesPerYear)
	return downtime{share: a, minutes: (1 - a) * minutesPerYear, formula: func() string {
		text := terms() + " = " + minutes(u) + " a year"
		if q.shared < 1 {
			text += fmt.Sprintf("; × %s of what regions share", percent(100*q.shared))
		}
		return text
	}}
}

func events(n float64) string {
	if n == 1 {
		return "1 event"
	}
	return number(n) + " events"
}

func minutes(m float64) string { return span(time.Duration(m * float64(time.Minute))) }
