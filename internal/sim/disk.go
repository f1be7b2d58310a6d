package sim

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode/internal/engine"
)

// errCrashed is what waits of a crashed region return to nobody.
var errCrashed = errors.New("region crashed")

// disk is a file system whose write-ahead log reaches the platter when the
// kernel says so. All other files are as in vfs.MemFS.
type disk struct {
	vfs.FS
	mem *vfs.MemFS

	mu   sync.Mutex // guards logs and their buffers
	logs []*logFile
}

func newDisk(mem *vfs.MemFS) *disk { return &disk{FS: mem, mem: mem} }

const logCategory = "pebble-wal"

func (d *disk) log(f vfs.File, category vfs.DiskWriteCategory) vfs.File {
	if category != logCategory {
		return f
	}
	l := &logFile{File: f, disk: d}
	d.mu.Lock()
	d.logs = append(d.logs, l)
	d.mu.Unlock()
	return l
}

// Create implements vfs.FS.
func (d *disk) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.Create(name, category)
	if err != nil {
		return nil, fmt.Errorf("simulated disk: %w", err)
	}
	return d.log(f, category), nil
}

// ReuseForWrite implements vfs.FS.
func (d *disk) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	f, err := d.FS.ReuseForWrite(oldname, newname, category)
	if err != nil {
		return nil, fmt.Errorf("simulated disk: %w", err)
	}
	return d.log(f, category), nil
}

// Unwrap implements vfs.FS.
func (d *disk) Unwrap() vfs.FS { return d.FS }

// flush makes everything written to logs durable.
func (d *disk) flush() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, l := range d.logs {
		errs = append(errs, l.flushLocked(len(l.buf)))
	}
	return errors.Join(errs...)
}

// crash returns what is there after a crash: of what was written to the log and
// not flushed, the first part, cut anywhere.
func (d *disk) crash(draw func(n int) int) (*vfs.MemFS, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var errs []error
	for _, l := range d.logs {
		errs = append(errs, l.flushLocked(draw(len(l.buf)+1)))
	}
	return d.mem.CrashClone(vfs.CrashCloneCfg{}), errors.Join(errs...)
}

// logFile is a log: writes and syncs end in a buffer.
type logFile struct {
	vfs.File
	disk *disk
	buf  []byte // guarded by disk.mu
}

func (l *logFile) flushLocked(n int) error {
	if n == 0 {
		return nil
	}
	if _, err := l.File.Write(bytes.Clone(l.buf[:n])); err != nil {
		return fmt.Errorf("simulated disk: %w", err)
	}
	l.buf = append(l.buf[:0], l.buf[n:]...)
	if err := l.File.Sync(); err != nil {
		return fmt.Errorf("simulated disk: %w", err)
	}
	return nil
}

// Write implements vfs.File.
func (l *logFile) Write(p []byte) (int, error) {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	l.buf = append(l.buf, p...)
	return len(p), nil
}

// Sync implements vfs.File.
func (l *logFile) Sync() error { return nil }

// SyncData implements vfs.File.
func (l *logFile) SyncData() error { return nil }

// SyncTo implements vfs.File.
func (l *logFile) SyncTo(int64) (bool, error) { return true, nil }

// Close implements vfs.File: a log is closed when the next one has begun, and
// is durable by then.
func (l *logFile) Close() error {
	l.disk.mu.Lock()
	defer l.disk.mu.Unlock()
	if err := l.flushLocked(len(l.buf)); err != nil {
		return err
	}
	return l.File.Close()
}

// store shows the simulator what is written, and keeps whoever waits for the
// disk waiting until the kernel says that it has caught up.
type store struct {
	engine.Store
	c *core

	mu      sync.Mutex // guards what follows
	applied uint64     // batches so far
	asked   uint64     // of them to be made durable
	synced  uint64     // of them durable
	waiters []waiter
	dead    bool
}

type waiter struct {
	n    uint64
	done chan error
}

// change is one write of a batch.
type change struct {
	key, value []byte // value nil: a removal
}

type batch struct {
	engine.Batch
	changes []change
	bugs    bugs
}

// Set implements engine.Batch.
func (b *batch) Set(key, value []byte) {
	if !b.bugs.stores(key) {
		return
	}
	b.Batch.Set(key, value)
	b.changes = append(b.changes, change{bytes.Clone(key), append([]byte{}, value...)})
}

// Delete implements engine.Batch.
func (b *batch) Delete(key []byte) {
	b.Batch.Delete(key)
	b.changes = append(b.changes, change{bytes.Clone(key), nil})
}

// NewBatch implements engine.Store.
func (st *store) NewBatch() engine.Batch {
	return &batch{Batch: st.Store.NewBatch(), bugs: st.c.s.bugs}
}

// Apply implements engine.Store.
func (st *store) Apply(b engine.Batch) (engine.Commit, error) {
	var c engine.Commit
	own, n, err := st.apply(b, func(inner engine.Batch) (err error) {
		c, err = st.Store.Apply(inner)
		return err
	})
	if err != nil {
		return nil, err
	}
	st.mu.Lock()
	st.asked = n
	st.mu.Unlock()
	st.c.s.diskWork(st.c)
	return &commit{st: st, inner: c, n: n, empty: len(own.changes) == 0}, nil
}

// ApplyLater implements engine.Store.
func (st *store) ApplyLater(b engine.Batch) error {
	_, _, err := st.apply(b, st.Store.ApplyLater)
	return err
}

func (st *store) apply(b engine.Batch, to func(engine.Batch) error) (*batch, uint64, error) {
	own, ok := b.(*batch)
	if !ok {
		return nil, 0, errors.New("batch of another store")
	}
	st.mu.Lock()
	dead := st.dead
	st.mu.Unlock()
	if dead {
		own.Discard()
		return nil, 0, errCrashed
	}
	if err := to(own.Batch); err != nil {
		return nil, 0, fmt.Errorf("simulated store: %w", err)
	}
	st.mu.Lock()
	st.applied++
	n := st.applied
	st.mu.Unlock()
	st.c.s.observe(st.c, n, own.changes)
	return own, n, nil
}

// durable reports whether the n-th batch would survive a crash.
func (st *store) durable(n uint64) bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return n <= st.synced
}

// wanted returns which batch is the last that is to be made durable.
func (st *store) wanted() uint64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.asked
}

// sync makes batches durable, up to the last that is to be, and returns who
// has waited for it.
func (st *store) sync() ([]waiter, error) {
	if err := st.c.disk.flush(); err != nil {
		return nil, err
	}
	st.mu.Lock()
	defer st.mu.Unlock()
	st.synced = st.asked
	done := st.waiters
	st.waiters = nil
	return done, nil
}

// kill refuses all batches from now on and returns who waits.
func (st *store) kill() []waiter {
	st.mu.Lock()
	defer st.mu.Unlock()
	st.dead = true
	done := st.waiters
	st.waiters = nil
	return done
}

// wait registers a waiter; true when there is nothing to wait for.
func (st *store) wait(w waiter) (now bool, err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	switch {
	case w.n <= st.synced:
		return true, nil
	case st.dead:
		return true, errCrashed
	}
	st.waiters = append(st.waiters, w)
	return false, nil
}

type commit struct {
	st    *store
	inner engine.Commit
	n     uint64
	empty bool // a sync, of what other regions wrote
}

// Wait implements engine.Commit.
func (c *commit) Wait() error {
	if err := c.inner.Wait(); err != nil {
		return fmt.Errorf("simulated store: %w", err)
	}
	s := c.st.c.s
	if s.cfg.Bug == BugAckEarly && !c.empty || s.cfg.Bug == BugReportEarly && c.empty {
		return nil
	}
	if c.st.c.inline {
		waiters, err := c.st.sync()
		for _, w := range waiters {
			s.ready = append(s.ready, func() { w.done <- nil })
		}
		return err
	}
	done := make(chan error, 1)
	s.post(commitPost+uint64(c.st.c.site.index)<<32+c.n, func() {
		now, err := c.st.wait(waiter{c.n, done})
		if now {
			s.ready = append(s.ready, func() { done <- err })
		}
	})
	return <-done
}

// Ids of posts that are not an actor's.
const (
	commitPost = 1 << 48
	diskPost   = 1 << 49
)
