package bench

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// probeBytes is what a probe appends before it syncs: about one small entry of a
// write-ahead log.
const probeBytes = 512

// FsyncProbe times small durable appends on one disk, for Config.Fsync.
type FsyncProbe struct {
	fs   vfs.FS
	path string
	file vfs.File
	now  func() time.Time
}

// NewFsyncProbe makes a file in dir, on the disk whose fsync shall be timed.
// Close removes it.
func NewFsyncProbe(fs vfs.FS, dir string, now func() time.Time) (*FsyncProbe, error) {
	path := fs.PathJoin(dir, "bench-fsync-probe")
	file, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return nil, fmt.Errorf("make the fsync probe %s: %w", path, err)
	}
	return &FsyncProbe{fs: fs, path: path, file: file, now: now}, nil
}

// Sync appends, syncs, and says how long both took.
func (p *FsyncProbe) Sync() (time.Duration, error) {
	started := p.now()
	if _, err := p.file.Write(make([]byte, probeBytes)); err != nil {
		return 0, fmt.Errorf("write the fsync probe %s: %w", p.path, err)
	}
	if err := p.file.SyncData(); err != nil {
		return 0, fmt.Errorf("sync the fsync probe %s: %w", p.path, err)
	}
	return p.now().Sub(started), nil
}

// Close closes and removes the file.
func (p *FsyncProbe) Close() error {
	return errors.Join(p.file.Close(), p.fs.Remove(p.path))
}
