package plan

import (
	"time"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/ops/drill"
	"github.com/antipode-io/antipode/internal/spec"
)

// Strategy is how a data set is kept through the loss of a region. The constants
// go from cheap to dear; Rank compares.
type Strategy string

// The strategies, the cheapest first.
const (
	SingleRegion  Strategy = "single-region"  // zones in one region, and a backup elsewhere
	BackupRestore Strategy = "backup-restore" // the backup is restored in another region, as practised
	PilotLight    Strategy = "pilot-light"    // the data is live in another region, the machines are off
	WarmStandby   Strategy = "warm-standby"   // a smaller copy of everything runs there
	ActiveActive  Strategy = "active-active"  // two and more regions serve users
)

// Input is all that advice is made of.
type Input struct {
	Spec       *spec.Spec      // complete, as spec.Load returns it. Required
	Source     *spec.Source    // of spec.Read; without it lints have no line
	RoundTrips []RoundTrip     // measured; they are preferred to the table and the estimate
	Drills     []*drill.Record // in any order
}

// RoundTrip is a measured round trip between two regions of the spec, or a group
// of users and a region, by name. It counts in both directions; of several for a
// pair the latest counts.
type RoundTrip struct {
	From     string        `json:"from"`
	To       string        `json:"to"`
	RTT      spec.Duration `json:"rtt"` // the median
	P99      spec.Duration `json:"p99,omitempty"`
	Samples  int           `json:"samples,omitempty"`
	Measured time.Time     `json:"measured"`
}

// Report is the advice.
type Report struct {
	Data  []Answer `json:"data"`  // the entries of needs: data: in the file's order, then tables without one
	Lints []Lint   `json:"lints"` // by line
	// Regions are those of the spec, witnesses included, and those that were added.
	Regions  []Site   `json:"regions"`
	Users    []Group  `json:"users"`
	Currency string   `json:"currency"`
	Assumed  []Assume `json:"assumed"` // what holds for all data sets and was not said
	// Month and MonthOne are what everything costs a month: as advised, and in one region.
	Month    float64 `json:"month"`
	MonthOne float64 `json:"month_one_region"`
	// NotYet is what the advice asks for and antipode does not run yet, in sentences.
	NotYet []string `json:"not_yet"`

	advised *spec.Spec
}

// Spec returns the spec that up runs when the advice is taken: the tables with
// write mode, rule, rpo, replicas and successors, added regions and witnesses,
// and the needs with what was decided (strategy, backup). It loads, and has no
// lints but those about wishes that are not possible or contradict each other, and
// about where regions are.
func (r *Report) Spec() *spec.Spec { return r.advised }

// Answer is the advice for one data set.
type Answer struct {
	Name     string   `json:"name"`
	Strategy Strategy `json:"strategy"`
	// Writes, Rule: how it is written. Rule is that of local mode. Both are empty for data that
	// is no table; Writes says how the service would do it when it is active-active.
	Writes antipode.WriteMode `json:"writes"`
	Rule   antipode.Rule      `json:"rule"`
	// PromisedRPO and PromisedRTO are durations as one writes them (5s), nil: no bound; CostFactor is the
	// factor against one region. They are for scripts; the whole stands in RPO, RTO and Cost.
	PromisedRPO  *string      `json:"rpo"`
	PromisedRTO  *string      `json:"rto"`
	CostFactor   float64      `json:"cost"`
	RPO          Promise      `json:"rpo_detail"`
	RTO          Promise      `json:"rto_detail"`
	Availability Availability `json:"availability"`
	Cost         Cost         `json:"cost_detail"`
	Why          string       `json:"why"` // one or two sentences

	Kind    string `json:"kind"`    // table, objects, database, files, queue
	IsTable bool   `json:"table"`   // whether a table of the spec has this name: antipode runs it
	Asked   bool   `json:"asked"`   // false: a table of which needs says nothing; it is left as it is
	Scope   string `json:"survive"` // zone or region: the loss that RPO and RTO are for

	// Placement. Regions that are to be added are among them. Writer, Home, RPOCopies,
	// Successors are zero where they have no meaning.
	Replicas   []antipode.Region `json:"replicas"` // the regions that keep it; of a standby the second one
	Writer     antipode.Region   `json:"writer,omitempty"`
	Home       string            `json:"home,omitempty"` // as in the spec: creator, attribute:…, prefix
	Successors []antipode.Region `json:"successors,omitempty"`
	Failover   string            `json:"failover,omitempty"` // lease, or pinned: a person decides
	RPOCopies  int               `json:"rpo_copies,omitempty"`
	Witness    antipode.Region   `json:"witness,omitempty"` // the witness that a majority needs; of the spec or added
	Backup     BackupAdvice      `json:"backup"`

	Reasons     []Reason      `json:"reasons"` // the rules that decided, in the order they were asked
	Ladder      []Rung        `json:"ladder"`  // all five strategies, the cheapest first
	Latency     []Latency     `json:"latency"` // by group of users
	Impossible  []Impossible  `json:"impossible"`
	Sensitive   []Sensitivity `json:"sensitive"` // at most two; empty: nothing near changes the answer
	Assumed     []Assume      `json:"assumed"`   // what was not answered
	First       []string      `json:"first"`     // what to do before any of this, in sentences
	Drills      []Drill       `json:"drills"`
	NotYet      []string      `json:"not_yet"`
	Consistency string        `json:"consistency"` // what a local read may miss, in a sentence
}

// Promise is a bound: what was asked, what the advised configuration gives, and
// what the latest fitting drill saw. Measured is nil when there was none: the
// promise is unproven.
type Promise struct {
	Asked    *spec.Duration `json:"asked"`
	Promised *spec.Duration `json:"promised"` // nil: no bound
	Measured *spec.Duration `json:"measured"`
	Drill    string         `json:"drill,omitempty"` // the record's ID
	Date     *time.Time     `json:"date,omitempty"`
	State    string         `json:"state"` // Proven, Broken or Unproven
	Note     string         `json:"note,omitempty"`
}

// What a Promise's State can be.
const (
	Proven   = "proven"   // a drill of this very kind of table on these regions kept it
	Broken   = "broken"   // a drill measured worse than what was promised
	Unproven = "unproven" // no drill fits
)

// Availability is what the honest formula gives, in per cent.
type Availability struct {
	Asked *float64 `json:"asked"`
	// Today is with the drills that there were; Drilled what it becomes with regular ones. They are equal
	// once drills were passed.
	Today          float64 `json:"today"`
	Drilled        float64 `json:"drilled"`
	MinutesToday   float64 `json:"minutes_a_year_today"` // down, a year
	MinutesDrilled float64 `json:"minutes_a_year_drilled"`
	Formula        string  `json:"formula"` // with the numbers in it
	Proven         bool    `json:"proven"`  // whether drills' figures are in it
}

// Cost is a month's, against one region with zones and a backup elsewhere.
type Cost struct {
	Factor   float64 `json:"factor"` // Month / MonthOne
	Month    float64 `json:"month"`  // Compute + Storage + Transfer
	MonthOne float64 `json:"month_one_region"`
	Compute  float64 `json:"compute"`
	Storage  float64 `json:"storage"`
	Transfer float64 `json:"transfer"` // between regions

	ComputeFactor float64 `json:"compute_factor"` // n/(n-1) when n regions serve
	StorageFactor float64 `json:"storage_factor"` // n
	TransferGB    float64 `json:"transfer_gb"`    // a month

	// Money at risk: what outages cost a year, with one region and with this one. Nil when
	// nobody said what an hour costs.
	RiskYearOne *float64 `json:"risk_year_one_region"`
	RiskYear    *float64 `json:"risk_year"`
	// Worth: whether the risk it takes away is more than it costs. Nil: not known, or nothing to compare.
	Worth *bool  `json:"worth"`
	Note  string `json:"note"` // the value test in a sentence
}

// BackupAdvice is the backup that goes with a strategy. Replicas copy mistakes,
// so there is always one.
type BackupAdvice struct {
	Every spec.Duration `json:"every"`
	Keep  spec.Duration `json:"keep"`
	In    []string      `json:"in"` // regions of the spec or cloud regions; its own where it may be nowhere else
}

// Reason is a rule that had its say.
type Reason struct {
	Rule   string `json:"rule"`   // its name in the table
	Text   string `json:"text"`   // with the numbers of this data set
	Source string `json:"source"` // where the rule comes from
}

// Rung is one strategy on the ladder, for this data set.
type Rung struct {
	Strategy     Strategy       `json:"strategy"`
	Meets        bool           `json:"meets"`
	Chosen       bool           `json:"chosen"`
	Misses       []string       `json:"misses"` // what it does not meet, in sentences with numbers; empty when it meets all
	RPO          *spec.Duration `json:"rpo"`
	RTO          *spec.Duration `json:"rto"`
	Availability float64        `json:"availability"` // per cent, drilled
	Cost         Cost           `json:"cost"`
}

// Latency is what a group of users sees. A nil Path: it is not read or written,
// or nothing can serve it.
type Latency struct {
	Users string  `json:"users"`
	Share float64 `json:"share"` // of the traffic, 0 to 1
	Read  Path    `json:"read"`
	Write Path    `json:"write"`
}

// Path is a round trip as a user sees it, without the service's own time.
type Path struct {
	Via      []string       `json:"via"`      // the regions that it passes, the user's nearest first
	Floor    spec.Duration  `json:"floor"`    // light in fibre on the great circle
	Low      spec.Duration  `json:"low"`      // the estimate's band: 1.3 times the floor, 5th percentile
	Estimate spec.Duration  `json:"estimate"` // what is reckoned with: measured, table, else estimate
	High     spec.Duration  `json:"high"`     // 3.2 times the floor, 95th percentile
	Measured bool           `json:"measured"` // whether all of it was measured by Input.RoundTrips
	Budget   *spec.Duration `json:"budget"`
	Over     bool           `json:"over"` // Estimate > Budget

	share float64 // of the reads, or of the writes
}

// Impossible is a wish that nothing can meet.
type Impossible struct {
	Wish    string `json:"wish"`
	Because string `json:"because"`
	Nearest string `json:"nearest"`
}

// Sensitivity is an input whose change would change the answer. It was found by
// asking again with that change.
type Sensitivity struct {
	Input string   `json:"input"` // its field: rto
	Now   string   `json:"now"`   // its value, or "not said"
	If    string   `json:"if"`    // the nearest value with another answer
	Then  Strategy `json:"then"`
	// Writes is the mode that goes with Then, when that is active-active.
	Writes antipode.WriteMode `json:"writes,omitempty"`
	Month  float64            `json:"month"` // what it would cost
}

// Assume is an answer that was not given.
type Assume struct {
	Field   string `json:"field"`   // the field in needs
	Assumed string `json:"assumed"` // what was taken instead
	Because string `json:"because"`
}

// Drill is one that holds the advice to its word.
type Drill struct {
	Name    string          `json:"name"`   // of drill.Kinds, or of one that does not exist yet
	Region  antipode.Region `json:"region"` // to hurt; empty when it does not matter
	Shows   string          `json:"shows"`
	Command string          `json:"command"` // empty when antipode can't run it yet
	Last    *time.Time      `json:"last"`    // when it was run last on these regions
	Passed  bool            `json:"passed"`  // that time
}

// Site is a region on the map.
type Site struct {
	Name      antipode.Region `json:"name"`
	Code      string          `json:"location"` // cloud region; empty for a bare point
	City      string          `json:"city"`
	Latitude  float64         `json:"latitude"`
	Longitude float64         `json:"longitude"`
	Witness   bool            `json:"witness"`
	Added     bool            `json:"added"`  // it is not in the spec: the advice needs it
	Unused    bool            `json:"unused"` // it is in the spec, and nothing in the advice needs it
}

// Group is a group of users on the map.
type Group struct {
	Name      string  `json:"name"`
	Share     float64 `json:"share"` // 0 to 1
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

// Lint is a contradiction in a spec.
type Lint struct {
	Rule     string `json:"rule"`     // its name in the table
	Severity string `json:"severity"` // Error: it can't hold; Warning: it will surprise
	Data     string `json:"data"`     // the data set or table; empty for the whole
	Path     string `json:"path"`     // the value's place: needs.data.2.rto
	Line     int    `json:"line"`     // 0 when there is no file
	Column   int    `json:"column"`
	Message  string `json:"reason"`
	Fix      string `json:"fix"`
	Source   string `json:"source"` // where the rule comes from
}

// What a Lint's Severity can be.
const (
	Error   = "error"
	Warning = "warning"
)
