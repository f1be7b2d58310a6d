package bulk

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/api/dynamo/attr"
)

// ExportConfig says what to export.
type ExportConfig struct {
	Config
	Output     Output
	Gzip       bool
	Consistent bool     // reads are consistent, at twice the capacity
	Columns    []string // of CSV; default: all attributes, which takes another reading of the table to know
}

// Output is where an export goes.
type Output struct {
	io.Writer
	// Sync makes durable what was written; Truncate cuts the file off at this size,
	// from where it is written on. Nil where the output can't be gone on with.
	Sync     func() error
	Truncate func(size int64) error
}

// exportRecord is the progress of an export: what was written, and which keys it
// ends with.
type exportRecord struct {
	Table   string   `json:"table"`
	Format  Format   `json:"format"`
	Columns []string `json:"columns,omitempty"`
	Bytes   int64    `json:"bytes"`
	Items   int64    `json:"items"`
	// Starts are the segments' ExclusiveStartKeys: null before the first page, ""
	// after the last.
	Starts []*string `json:"starts"`
}

// exporter is one export.
type exporter struct {
	cfg    ExportConfig
	team   *team
	schema []keyAttribute

	mu sync.Mutex // over what follows
	at exportRecord
	// recorded is when the progress was put on record.
	recorded int64
}

// Export writes all items of a table to a file. It reads as many segments of the
// table at a time as there are workers.
func Export(ctx context.Context, cfg ExportConfig) (Result, error) {
	var err error
	if cfg.Config, err = cfg.withDefaults(); err != nil {
		return Result{}, err
	}
	if cfg.Format == "" {
		cfg.Format = DynamoDB
	}
	if cfg.Output.Truncate == nil {
		cfg.Store = noStore{}
	}
	p := &exporter{cfg: cfg, at: exportRecord{Table: cfg.Table, Format: cfg.Format, Columns: cfg.Columns, Starts: make([]*string, cfg.Workers)}}
	if err := p.resume(); err != nil {
		return Result{}, err
	}
	resumed := p.at.Items
	p.team = newTeam(ctx, &p.cfg.Config)
	p.team.done.Store(resumed)
	err = p.team.end(p.run())
	res := Result{Items: p.team.done.Load(), Resumed: resumed, Took: cfg.Now().Sub(p.team.start)}
	if err == nil && cfg.Output.Sync != nil {
		err = cfg.Output.Sync()
	}
	if err != nil {
		return res, err
	}
	return res, forget(&p.cfg.Config)
}

func (p *exporter) resume() error {
	var was exportRecord
	there, err := load(&p.cfg.Config, &was)
	if err != nil {
		return err
	}
	if there {
		if was.Table != p.at.Table || was.Format != p.at.Format || (len(p.at.Columns) > 0 && !slices.Equal(was.Columns, p.at.Columns)) {
			return ErrOtherInput
		}
		p.at = was // its number of segments too
	}
	if p.cfg.Output.Truncate == nil {
		return nil
	}
	if err := p.cfg.Output.Truncate(p.at.Bytes); err != nil {
		return fmt.Errorf("go on after %d bytes: %w", p.at.Bytes, err)
	}
	return nil
}

func (p *exporter) run() error {
	var err error
	if p.schema, err = schemaOf(p.team.ctx, &p.cfg.Config); err != nil {
		return err
	}
	p.recorded = p.cfg.Now().UnixNano()
	p.team.report(&p.cfg.Config, func() float64 { return -1 })
	if p.cfg.Format == CSV && p.at.Bytes == 0 {
		if err := p.writeHeader(); err != nil {
			return err
		}
	}
	return p.each(p.at.Starts, p.page)
}

// each reads all segments from their starts on, and has every page visited with
// where the next one starts.
func (p *exporter) each(starts []*string, visit func(segment int, items []*fastjson.Value, next *string) error) error {
	failed := make(chan error, len(starts))
	for i, start := range starts {
		if start != nil && *start == "" {
			failed <- nil
			continue
		}
		p.team.run(func() error {
			err := p.segment(i, len(starts), start, visit)
			failed <- err
			return err
		})
	}
	for range starts {
		if err := <-failed; err != nil {
			return err
		}
	}
	return nil
}

func (p *exporter) segment(i, of int, start *string, visit func(int, []*fastjson.Value, *string) error) error {
	c, err := newConnection(&p.cfg.Config)
	if err != nil {
		return err
	}
	defer c.close()
	for {
		body := strconv.AppendQuote([]byte(`{"TableName":`), p.cfg.Table)
		body = fmt.Appendf(body, `,"Segment":%d,"TotalSegments":%d,"ConsistentRead":%t`, i, of, p.cfg.Consistent)
		if start != nil {
			body = append(append(body, `,"ExclusiveStartKey":`...), *start...)
		}
		answer, err := c.call(p.team.ctx, "Scan", append(body, '}'))
		if err != nil {
			return err
		}
		next := ""
		if last := answer.Get("LastEvaluatedKey"); last != nil {
			next = string(last.MarshalTo(nil))
		}
		start = &next
		if err := visit(i, answer.GetArray("Items"), start); err != nil {
			return err
		}
		if next == "" {
			return nil
		}
	}
}

// page writes the items of a page, all of them at once.
func (p *exporter) page(segment int, items []*fastjson.Value, next *string) error {
	text, err := p.encode(items)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.writeLocked(text); err != nil {
		return err
	}
	p.at.Starts[segment] = next
	p.at.Items += int64(len(items))
	p.team.done.Store(p.at.Items)
	if now := p.cfg.Now().UnixNano(); now-p.recorded >= int64(p.cfg.Interval) && p.cfg.Output.Truncate != nil {
		p.recorded = now
		if p.cfg.Output.Sync != nil {
			if err := p.cfg.Output.Sync(); err != nil {
				return fmt.Errorf("write the export: %w", err)
			}
		}
		return save(&p.cfg.Config, p.at)
	}
	return nil
}

func (p *exporter) writeLocked(text []byte) error {
	n, err := p.cfg.Output.Write(text)
	p.at.Bytes += int64(n)
	if err != nil {
		return fmt.Errorf("write the export: %w", err)
	}
	return nil
}

// encode makes the text of items: packed it is a gzip file of its own, of which
// any number make one.
func (p *exporter) encode(items []*fastjson.Value) ([]byte, error) {
	if len(items) == 0 {
		return nil, nil
	}
	var text []byte
	var err error
	switch p.cfg.Format {
	case JSON:
		text, err = plainLines(items)
	case CSV:
		text, err = p.rows(items)
	default:
		for _, v := range items {
			text = append(v.MarshalTo(append(text, `{"Item":`...)), "}\n"...)
		}
	}
	if err != nil || !p.cfg.Gzip {
		return text, err
	}
	return pack(text)
}

func pack(text []byte) ([]byte, error) {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, err := z.Write(text)
	if err = errors.Join(err, z.Close()); err != nil {
		return nil, fmt.Errorf("pack: %w", err)
	}
	return out.Bytes(), nil
}

func plainLines(items []*fastjson.Value) (text []byte, err error) {
	for _, v := range items {
		it, err := attr.ItemFromJSON(v)
		if err != nil {
			return nil, fmt.Errorf("an item of the table: %w", err)
		}
		text = append(appendPlain(text, it), '\n')
	}
	return text, nil
}

func (p *exporter) rows(items []*fastjson.Value) ([]byte, error) {
	var out bytes.Buffer
	w := csv.NewWriter(&out)
	cells := make([]string, len(p.at.Columns))
	for _, v := range items {
		it, err := attr.ItemFromJSON(v)
		if err != nil {
			return nil, fmt.Errorf("an item of the table: %w", err)
		}
		clear(cells)
		for i := range it {
			at := slices.Index(p.at.Columns, it[i].Name)
			switch {
			case at >= 0:
				cells[at] = cell(&it[i].Value)
			case len(p.cfg.Columns) == 0:
				return nil, fmt.Errorf("%w: an item with the new attribute %q came while the table was exported; export again, or say which columns it shall have", ErrInvalid, it[i].Name)
			}
		}
		if err := w.Write(cells); err != nil {
			return nil, fmt.Errorf("write CSV: %w", err)
		}
	}
	w.Flush()
	if err := w.Error(); err != nil {
		return nil, fmt.Errorf("write CSV: %w", err)
	}
	return out.Bytes(), nil
}

// writeHeader writes the first line of CSV: the key's attributes, then all others
// by name.
func (p *exporter) writeHeader() error {
	if len(p.at.Columns) == 0 {
		seen := map[string]bool{}
		var mu sync.Mutex
		err := p.each(make([]*string, len(p.at.Starts)), func(_ int, items []*fastjson.Value, _ *string) error {
			mu.Lock()
			defer mu.Unlock()
			for _, v := range items {
				v.GetObject().Visit(func(name []byte, _ *fastjson.Value) { seen[string(name)] = true })
			}
			return nil
		})
		if err != nil {
			return err
		}
		for _, k := range p.schema {
			p.at.Columns = append(p.at.Columns, k.name)
			delete(seen, k.name)
		}
		p.at.Columns = append(p.at.Columns, slices.Sorted(maps.Keys(seen))...)
	}
	var line strings.Builder
	w := csv.NewWriter(&line)
	if err := errors.Join(w.Write(p.at.Columns), flush(w)); err != nil {
		return fmt.Errorf("write CSV: %w", err)
	}
	text := []byte(line.String())
	if p.cfg.Gzip {
		var err error
		if text, err = pack(text); err != nil {
			return err
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.writeLocked(text)
}

func flush(w *csv.Writer) error {
	w.Flush()
	return w.Error()
}
