package bulk

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"strconv"
	"sync/atomic"

	"github.com/valyala/fastjson"

	"github.com/antipode-io/antipode/internal/ops/bench"
)

// ImportConfig says what to import.
type ImportConfig struct {
	Config
	Inputs []Input
	// Bad is told of each item that can't be imported, and the import goes on; by
	// several goroutines at a time. Default: the first one ends the import.
	Bad func(*LineError)
}

// What a BatchWriteItem takes at most: items, and bytes with room for what is
// around them.
const (
	batchItems = 25
	batchBytes = 8 << 20
)

// importRecord is the progress of an import: all records before this one were written.
type importRecord struct {
	Table  string  `json:"table"`
	Sizes  []int64 `json:"sizes"` // of the files
	File   int     `json:"file"`
	Record int64   `json:"record"` // of that file, from 0
	Items  int64   `json:"items"`
	Bad    int64   `json:"bad,omitempty"`
}

// importer is one import.
type importer struct {
	cfg    ImportConfig
	team   *team
	schema []keyAttribute
	queues []chan job
	seed   maphash.Seed
	read   atomic.Int64 // bytes of the files
	bad    atomic.Int64

	at importRecord // where the reader is
}

// job is an item to write, or else the wish that all before it be written.
type job struct {
	record
	file  string
	flush chan<- struct{} // told when they are
}

// Import writes the items of files to a table, over whatever has their keys. The
// error names file and line where one is to blame.
func Import(ctx context.Context, cfg ImportConfig) (Result, error) {
	var err error
	if cfg.Config, err = cfg.withDefaults(); err != nil {
		return Result{}, err
	}
	p := &importer{cfg: cfg, seed: maphash.MakeSeed(), at: importRecord{Table: cfg.Table}}
	for _, in := range cfg.Inputs {
		p.at.Sizes = append(p.at.Sizes, in.Size)
	}
	if err := p.resume(); err != nil {
		return Result{}, err
	}
	resumed := p.at.Items
	p.team = newTeam(ctx, &p.cfg.Config)
	p.team.done.Store(resumed)
	err = p.team.end(p.run())
	res := Result{Items: p.team.done.Load(), Resumed: resumed, Bad: p.bad.Load(), Took: cfg.Now().Sub(p.team.start)}
	if err != nil {
		return res, err
	}
	return res, forget(&p.cfg.Config)
}

// resume takes up what an earlier import of the same files left.
func (p *importer) resume() error {
	var was importRecord
	there, err := load(&p.cfg.Config, &was)
	if err != nil || !there {
		return err
	}
	if was.Table != p.at.Table || len(was.Sizes) != len(p.at.Sizes) {
		return ErrOtherInput
	}
	for i, n := range was.Sizes {
		if n != p.at.Sizes[i] {
			return ErrOtherInput
		}
	}
	p.at = was
	p.bad.Store(was.Bad)
	return nil
}

func (p *importer) run() error {
	var err error
	if p.schema, err = schemaOf(p.team.ctx, &p.cfg.Config); err != nil {
		return err
	}
	for range p.cfg.Workers {
		q := make(chan job, 2*batchItems)
		p.queues = append(p.queues, q)
		p.team.run(func() error { return p.work(q) })
	}
	p.team.report(&p.cfg.Config, p.share)
	for p.at.File < len(p.cfg.Inputs) {
		if err := p.readFile(&p.cfg.Inputs[p.at.File]); err != nil {
			return err
		}
		p.at.File, p.at.Record = p.at.File+1, 0
	}
	return p.flush()
}

func (p *importer) share() float64 {
	total := int64(0)
	for _, n := range p.at.Sizes {
		total += n
	}
	if total == 0 {
		return -1
	}
	return float64(p.read.Load()) / float64(total)
}

func (p *importer) readFile(in *Input) (err error) {
	f, err := in.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	src, err := open(in, counter{f, &p.read}, p.cfg.Format, p.schema)
	if err != nil {
		return err
	}
	recorded := p.cfg.Now()
	for n := int64(0); ; n++ {
		rec, err := src.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if n < p.at.Record { // done by an earlier run, which told of what was wrong
			if line := (*LineError)(nil); err != nil && !errors.As(err, &line) {
				return err
			}
			continue
		}
		p.at.Record = n + 1
		if err != nil {
			err = p.leaveOut(err)
		} else {
			err = p.send(job{record: rec, file: in.Name})
		}
		if err != nil {
			return err
		}
		if n%1024 == 0 && p.cfg.Now().Sub(recorded) >= p.cfg.Interval {
			if err := p.flush(); err != nil {
				return err
			}
			if err := save(&p.cfg.Config, p.at); err != nil {
				return err
			}
			recorded = p.cfg.Now()
		}
	}
}

// leaveOut tells of an item that can't be imported, or ends the import with it.
func (p *importer) leaveOut(err error) error {
	line := (*LineError)(nil)
	if p.cfg.Bad == nil || !errors.As(err, &line) {
		return err
	}
	p.bad.Add(1)
	p.cfg.Bad(line)
	return nil
}

// send gives an item to the worker that writes all of its key.
func (p *importer) send(j job) error {
	return p.give(p.queues[maphash.String(p.seed, j.key)%uint64(len(p.queues))], j)
}

func (p *importer) give(q chan job, j job) error {
	select {
	case q <- j:
		return nil
	case <-p.team.ctx.Done():
		return context.Cause(p.team.ctx)
	}
}

// flush waits until all that was read is written.
func (p *importer) flush() error {
	written := make(chan struct{}, len(p.queues))
	for _, q := range p.queues {
		if err := p.give(q, job{flush: written}); err != nil {
			return err
		}
	}
	for range p.queues {
		select {
		case <-written:
		case <-p.team.ctx.Done():
			return context.Cause(p.team.ctx)
		}
	}
	p.at.Items, p.at.Bad = p.team.done.Load(), p.bad.Load()
	return nil
}

// work writes what comes in batches.
func (p *importer) work(q chan job) error {
	c, err := newConnection(&p.cfg.Config)
	if err != nil {
		return err
	}
	defer c.close()
	w := &writer{p: p, conn: c}
	for {
		select {
		case <-p.team.ctx.Done():
			return nil
		case j := <-q:
			if err := w.take(j); err != nil {
				return err
			}
		}
	}
}

// writer collects a batch. Of several items of one key in it the last counts.
type writer struct {
	p     *importer
	conn  *connection
	batch []job
	bytes int
	body  []byte
}

func (w *writer) take(j job) error {
	if j.flush != nil {
		err := w.write()
		if err == nil {
			j.flush <- struct{}{} // which has room for all
		}
		return err
	}
	for i := range w.batch {
		if w.batch[i].key == j.key {
			w.bytes += len(j.item) - len(w.batch[i].item)
			w.batch[i] = j
			w.p.team.done.Add(1) // the one before is as good as written
			return nil
		}
	}
	w.batch, w.bytes = append(w.batch, j), w.bytes+len(j.item)
	if len(w.batch) == batchItems || w.bytes >= batchBytes {
		return w.write()
	}
	return nil
}

func (w *writer) write() error {
	defer func() { w.batch, w.bytes = w.batch[:0], 0 }()
	if len(w.batch) == 0 {
		return nil
	}
	err := w.put(w.batch)
	if err == nil {
		w.p.team.done.Add(int64(len(w.batch)))
		return nil
	}
	if !aboutItems(err) {
		return err
	}
	// One of them is to blame, and only one by one it shows which.
	for i := range w.batch {
		err := w.put(w.batch[i : i+1])
		if aboutItems(err) {
			err = w.p.leaveOut(&LineError{w.batch[i].file, w.batch[i].line, err})
		} else if err == nil {
			w.p.team.done.Add(1)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// aboutItems tells whether an error says that items are not what they should be.
func aboutItems(err error) bool {
	var refused *bench.RefusedError
	return errors.As(err, &refused) && (refused.Code == "ValidationException" || refused.Code == "SerializationException")
}

// put sends items until none is left unprocessed.
func (w *writer) put(items []job) error {
	b := append(w.body[:0], `{"RequestItems":{`...)
	b = append(strconv.AppendQuote(b, w.p.cfg.Table), ":["...)
	for i := range items {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, `{"PutRequest":{"Item":`...), items[i].item...), "}}"...)
	}
	w.body = append(b, "]}}"...)
	waits := waiting{cfg: &w.p.cfg.Config}
	left := len(items)
	for {
		answer, err := w.conn.call(w.p.team.ctx, "BatchWriteItem", w.body)
		if err != nil {
			return err
		}
		rest := answer.GetObject("UnprocessedItems")
		n := len(answer.GetArray("UnprocessedItems", w.p.cfg.Table))
		if n == 0 {
			return nil
		}
		if n < left {
			waits = waiting{cfg: &w.p.cfg.Config} // it goes on
		}
		left = n
		w.body = appendRequest(w.body[:0], rest)
		if err := waits.wait(w.p.team.ctx, fmt.Errorf("BatchWriteItem: %d items were not processed", n)); err != nil {
			return err
		}
	}
}

func appendRequest(dst []byte, rest *fastjson.Object) []byte {
	dst = append(dst, `{"RequestItems":`...)
	return append(rest.MarshalTo(dst), '}')
}
