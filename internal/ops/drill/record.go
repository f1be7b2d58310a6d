package drill

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
)

// Record is a drill as it is kept, and all that its reports are made of.
type Record struct {
	ID       string          `json:"id"`
	Kind     Kind            `json:"drill"`
	Region   antipode.Region `json:"region"`
	Started  time.Time       `json:"started"`
	ForMS    Millis          `json:"for_ms"`
	Rate     int             `json:"rate"` // of writes a second that was asked for
	Sites    []SiteRecord    `json:"regions"`
	LoadMS   Millis          `json:"load_at_ms"`
	FaultMS  Millis          `json:"fault_at_ms"`
	HealedMS Millis          `json:"healed_at_ms"`
	BackMS   Millis          `json:"back_at_ms"` // negative: never

	Verdict

	Moves     []Move     `json:"moves"`
	Failovers []Failover `json:"failovers"`
	Events    []Event    `json:"events"`
	Timeline  Timeline   `json:"timeline"`
}

// SiteRecord is a region in a record.
type SiteRecord struct {
	Name    antipode.Region       `json:"name"`
	Witness bool                  `json:"witness,omitempty"`
	Done    int                   `json:"acknowledged"` // operations
	Failed  int                   `json:"failed"`
	Errors  map[string]ErrorCount `json:"errors,omitempty"`
}

// Timeline is how the load went, in slices of time from the drill's start.
type Timeline struct {
	SliceMS Millis     `json:"slice_ms"`
	Slices  int        `json:"slices"`
	Regions []Progress `json:"regions"`
	Lanes   []Lane     `json:"lanes"`
}

// Progress is one region's writes over time.
type Progress struct {
	Region antipode.Region `json:"region"`
	Writes []float64       `json:"writes_per_second"` // acknowledged
	Failed []float64       `json:"failed_per_second"`
	P50    []float64       `json:"p50_ms"` // of the acknowledged; 0 where there were none
	P99    []float64       `json:"p99_ms"`
}

// Lane is the writes of one table at one region over time.
type Lane struct {
	Region antipode.Region `json:"region"`
	Table  string          `json:"table"`
	Done   []int           `json:"done"`
	Failed []int           `json:"failed"`
}

// maxSlices is how finely a timeline is cut.
const maxSlices = 200

// timeline cuts the ledger into slices.
func timeline(e *Evidence) Timeline {
	var end time.Duration
	for i := range e.Ops {
		end = max(end, e.Ops[i].Return)
	}
	slice := max(end/maxSlices, 250*time.Millisecond)
	n := int(end/slice) + 1
	t := Timeline{SliceMS: millis(slice), Slices: n}
	for _, site := range e.Data {
		t.Regions = append(t.Regions, progress(e, site, slice, n))
		for table := range e.Tables {
			lane := Lane{Region: e.Sites[site], Table: e.Tables[table].Name, Done: make([]int, n), Failed: make([]int, n)}
			for i := range e.Ops {
				switch o := &e.Ops[i]; {
				case o.Site != site || o.Table != table || !o.Verb.writes():
				case o.Outcome == Done:
					lane.Done[o.Return/slice]++
				case o.failed():
					lane.Failed[o.Call/slice]++
				}
			}
			t.Lanes = append(t.Lanes, lane)
		}
	}
	return t
}

func progress(e *Evidence, site int, slice time.Duration, n int) Progress {
	p := Progress{Region: e.Sites[site], Writes: make([]float64, n), Failed: make([]float64, n), P50: make([]float64, n), P99: make([]float64, n)}
	took := make([][]time.Duration, n)
	for i := range e.Ops {
		switch o := &e.Ops[i]; {
		case o.Site != site || !o.Verb.writes():
		case o.Outcome == Done:
			took[o.Return/slice] = append(took[o.Return/slice], o.Return-o.Call)
		case o.failed():
			p.Failed[o.Call/slice] += 1 / slice.Seconds()
		}
	}
	for i, d := range took {
		if len(d) == 0 {
			continue
		}
		slices.Sort(d)
		p.Writes[i] = float64(len(d)) / slice.Seconds()
		p.P50[i], p.P99[i] = float64(millis(d[len(d)/2])), float64(millis(d[len(d)*99/100]))
	}
	return p
}

// conclude judges and keeps the record.
func (r *run) conclude(e *Evidence) (*Record, error) {
	rec := &Record{
		ID: r.id, Kind: r.kind, Region: r.targetName(), Started: r.began.UTC(), ForMS: millis(r.cfg.For), Rate: r.cfg.Rate,
		LoadMS: millis(r.load.began), FaultMS: millis(e.Fault), HealedMS: millis(e.Healed), BackMS: millis(e.Recovered), Verdict: Judge(e),
		Moves: e.Moves, Failovers: e.Failovers, Timeline: timeline(e),
	}
	if e.Recovered < 0 {
		rec.BackMS = -1
	}
	for i, s := range r.cfg.Sites {
		rec.Sites = append(rec.Sites, SiteRecord{Name: s.Name, Witness: s.Witness, Errors: r.load.errors[i].kinds})
	}
	for i := range e.Ops {
		if o := &e.Ops[i]; o.Outcome == Done {
			rec.Sites[o.Site].Done++
		} else if o.failed() {
			rec.Sites[o.Site].Failed++
		}
	}
	r.eventMu.Lock()
	rec.Events = slices.Clone(r.events)
	r.eventMu.Unlock()
	if err := writeJSON(r.cfg.FS, r.cfg.FS.PathJoin(r.cfg.Dir, rec.ID+".json"), rec); err != nil {
		return rec, fmt.Errorf("keep the record: %w", err)
	}
	return rec, nil
}

// History reads the records of a folder, the oldest first.
func History(disk vfs.FS, dir string) ([]*Record, error) {
	names, err := disk.List(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the records of drills: %w", err)
	}
	slices.Sort(names)
	var out []*Record
	for _, name := range names {
		if !strings.HasSuffix(name, ".json") || name == injuryFile {
			continue
		}
		var rec Record
		if err := readJSON(disk, disk.PathJoin(dir, name), &rec); err != nil {
			return nil, fmt.Errorf("read the record %s: %w", name, err)
		}
		out = append(out, &rec)
	}
	return out, nil
}
