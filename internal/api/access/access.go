// Package access says who may call a region's client APIs: the access keys of
// the region, and the verification of requests signed with AWS Signature
// Version 4.
//
// Keys are a region's own: one file in its data directory, readable by its
// owner only, replaced whole and synced at every change, so that a crash leaves
// either the old keys or the new ones. Secrets are kept as they are, because a
// signature can be checked in no other way.
//
// A key that is rotated stays valid for a grace time, so that clients can be
// moved to its successor one after another; with no grace it ends at once. A
// revoked or expired key is kept in the file for the record, without a way back.
//
// A Keyring and a Verifier are safe for concurrent use; lookups take no lock.
// Neither holds anything open: there is nothing to close.
package access

import (
	"cmp"
	"crypto/rand"
	"encoding/base32"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/sys/unix"
)

// fileVersion is the version of the key file that this package writes.
const fileVersion = 1

// maxFileSize bounds what is read of a key file, in bytes.
const maxFileSize = 16 << 20

// Scope limits what a key may do. The zero Scope allows everything.
type Scope struct {
	ReadOnly bool     `json:"read_only,omitempty"` // no writes, no tables made or deleted
	Tables   []string `json:"tables,omitempty"`    // the tables it may touch; empty is all of them
}

// AllowsTable reports whether the scope reaches the table.
func (s Scope) AllowsTable(name string) bool {
	return len(s.Tables) == 0 || slices.Contains(s.Tables, name)
}

// Key is one access key.
type Key struct {
	ID         string    `json:"id"`
	Secret     string    `json:"secret,omitempty"`
	Scope      Scope     `json:"scope"`
	Created    time.Time `json:"created"`
	Expires    time.Time `json:"expires,omitzero"`      // set when a rotation left it a grace time
	Revoked    time.Time `json:"revoked,omitzero"`      // set when it was revoked
	ReplacedBy string    `json:"replaced_by,omitempty"` // the key that a rotation made
}

// ValidAt reports whether the key may be used at that time.
func (k Key) ValidAt(now time.Time) bool {
	return k.Revoked.IsZero() && (k.Expires.IsZero() || now.Before(k.Expires))
}

type keyFile struct {
	Version int   `json:"version"`
	Keys    []Key `json:"keys"`
}

// Keyring holds a region's access keys.
type Keyring struct {
	fs   vfs.FS
	path string
	now  func() time.Time
	log  *slog.Logger

	mu   sync.Mutex                     // serialises changes and their way to disk
	keys atomic.Pointer[map[string]Key] // replaced as a whole, never changed
}

// Open reads the keys of a region. A file that is not there is a region without keys.
func Open(cfg Config) (*Keyring, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	r := &Keyring{fs: cfg.FS, path: cfg.Path, now: cfg.Now, log: cfg.Logger}
	if err := r.Reload(); err != nil {
		return nil, err
	}
	return r, nil
}

// Reload reads the file again, for a region whose keys were changed by another process.
func (r *Keyring) Reload() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	keys, err := r.read()
	if err != nil {
		return fmt.Errorf("read access keys %s: %w", r.path, err)
	}
	r.keys.Store(&keys)
	return nil
}

func (r *Keyring) read() (map[string]Key, error) {
	f, err := r.fs.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]Key{}, nil
	}
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFileSize))
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return nil, err
	}
	return decodeKeys(b)
}

func decodeKeys(b []byte) (map[string]Key, error) {
	var kf keyFile
	if err := json.Unmarshal(b, &kf); err != nil {
		return nil, fmt.Errorf("%w: %w; restore the file from a backup, or remove it and create new keys", ErrCorrupt, err)
	}
	if kf.Version != fileVersion {
		return nil, fmt.Errorf("%w: it has version %d and this program knows version %d; use the program that wrote it",
			ErrVersion, kf.Version, fileVersion)
	}
	keys := make(map[string]Key, len(kf.Keys))
	for _, k := range kf.Keys {
		if _, twice := keys[k.ID]; twice || k.ID == "" || k.Secret == "" {
			return nil, fmt.Errorf("%w: key %q stands there twice or lacks its id or secret; correct the file by hand", ErrCorrupt, k.ID)
		}
		keys[k.ID] = k
	}
	return keys, nil
}

// Create makes a new key. Its secret is returned here and by Lookup, never by List.
func (r *Keyring) Create(scope Scope) (Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	k := r.newKey(scope)
	if err := r.saveLocked(k); err != nil {
		return Key{}, err
	}
	return k, nil
}

// Rotate makes a successor with the same scope. The old key stays valid for
// the grace time, or until it is revoked; without a grace time it ends now.
func (r *Keyring) Rotate(id string, grace time.Duration) (Key, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	old, err := r.validLocked(id)
	if err != nil {
		return Key{}, fmt.Errorf("rotate access key %s: %w", id, err)
	}
	next := r.newKey(old.Scope)
	old.ReplacedBy = next.ID
	if grace > 0 {
		if end := r.now().UTC().Add(grace); old.Expires.IsZero() || end.Before(old.Expires) {
			old.Expires = end
		}
	} else {
		old.Revoked = r.now().UTC()
	}
	if err := r.saveLocked(old, next); err != nil {
		return Key{}, err
	}
	return next, nil
}

// Revoke ends a key at once. Revoking it again changes nothing.
func (r *Keyring) Revoke(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	k, ok := (*r.keys.Load())[id]
	switch {
	case !ok:
		return fmt.Errorf("revoke access key %s: %w", id, ErrNoKey)
	case !k.Revoked.IsZero():
		return nil
	}
	k.Revoked = r.now().UTC()
	return r.saveLocked(k)
}

// List returns all keys without their secrets, oldest first, ended ones too.
func (r *Keyring) List() []Key {
	out := slices.Collect(maps.Values(*r.keys.Load()))
	slices.SortFunc(out, compareKeys)
	for i := range out {
		out[i].Secret = ""
	}
	return out
}

// Lookup returns the key with this id if it may be used now.
func (r *Keyring) Lookup(id string) (Key, bool) {
	k, ok := (*r.keys.Load())[id]
	if !ok || !k.ValidAt(r.now()) {
		return Key{}, false
	}
	return k, true
}

func (r *Keyring) validLocked(id string) (Key, error) {
	k, ok := (*r.keys.Load())[id]
	switch {
	case !ok:
		return Key{}, ErrNoKey
	case !k.ValidAt(r.now()):
		return Key{}, ErrEnded
	}
	return k, nil
}

func (r *Keyring) newKey(scope Scope) Key {
	scope.Tables = slices.Clone(scope.Tables)
	for {
		k := Key{ID: newID(), Secret: newSecret(), Scope: scope, Created: r.now().UTC()}
		if _, taken := (*r.keys.Load())[k.ID]; !taken {
			return k
		}
	}
}

// saveLocked writes the keys with the changed ones among them, and only then
// lets them be seen: what a client was told survives a crash.
func (r *Keyring) saveLocked(changed ...Key) error {
	next := maps.Clone(*r.keys.Load())
	for _, k := range changed {
		next[k.ID] = k
	}
	if err := r.write(next); err != nil {
		return fmt.Errorf("write access keys %s: %w", r.path, err)
	}
	r.keys.Store(&next)
	return nil
}

func (r *Keyring) write(keys map[string]Key) error {
	all := slices.SortedFunc(maps.Values(keys), compareKeys)
	b, err := json.MarshalIndent(keyFile{Version: fileVersion, Keys: all}, "", "  ")
	if err != nil {
		return err
	}
	tmp := r.path + ".new"
	f, err := r.fs.Create(tmp, vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if err := writeSecret(f, append(b, '\n')); err != nil {
		return errors.Join(err, r.fs.Remove(tmp))
	}
	if err := r.fs.Rename(tmp, r.path); err != nil {
		return err
	}
	return syncDir(r.fs, r.fs.PathDir(r.path))
}

// writeSecret narrows the file's mode before the first byte is in it.
func writeSecret(f vfs.File, b []byte) error {
	err := func() error {
		if fd := f.Fd(); fd != vfs.InvalidFd {
			if err := unix.Fchmod(int(fd), 0o600); err != nil {
				return err
			}
		}
		if _, err := f.Write(b); err != nil {
			return err
		}
		return f.Sync()
	}()
	return errors.Join(err, f.Close())
}

func syncDir(fsys vfs.FS, dir string) error {
	d, err := fsys.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func compareKeys(a, b Key) int {
	return cmp.Or(a.Created.Compare(b.Created), strings.Compare(a.ID, b.ID))
}

// newID looks like an AWS access key id, which some tools check for: AKIA and
// 16 characters of base32.
func newID() string {
	b := make([]byte, 10)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return "AKIA" + base32.StdEncoding.EncodeToString(b)
}

// newSecret has 240 random bits in 40 characters. The URL alphabet spares
// users the slash that breaks URLs and shell scripts.
func newSecret() string {
	b := make([]byte, 30)
	_, _ = rand.Read(b)
	return base64.URLEncoding.EncodeToString(b)
}
