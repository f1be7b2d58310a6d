// Package engine is the contract of the ordered key-value store under a region:
// byte keys in lexical order, atomic batches, snapshots, checkpoints. pebblekv
// implements it over Pebble; enginetest holds the one conformance suite.
//
// A batch becomes visible at Apply and durable when its Commit's Wait returns
// nil. Batches become durable in the order in which they were applied: a
// durable batch implies that all earlier ones are. Everything is safe for
// concurrent use, but a Batch and an Iterator belong to one goroutine.
package engine

import "errors"

var (
	// ErrNotFound is returned by Get where there is no such key.
	ErrNotFound = errors.New("key not found")
	// ErrCorrupt wraps what an engine says of bytes on disk that fail their checksum.
	ErrCorrupt = errors.New("data on disk is corrupt")
	// ErrDiskFull wraps a write that found no space left.
	ErrDiskFull = errors.New("disk is full")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("store is closed")
)

// Reader reads a consistent or a latest state.
type Reader interface {
	// Get appends the key's value to dst and returns it, or ErrNotFound.
	Get(dst, key []byte) ([]byte, error)
	// Iterate walks keys in [lower, upper). A nil upper is the end of the keyspace.
	Iterate(lower, upper []byte) (Iterator, error)
}

// Iterator starts before the first and after the last key: call First, Last,
// SeekGE or SeekLT before Next, Prev, Key or Value. Key and Value are valid
// until the next call. Close returns the first error met.
type Iterator interface {
	First() bool
	Last() bool
	SeekGE(key []byte) bool
	SeekLT(key []byte) bool
	Next() bool
	Prev() bool
	Valid() bool
	Key() []byte
	Value() []byte
	Close() error
}

// Batch collects writes; later ones win over earlier ones to the same key.
type Batch interface {
	Set(key, value []byte)
	Delete(key []byte)
	// DeleteRange deletes the keys in [lower, upper). An empty range deletes nothing.
	DeleteRange(lower, upper []byte)
	// Len returns the size of the batch in bytes.
	Len() int
	// Discard gives up a batch that was not applied.
	Discard()
}

// Commit is an applied batch on its way to disk.
type Commit interface {
	// Wait returns when the batch is durable, or says why it never will be.
	// It is called exactly once.
	Wait() error
}

// Store is one ordered key-value store.
type Store interface {
	Reader
	NewBatch() Batch
	// Apply makes the batch visible and starts making it durable. The batch is
	// the store's from then on, also when Apply fails. Waiting for an empty batch
	// waits for all batches before it.
	Apply(b Batch) (Commit, error)
	// ApplyLater makes the batch visible, and leaves it to the next Apply to make
	// it durable: an Apply of an empty batch is a sync. The batch is the store's
	// from then on.
	ApplyLater(b Batch) error
	// Snapshot returns a consistent view; close it.
	Snapshot() Snapshot
	// Checkpoint writes a consistent, durable copy of the store into dir, which
	// must not exist, on the store's own file system.
	Checkpoint(dir string) error
	Close() error
}

// Snapshot is a consistent view of the store.
type Snapshot interface {
	Reader
	Close() error
}
