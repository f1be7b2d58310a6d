// Package pebblekv keeps an engine.Store in Pebble: one directory, one
// write-ahead log, one fsync for all batches that wait at the same time.
//
// Everything on a Store may be called concurrently; whoever opened it closes it,
// after the iterators and snapshots taken from it. A disk that fails a write, or
// gets full, never ends the process: see Config.OnFatal and Config.ReserveBytes.
package pebblekv

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/sstable"

	"github.com/antipode-io/antipode/internal/engine"
)

// formatVersion is the version of what Pebble writes to disk. Raising it is one
// way: older binaries then refuse the directory.
const formatVersion = pebble.FormatValueSeparation

// checkEvery is how many bytes are written between two looks at the free space.
const checkEvery = 4 << 20

// Store is an engine.Store in one directory.
type Store struct {
	cfg   Config
	db    *pebble.DB
	fence *fence

	mu     sync.RWMutex // held for reading by every call into db, for writing by Close
	closed bool

	unchecked atomic.Int64 // bytes written since the free space was looked at
}

var _ engine.Store = (*Store)(nil)

// Open opens the store in cfg.Dir, or makes one there, and recovers what was
// durable when it was last used.
func Open(cfg Config) (*Store, error) {
	cfg = cfg.withDefaults()
	s := &Store{cfg: cfg, fence: newFence(cfg.FS)}
	s.unchecked.Store(checkEvery)
	s.fence.onFull = func() { s.unchecked.Store(checkEvery) }
	s.fence.onFatal = func(err error) {
		cfg.Logger.Error("store stopped writing", slog.String("dir", cfg.Dir), slog.Any("error", err))
		if cfg.OnFatal != nil {
			cfg.OnFatal(err)
		}
	}
	db, err := open(cfg.Dir, s.options())
	if err != nil {
		return nil, explainOpen(cfg.Dir, err)
	}
	s.db = db
	if err := s.fence.err(); err != nil {
		_ = s.Close() // the failure on record says more
		return nil, explainOpen(cfg.Dir, err)
	}
	return s, nil
}

// open opens the database. A new one writes its first log in an old format, in
// which damage in the middle can't be told from a torn end: the log is turned
// over before it is used.
func open(dir string, o *pebble.Options) (*pebble.DB, error) {
	desc, err := pebble.Peek(dir, o.FS)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	db, err := pebble.Open(dir, o)
	if err != nil || (desc != nil && desc.Exists) {
		return db, err
	}
	if err := db.Flush(); err != nil {
		_ = db.Close() // the first error says more
		return nil, err
	}
	return db, nil
}

func (s *Store) options() *pebble.Options {
	logger := pebbleLogger{s.cfg.Logger, s.fence}
	o := &pebble.Options{
		FS:                 s.fence,
		Logger:             logger,
		FormatMajorVersion: formatVersion,
		CacheSize:          s.cfg.CacheBytes + memTables*int64(s.cfg.MemTableBytes), // Pebble takes memtables out of it
		MemTableSize:       s.cfg.MemTableBytes,
		// Small machines: one compaction at rest, two when they fall behind.
		CompactionConcurrencyRange:  func() (lower, upper int) { return 1, 2 },
		MemTableStopWritesThreshold: memTables,
		L0CompactionThreshold:       4,
		L0StopWritesThreshold:       100,
		LBaseMaxBytes:               64 << 20,
		MaxOpenFiles:                1000,
		EventListener:               s.events(),
	}
	o.Experimental.FileCacheShards = 2
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
		o.Levels[i].IndexBlockSize = 256 << 10 // one level of index: one block less per read
	}
	// What has just been flushed is soon written again, a level below.
	o.Levels[0].Compression = func() *sstable.CompressionProfile { return sstable.NoCompression }
	o.Levels[1].Compression = func() *sstable.CompressionProfile { return sstable.SnappyCompression }
	return o
}

func (s *Store) events() *pebble.EventListener {
	log := s.cfg.Logger.With(slog.String("dir", s.cfg.Dir))
	return &pebble.EventListener{
		BackgroundError: func(err error) {
			log.Warn("background work on the store failed; it is tried again", slog.Any("error", explain(err)))
		},
		DataCorruption: func(info pebble.DataCorruptionInfo) {
			log.Error("a file of the store is corrupt; reads that need it fail until the region is rebuilt",
				slog.String("file", info.Path), slog.Any("error", info.Details))
		},
		LowDiskSpace: func(info pebble.LowDiskSpaceInfo) {
			log.Warn("disk is nearly full", slog.Uint64("free_bytes", info.AvailBytes), slog.Uint64("total_bytes", info.TotalBytes))
		},
		WriteStallBegin: func(info pebble.WriteStallBeginInfo) {
			log.Warn("writes wait for the disk to catch up", slog.String("reason", info.Reason))
		},
		WriteStallEnd: func() { log.Info("writes go on") },
	}
}

// enter keeps the database open until leave, or says that it is closed.
func (s *Store) enter() error {
	s.mu.RLock()
	if s.closed {
		s.mu.RUnlock()
		return engine.ErrClosed
	}
	return nil
}

func (s *Store) leave() { s.mu.RUnlock() }

// Get implements engine.Reader.
func (s *Store) Get(dst, key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return get(s.db, dst, key)
}

func get(r pebble.Reader, dst, key []byte) ([]byte, error) {
	value, closer, err := r.Get(key)
	if err != nil {
		return nil, explain(err)
	}
	dst = append(dst, value...)
	return dst, closer.Close()
}

// Iterate implements engine.Reader.
func (s *Store) Iterate(lower, upper []byte) (engine.Iterator, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	return iterate(s.db, lower, upper)
}

func iterate(r pebble.Reader, lower, upper []byte) (engine.Iterator, error) {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return nil, explain(err)
	}
	return &iterator{Iterator: it}, nil
}

// NewBatch implements engine.Store.
func (s *Store) NewBatch() engine.Batch { return &batch{Batch: s.db.NewBatch(), store: s} }

// Apply implements engine.Store.
func (s *Store) Apply(b engine.Batch) (engine.Commit, error) {
	own, err := s.apply(b, func(own *batch) error {
		if own.Empty() {
			// Its Wait must still imply that all earlier batches are durable.
			if err := own.LogData(nil, nil); err != nil {
				return err
			}
		}
		return s.db.ApplyNoSyncWait(own.Batch, pebble.Sync)
	})
	if err != nil {
		return nil, err
	}
	return own, nil
}

// ApplyLater implements engine.Store.
func (s *Store) ApplyLater(b engine.Batch) error {
	own, err := s.apply(b, func(own *batch) error { return s.db.Apply(own.Batch, pebble.NoSync) })
	if err != nil {
		return err
	}
	own.Discard()
	return nil
}

func (s *Store) apply(b engine.Batch, write func(*batch) error) (*batch, error) {
	own, ok := b.(*batch)
	if !ok || own.store != s {
		return nil, fmt.Errorf("apply batch: it is not one of this store's")
	}
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.leave()
	if err := s.admit(own); err != nil {
		own.Discard()
		return nil, err
	}
	if err := write(own); err != nil {
		return nil, fmt.Errorf("apply batch: %w", explain(err))
	}
	if err := s.fence.err(); err != nil {
		return nil, err
	}
	return own, nil
}

// admit refuses a batch that could not become durable.
func (s *Store) admit(b *batch) error {
	if err := s.fence.err(); err != nil {
		return err
	}
	if s.cfg.ReserveBytes < 0 {
		return nil
	}
	need := s.cfg.ReserveBytes
	if !b.sets {
		need /= 2 // deleting is how space is won back
	}
	if s.unchecked.Add(int64(b.Len())) < checkEvery {
		return nil
	}
	free := s.space()
	if free < need {
		return fmt.Errorf("%w: %d MiB are free at %s and %d MiB are kept in reserve: free some space; writing goes on by itself then",
			engine.ErrDiskFull, free>>20, s.cfg.Dir, s.cfg.ReserveBytes>>20)
	}
	if free >= s.cfg.ReserveBytes {
		s.unchecked.Store(0) // while space is short, every batch looks
	}
	return nil
}

// space returns the free bytes on the disk: no end of them where the file system
// can't tell.
func (s *Store) space() int64 {
	usage, err := s.cfg.FS.GetDiskUsage(s.cfg.Dir)
	if err != nil {
		return math.MaxInt64
	}
	return int64(min(usage.AvailBytes, math.MaxInt64))
}

// Snapshot implements engine.Store. After Close its reads return engine.ErrClosed.
func (s *Store) Snapshot() engine.Snapshot {
	if s.enter() != nil {
		return &snapshot{store: s}
	}
	defer s.leave()
	return &snapshot{store: s, snap: s.db.NewSnapshot()}
}

// Checkpoint implements engine.Store. Files are linked, not copied, where the
// file system can.
func (s *Store) Checkpoint(dir string) error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.leave()
	if err := s.fence.err(); err != nil {
		return err
	}
	err := s.db.Checkpoint(dir, pebble.WithFlushedWAL())
	if failed := s.fence.err(); failed != nil {
		err = failed
	}
	if err != nil {
		return fmt.Errorf("write checkpoint %s: %w", dir, explain(err))
	}
	return nil
}

// Close waits for calls under way, makes what was applied durable and gives up
// the directory. Iterators and snapshots are closed before.
func (s *Store) Close() error {
	if err := s.lockForClose(); err != nil {
		return err
	}
	defer s.mu.Unlock()
	if s.closed {
		return engine.ErrClosed
	}
	s.closed = true
	close(s.fence.closed)
	err := s.db.Close()
	if failed := s.fence.err(); failed != nil {
		return failed
	}
	if err != nil {
		return fmt.Errorf("close store %s: %w", s.cfg.Dir, explain(err))
	}
	return nil
}

// lockForClose waits for calls under way. After a failure one of them may wait
// for ever for room that no flush will make any more: then the store is left as
// it is, which is what a crash would leave.
func (s *Store) lockForClose() error {
	if s.fence.err() == nil {
		s.mu.Lock()
		return nil
	}
	for range 50 {
		if s.mu.TryLock() {
			return nil
		}
		<-time.After(retryPause)
	}
	return fmt.Errorf("close store %s: writers are stuck: %w", s.cfg.Dir, s.fence.err())
}

// batch is a batch, and the commit that it becomes.
type batch struct {
	*pebble.Batch
	store *Store
	sets  bool
}

// Set implements engine.Batch. Pebble's batches grow in memory: they don't fail.
func (b *batch) Set(key, value []byte) {
	b.sets = true
	_ = b.Batch.Set(key, value, nil)
}

// Delete implements engine.Batch.
func (b *batch) Delete(key []byte) { _ = b.Batch.Delete(key, nil) }

// DeleteRange implements engine.Batch.
func (b *batch) DeleteRange(lower, upper []byte) {
	if bytes.Compare(lower, upper) < 0 {
		_ = b.Batch.DeleteRange(lower, upper, nil)
	}
}

// Discard implements engine.Batch.
func (b *batch) Discard() { _ = b.Close() }

// Wait implements engine.Commit.
func (b *batch) Wait() error {
	err := b.SyncWait()
	if err != nil {
		b.store.fence.fail("write the log", err)
	}
	if failed := b.store.fence.err(); failed != nil {
		return failed
	}
	return b.Close()
}

// iterator keeps the first error that reading a value met for Close.
type iterator struct {
	*pebble.Iterator
	err error
}

// Value implements engine.Iterator.
func (it *iterator) Value() []byte {
	v, err := it.ValueAndErr()
	if err != nil && it.err == nil {
		it.err = err
	}
	return v
}

// Close implements engine.Iterator.
func (it *iterator) Close() error {
	err := it.Iterator.Close()
	if it.err != nil {
		err = it.err
	}
	return explain(err)
}

type snapshot struct {
	store *Store
	snap  *pebble.Snapshot // nil when taken of a closed store
}

func (s *snapshot) enter() error {
	if s.snap == nil {
		return engine.ErrClosed
	}
	return s.store.enter()
}

// Get implements engine.Reader.
func (s *snapshot) Get(dst, key []byte) ([]byte, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.store.leave()
	return get(s.snap, dst, key)
}

// Iterate implements engine.Reader.
func (s *snapshot) Iterate(lower, upper []byte) (engine.Iterator, error) {
	if err := s.enter(); err != nil {
		return nil, err
	}
	defer s.store.leave()
	return iterate(s.snap, lower, upper)
}

// Close implements engine.Snapshot.
func (s *snapshot) Close() error {
	if err := s.enter(); err != nil {
		return err
	}
	defer s.store.leave()
	return explain(s.snap.Close())
}

// pebbleLogger hands on what Pebble has to say.
type pebbleLogger struct {
	log   *slog.Logger
	fence *fence
}

// Infof implements pebble.Logger.
func (l pebbleLogger) Infof(format string, args ...any) {
	l.log.Debug("pebble", slog.Any("said", lazy{format, args}))
}

// Errorf implements pebble.Logger.
func (l pebbleLogger) Errorf(format string, args ...any) {
	l.log.Warn("pebble", slog.Any("said", lazy{format, args}))
}

// Fatalf implements pebble.Logger. Pebble expects not to come back from here; it
// may, because nothing that it does afterwards reaches the disk.
func (l pebbleLogger) Fatalf(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	for _, a := range args {
		if cause, ok := a.(error); ok {
			err = cause
		}
	}
	l.fence.fail("engine", err)
}

// lazy formats a message only if it is logged.
type lazy struct {
	format string
	args   []any
}

// LogValue implements slog.LogValuer.
func (l lazy) LogValue() slog.Value { return slog.StringValue(fmt.Sprintf(l.format, l.args...)) }

// isPathError tells a lock file that can't be made from one that another holds.
func isPathError(err error) bool {
	var p *fs.PathError
	return errors.As(err, &p)
}
