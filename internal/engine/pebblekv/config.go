package pebblekv

import (
	"log/slog"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// Config says where a store lives and how much memory it may take.
type Config struct {
	// FS is the file system; vfs.Default when nil.
	FS vfs.FS
	// Dir is the store's directory on FS. It is made when missing, its parents too.
	Dir string
	// CacheBytes bounds the cache of blocks read from disk, in bytes; 64 MiB when 0.
	// It also uses what memtables leave free of their share.
	CacheBytes int64
	// MemTableBytes bounds one table of writes not yet sorted to disk, in bytes;
	// 32 MiB when 0. Up to four exist at a time. They start small and grow with use.
	MemTableBytes uint64
	// ReserveBytes is the free space on the disk below which Apply is refused with
	// engine.ErrDiskFull, so that a disk that fills up never cuts a commit short;
	// 256 MiB when 0, never when negative. Batches that only delete may use half of it.
	ReserveBytes int64
	// Logger receives warnings, and at debug level what Pebble says of its work.
	// Nothing is logged when nil.
	Logger *slog.Logger
	// OnFatal is called once, when a write to disk failed in a way that leaves
	// open what is on disk. From then on the store writes nothing: Apply and Wait
	// return the same error, reads go on. The owner should stop the region and
	// start it again, which recovers all that was durable. It may be called while
	// the store is locked: it must return soon and must not call the store.
	OnFatal func(error)
}

const (
	defaultCacheBytes    = 64 << 20
	defaultMemTableBytes = 32 << 20
	// memTables is how many memtables may exist before writes wait for a flush.
	memTables           = 4
	defaultReserveBytes = 256 << 20
)

func (c Config) withDefaults() Config {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.CacheBytes == 0 {
		c.CacheBytes = defaultCacheBytes
	}
	if c.MemTableBytes == 0 {
		c.MemTableBytes = defaultMemTableBytes
	}
	if c.ReserveBytes == 0 {
		c.ReserveBytes = defaultReserveBytes
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}
