package pebblekv

import (
	"errors"
	"fmt"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode/internal/engine"
)

var (
	// ErrInUse is returned by Open for a directory that a running process holds.
	ErrInUse = errors.New("data directory is in use")
	// ErrNewer is returned by Open for a store that a newer version wrote.
	ErrNewer = errors.New("data was written by a newer version")
	// ErrFailed wraps what every write returns after the disk failed one.
	ErrFailed = errors.New("store has stopped writing")
)

// explain turns what Pebble says into the engine's errors, with what it means
// and what to do.
func explain(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, pebble.ErrNotFound):
		return engine.ErrNotFound
	case errors.Is(err, pebble.ErrClosed):
		return engine.ErrClosed
	case errors.Is(err, engine.ErrCorrupt), errors.Is(err, engine.ErrDiskFull), errors.Is(err, ErrFailed):
		return err
	case pebble.IsCorruptionError(err):
		file := ""
		if info := pebble.ExtractDataCorruptionInfo(err); info != nil {
			file = " in file " + info.Path
		}
		return fmt.Errorf("%w%s: the disk gave back other bytes than were written; "+
			"check the disk, then rebuild this region from the others: %w", engine.ErrCorrupt, file, err)
	case vfs.IsNoSpaceError(err):
		return fmt.Errorf("%w: free some space on it: %w", engine.ErrDiskFull, err)
	}
	return err
}

// explainOpen is explain for what only Open meets.
func explainOpen(dir string, err error) error {
	switch {
	case errors.Is(err, ErrInUse):
		return fmt.Errorf("open store %s: %w by a running process: stop it, or choose another data directory", dir, ErrInUse)
	case strings.Contains(err.Error(), "unknown format major version"):
		return fmt.Errorf("open store %s: %w: run that version, or restore a backup: %w", dir, ErrNewer, err)
	}
	return fmt.Errorf("open store %s: %w", dir, explain(err))
}
