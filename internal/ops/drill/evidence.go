package drill

import (
	"time"

	"github.com/antipode-io/antipode"
)

// Evidence is all that a drill saw. Judge makes a verdict of it, and of nothing else.
type Evidence struct {
	Kind   Kind
	Sites  []antipode.Region
	Data   []int // the sites that store tables, and that clients write at
	Target int
	Tables []Table
	// Majority says whether the other regions are a majority without the target.
	Majority bool
	RTO      time.Duration // promised

	Fault  time.Duration // when the injury was complete
	Healed time.Duration // when it was taken back
	// Recovered is when all regions were live again; negative: they were not.
	Recovered time.Duration
	// Away says that the tables were read at the other regions just before Healed.
	Away bool
	// Missing are the receipts, by value, that no other region had then.
	Missing map[int64]bool

	Ops []Op
	// Found is what each data site had of each table in the end, by key.
	Found map[int][]map[string]int64
	// Collisions on record, by table and key: each lists the values of its versions.
	Collisions []map[string][][]int64
	// Stranded are the writes on the regions' lists of stranded ones, by value.
	Stranded map[int64]bool
	// OneWay is how long what one site sends takes at the least to be at another.
	OneWay func(from, to int) time.Duration

	Moves     []Move
	Failovers []Failover
}

// Move is a role that passed to another region.
type Move struct {
	At    time.Duration   `json:"at"`
	Table string          `json:"table"`
	Home  antipode.Region `json:"home,omitempty"`
	From  antipode.Region `json:"from"`
	To    antipode.Region `json:"to"`
}

// role names what passed.
func (m *Move) role() string {
	if m.Home == "" {
		return m.Table
	}
	return m.Table + ", homes of " + string(m.Home) + ","
}

// Failover is one on the regions' record, on the drill's clock.
type Failover struct {
	ID       uint64          `json:"id"`
	Lost     antipode.Region `json:"lost"`
	To       antipode.Region `json:"to"`
	Began    time.Duration   `json:"began"`  // the lost region's lease ended
	Fixed    time.Duration   `json:"fixed"`  // the cutoff was agreed on; 0: it was not
	Tables   []string        `json:"tables"` // whose roles it passed on
	Forced   bool            `json:"forced,omitempty"`
	Explains string          `json:"why,omitempty"`
}

// suffers reports whether clients of this site may fail while the fault lasts.
func (e *Evidence) suffers(site int) bool {
	return site == e.Target && (e.Kind.deaf || e.Kind.Name == ClockSkew)
}

// during reports whether an operation was begun while the fault lasted.
func (e *Evidence) during(o *Op) bool { return o.Call >= e.Fault && o.Call < e.Healed }

// expects reports whether somebody has to take over from the target.
func (e *Evidence) expects() bool { return e.Kind.Must == MustFailOver && e.Majority }
