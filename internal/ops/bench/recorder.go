package bench

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// longest is the longest duration told apart; what took longer counts as it.
const longest = 10 * time.Minute

// recorder is a histogram of durations in microseconds, to three digits. It
// belongs to one goroutine at a time.
type recorder struct {
	hist *hdrhistogram.Histogram
}

func newRecorder() *recorder {
	return &recorder{hist: hdrhistogram.New(1, longest.Microseconds(), 3)}
}

func (r *recorder) record(d time.Duration) {
	us := min(max(d.Microseconds(), 0), longest.Microseconds())
	_ = r.hist.RecordValue(us) // only what is out of range is refused
}

func (r *recorder) merge(from *recorder) {
	r.hist.Merge(from.hist)
}

// Stats describes durations, in milliseconds.
type Stats struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_ms"`
	P50   float64 `json:"p50_ms"`
	P99   float64 `json:"p99_ms"`
	P999  float64 `json:"p999_ms"`
	Max   float64 `json:"max_ms"`
}

func (r *recorder) stats() Stats {
	if r.hist.TotalCount() == 0 {
		return Stats{}
	}
	at := func(p float64) float64 { return millis(r.hist.ValueAtPercentile(p)) }
	return Stats{
		Count: r.hist.TotalCount(), Mean: r.hist.Mean() / 1000,
		P50: at(50), P99: at(99), P999: at(99.9), Max: millis(r.hist.Max()),
	}
}

func millis(us int64) float64 { return float64(us) / 1000 }
