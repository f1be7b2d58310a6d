package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/api/operator"
	"github.com/antipode-io/antipode/internal/spec"
	"github.com/antipode-io/antipode/internal/spec/geo"
)

// probeFile keeps what the last probe measured, in the data directory.
const probeFile = "probe.json"

// probeReport is what `probe -o json` prints and what is kept.
type probeReport struct {
	At       time.Time   `json:"at"`
	Emulated bool        `json:"emulated"` // some of the links are
	Pairs    []probePair `json:"pairs"`

	matrix map[[2]antipode.Region]float64 // p50 by who measured to whom
}

// probePair is the link between two regions; both ends' samples are one set.
type probePair struct {
	A        antipode.Region `json:"a"`
	B        antipode.Region `json:"b"`
	Samples  int             `json:"samples"`
	MinMS    float64         `json:"min_ms"`
	P50MS    float64         `json:"p50_ms"`
	P99MS    float64         `json:"p99_ms"`
	Emulated bool            `json:"emulated"`
	// TableMS is what plan goes by without a probe: measured between the cloud
	// regions, else estimated from the distance, which Estimated says.
	TableMS   float64 `json:"table_ms"`
	Estimated bool    `json:"estimated"`
	FloorMS   float64 `json:"floor_ms"` // by light in fibre
	Error     string  `json:"error,omitempty"`
}

const probeShape = `{"at","emulated","pairs":[{"a","b","samples","min_ms","p50_ms","p99_ms","emulated",
   "table_ms","estimated","floor_ms","error"}]}`

func (a *app) probeCommand() *cobra.Command {
	var dir, output string
	var samples int
	c := &cobra.Command{
		Use: "probe", Short: "Measure the round trips between the regions that run", Args: wantArgs(0),
		Long: "Measure the round trips between the regions that run, over the links that they have, and keep the result in DIR/" + probeFile + ":\n" +
			"antipode plan prefers it to its own table of round trips. Links that are emulated (--wan) are measured as they are, and\n" +
			"plan does not believe them.\n\nWith -o json:\n  " + probeShape,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.probe(cmd.Context(), dir, output, samples) },
	}
	dataFlag(c, &dir)
	outputFlag(c, &output)
	c.Flags().IntVar(&samples, "samples", 20, "round trips per link and direction, 1 to 50")
	return c
}

func (a *app) probe(ctx context.Context, dir, output string, samples int) error {
	if samples < 1 || samples > 50 {
		return usagef("--samples is %d; it can be 1 to 50", samples)
	}
	in, err := a.openInstall(dir)
	if err != nil {
		return err
	}
	if len(in.spec.Regions) < 2 {
		return fmt.Errorf("there is nothing to measure: %s is the only region of %s", in.spec.Regions[0].Name, filepath.Join(dir, specFile))
	}
	measured, failed := in.probe(ctx, samples)
	if len(measured) == 0 {
		return errors.Join(failed...)
	}
	r := newProbeReport(in.spec, measured, a.now())
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the measurements: %w", err)
	}
	if err := writeFile(filepath.Join(dir, probeFile), append(text, '\n'), 0o644); err != nil {
		return err
	}
	if output == "json" {
		err = a.printJSON(r)
	} else {
		err = a.printProbe(in, r)
	}
	for _, p := range r.Pairs {
		if p.Error != "" {
			failed = append(failed, fmt.Errorf("between %s and %s: %s", p.A, p.B, p.Error))
		}
	}
	return errors.Join(append([]error{err}, failed...)...)
}

// probe has all regions that can be asked from here measure at once.
func (in *install) probe(ctx context.Context, samples int) (out []operator.ProbeStatus, failed []error) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, r := range in.local() {
		wg.Go(func() {
			err := in.call(ctx, r, func(ctx context.Context, c *operator.Client) error {
				p, err := c.Probe(ctx, samples)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					out = append(out, p)
				}
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, err)
			}
		})
	}
	wg.Wait()
	if len(out)+len(failed) == 0 {
		failed = []error{fmt.Errorf("no region was started in %s yet, so nobody here can measure", in.dir)}
	}
	slices.SortFunc(failed, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	return out, failed
}

// newProbeReport puts the two ends of each link together.
func newProbeReport(s *spec.Spec, measured []operator.ProbeStatus, at time.Time) *probeReport {
	out := &probeReport{At: at.UTC().Truncate(time.Second), Pairs: []probePair{}, matrix: map[[2]antipode.Region]float64{}}
	for i := range s.Regions {
		for k := i + 1; k < len(s.Regions); k++ {
			a, b := &s.Regions[i], &s.Regions[k]
			p := probePair{A: a.Name, B: b.Name}
			floor, table := geo.Floor(a.Location.Place(), b.Location.Place()), geo.RTT(a.Location.Place(), b.Location.Place())
			_, known := geo.Measured(a.Location.Place(), b.Location.Place())
			p.FloorMS, p.TableMS, p.Estimated = ms(floor), ms(table), !known
			asked := false
			var all []float64
			for _, one := range measured {
				for _, l := range one.Links {
					there, back := one.Region == a.Name && l.To == b.Name, one.Region == b.Name && l.To == a.Name
					if !there && !back {
						continue
					}
					asked = true
					p.Emulated = p.Emulated || l.Emulated
					p.Error = cmp.Or(p.Error, l.Error)
					if len(l.SamplesMS) > 0 {
						_, p50, _ := quantiles(l.SamplesMS)
						out.matrix[[2]antipode.Region{one.Region, l.To}] = p50
						all = append(all, l.SamplesMS...)
					}
				}
			}
			if !asked {
				p.Error = "neither of them could be asked from here"
			}
			if p.Samples = len(all); p.Samples > 0 {
				p.MinMS, p.P50MS, p.P99MS = quantiles(all)
			}
			out.Emulated = out.Emulated || p.Emulated
			out.Pairs = append(out.Pairs, p)
		}
	}
	return out
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// quantiles gives the least, the median and the 99th percentile, by nearest rank.
func quantiles(samples []float64) (least, p50, p99 float64) {
	s := slices.Sorted(slices.Values(samples))
	rank := func(percent int) float64 { return s[(len(s)*percent+99)/100-1] }
	return s[0], rank(50), rank(99)
}

func (a *app) printProbe(in *install, r *probeReport) error {
	head := []string{"P50, ms"}
	for _, q := range in.spec.Regions {
		head = append(head, string(q.Name))
	}
	rows := [][]string{head}
	for _, p := range in.spec.Regions {
		row := []string{"from " + string(p.Name)}
		for _, q := range in.spec.Regions {
			cell := "?"
			if p50, ok := r.matrix[[2]antipode.Region{p.Name, q.Name}]; ok {
				cell = fmt.Sprintf("%.1f", p50)
			} else if p.Name == q.Name {
				cell = "-"
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	pairs := [][]string{{"BETWEEN", "SAMPLES", "MIN", "P50", "P99", "EXPECTED", "LIGHT IN FIBRE"}}
	for _, p := range r.Pairs {
		expected := fmt.Sprintf("%.0f ms (table)", p.TableMS)
		if p.Estimated {
			expected = fmt.Sprintf("%.0f ms (estimate)", p.TableMS)
		}
		row := []string{fmt.Sprintf("%s - %s", p.A, p.B), fmt.Sprint(p.Samples), "?", "?", "?", expected, fmt.Sprintf("%.0f ms", p.FloorMS)}
		if p.Samples > 0 {
			row[2], row[3], row[4] = fmt.Sprintf("%.1f ms", p.MinMS), fmt.Sprintf("%.1f ms", p.P50MS), fmt.Sprintf("%.1f ms", p.P99MS)
		}
		pairs = append(pairs, row)
	}
	err := errors.Join(a.table(rows), a.print(""), a.table(pairs))
	if r.Emulated {
		mode := ""
		if wan := readWAN(in.dir); wan != "" {
			mode = " (--wan " + wan + ")"
		}
		return errors.Join(err, a.print("\nThe links are emulated%s: this shows that they wait as long as they were told to, and says nothing about the\n"+
			"real network. antipode plan goes by its table instead, until you probe regions that run where they belong.", mode))
	}
	return errors.Join(err, a.print("\nKept in %s; antipode plan goes by it.", filepath.Join(in.dir, probeFile)))
}

// readProbe reads what the last probe kept; nil where there was none.
func readProbe(dir string) (*probeReport, error) {
	path := filepath.Join(dir, probeFile)
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read what the last probe measured: %w", err)
	}
	r := &probeReport{}
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("read what the last probe measured, %s: %w; probe again, or remove the file", path, err)
	}
	return r, nil
}
