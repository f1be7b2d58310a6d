// Package bulk moves whole tables out of files and into them, through the
// DynamoDB API of a region, with the progress that it made on record, so that
// what was interrupted goes on where it was.
//
// An import writes the items of one key in the order of its files; a resumed one
// writes again what was under way. An export is no snapshot: it reads the table
// while others write to it. Import and Export return when all that they started
// has ended; what they are given is closed by who gave it.
package bulk

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/antipode-io/antipode/internal/ops/bench"
)

// Format is how items stand in a file.
type Format string

// The formats.
const (
	// DynamoDB is a line of JSON per item, {"Item":{"id":{"S":"a"}}}, as DynamoDB's
	// export to S3 writes it and its import reads it. An item may also stand alone.
	// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataExport.Output.html.
	DynamoDB Format = "dynamodb"
	// JSON is a line of plain JSON per item, {"id":"a"}. Sets become lists and
	// binaries base64, and stay that when they are read again, but in keys.
	JSON Format = "json"
	// CSV has the attributes' names in its first line. As in DynamoDB's import,
	// what is no key is read as a string; an empty cell is no attribute.
	// See https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/S3DataImport.Format.html.
	CSV Format = "csv"
)

// Formats lists the formats.
func Formats() []Format { return []Format{DynamoDB, JSON, CSV} }

var (
	// ErrInvalid wraps what can't be done as it was asked for.
	ErrInvalid = errors.New("invalid request")
	// ErrOtherInput is returned where a record of progress is of another input.
	ErrOtherInput = errors.New("the record of progress is of another table or of files that have changed since")
)

// LineError is what is wrong with an item of a file.
type LineError struct {
	File string
	Line int // from 1
	Err  error
}

// Error gives the place and what is wrong.
func (e *LineError) Error() string { return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Err) }

// Unwrap returns what is wrong.
func (e *LineError) Unwrap() error { return e.Err }

// Store keeps a record of progress between runs.
type Store interface {
	Load() ([]byte, error) // nil where there is none
	Save(record []byte) error
	Remove() error
}

// Config is what imports and exports have in common.
type Config struct {
	Endpoint bench.Endpoint
	Table    string
	Format   Format // "" finds it out
	Workers  int    // connections; default 16
	// Timeout bounds a request, Patience the time for which requests are tried again
	// that a region could not take or answer. Defaults 30 s and a minute.
	Timeout, Patience time.Duration
	// Interval is the time between two records of progress. Default 2 s.
	Interval time.Duration
	Progress func(Snapshot)   // called once a second, by one goroutine; default: none
	Now      func() time.Time // monotonic, and the wall time of signatures; required
	Store    Store            // default: what is interrupted starts anew
}

func (c Config) withDefaults() (Config, error) {
	switch {
	case c.Now == nil:
		return c, fmt.Errorf("%w: no clock; set Now", ErrInvalid)
	case c.Workers < 0 || c.Workers > maxWorkers:
		return c, fmt.Errorf("%w: %d connections; 1 to %d will do", ErrInvalid, c.Workers, maxWorkers)
	}
	if c.Workers == 0 {
		c.Workers = 16
	}
	if c.Timeout <= 0 {
		c.Timeout = 30 * time.Second
	}
	if c.Patience <= 0 {
		c.Patience = time.Minute
	}
	if c.Interval <= 0 {
		c.Interval = 2 * time.Second
	}
	if c.Store == nil {
		c.Store = noStore{}
	}
	return c, nil
}

const maxWorkers = 256

type noStore struct{}

func (noStore) Load() ([]byte, error) { return nil, nil }
func (noStore) Save([]byte) error     { return nil }
func (noStore) Remove() error         { return nil }

// Snapshot is how far a run has come.
type Snapshot struct {
	Elapsed time.Duration
	Items   int64   // done, those of earlier runs included
	Share   float64 // of the input, from 0 to 1; negative where that is not known
}

// Result is what a run has done.
type Result struct {
	Items   int64 // those of earlier runs included
	Resumed int64 // done by earlier runs
	Bad     int64 // left out
	Took    time.Duration
}

// team runs goroutines that fail together: the first error ends them all.
type team struct {
	ctx   context.Context // of the run, which ends when one fails
	cause context.CancelCauseFunc
	wg    sync.WaitGroup
	done  atomic.Int64
	start time.Time
}

func newTeam(ctx context.Context, cfg *Config) *team {
	t := &team{start: cfg.Now()}
	t.ctx, t.cause = context.WithCancelCause(ctx)
	return t
}

func (t *team) run(f func() error) {
	t.wg.Go(func() {
		if err := f(); err != nil {
			t.cause(err)
		}
	})
}

// report tells of the progress until the run ends.
func (t *team) report(cfg *Config, share func() float64) {
	if cfg.Progress == nil {
		return
	}
	t.wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-t.ctx.Done():
				return
			case <-tick.C:
				cfg.Progress(Snapshot{Elapsed: cfg.Now().Sub(t.start), Items: t.done.Load(), Share: share()})
			}
		}
	})
}

// end waits for all, and returns why the run failed.
func (t *team) end(err error) error {
	if err == nil {
		err = context.Cause(t.ctx)
	}
	t.cause(err)
	t.wg.Wait()
	if err != nil {
		err = context.Cause(t.ctx) // which came first
	}
	return err
}

// load reads a record of progress.
func load(cfg *Config, into any) (there bool, err error) {
	text, err := cfg.Store.Load()
	if err != nil {
		return false, fmt.Errorf("read the record of progress: %w", err)
	}
	if text == nil {
		return false, nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return false, fmt.Errorf("read the record of progress: %w", err)
	}
	return true, nil
}

func save(cfg *Config, record any) error {
	text, err := json.Marshal(record)
	if err == nil {
		err = cfg.Store.Save(append(text, '\n'))
	}
	if err != nil {
		return fmt.Errorf("write the record of progress: %w", err)
	}
	return nil
}

func forget(cfg *Config) error {
	if err := cfg.Store.Remove(); err != nil {
		return fmt.Errorf("remove the record of progress: %w", err)
	}
	return nil
}

// counter counts what goes through it.
type counter struct {
	io.Reader
	n *atomic.Int64
}

func (c counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n.Add(int64(n))
	return n, err
}
