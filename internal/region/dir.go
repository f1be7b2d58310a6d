package region

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/antipode-io/antipode"
	"github.com/antipode-io/antipode/internal/link/identity"
)

// What a region keeps in its part of the data directory.
const (
	markFile    = "region.json"
	storeDir    = "store"
	identityDir = "identity"
	tokensDir   = "tokens"
	keysFile    = "keys.json"
	tokenFile   = "operator.token"

	dirFormat = 1
)

// IdentityDir is where a region keeps its root and whom it trusts.
func IdentityDir(disk vfs.FS, dir string, name antipode.Region) string {
	return disk.PathJoin(dir, string(name), identityDir)
}

// TokensDir is where a region keeps the join tokens it has given out.
func TokensDir(disk vfs.FS, dir string, name antipode.Region) string {
	return disk.PathJoin(dir, string(name), tokensDir)
}

// KeysPath is the file of a region's access keys.
func KeysPath(disk vfs.FS, dir string, name antipode.Region) string {
	return disk.PathJoin(dir, string(name), keysFile)
}

// TokenPath is the file of a region's operator token.
func TokenPath(disk vfs.FS, dir string, name antipode.Region) string {
	return disk.PathJoin(dir, string(name), tokenFile)
}

// mark says whose directory it is.
type mark struct {
	Format int             `json:"format"`
	Region antipode.Region `json:"region"`
	Made   time.Time       `json:"made"`
}

// ErrDirectory wraps what is wrong with a data directory.
var ErrDirectory = errors.New("data directory can't be used")

// settle makes the directory and its place in the tree durable: a directory is a
// name in the one above it, and is lost in a crash with all that is in it as long
// as that one was not synced.
func settle(disk vfs.FS, dir string) error {
	if err := disk.MkdirAll(disk.PathJoin(dir, storeDir), 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	for _, d := range []string{dir, disk.PathDir(dir), disk.PathDir(disk.PathDir(dir))} {
		if err := syncDir(disk, d); err != nil {
			return fmt.Errorf("%w: sync %s: %w", ErrDirectory, d, err)
		}
	}
	return nil
}

func syncDir(disk vfs.FS, dir string) error {
	d, err := disk.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// claim checks that the directory is this region's, and of a version that this
// program knows; a new one is marked.
func claim(disk vfs.FS, dir string, name antipode.Region, now time.Time) error {
	if err := settle(disk, dir); err != nil {
		return err
	}
	path := disk.PathJoin(dir, markFile)
	text, err := readFile(disk, path)
	switch {
	case err == nil:
		var m mark
		if err := json.Unmarshal(text, &m); err != nil {
			return fmt.Errorf("%w: %s: %w; restore the file from a copy, it names the region", ErrDirectory, path, err)
		}
		if m.Format > dirFormat {
			return fmt.Errorf("%w: %s was written by a newer version (format %d, this program knows %d); run that version, nothing was changed", ErrDirectory, dir, m.Format, dirFormat)
		}
		if m.Region != name {
			return fmt.Errorf("%w: %s holds the data of region %s, not of %s; point --data at the directory above %s's own", ErrDirectory, dir, m.Region, name, name)
		}
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: %w", ErrDirectory, err)
	}
	text, err = json.Marshal(mark{Format: dirFormat, Region: name, Made: now.UTC()})
	if err != nil {
		return fmt.Errorf("mark %s: %w", dir, err)
	}
	return identity.WriteSecret(disk, dir, markFile, append(text, '\n'))
}

func readFile(disk vfs.FS, path string) ([]byte, error) {
	f, err := disk.Open(path)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, 1<<20))
	return b, errors.Join(err, f.Close())
}
