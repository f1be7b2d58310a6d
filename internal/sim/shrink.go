package sim

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Shrink looks for less that fails too: it leaves out incidents, then operations,
// as long as the checkers still find something, and for no longer than it is
// told to. It returns the smallest run that it found.
func Shrink(t *testing.T, cfg Config, failed Result, limit time.Duration) (Config, Result) {
	t.Helper()
	until := time.Now().Add(limit) //nolint:forbidigo // how long a person waits
	best := failed
	fails := func(c Config) bool {
		if time.Now().After(until) { //nolint:forbidigo // as above
			return false
		}
		c.Log = nil
		res := Run(t, c)
		if len(res.Violations) > 0 && kindOf(res) == kindOf(failed) {
			best = res
			return true
		}
		return false
	}
	less := func(drop func(c *Config, some []int), all func() []int) {
		left := all()
		for size := max(1, len(left)/2); size > 0; size /= 2 {
			for i := 0; i < len(left); {
				some := left[i:min(i+size, len(left))]
				c := cfg
				c.Without, c.Skip = slices.Clone(cfg.Without), slices.Clone(cfg.Skip)
				drop(&c, some)
				if fails(c) {
					cfg, left = c, slices.Delete(slices.Clone(left), i, i+len(some))
					continue
				}
				i += size
			}
		}
	}
	// Fewer operations first: a run that ends earlier has fewer incidents.
	for _, part := range []int{8, 4, 2} {
		c := cfg
		c.Steps = max(1, cfg.Steps/part)
		if fails(c) {
			cfg = c
			break
		}
	}
	less(func(c *Config, some []int) { c.Without = append(c.Without, some...) }, func() (ids []int) {
		for _, in := range best.Incidents {
			ids = append(ids, in.ID)
		}
		return ids
	})
	less(func(c *Config, some []int) { c.Skip = append(c.Skip, some...) }, func() (ids []int) {
		for n := 1; n <= cfg.Steps; n++ {
			ids = append(ids, n)
		}
		return ids
	})
	return cfg, best
}

// kindOf tells one kind of failure from another: what was found first, without
// what differs from run to run.
func kindOf(r Result) string {
	_, text, _ := strings.Cut(r.Violations[0], "] ")
	words := strings.FieldsFunc(text, func(c rune) bool { return c == ' ' || c == '\n' })
	words = slices.DeleteFunc(words, func(w string) bool { return strings.ContainsAny(w, "0123456789/:") })
	return strings.Join(words[:min(len(words), 8)], " ")
}

// Describe says what a run is, what went wrong in it, and what the checkers found.
func (r Result) Describe(cfg Config) string {
	var out strings.Builder
	fmt.Fprintf(&out, "seed %d, %d regions, %d operations drawn, %d left out:\n", cfg.Seed, cfg.Regions, cfg.Steps, len(cfg.Skip))
	for _, in := range r.Incidents {
		fmt.Fprintf(&out, "  %s (%d)\n", in.Text, in.ID)
	}
	for _, v := range r.Violations {
		fmt.Fprintf(&out, "  => %s\n", v)
	}
	return out.String()
}
