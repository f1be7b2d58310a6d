package pebblekv

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// retryPause keeps a flush that can't write from being tried again in a tight loop.
const retryPause = 200 * time.Millisecond

// walCategory is what Pebble calls the write-ahead log when it makes a file of it.
const walCategory vfs.DiskWriteCategory = "pebble-wal"

// fence lies between Pebble and the file system. Pebble ends the process when a
// write to its log or to its list of files fails, since it can't know what is
// on disk then. The fence keeps the process alive instead: the first such
// failure is put on record and from then on nothing is changed on disk, so that
// what is there stays as recoverable as after a crash at that moment. Pebble is
// told that its log writes went well, because it panics otherwise; the store
// looks at the record before it tells anyone that a batch is durable.
type fence struct {
	vfs.FS
	onFatal func(error)
	onFull  func()

	once   sync.Once
	failed atomic.Pointer[error]
	closed chan struct{}
}

func newFence(fs vfs.FS) *fence { return &fence{FS: fs, closed: make(chan struct{})} }

// fail puts the first failure on record.
func (f *fence) fail(what string, err error) {
	f.once.Do(func() {
		err = fmt.Errorf("%w: %s: %w; what was acknowledged is safe: "+
			"look after the disk, then start the region again", ErrFailed, what, explain(err))
		f.failed.Store(&err)
		f.onFatal(err)
	})
}

// err returns the failure on record.
func (f *fence) err() error {
	if p := f.failed.Load(); p != nil {
		return *p
	}
	return nil
}

// try runs one change that Pebble can do without for a while.
func (f *fence) try(change func() error) error {
	if err := f.err(); err != nil {
		return err
	}
	err := change()
	if err != nil && vfs.IsNoSpaceError(err) {
		f.onFull()
	}
	return err
}

// write is try for bytes written: Pebble starts a flush that failed over at once,
// so that a failure is held back a little.
func (f *fence) write(change func() error) error {
	err := f.try(change)
	if err == nil {
		return nil
	}
	pause := time.NewTimer(retryPause)
	defer pause.Stop()
	select {
	case <-pause.C:
	case <-f.closed:
	}
	return err
}

// must runs one change that Pebble takes for granted, and hides its failure from it.
func (f *fence) must(what string, change func() error) {
	if f.err() != nil {
		return
	}
	if err := change(); err != nil {
		f.fail(what, err)
	}
}

func (f *fence) file(name string, category vfs.DiskWriteCategory, make func() (vfs.File, error)) (vfs.File, error) {
	var file vfs.File
	create := func() (err error) {
		file, err = make()
		return err
	}
	if category != walCategory {
		if err := f.write(create); err != nil {
			return nil, err
		}
		return &fencedFile{File: file, fence: f}, nil
	}
	f.must("create "+name, create)
	if file == nil {
		file = vfs.NewMemFile(nil) // swallows what is written after the failure
	}
	return &criticalFile{File: file, fence: f, name: name}, nil
}

// Create implements vfs.FS.
func (f *fence) Create(name string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(name, category, func() (vfs.File, error) { return f.FS.Create(name, category) })
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, category vfs.DiskWriteCategory, opts ...vfs.OpenOption) (vfs.File, error) {
	return f.file(name, category, func() (vfs.File, error) { return f.FS.OpenReadWrite(name, category, opts...) })
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(oldname, newname string, category vfs.DiskWriteCategory) (vfs.File, error) {
	return f.file(newname, category, func() (vfs.File, error) { return f.FS.ReuseForWrite(oldname, newname, category) })
}

// OpenDir implements vfs.FS. Directories are synced when a log is made.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &criticalFile{File: dir, fence: f, name: name}, nil
}

// Link implements vfs.FS.
func (f *fence) Link(oldname, newname string) error {
	return f.try(func() error { return f.FS.Link(oldname, newname) })
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	return f.try(func() error { return f.FS.Remove(name) })
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	return f.try(func() error { return f.FS.RemoveAll(name) })
}

// Rename implements vfs.FS.
func (f *fence) Rename(oldname, newname string) error {
	return f.try(func() error { return f.FS.Rename(oldname, newname) })
}

// Lock implements vfs.FS.
func (f *fence) Lock(name string) (io.Closer, error) {
	lock, err := f.FS.Lock(name)
	if err != nil && !isPathError(err) {
		return nil, fmt.Errorf("%w: %w", ErrInUse, err)
	}
	return lock, err
}

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

// fencedFile is a file whose failures Pebble handles: a table, a list of files.
type fencedFile struct {
	vfs.File
	fence *fence
}

// Write implements vfs.File.
func (f *fencedFile) Write(p []byte) (n int, err error) {
	err = f.fence.write(func() error {
		n, err = f.File.Write(p)
		return err
	})
	return n, err
}

// WriteAt implements vfs.File.
func (f *fencedFile) WriteAt(p []byte, off int64) (n int, err error) {
	err = f.fence.write(func() error {
		n, err = f.File.WriteAt(p, off)
		return err
	})
	return n, err
}

// Sync implements vfs.File.
func (f *fencedFile) Sync() error { return f.fence.write(f.File.Sync) }

// SyncData implements vfs.File.
func (f *fencedFile) SyncData() error { return f.fence.write(f.File.SyncData) }

// criticalFile is the log, or a directory: after a failure it takes everything
// and does nothing.
type criticalFile struct {
	vfs.File
	fence *fence
	name  string
}

// Write implements vfs.File.
func (f *criticalFile) Write(p []byte) (int, error) {
	f.fence.must("write "+f.name, func() error {
		_, err := f.File.Write(p)
		return err
	})
	return len(p), nil
}

// Sync implements vfs.File.
func (f *criticalFile) Sync() error {
	f.fence.must("sync "+f.name, f.File.Sync)
	return nil
}

// SyncData implements vfs.File.
func (f *criticalFile) SyncData() error {
	f.fence.must("sync "+f.name, f.File.SyncData)
	return nil
}

// SyncTo implements vfs.File.
func (f *criticalFile) SyncTo(length int64) (full bool, err error) {
	f.fence.must("sync "+f.name, func() error {
		full, err = f.File.SyncTo(length)
		return err
	})
	return full, nil
}

// Preallocate implements vfs.File.
func (f *criticalFile) Preallocate(offset, length int64) error {
	f.fence.must("extend "+f.name, func() error { return f.File.Preallocate(offset, length) })
	return nil
}

// Close implements vfs.File. The descriptor is given back in any case.
func (f *criticalFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.fence.fail("close "+f.name, err)
	}
	return nil
}
